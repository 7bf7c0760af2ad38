"""Detectors from strangers: one sentence, soon, whatever their folder holds; and damage is seen before use."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.sealed import sealed, unsealed
from pipeline.scoring import training_rows
from pipeline.scoring.detector import FILE, name_of
from pipeline.scoring.detectors import open_any
from tests.pipeline import detectors
from tests.training.inference.test_strangers_folders import DEEP, refusal

WEIGHTS, TRANSFORM = "member-0/model.safetensors", "transform.json"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    training_rows.save(folder, np.arange(10, dtype=np.uint64))
    detectors.saved(folder)
    open_any(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "detector")
    return tmp_path / "detector"


def resealed(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """A file whose digest fits what was made of it, as a stranger would write it."""
    about = unsealed((folder / name).read_bytes())
    change(about)
    (folder / name).write_bytes(sealed(about))
    if name != FILE:
        resealed(folder, FILE, lambda about: about["files"].pop(name))


def at(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(about: dict[str, Any]) -> None:
        *parts, last = path.split(".")
        for part in parts:
            about = about[part]
        about[last] = value

    return change


CHANGES = {
    "another format": at("format", 99),
    "format of text": at("format", "1"),
    "another kind": at("kind", "evil"),
    "kind of no text": at("kind", ["rows"]),
    "documents": at("kind", "documents"),
    "no score": at("score", "evil"),
    "threshold of text": at("threshold", "high"),
    "threshold beyond numbers": at("threshold", 10**400),
    "threshold infinite": at("threshold", float("inf")),
    "threshold no number": at("threshold", float("nan")),
    "no threshold": lambda about: about.pop("threshold"),
    "members without end": at("members", 10**12),
    "members fewer than none": at("members", -1),
    "no members": at("members", 0),
    "members true": at("members", True),
    "samples without end": at("importance_samples", 10**15),
    "a device for a file": at("files", {"/dev/zero": "00"}),
    "a file above": at("files", {"../../../etc/passwd": "00"}),
    "a file of the machine": at("files", {"/etc/passwd": "00"}),
    "a file with an end": at("files", {"a\0b": "00"}),
    "a file without name": at("files", {"": "00"}),
    "a folder for a file": at("files", {"member-0": "00"}),
    "files of a list": at("files", [WEIGHTS]),
    "histograms of nothing": at("baseline", {}),
    "histograms without counts": at("baseline.counts", {}),
    "histograms of another column": lambda about: [
        part.update(evil=part["score"]) for part in about["baseline"].values()
    ],
    "edges of text": at("baseline.edges.score", ["a"]),
    "edges of no numbers": at("baseline.edges.score", [float("nan")] * 9),
    "too many counts": at("baseline.counts.score", [1] * 1000),
    "counts below none": at("baseline.counts.score", [-1] * 10),
    "a usual range of two": at("usual", [0.0, 1.0]),
    "a usual range of text": at("usual", "01"),
    "a share above all": at("false_alarms", 7),
    "images of nothing": at("images", {"size": 10**9, "channels": 1, "patch": None, "standardise": True}),
    "unknown settings": at("evil", 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_description_is_refused(change: str, folder: Path) -> None:
    resealed(folder, FILE, CHANGES[change])
    assert str(folder) in refusal(lambda: open_any(folder))


@pytest.mark.parametrize(
    "change",
    [
        at("columns", []),
        at("columns", {"a": 1}),
        at("format", None),
        at("schema", None),
        at("schema", {"kinds": 1}),
        lambda value: value["columns"].pop(),
        lambda value: value["columns"][0].update(kind="evil"),
        lambda value: value["columns"][0].update(evil=1),
        lambda value: value["columns"][0].update(name=["a"]),
        lambda value: value["columns"][0].update(mean="a"),
        lambda value: value["columns"].append(value["columns"][0]),
        lambda value: value["columns"][-1].update(levels=None),
    ],
)
def test_a_transform_is_refused(change: Callable[[Any], object], folder: Path) -> None:
    resealed(folder, TRANSFORM, change)
    assert str(folder) in refusal(lambda: open_any(folder))


@pytest.mark.parametrize("name", [WEIGHTS, "member-0/config.json", "member-0/anomaly.safetensors", TRANSFORM])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "link", "pipe"])
def test_files_are_those_it_was_made_with(name: str, harm: str, folder: Path) -> None:
    path = folder / name
    data = path.read_bytes()
    if harm == "flipped":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif harm == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
        if harm == "link":
            path.symlink_to("/dev/zero")
        elif harm == "pipe":
            os.mkfifo(path)
    assert name.rpartition("/")[2] in refusal(lambda: open_any(folder))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", DEEP, b'{"kind": "rows", "kind": "rows"}', b"\xff"])
def test_a_description_that_is_none(data: bytes, folder: Path) -> None:
    (folder / FILE).write_bytes(data)
    assert FILE in refusal(lambda: open_any(folder))


def test_names_do_not_follow_links(folder: Path) -> None:
    (folder / "more").symlink_to("/dev/zero")
    assert "/dev/zero" in refusal(lambda: name_of(folder))


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}], object),
        np.zeros(4, np.float32),
        np.zeros((2, 2), np.uint64),
    ],
)
def test_digests_of_training_rows_are_of_their_type(array: np.ndarray, folder: Path) -> None:
    np.save(folder / training_rows.FILE, array, allow_pickle=True)
    assert training_rows.FILE in refusal(lambda: training_rows.load(folder))


@pytest.mark.parametrize("shape", [(1 << 36,), (-1,), (7,)])
def test_digests_of_training_rows_are_as_many_as_are_there(shape: tuple[int, ...], folder: Path) -> None:
    header = {"descr": "<u8", "fortran_order": False, "shape": shape}
    with (folder / training_rows.FILE).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(80))
    assert training_rows.FILE in refusal(lambda: training_rows.load(folder))


def test_a_description_says_what_files_hold(folder: Path) -> None:
    about = json.loads((folder / FILE).read_bytes())
    assert {WEIGHTS, TRANSFORM, training_rows.FILE} <= set(about["files"])
