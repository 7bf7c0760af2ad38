"""Jobs as plain values, in this process and on Ray: a killed worker costs time and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoModel

from data_prep.errors import UserError
from data_prep.shards.writer import ShardWriter
from tests.training import tiny
from training import launch
from training.config import PlacementConfig
from training.job import METRICS, CorpusShards, Job


def job(folder: Path, *, steps: int = 12, workers: int = 1, zero: int | None = None, **placement: Any) -> Job:
    """The tiny language on disk, as a job."""
    shards = folder / "shards"
    if not shards.exists():
        for split, rows, seed in (("train", 300, 0), ("validation", 40, 1)):
            writer = ShardWriter(shards / split, 1000)
            writer.write(tiny.table(rows, seed=seed).columns)
            writer.close()
        _tokenizer(folder / "tokenizer")
    return Job.model_validate(
        {
            "corpora": [CorpusShards(name="tiny", folder=str(shards / "train"))],
            "held_out": str(shards / "validation"),
            "kind": "text",
            "preprocessor": str(folder / "tokenizer"),
            "corruption": {"kind": "masked-lm"},
            "network": tiny.NETWORK.model_dump(),
            "objective": {"name": "masked-lm", "options": {"sentence": "sop"}},
            "train": {"global_batch": 24, "steps": steps, "lr": 3e-3, "precision": "fp32", "log_every": 1},
            "seed": 7,
            "placement": {"workers": workers, "zero": zero, "threads": 1, **placement},
            "work": str(folder / f"work-{workers}-{zero}-{steps}"),
            "out": str(folder / f"out-{workers}-{zero}" / "model"),
            "recipe": "tiny",
        }
    )


def _tokenizer(folder: Path) -> None:
    from data_prep.tokens.tokenizers import TokenizerConfig, train

    train(TokenizerConfig(kind="character", vocabulary=48), ["abcdefghijklmnopqrstuvwxyz,.!? ABCDEFGHIJKLM"], folder)


def losses(path: str) -> dict[int, float]:
    """The last loss of each step."""
    records = [json.loads(line) for line in (Path(path) / METRICS).read_text().splitlines()]
    return {record["step"]: record["train/loss"] for record in records if "train/loss" in record}


def test_a_job_survives_json(tmp_path: Path) -> None:
    pretraining = job(tmp_path)
    assert Job.model_validate_json(pretraining.model_dump_json()) == pretraining


def test_in_this_process(tmp_path: Path) -> None:
    pretraining = job(tmp_path)
    summary = launch.run(pretraining)
    assert summary["step"] == 12 and summary["resumed_from"] == 0
    assert sorted(losses(pretraining.work)) == list(range(1, 13))
    assert AutoModel.from_pretrained(pretraining.out).config.hidden_size == 32
    assert launch.run(pretraining)["resumed_from"] == 12  # nothing left to do


def test_a_damaged_shard_is_named_and_never_trained_on(tmp_path: Path) -> None:
    pretraining = job(tmp_path)
    path = tmp_path / "shards" / "train" / "shard-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"shard-00000\.arrow"):
        launch.run(pretraining)
    assert not Path(pretraining.out).exists()


def test_a_job_that_ray_cannot_reach_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"placement\.ray_address: no Ray cluster answers at '127\.0\.0\.1:1'"):
        launch.run(job(tmp_path, ray_address="127.0.0.1:1"))


def test_workers_may_be_fewer_only_where_that_is_allowed() -> None:
    placements = [PlacementConfig(workers=4, min_workers=fewest) for fewest in (None, 2, 4)]
    assert [launch._num_workers(placement) for placement in placements] == [4, (2, 4), 4]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same_and_is_opened_as_any_other(tmp_path: Path) -> None:
    curves = {}
    for compiled in (False, True):
        pretraining = job(tmp_path / str(compiled), steps=6, compile=compiled)
        pretraining.network.config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        launch.run(pretraining)
        curves[compiled] = losses(pretraining.work)
    assert curves[True] == pytest.approx(curves[False], rel=1e-5)
    weights = [AutoModel.from_pretrained(job(tmp_path / str(c)).out).state_dict() for c in (False, True)]
    assert list(weights[0]) == list(weights[1])


@pytest.mark.slow
def test_a_killed_worker_costs_time_and_nothing_else(tmp_path: Path) -> None:
    try:
        uninterrupted = job(tmp_path, steps=60, workers=2, zero=2, checkpoint_every=5)
        launch.run(uninterrupted)
        struck = Job.model_validate({**uninterrupted.model_dump(), "work": str(tmp_path / "struck")})
        niceness: list[int] = []
        threading.Thread(target=_kill_a_worker, args=(Path(struck.work), 12, niceness), daemon=True).start()
        summary = launch.run(struck)
    finally:
        launch.stop_ray()
    assert niceness == [psutil.Process().nice()], "of the one that was killed: that of the run"
    assert summary["resumed_from"] >= 5
    assert losses(struck.work) == losses(uninterrupted.work)


def _kill_a_worker(work: Path, at: int, niceness: list[int]) -> None:
    """kill -9 a training process once step `at` was logged, and add its niceness."""
    for _ in range(3000):
        time.sleep(0.02)
        if (work / METRICS).exists() and max(losses(str(work)), default=0) >= at:
            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if "RayTrainWorker" in " ".join(child.cmdline())
            ]
            if workers:
                niceness.append(workers[-1].nice())
                os.kill(workers[-1].pid, signal.SIGKILL)
                return
