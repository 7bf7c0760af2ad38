"""State that is kept in host memory or on a disk is the same state: the curve is plain PyTorch's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from tests.training import tiny
from tests.training.group import in_group
from training.config import NetworkConfig, PlacementConfig, placement_problems
from training.distributed import Worker
from training.engines import checkpoint as checkpoints
from training.engines import offload


@pytest.mark.parametrize(
    ("placement", "problem"),
    [
        ({"min_workers": 2}, ("min_workers", "2 exceeds workers 1")),
        ({"offload_optimizer": "cpu"}, ("offload_optimizer", "needs placement.zero 2 or 3, found null")),
        ({"offload_optimizer": "nvme", "zero": 2, "offload": {"folder": "/x"}},
         ("offload_optimizer", "nvme needs placement.zero 3, found 2")),
        ({"offload_parameters": "nvme", "zero": 2, "offload": {"folder": "/x"}},
         ("offload_parameters", "needs placement.zero 3, found 2")),
        ({"offload_parameters": "nvme", "zero": 3},
         ("offload_parameters", "nvme needs placement.offload.folder, a folder on a local disk of every machine")),
        ({"offload": {"overlap": True}}, ("offload.optimizer_buffers", "4 are too few for overlap; set 12")),
    ],
)  # fmt: skip
def test_settings_that_disagree_are_named(placement: dict[str, Any], problem: tuple[str, str]) -> None:
    assert list(placement_problems(PlacementConfig.model_validate(placement))) == [problem]


def test_settings_that_agree() -> None:
    for placement in (
        {},
        {"workers": 2, "min_workers": 1},
        {"zero": 2, "offload_optimizer": "cpu"},
        {"zero": 3, "offload_optimizer": "nvme", "offload_parameters": "nvme", "offload": {"folder": "/x"}},
        {"offload": {"overlap": True, "optimizer_buffers": 12}},
    ):
        assert list(placement_problems(PlacementConfig.model_validate(placement))) == []


def test_without_what_reads_disks_nvme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"nvme needs c\+\+, ninja, which this machine lacks; install "):
        offload.check_async_io()


def test_a_build_that_was_killed_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.ops.op_builder import AsyncIOBuilder  # type: ignore[attr-defined]

    built: list[Path] = []

    def build(self: Any, verbose: bool) -> None:
        folder = Path(os.environ[offload.EXTENSIONS])
        assert list(folder.glob("*/lock")) == []
        built.append(folder)

    monkeypatch.setattr(AsyncIOBuilder, "load", build)
    monkeypatch.setenv(offload.EXTENSIONS, str(tmp_path))
    offload.load_async_io()
    (built[0] / "async_io").mkdir()
    (built[0] / "async_io" / "lock").touch()
    offload.load_async_io()
    assert built[0] == built[1] and built[0].parent == tmp_path
    assert os.environ[offload.EXTENSIONS] == str(tmp_path)
    monkeypatch.delenv(offload.EXTENSIONS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    offload.load_async_io()
    assert offload.EXTENSIONS not in os.environ and built[2].is_relative_to(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(offload.EXTENSIONS, str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written \(.*\); set TORCH_EXTENSIONS_DIR to a folder that can be"):
        offload.load_async_io()


def test_a_folder_lives_as_long_as_its_run(tmp_path: Path) -> None:
    dead = tmp_path / "sesame-offload-dead"
    dead.mkdir()
    (dead / "lock").touch()  # nobody holds it
    with pytest.raises(ZeroDivisionError), offload.own_folders():
        folder, second = offload.own_folder(tmp_path), offload.own_folder(tmp_path)
        (folder / "state").write_bytes(bytes(10))
        assert folder.exists() and second.exists() and folder != second
        assert not dead.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"placement\.offload\.folder: .*file cannot be written"):
        offload.own_folder(tmp_path / "file")


CPU: dict[str, dict[str, Any]] = {
    "ZeRO-2, optimizer": {"zero": 2, "offload_optimizer": "cpu"},
    "ZeRO-3, optimizer": {"zero": 3, "offload_optimizer": "cpu"},
    "ZeRO-3, both": {"zero": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
    "ZeRO-3, parameters": {"zero": 3, "offload_parameters": "cpu"},
}
BOTH: dict[str, Any] = {"zero": 3, "offload_optimizer": "nvme", "offload_parameters": "nvme"}
DISK: dict[str, dict[str, Any]] = {
    "optimizer": {"zero": 3, "offload_optimizer": "nvme"},
    "both": BOTH,
    "optimizer on the disk, parameters in memory": {**BOTH, "offload_parameters": "cpu"},
    "parameters on the disk, optimizer in memory": {**BOTH, "offload_optimizer": "cpu"},
    "overlapped": {**BOTH, "offload": {"overlap": True, "optimizer_buffers": 12}},
}
STEPS, HALF = 4, 2


def _curve(worker: Worker, folder: Path, **placement: Any) -> list[float]:
    common = {"workers": worker.world, "checkpoint_every": HALF, "zero_settings": {"sub_group_size": 600_000}}
    return tiny.losses(
        worker=worker,
        dropout=0.0,
        steps=STEPS,
        checkpoints=folder,
        placement=PlacementConfig.model_validate({**common, **placement}),
    )


@offload.own_folders()
def _curves(worker: Worker, root: Path, variants: dict[str, dict[str, Any]], wide: bool) -> dict[str, list[float]]:
    """Each variant from the start; from a plain run's middle; and plain from the variant's middle."""
    if wide:  # DeepSpeed leaves on the device what is smaller than 1 MiB
        small = {**tiny.NETWORK.config, "hidden_size": 512, "num_hidden_layers": 1, "intermediate_size": 2048}
        tiny.NETWORK = NetworkConfig(architecture="bert", config=small)
    curves = {"plain": _curve(worker, root / "plain")}
    for name, placement in variants.items():
        if wide:
            placement = {**placement, "offload": {**placement.get("offload", {}), "folder": str(root / "disk")}}
        curves[name] = _curve(worker, root / name, **placement)
        for before, now in (("plain", name), (name, "plain")):
            folder = root / f"{before} to {now}"
            if worker.leads:
                half = checkpoints.committed(root / before)[0].folder
                shutil.copytree(half, folder / half.name)
            worker.barrier()
            curves[folder.name] = _curve(worker, folder, **(placement if now == name else {}))
    return curves


def _same(curves: dict[str, list[float]]) -> None:
    plain = curves.pop("plain")
    for name, curve in curves.items():
        assert curve == pytest.approx(plain[-len(curve) :], abs=5e-6), name
        assert len(curve) == (HALF if " to " in name else STEPS)


@pytest.mark.parametrize(
    "names", [("ZeRO-2, optimizer", "ZeRO-3, both"), pytest.param(tuple(CPU), marks=pytest.mark.slow, id="all")]
)
def test_offload_to_memory_changes_nothing(names: tuple[str, ...], tmp_path: Path) -> None:
    _same(in_group(2, _curves, tmp_path, {name: CPU[name] for name in names}, False)[0])


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_offload_to_a_disk_changes_nothing(world: int, tmp_path: Path) -> None:
    try:
        offload.check_async_io()
    except UserError as error:
        pytest.skip(str(error))
    offload.load_async_io()
    _same(in_group(world, _curves, tmp_path, DISK, True)[0])
    assert list((tmp_path / "disk").iterdir()) == []
