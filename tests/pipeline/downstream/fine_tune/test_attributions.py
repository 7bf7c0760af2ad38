"""Effects of words: each is what the network's scores say, and they reach the report whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.labelled.examples import Example, Labelled
from data_prep.shards.rows import Ragged, pieces
from data_prep.text.words import places
from pipeline.downstream.fine_tune.attributions.omission import effects
from pipeline.downstream.fine_tune.attributions.shown import FIGURE, NOTE, added
from pipeline.downstream.fine_tune.heads import Encoded, Predicted, Shape, tokenizer_of
from pipeline.downstream.fine_tune.job import Config, needs
from pipeline.reports.highlighted import LINES, WIDTH, columns_of, laid_out
from pipeline.reports.report import Report, Table
from tests.data_prep.sound.recordings import written
from tests.pipeline.downstream.fine_tune import listening
from tests.pipeline.downstream.fine_tune.answering import made, network_of

VALUES = {"good": (3.0, -1.0), "bad": (-2.0, 4.0), "film": (0.5, 0.25)}  # of a word for the first and second label


@dataclass
class Counting:
    """Adds up the values of words, so each word's effect is known."""

    shape: Shape

    def scored(self, examples: Sequence[Example]) -> Iterator[tuple[Encoded, Ragged]]:
        for start in range(0, len(examples), 3):
            some = examples[start : start + 3]
            rows = [self._scores(example) for example in some]
            yield Encoded({}, some), Ragged.from_rows(rows, np.float32, (len(rows[0][0]),))

    def _scores(self, example: Example) -> list[tuple[float, ...]]:
        words = f"{example.text} {example.text_pair or ''}".split()
        sums = np.sum([VALUES.get(word.strip(".,"), (0.0, 0.0)) for word in words] or [(0.0, 0.0)], axis=0)
        if self.shape.head == "choice":
            return [(float(value),) for value in sums]
        return [(float(sums[0]),)] if self.shape.head == "score" else [tuple(map(float, sums))]


def effect_of(model: Any, example: Example, answer: Any) -> dict[str, float]:
    (words,) = effects(model, [(example, answer)])
    texts = (example.text, example.text_pair or "")
    return {texts[word.of][word.start : word.end]: word.effect for word in words}


def test_effects_are_differences_of_log_odds_or_of_numbers() -> None:
    labels: Any = Counting(Shape("class", ("yes", "no")))
    one = effect_of(labels, Example(text="good, film.", text_pair="bad", label=0), 1)
    assert one == {"good": -4.0, "film": -0.25, "bad": 6.0}
    other = effect_of(labels, Example(text="good, film.", text_pair="bad", label=1), 0)
    assert other == {"good": 4.0, "film": 0.25, "bad": -6.0}
    choices: Any = Counting(Shape("choice"))
    assert effect_of(choices, Example(text="bad x", choices=("u", "v"), label=0), 1) == {"bad": 6.0, "x": 0.0}
    number: Any = Counting(Shape("score", scale=(1.0, 2.0)))
    assert effect_of(number, Example(text="good film", score=0.0), 8.0) == {"good": 6.0, "film": 1.0}
    assert effect_of(number, Example(text="good film", score=9.0), 8.0) == {"good": -6.0, "film": -1.0}


def test_several_examples_keep_their_words() -> None:
    model: Any = Counting(Shape("class", ("yes", "no")))
    texts = (("good film bad", 0), ("x", 0), ("x bad", 1))
    cases = [(Example(text=text, label=label), 1 - label) for text, label in texts]
    assert [[word.effect for word in words] for words in effects(model, cases)] == [[-4.0, -0.25, 6.0], [], [0.0, -6.0]]


