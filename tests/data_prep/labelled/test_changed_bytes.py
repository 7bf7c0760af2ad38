"""Whatever bytes a labelled file holds, it is read or refused in one sentence; nothing else is raised."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.loading import load_task

ANSWER = {"text": "is", "answer_start": 3}
QUESTION = {"id": "1", "question": "What?", "answers": [ANSWER], "is_impossible": False}
SQUAD = json.dumps({"data": [{"paragraphs": [{"context": "It is.", "qas": [QUESTION, {**QUESTION, "id": "2"}]}]}]})


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": ["a", "b"], "label": [0, 1]}), sink)
    return sink.getvalue().to_pybytes()


def stream() -> bytes:
    table = pa.table({"x": ["a", "b"], "label": [0, 1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a.tsv": (lambda: b'x\tlabel\n"a"\t0\nb\t1\n', "quotes: false\ninputs: [x]"),
    "a.csv": (lambda: b'x,label\n"a ""b""",0\nb,1\n', "inputs: [x]"),
    "a.jsonl": (lambda: b'{"x": "a", "label": 0}\n{"x": "b", "label": 1}\n', "inputs: ['{x}']"),
    "a.json": (lambda: b'[{"x": "a", "o": ["y", "z"], "label": 1}]', "inputs: [x]\nchoices: o"),
    "b.tsv.gz": (lambda: gzip.compress(b"x\tlabel\na\t0.5\nb\t1\n", mtime=0), "inputs: [x]\nhead: score"),
    "a.parquet": (parquet, "inputs: [x]"),
    "a.arrow": (stream, "inputs: [x]"),
    "squad.json": (lambda: SQUAD.encode(), "layout: squad"),
    "a.conllu": (lambda: b"# s = 1\n1\tIt\tit\tPRON\t_\t_\t2\tnsubj\t_\t_\n\n1.1\tIs" + b"\t_" * 8, "layout: tokens"),
    "conll.txt": (lambda: b"-DOCSTART- O\n\nAnn B-PER\nran O\n\nTo O\n", "layout: tokens"),
}


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make, task = FILES[name]
    content = bytearray(make())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1)) if content else 0
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        piece = data.draw(st.binary(max_size=3))
        if kind == "cut":
            del content[place:]
        else:
            content[place : place + (len(piece) if kind != "insert" else 0)] = b"" if kind == "remove" else piece
    folder: Path = tmp_path_factory.mktemp("changed")
    (folder / name).write_bytes(bytes(content))
    (folder / "task.yaml").write_text(f"validation: {name}\n{task}\n")
    try:
        read = load_task(folder / "task.yaml")
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert read.splits["validation"] and list(checks.remarks(read))


def test_a_parquet_file_that_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet()[:-9])
    (tmp_path / "task.yaml").write_text("validation: a.parquet\ninputs: [x]")
    with pytest.raises(UserError, match=r"a\.parquet is damaged after row 0 \(.+\); write it again"):
        load_task(tmp_path / "task.yaml")
