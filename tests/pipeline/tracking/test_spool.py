"""Spools: what was written is read, whoever was killed meanwhile."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tracking import sender
from pipeline.tracking.spool import Progress, Spool, spools
from pipeline.tracking.tracking import recover, send_pending
from tests.pipeline.tracked import runs_of, start

pytestmark = pytest.mark.usefixtures("elsewhere")

KILLED_FLOW = """
import sys, time
from pathlib import Path
from pipeline.tracking.tracking import Tracker

tracker = Tracker(Path(sys.argv[1]), "http://127.0.0.1:1", "killed", "killed-flow")
flow = tracker.run("flow")
tracker.run("done", flow).end()
tracker.run("pretrain", flow).metrics({"loss": 3.0}, step=7)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    first = Spool(tmp_path, "torn")
    first.append({"op": "run", "id": "a"})
    first.close()
    with first.path.open("ab") as file:
        file.write(b'{"op": "tags", "id"')  # its process was killed
    assert len(first.read(0)) == 1
    second = Spool(tmp_path, "torn")
    second.append({"op": "end", "id": "a"})
    lines = second.read(0)
    assert [operation and operation["op"] for operation, _ in lines] == ["run", None, "end"]
    assert lines[-1][1] == second.path.stat().st_size


def test_writers_of_several_threads_and_spools_do_not_mix_lines(tmp_path: Path) -> None:
    writers = [Spool(tmp_path, "shared") for _ in range(4)]

    def write(number: int) -> None:
        for step in range(200):
            writers[number].append({"op": "metrics", "id": str(number), "step": step, "text": "x" * 300})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines, offset = [], 0
    while batch := writers[0].read(offset):
        lines += [operation for operation, _ in batch]
        offset = batch[-1][1]
    for number in range(4):
        assert [line["step"] for line in lines if line and line["id"] == str(number)] == list(range(200))


def test_damaged_progress_means_sending_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "damaged")
    spool.append({"op": "run", "id": "a"})
    spool.save(Progress(lines=1, offset=spool.path.stat().st_size))
    assert spool.unsent() == 0
    spool._sent.write_text("{")
    assert spool.unsent() == 1


OPERATION = st.one_of(
    st.builds(
        lambda run, width: {"op": "metrics", "id": run, "values": {f"m{n}": 0.5 for n in range(width)}},
        st.sampled_from("ab"),
        st.integers(1, 600),
    ),
    st.builds(lambda run, text: {"op": "text", "id": run, "text": text}, st.sampled_from("ab"), st.text()),
)


@given(operations=st.lists(OPERATION, max_size=12), data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_whatever_was_cut_off(operations: list[dict[str, Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), "cut")
        ends = []
        for operation in operations:
            spool.append(operation)
            ends.append(spool.path.stat().st_size)
        spool.close()
        size = ends[-1] if ends else 0
        cut = data.draw(st.integers(0, size))
        if operations:
            os.truncate(spool.path, cut)
        num_whole = sum(end <= cut for end in ends)
        assert [operation for operation, _ in spool.read(0)] == operations[:num_whole]
        again = Spool(Path(folder), "cut")
        again.append({"op": "end", "id": "a"})
        again.close()
        read = [operation for operation, _ in again.read(0) if operation]
        if cut in [end - 1 for end in ends]:  # nothing but the line's end was lost
            num_whole += 1
        assert read == [*operations[:num_whole], {"op": "end", "id": "a"}]


@given(operations=st.lists(st.one_of(st.none(), OPERATION), max_size=12))
def test_only_metrics_of_one_run_are_sent_together(operations: list[dict[str, Any] | None]) -> None:
    groups = list(sender._groups([(operation, number) for number, operation in enumerate(operations)]))
    assert [operation for group, _ in groups for operation in group] == operations
    assert [end for _, end in groups] == [sum(len(g) for g, _ in groups[: n + 1]) - 1 for n in range(len(groups))]
    for group, _ in groups:
        if len(group) > 1:
            kinds = {(operation["op"], operation["id"]) if operation else None for operation in group}
            assert kinds in ({("metrics", "a")}, {("metrics", "b")})
            assert sum(len(operation["values"]) for operation in group if operation) <= 1000


def test_old_spools_are_tidied_only_when_all_was_sent(tmp_path: Path) -> None:
    for name, done, age in (("old", True, 30), ("kept", False, 30), ("new", True, 1)):
        spool = Spool(tmp_path, name)
        spool.append({"op": "tags", "id": "a", "tags": {}})
        if done:
            spool.save(Progress(lines=1, offset=spool.path.stat().st_size))
        when = time.time() - age * 86400
        os.utime(spool.path, (when, when))
        spool.tidy()
    assert {spool.name for spool in spools(tmp_path)} == {"kept", "new"}


def test_runs_of_a_killed_process_end_as_killed(tmp_path: Path, uri: str, client: Any) -> None:
    process = start(KILLED_FLOW, str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert recover(tmp_path) == 0, "it is alive"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert send_pending(tmp_path, uri) == 0
    status = {name: run.info.status for name, run in runs_of(client, "killed").items()}
    assert status == {"flow": "KILLED", "pretrain": "KILLED", "done": "FINISHED"}
    assert recover(tmp_path) == 0, "they were ended already"
