"""Faults: a few of every kind by default; more than a thousand, and kill -9 on Ray, where minutes do not matter."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.faults.campaign import Campaign, Injection
from tests.faults.forks import forked
from tests.faults.operations import CLASSES, Fault, Operation, Operations
from tests.faults.report import Report, Traced
from tests.faults.scenarios import Scenario


def faults(*arguments: str) -> Any:
    """`python -m tests.faults`: a process of its own, for one that has trained cannot be forked."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--json", *arguments], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr[-5000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr[-5000:]
    return report


def test_nothing_is_lost_to_a_few_faults_of_every_class() -> None:
    report = faults("--quick")
    assert [trial for trial in report["tried"] if trial["lost"]] == []
    assert report["never_hit"] == []
    assert len(report["tried"]) >= 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_to_a_thousand_faults() -> None:
    report = faults()
    assert [trial for trial in report["tried"] if trial["lost"]] == []
    assert report["not_hit"] == []
    assert len(report["tried"]) >= 1000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_training_goes_on_when_processes_of_a_run_are_killed() -> None:
    kills = faults("ray", "--kills", "5")
    assert sorted(kill["victim"] for kill in kills) == ["GCS", "controller", "driver", "raylet", "worker"]
    assert [kill for kill in kills if kill["lost"]] == []


# -- what injects and what looks is tested, too ------------------------------------------------------------------------


def everything(root: Path) -> None:
    """One operation of each class."""
    (root / "folder").mkdir()
    with (root / "folder" / "text").open("w") as file:
        file.write("one two")
        file.flush()
        os.fsync(file.fileno())
    (root / "folder" / "text").rename(root / "a")
    (root / "a").replace(root / "b")
    (root / "c").hardlink_to(root / "b")
    (root / "b").unlink()
    (root / "folder").rmdir()
    torch.save({"x": torch.zeros(3)}, root / "weights.pt")
    with (root / "metrics.jsonl").open("a", buffering=1) as log:
        log.write("{}\n")


def test_every_class_is_seen_in_its_order(tmp_path: Path) -> None:
    operations = Operations(tmp_path)
    with operations.installed():
        everything(tmp_path)
        (tmp_path.parent / f"{tmp_path.name}-elsewhere").mkdir()
    kinds = [operation.kind for operation in operations.seen]
    assert kinds == [
        "mkdir", "open", "write", "fsync", "rename", "replace", "link", "unlink", "rmdir", "save", "open", "report",
    ]  # fmt: skip
    assert set(kinds) == set(CLASSES)
    assert (tmp_path / "c").read_text() == "one two"
    assert torch.load(tmp_path / "weights.pt")["x"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("at", range(1, 13))
def test_each_operation_fails_when_it_is_told_to(tmp_path: Path, at: int) -> None:
    struck: list[Operation] = []
    operations = Operations(tmp_path, Fault(at, errno.EIO), struck.append)
    with operations.installed(), pytest.raises(OSError) as caught:
        everything(tmp_path)
    assert caught.value.errno == errno.EIO
    assert struck == [operations.seen[at - 1]]


def test_a_write_is_cut_short(tmp_path: Path) -> None:
    with Operations(tmp_path, Fault(2, errno.ENOSPC, "part")).installed(), pytest.raises(OSError, match="No space"):
        (tmp_path / "text").write_text("12345678")
    assert (tmp_path / "text").read_text() == "1234"
    with Operations(tmp_path, Fault(1, errno.ENOSPC, "part")).installed(), pytest.raises(OSError, match="No space"):
        torch.save(torch.zeros(1000), tmp_path / "weights.pt")
    whole = io.BytesIO()
    torch.save(torch.zeros(1000), whole)
    assert 0 < (tmp_path / "weights.pt").stat().st_size < len(whole.getvalue())


def test_arrow_writes_through(tmp_path: Path) -> None:
    batch = pa.record_batch({"x": [1, 2, 3]})

    def write() -> None:
        with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)

    operations = Operations(tmp_path)
    with operations.installed():
        write()
    assert pa.ipc.open_file(str(tmp_path / "x.arrow")).read_all()["x"].to_pylist() == [1, 2, 3]
    writes = [operation.kind for operation in operations.seen].count("write")
    assert writes > 3
    with Operations(tmp_path, Fault(writes, errno.EIO)).installed(), pytest.raises(OSError, match="error"):
        write()


def test_a_full_disk_stays_full_and_lets_files_go(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with Operations(tmp_path, Fault(1, errno.ENOSPC, lasting="full")).installed():
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                (tmp_path / "new").write_text("x")
        (tmp_path / "old").unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_dies_as_by_kill_9(tmp_path: Path) -> None:
    def work(tell: Any) -> None:
        with Operations(tmp_path, Fault(2, None, "part")).installed():
            tell(begun=True)
            (tmp_path / "text").write_text("12345678")

    ended = forked(work, tmp_path / "log")
    assert (ended.signal, ended.reported, ended.succeeded) == (signal.SIGKILL, {"begun": True}, False)
    assert (tmp_path / "text").read_text() == "1234"


class Careless(Scenario):
    """Writes a file in place, and takes a torn one for what it wrote."""

    name = "careless"

    def run(self, root: Path, operations: Operations) -> None:
        if not (root / "made").exists():
            (root / "made").write_text("12345678")

    def visible(self, root: Path) -> list[str]:
        folder = root / "made"
        return [f"{folder} is torn"] if folder.exists() and folder.read_text() != "12345678" else []

    def outcome(self, root: Path) -> Any:
        return {"made": (root / "made").read_text()}


@pytest.mark.parametrize("fault", [Fault(2, None, "part"), Fault(2, errno.ENOSPC, "part"), Fault(1, None, "after")])
def test_what_is_lost_is_told(tmp_path: Path, fault: Fault) -> None:
    campaign = Campaign(tmp_path / "campaign")
    seen = [Operation("open", "", ""), Operation("write", "", "")]
    campaign.report = Report(traced={"careless": Traced(seen, {"made": "12345678"}, 0.1)})
    campaign._round(Careless(campaign.base), [Injection(fault)])
    [trial] = campaign.report.lost
    assert "is torn" in trial.lost
    campaign._round(Careless(campaign.base), [Injection(Fault(1, errno.EACCES))])
    assert len(campaign.report.lost) == 1, "a fault that leaves nothing behind costs nothing"
    assert campaign.report.never_hit() == sorted(set(CLASSES) - {"open", trial.operation.kind})
