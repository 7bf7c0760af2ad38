"""Segments of recordings: how files have them, the label at each hundredth of a second, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.segments import Segment, num_positions, span_in, stretches, tags_of
from data_prep.labelled.task import task_of
from tests.data_prep.labelled.conftest import Load
from tests.data_prep.sound.recordings import written

NAMED = {"kind": "sound", "head": "tags", "inputs": "file", "label": "segments", "validation": "rows.jsonl"}


@pytest.fixture(autouse=True)
def clips(tmp_path: Path) -> None:
    """Two recordings, of a second and of half a second."""
    written(tmp_path / "a.wav", 300, 1.0)
    written(tmp_path / "b.wav", 500, 0.5, seed=1)


def row(*segments: Any, file: str = "a.wav") -> dict[str, Any]:
    return {"file": file, "segments": list(segments)}


def test_each_hundredth_of_a_second_has_the_label_at_its_middle(load: Load) -> None:
    rows = [row([0.9, 0.994, "one"], [0.0, 0.42, "two"]), row({"start": 0.1, "end": 0.5, "label": "one"}, file="b.wav")]
    data = load({"rows.jsonl": rows}, **NAMED)
    first, second = data.splits["validation"]
    assert (data.task, data.labels, data.scheme, data.is_of_segments) == ("tagging", ["one", "two"], "", True)
    assert first.seconds == 1.0 and first.tags == (1,) * 42 + (-1,) * 48 + (0,) * 9 + (-1,)
    assert second.tags == (-1,) * 10 + (0,) * 40 and "hundredths of a second" in data.protocol
    (said,) = (text for text in checks.remarks(data) if "segment" in text)
    assert said.startswith("59 of 150 hundredths of a second are in no segment, and are neither learned nor scored")
    named = load({"rows.jsonl": rows}, **NAMED, outside="pause")
    assert named.labels == ["one", "pause", "two"] and named.splits["validation"][1].tags == (1,) * 10 + (0,) * 40
    assert not any("in no segment" in text for text in checks.remarks(named))


def test_segments_are_found_again_in_the_labels_of_positions() -> None:
    segments = [Segment(0.1, 0.25, 1), Segment(0.25, 0.31, 0), Segment(0.4, 0.5037, 1)]
    assert stretches(tags_of(segments, 0.5037), 0.5037) == segments
    assert [num_positions(seconds) for seconds in (0.001, 0.29, 0.994, 0.995)] == [1, 29, 99, 100]


def test_cells_hold_segments_as_json_has_lists(load: Load) -> None:
    table = 'file\tsegments\na.wav\t[[0, 1, "one"]]\nb.wav\t[{"start": 0, "end": 0.5, "label": 2}]\n'
    data = load({"rows.tsv": table}, **{**NAMED, "validation": "rows.tsv"}, labels={"one": "first", "2": "second"})
    assert data.labels == ["first", "second"] and [set(e.tags) for e in data.splits["validation"]] == [{0}, {1}]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (
            [[0.5, 1.1, "one"]],
            r"'segments': the segment \[0.5, 1.1, \"one\"\] ends after the recording, which has 1.00",
        ),
        ([[0.5, 0.5, "one"]], r"the segment \[0.5, 0.5, \"one\"\] has no duration from 0 on; expected seconds, start"),
        ([[-0.1, 0.5, "one"]], r"the segment \[-0.1, 0.5, \"one\"\] has no duration from 0 on"),
        ([[0, 0.5, "one"], [0.4, 0.6, "two"]], r"\[0.4, 0.6, \"two\"\] overlaps \[0.0, 0.5, \"one\"\]; a position has"),
        ([[0, 0.5, "eleven"]], r"the label 'eleven' in 'segments'; allowed: one, two"),
        ([[0, 0.5]], r"'segments' holds \[0, 0.5\]; expected a segment: start and end in seconds, and a label"),
        ([["0", 0.5, "one"]], r"expected a segment: start and end in seconds"),
        ([[0, 0.5, None]], r"missing or null in 'segments'; expected a name or a whole number"),
        ([], r"'segments' has no segment; give it some, or name the label of what is in none by outside in task.yaml"),
        ("one", r"'segments' is \"one\"; expected a list of segments, \[start, end, label\] each"),
    ],
)
def test_segments_that_cannot_be_meant_are_refused_or_counted(load: Load, segments: Any, message: str) -> None:
    rows = [row([0, 0.5, "one"]), {"file": "a.wav", "segments": segments}, row([0, 0.5, "two"])]
    labels = ["one", "two"]
    with pytest.raises(UserError, match=rf"rows.jsonl line 2: .*{message}"):
        load({"rows.jsonl": rows}, **NAMED, labels=labels)
    data = load({"rows.jsonl": rows}, **NAMED, labels=labels, max_rejects=1)
    assert len(data.splits["validation"]) == 2 and "rows that cannot be used, left out: 1" in data.notes[-1]


def test_rounded_times_are_taken_and_what_is_too_short_is_told(load: Load) -> None:
    rows = [row([0, 0.5, "one"], [0.496, 0.504, "two"], [0.6, 1.005, "two"])]
    data = load({"rows.jsonl": rows}, **NAMED)
    (example,) = data.splits["validation"]
    assert example.tags == (0,) * 50 + (-1,) * 10 + (1,) * 40
    assert any(text.startswith("segments too short to have a position") for text in data.notes)


ASKED = {"kind": "sound", "head": "answer", "inputs": ["file", "asked"], "label": "answer", "validation": "rows.jsonl"}


def test_answers_are_spans_of_the_first_recording(load: Load) -> None:
    found = [[0.1, 0.9], [[0.1, 0.2], {"start": 0.3, "end": 1.005, "score": 1}], [], {"start": 0, "end": 0.5}]
    rows = [{"file": "a.wav", "asked": "b.wav", "answer": answer} for answer in found]
    data = load({"rows.jsonl": rows}, **ASKED)
    examples = data.splits["validation"]
    texts = [[answer.text for answer in example.answers] for example in examples]
    assert texts == [["0.100 0.900"], ["0.100 0.200", "0.300 1.005"], [], ["0.000 0.500"]]
    assert [Path(file).name for file in examples[0].files] == ["a.wav", "b.wav"] and examples[0].seconds == 1.0
    table = "file\tasked\tanswer\na.wav\tb.wav\t[0.1, 0.9]\n"
    (example,) = load({"rows.tsv": table}, **{**ASKED, "validation": "rows.tsv"}).splits["validation"]
    assert [span_in(answer.text) for answer in example.answers] == [(0.1, 0.9)]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0.5, 1.1], r"'answer': the span \[0.5, 1.1\] ends after the recording, which has 1.00 seconds"),
        ([[0.5, 0.4]], r"'answer': the span \[0.5, 0.4\] has no duration from 0 on"),
        ([0.5], r"'answer' holds 0.5; expected a span: start and end in seconds"),
        ("late", r"'answer' is \"late\"; expected start and end, or a list of such spans"),
    ],
)
def test_answers_that_are_no_spans_are_refused(load: Load, answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"rows.jsonl line 1: {message}"):
        load({"rows.jsonl": [{"file": "a.wav", "asked": "b.wav", "answer": answer}]}, **ASKED)


def test_questions_about_one_recording_stay_together_where_rows_are_held_out(tmp_path: Path, load: Load) -> None:
    for number in range(12):
        written(tmp_path / f"{number}.wav", 300 + 20 * number, seed=number)
    pairs = [(f"{number}.wav", asked) for number in range(12) for asked in ("a.wav", "b.wav")]
    rows = [{"file": file, "asked": asked, "answer": [0, 0.1]} for file, asked in pairs]
    settings = {**ASKED, "validation": [], "split": {"validation": 0.3, "test": 0.3}}
    splits = load({"rows.jsonl": rows}, **settings, train="rows.jsonl").splits
    of_split = {split: {example.text for example in examples} for split, examples in splits.items() if examples}
    assert len(of_split) == 3 and sum(map(len, of_split.values())) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outside": "pause", "labels": ["one", "two"]}, "outside: allowed: one, two"),
        ({"outside": "pause", "head": "class"}, "outside is of segments of files, and here are class of sound"),
        ({"outside": "O", "kind": "text"}, "outside is of segments of files, and here are tags of text; leave it out"),
    ],
)
def test_the_label_of_what_is_in_no_segment_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_of({**NAMED, **settings}, "task.yaml")
