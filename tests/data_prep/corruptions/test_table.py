"""What all corruptions promise, held against each of the table: pure, restorable, true about their columns."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from data_prep.corruptions import CORRUPTIONS, Corruption, build, config_of, config_union
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Rows, Specials, concat, network_input, num_rows, ragged, take

PAD, UNK, CLS, SEP, MASK, EOS = range(6)
SPECIALS = Specials(1000, pad=PAD, unk=UNK, cls=CLS, sep=SEP, mask=MASK, eos=EOS, sentinels=range(999, 899, -1))
TEXT, ARRAYS, PICTURES, FRAMES = "text", "arrays", "images", "frames"

CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "none": (TEXT, [{}]),
    "masked-lm": (
        TEXT,
        [
            {},
            {"unit": "word", "rate": 0.3},
            {"unit": "phrase", "rate": 0.3},
            {"unit": "phrase", "rate": 0.3, "basic": 0.4},
            {"mask": 0.5, "random": 0.5, "keep": 0, "rate": 0.5},
        ],
    ),
    "masked-spans": (
        TEXT,
        [{}, {"rate": 0.5, "fate": "token", "random_from": "vocabulary"}, {"lengths": "reciprocal", "longest": 3}],
    ),
    "masked-slots": (TEXT, [{}, {"rate": 0.5, "mask": 0.5, "max_predictions": 9}]),
    "spans": (TEXT, [{}, {"rate": 0.5, "mean_length": 2}, {"rate": 0.9, "mean_length": 1}]),
    "bart": (
        TEXT,
        [
            {},
            {"permute": 0, "unit": "token", "replace": "masks"},
            {"permute": 0, "unit": "token", "replace": "nothing"},
            {"rate": 0},
            {"permute": 0, "rate": 0, "rotate": 1},
            {"permute": 0.5, "random": 0.1, "insert": 0.2, "rotate": 0.5},
        ],
    ),
    "mass": (TEXT, [{}, {"rate": 0.3, "front": 0, "back": 0}]),
    "masked-frames": (FRAMES, [{}, {"zero": 0, "other": 1}, {"rate": 0.4, "run": 3, "zero": 0, "other": 0}]),
    "gaussian": (ARRAYS, [{"level": 0.3}]),
    "masking": (ARRAYS, [{"level": 0.4}]),
    "salt-and-pepper": (ARRAYS, [{"level": 0.4, "low": -1.0}]),
    "views": (PICTURES, [{}, {"area": [0.9, 1.0], "ratio": [0.2, 5.0]}]),
}
EVERY = [(kind, options) for kind, (_, all_options) in CASES.items() for options in all_options]
each = pytest.mark.parametrize(("kind", "options"), EVERY, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(EVERY)])


def made(kind: str, options: dict[str, Any]) -> Corruption:
    return build(config_of({"kind": kind, **options}), SPECIALS)


def example(kind: str, count: int = 7, length: int | None = None, seed: int = 0) -> Rows:
    """Rows with every column that a corruption may read, and one that none does."""
    random = np.random.default_rng(seed)
    if CASES[kind][0] == ARRAYS:
        values = random.normal(size=(count, length or 12)).astype(np.float32)
        return {"input": values, "label": np.arange(count)}
    if CASES[kind][0] == PICTURES:
        values = random.integers(0, 256, (count, 3, 4, length or 12), np.uint8)
        return {"input": values[:, :1, :1] if length else values, "label": np.arange(count)}
    lengths = np.full(count, length) if length else random.integers(3, 40, count)
    if CASES[kind][0] == FRAMES:
        frames = random.normal(size=(lengths.sum(), 4)).astype(np.float32)
        return {"input": Ragged.from_lengths(frames, lengths), "label": np.arange(count)}
    texts = [[CLS, *random.integers(6, 900, size - 2), SEP] for size in lengths]
    starts = [(random.random(size) < 0.7).astype(np.uint8) for size in lengths]
    return {
        "input": Ragged.from_rows(texts, np.uint16),
        "word_start": Ragged.from_rows(starts, np.uint8),
        "unit": Ragged.from_rows([np.arange(size) // 2 for size in lengths]),
        "sentence": Ragged.from_rows([np.arange(size) // 6 for size in lengths], np.uint16),
        "segment": Ragged.from_rows([np.zeros(size, np.uint8) for size in lengths]),
        "label": np.arange(count),
    }


def drawn(count: int) -> Draws:
    return Draws(key(3, "corrupt", "table"), 0, np.arange(count))


def same(left: Rows, right: Rows) -> bool:
    def flat(rows: Rows) -> dict[str, Any]:
        return {
            name: (column.values.tobytes(), column.values.dtype, column.offsets.tobytes())
            if isinstance(column, Ragged)
            else (np.asarray(column).tobytes(), column.dtype, column.shape)
            for name, column in rows.items()
        }

    return flat(left) == flat(right)


def test_every_corruption_of_the_table_is_tested_here() -> None:
    assert CASES.keys() == CORRUPTIONS.keys()


@settings(max_examples=25, deadline=None)  # the first of a kind imports its module
@given(case=st.sampled_from(EVERY), seed=st.integers(0, 99), data=st.data())
def test_splitting_joining_and_reordering_batches_changes_nothing(case: Any, seed: int, data: Any) -> None:
    corruption, rows = made(*case), example(case[0], seed=seed)
    count = num_rows(rows)
    whole = corruption(rows, drawn(count))
    index = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=9))
    assert same(corruption(take(rows, index), drawn(count).take(index)), take(whole, index))
    cut = data.draw(st.integers(0, count))
    parts = [np.arange(cut), np.arange(cut, count)]
    assert same(concat([corruption(take(rows, part), drawn(count).take(part)) for part in parts]), whole)


@each
def test_what_was_corrupted_can_be_restored(kind: str, options: dict[str, Any]) -> None:
    corruption, rows = made(kind, options), example(kind)
    before = {name: (column.values if isinstance(column, Ragged) else column).copy() for name, column in rows.items()}
    assert same(corruption.restore(corruption(rows, drawn(7))), rows)
    for name, column in rows.items():  # nothing changed in place
        assert np.array_equal(column.values if isinstance(column, Ragged) else column, before[name])


@each
def test_a_sequence_that_is_written_right_restores(kind: str, options: dict[str, Any]) -> None:
    corruption, rows = made(kind, options), example(kind)
    corrupted = corruption(rows, drawn(7))
    if corruption.targets != "sequence":
        with pytest.raises(ValueError, match="leaves no sequence to write"):
            corruption.filled(corrupted, Ragged.from_rows([[1]] * 7))
        return
    assert same({"input": corruption.filled(corrupted, ragged(corrupted, "target_tokens"))}, {"input": rows["input"]})


@each
def test_it_tells_what_it_reads_and_writes(kind: str, options: dict[str, Any]) -> None:
    corruption, rows = made(kind, options), example(kind)
    corrupted = corruption(rows, drawn(7))
    assert set(corrupted) - set(rows) == set(corruption.writes)
    assert set(rows) - set(corrupted) <= {"input"}
    assert all(corrupted[name] is column for name, column in rows.items() if name in corrupted)
    needed = {name: column for name, column in rows.items() if name in (*corruption.reads, "input")}
    fewer = corruption(needed, drawn(7))
    assert all(same({name: fewer[name]}, {name: corrupted[name]}) for name in corruption.writes)
    assert set(corruption.needs.columns) <= set(corruption.reads)


@each
def test_counts_are_what_is_expected(kind: str, options: dict[str, Any]) -> None:
    corruption = made(kind, options)
    for length in (9, 40, 128):
        corrupted, counts = corruption(example(kind, 200, length), drawn(200)), corruption.counts(length)
        column = network_input(corrupted)
        seen = column.lengths if isinstance(column, Ragged) else np.full(200, column[0].size)
        assert seen.mean() == pytest.approx(counts.seen, rel=0.02)
        targets = {"sparse": "target_positions", "sequence": "target_tokens"}.get(corruption.targets)
        if targets:
            assert corrupted[targets].lengths.mean() == pytest.approx(counts.targets, rel=0.05)  # type: ignore[union-attr]
        else:
            assert counts.targets == length
        assert corruption.counts(corruption.raw_length(length)).seen <= length


@each
def test_the_pieces_are_those_of_the_row(kind: str, options: dict[str, Any]) -> None:
    corruption, rows = made(kind, options), example(kind)
    corrupted = corruption(rows, drawn(7))
    for row in (0, 6):
        pieces = {piece.name: piece for piece in corruption.pieces(corrupted, row)}
        column = rows["input"]
        x = column.row(row) if isinstance(column, Ragged) else column[row]
        assert np.array_equal(pieces["x"].values, x)
        if "x″" in pieces:
            values, places = pieces["x″"].values, pieces["x″"].places
            if corruption.targets == "sequence":  # what x′ lacks
                values, places = np.delete(values, places)[:-1], pieces["x"].places
                x, seen = np.delete(x, places), pieces.pop("x′")
                assert np.array_equal(np.delete(seen.values, seen.places)[:-1], x)
                x, places = pieces["x"].values, pieces["x"].places
            assert np.array_equal(x[places], values)
        if "x′" in pieces:
            if len(pieces["x′"].values) != len(x) or corruption.targets == "sequence":  # x″ is x
                assert np.array_equal(ragged(corrupted, "target_tokens").row(row), x)
                continue
            changed = np.flatnonzero((pieces["x′"].values != x).reshape(len(x), -1).any(1))
            assert set(changed.tolist()) <= set(pieces["x′"].places.tolist())


@each
def test_settings_survive_json_and_tell_what_is_predicted(kind: str, options: dict[str, Any]) -> None:
    config = config_of({"kind": kind, **options})
    assert config_of(config.model_dump(mode="json")) == config
    assert config.targets == made(kind, options).targets and config.at == "load"


@each
def test_twice_is_refused(kind: str, options: dict[str, Any]) -> None:
    corruption, rows = made(kind, options), example(kind)
    if corruption.writes:
        with pytest.raises(ValueError, match="already"):
            corruption(corruption(rows, drawn(7)), drawn(7))
        with pytest.raises(ValueError, match=r"(?<![\d.,])7 rows need as many samples, not 3"):
            corruption(rows, drawn(3))


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValidationError, match=", ".join(f"'{kind}'" for kind in CORRUPTIONS)):
        TypeAdapter(config_union()).validate_python({"kind": "marking"})


def test_a_vocabulary_without_a_mask_is_told() -> None:
    without = Specials(50, eos=1)
    with pytest.raises(UserError, match=r"the corruption masked-lm needs a special token for mask, .*it has eos"):
        build(config_of({"kind": "masked-lm"}), without)
    only_random = build(config_of({"kind": "masked-lm", "mask": 0, "random": 1, "keep": 0}), without)
    rows: Rows = {"input": Ragged.from_rows([np.arange(2, 30)], np.uint16)}
    assert only_random(rows, drawn(1))["target_ids"].lengths.tolist() == [4]  # type: ignore[union-attr]


def test_the_table_is_read_without_importing_torch_or_a_corruption() -> None:
    code = (
        "import sys, data_prep.corruptions as c; assert 'data_prep.corruptions.noise' not in sys.modules;"
        "c.config_union(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_512_seen_tokens_hold_568_of_t5() -> None:
    """As `random_spans_helper` of the code published with T5: inputs 512, targets 114."""
    spans = made("spans", {})
    assert spans.raw_length(512) == 568 and spans.counts(568) == (512, 114)


@pytest.mark.parametrize(("length", "count"), [(3, 1), (10, 2), (30, 4), (128, 19), (133, 20), (512, 20)])
def test_bert_masks_so_many(length: int, count: int) -> None:
    corruption = made("masked-lm", {})
    assert corruption.counts(length) == (length, count) and corruption.raw_length(length) == length