def test_a_network_is_asked_the_text_without_the_word(tmp_path: Path) -> None:
    model = made(network_of(tmp_path), Shape("class", ("no", "yes")))
    example = Example(text="a b c", text_pair="d", label=0)
    margins = []
    for text, pair in (("a b c", "d"), ("b c", "d"), ("a c", "d"), ("a b", "d"), ("a b c", "")):
        ((_, scores),) = model.scored([Example(text=text, text_pair=pair)])
        margins.append(float(scores.values[0, 1] - scores.values[0, 0]))
    (words,) = effects(model, [(example, 1)])
    assert [word.effect for word in words] == pytest.approx([margins[0] - each for each in margins[1:]], abs=1e-5)
    assert max(abs(word.effect) for word in words) > 1e-3
    cut = made(network_of(tmp_path), Shape("class", ("no", "yes")), length=5)
    (words,) = effects(cut, [(Example(text="a b c d", label=0), 1)])
    assert words[3].effect == 0 and words[0].effect != 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It isn't good, is it?", ["It", "isn't", "good", "is", "it"]),
        ("(re-open) …  3.5%", ["re-open", "3.5"]),
        ("今天很好, ok", ["今", "天", "很", "好", "ok"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया"]),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, wanted: list[str]) -> None:
    assert [text[start:end] for start, end in places(text)] == wanted


@given(st.text(st.sampled_from("ab .,'今天é\u0301\n"), max_size=60))
def test_words_stand_apart_and_hold_all_letters(text: str) -> None:
    found = places(text)
    assert all(start < end for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    outside = set(range(len(text))) - {place for start, end in found for place in range(start, end)}
    assert not any(text[place].isalpha() for place in outside)


@given(st.lists(st.tuples(st.text("ab 今\u0301", max_size=30), st.none() | st.floats(-1, 1)), max_size=20))
def test_lines_are_no_wider_than_they_may_be_and_lose_only_blanks(pieces: list[tuple[str, float | None]]) -> None:
    placed = list(laid_out(pieces, 12))
    assert all(each.column + columns_of(each.text.rstrip()) <= 12 for each in placed)
    kept, whole = ("".join("".join(texts).split()) for texts in ([p.text for p in placed], [p[0] for p in pieces]))
    assert whole.startswith(kept) and (kept == whole or max(each.line for each in placed) == LINES - 1)
    ends = {}
    for each in placed:
        assert each.column >= ends.get(each.line, 0)
        ends[each.line] = each.column + each.columns


def test_the_report_says_which_words_and_what_numbers_mean(tmp_path: Path) -> None:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    data = Labelled("classification", ["yes", "no"], splits, "made up", "CC0-1.0", "none")
    examples = [
        Example(text="good film", label=0, id="1"),
        Example(text="a bad film " * 30, label=0, id="2"),
        Example(text="film", text_pair="bad", label=0, id="3"),
    ]
    report = Report("name", "about.", [Table("Scores", ["a"], [["b"]])], [], "verdict.", {})
    model: Any = Counting(Shape("class", ("yes", "no")))
    made_report = added(report, model, data, examples, Predicted([0, 1, 1], [0.9, 0.8, 0.7]), 1, tmp_path)
    assert (tmp_path / FIGURE).stat().st_size > 1000
    (row,) = made_report.tables[1].rows
    assert row[1:4] == ["yes", "no", "80%"] and row[4].startswith("bad +6.00") and row[5].startswith("film -0.25")
    (noted,) = made_report.notes[NOTE]
    assert noted["id"] == "2" and len(noted["words"]) == 90 and noted["words"][1]["effect"] == 6.0
    assert "log odds" in made_report.about and WIDTH > 0
    right = added(report, model, data, examples[:1], Predicted([0], [0.9]), 3, tmp_path)
    assert right is report


def recordings(folder: Path) -> tuple[Any, list[Example]]:
    """A network of random weights for rows of 24 frames, and recordings of 0.2 s (18 frames), 0.6 s (58) and 0.05 s."""
    shape = Shape("class", ("low", "high"), kind="sound")
    model = made(listening.network_of(folder / "network"), shape, 24, "mean", kind="sound")
    files = [written(folder / f"{place}.wav", 400, seconds) for place, seconds in enumerate((0.2, 0.6, 0.05))]
    return model, [Example(text=file.name, files=(str(file),), label=0, id=file.name) for file in files]


def test_a_network_is_asked_the_recording_without_the_stretch(tmp_path: Path) -> None:
    """Also where what is left is read in other pieces: three, then two."""
    model, examples = recordings(tmp_path)
    read = tokenizer_of(model.shape, model.folder, False)
    short, long, tiny = effects(model, [(example, 1) for example in examples])
    assert [(part.start, part.end) for part in short] == [(0, 4), (4, 9), (9, 13), (13, 18)] and not tiny
    assert len(long) == 14 and long[-1].end == 58
    for example, parts in zip(examples, (short, long), strict=False):
        frames = read(Path(example.files[0]))
        rows = [frames, *(np.delete(frames, slice(part.start, part.end), axis=0) for part in parts)]
        margins = [_margin(model, of_row) for of_row in rows]
        assert [part.effect for part in parts] == pytest.approx([margins[0] - each for each in margins[1:]], abs=1e-5)
        assert max(abs(part.effect) for part in parts) > 1e-3


def _margin(model: Any, frames: np.ndarray) -> float:
    """The mean over pieces, by the network itself."""
    scores = [model.objective.scores({"input": Ragged.from_rows([each], np.float32)}) for each in pieces(frames, 24)]
    first, second = np.mean([each.values[0] for each in scores], axis=0)
    return float(second - first)


def test_the_report_says_which_seconds(tmp_path: Path) -> None:
    model, examples = recordings(tmp_path)
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    data = Labelled("classification", ["low", "high"], splits, "made up", "CC0-1.0", "none", kind="sound")
    report = Report("name", "about.", [Table("Scores", ["a"], [["b"]])], [], "verdict.", {})
    told = added(report, model, data, examples, Predicted([1, 1, 1], [0.9, 0.8, 0.7]), 3, tmp_path)
    assert (tmp_path / FIGURE).stat().st_size > 5000
    assert told.tables[1].title == "Stretches of wrong answers"
    first, _, tiny = told.tables[1].rows
    assert first[:4] == ["0.wav", "low", "high", "90%"] and tiny[4:] == ["", ""]
    noted = sorted(told.notes[NOTE][0]["stretches"], key=lambda each: -each["effect"])
    assert {(each["start"], each["end"]) for each in noted} == {(0.0, 0.04), (0.04, 0.09), (0.09, 0.13), (0.13, 0.18)}
    named = [f"{each['start']:.2f}–{each['end']:.2f} s {each['effect']:+.2f}" for each in noted]
    towards = sum(each["effect"] > 0 for each in noted)
    assert first[4:] == [", ".join(named[:towards]), ", ".join(reversed(named[towards:]))]


def test_what_cannot_be_attributed_is_said_before_anything_runs() -> None:
    values = {"task": "tagging", "data": {"path": "rows.jsonl"}, "labels": [4], "steps": 1, "batch": 8, "length": 32}
    values |= {"name": "x", "lrs": [0.1], "scratch_lrs": [0.1], "validation_rows": 4, "test_rows": 4, "attributions": 2}
    job = Config.model_validate({**values, "models": ["scratch"]})
    recipe: Any = SimpleNamespace(kind="text", network=None)
    problems = [text for path, text in needs(recipe, job) if path == ".attributions"]
    assert [text.partition(",")[0] for text in problems] == ["are of classification", "is of the network pretrained"]
    job = Config.model_validate({**values, "task": "classification", "models": ["pretrained"]})
    assert not [path for path, _ in needs(recipe, job) if path == ".attributions"]
    kept = Config.model_validate({**values, "attributions": 0}).model_dump()
    assert "attributions" not in kept
