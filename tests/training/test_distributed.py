"""What every worker sets up for itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from training import distributed
from training.distributed import Worker, compile_in_private, seed_torch, set_up_cpu


def test_compiled_code_is_not_where_others_may_have_put_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    compile_in_private()
    assert Path(cache_dir()) == tmp_path / "torchinductor"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    compile_in_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine")


def test_seeds_are_those_of_torch_and_nothing_is_noted_for_later() -> None:
    torch.manual_seed(11)
    expected = torch.rand(5)
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is in use")
    noted = len(torch.cuda._queued_calls)
    for _ in range(3):
        seed_torch(11)
    assert len(torch.cuda._queued_calls) == noted
    assert torch.equal(torch.rand(5), expected)
    seed_torch(12)
    assert not torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize(
    ("threads", "workers", "expected"), [(None, 1, 12), (None, 5, 2), (None, 20, 1), (3, 5, 3), (16, 1, 16)]
)
def test_cores_are_divided_among_workers(
    threads: int | None, workers: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(distributed.cores, "available", lambda: 12)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(distributed.ctypes, "CDLL", lambda name: None)
    set_up_cpu(threads, workers)
    assert asked == [expected]


def test_sums_over_workers_lose_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    assert Worker(0, 2).sum([1e9 + 0.25]) == [2e9 + 0.5]
