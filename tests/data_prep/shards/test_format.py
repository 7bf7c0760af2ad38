"""Shards: the bytes depend on the rows alone, what is read is what was written, damage is named."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards.format import INDEX
from data_prep.shards.reader import ShardDamaged, Shards
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged, take
from data_prep.shards.writer import ShardWriter, join

ROWS, PER_SHARD, PER_BATCH = 500, 200, 64


def example(count: int = ROWS, length: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lengths = np.full(count, length) if length else rng.integers(0, 20, count)
    total = int(lengths.sum())
    return {
        "input": Ragged.from_lengths(rng.integers(0, 60_000, total).astype(np.uint16), lengths),
        "word_start": Ragged.from_lengths(rng.random(total) < 0.7, lengths),
        "label": rng.integers(0, 2, count).astype(np.uint8),
        "document": np.arange(count, dtype=np.uint32),
        "image": rng.integers(0, 255, (count, 2, 3)).astype(np.uint8),
    }


def write(folder: Path, rows: Rows, sizes: list[int] | None = None, **settings) -> dict:
    writer = ShardWriter(folder, PER_SHARD, PER_BATCH, **settings)
    start, count = 0, num_rows(rows)
    for size in sizes or [count]:
        writer.write(take(rows, np.arange(start, min(start + size, count))))
        start += size
    return writer.close({"config": {"seed": 1}})


def same(actual: dict[str, Any], expected: Rows) -> bool:
    def equal(a: np.ndarray, b: np.ndarray) -> bool:
        b = b.view(np.uint8) if b.dtype == bool else b
        return a.dtype == b.dtype and np.array_equal(a, b)

    return set(actual) == set(expected) and all(
        equal(actual[name].values, column.values) and equal(actual[name].offsets, column.offsets)
        if isinstance(column, Ragged)
        else equal(np.asarray(actual[name]), column)
        for name, column in expected.items()
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "shards"
    write(folder, example())
    return folder


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_the_index_says_what_is_there(written):
    index = json.loads((written / INDEX).read_text())
    assert index["format"] == 3 and index["layout"] == "ragged" and index["rows"] == ROWS
    assert index["items"] == len(example()["input"].values)
    assert index["extra"] == {"config": {"seed": 1}}
    assert index["columns"]["input"] == "large_list<item: uint16>" and index["columns"]["label"] == "uint8"
    assert [shard["rows"] for shard in index["shards"]] == [200, 200, 100]
    for shard, count in zip(index["shards"], (6, 6, 4), strict=True):  # the parts cover every byte of the file, once
        bounds = json.loads((written / shard["file"]).with_suffix(".json").read_text())["bounds"]
        assert bounds == sorted(set(bounds)) and bounds[0] == 0 and len(bounds) == count + 1
        assert bounds[-1] == shard["bytes"] == (written / shard["file"]).stat().st_size
    shards = Shards(written)
    assert (shards.rows, shards.items, len(shards), shards.num_batches) == (ROWS, index["items"], ROWS, 10)
    assert shards.extra == index["extra"] and shards.columns == index["columns"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=30))
def test_bytes_do_not_depend_on_how_rows_were_written(written, tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("again")
    write(folder, example(), [*sizes, ROWS])
    assert files(folder) == files(written)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, ROWS - 1), max_size=40))
def test_rows_are_read_in_the_order_asked(written, index):
    assert same(Shards(written).read(index), take(example(), index))


def test_consecutive_rows_across_batches_and_shards(written):
    assert same(Shards(written).read(np.arange(ROWS)), example())


def test_a_batch_is_views_of_the_mapped_file(written):
    shards: Any = Shards(written)
    batch = shards.batch(1)
    assert same(batch, take(example(), np.arange(64, 128)))
    for column in batch.values():
        values = column.values if isinstance(column, Ragged) else column
        assert not values.flags.owndata and not values.flags.writeable
    slice_ = shards.read(np.arange(70, 80))
    assert np.shares_memory(slice_["input"].values, batch["input"].values)
    with pytest.raises(ValueError, match="read-only"):
        batch["input"].values[0] = 1


def test_blocks_are_rows_of_one_length(tmp_path):
    rows = example(length=16)
    index = write(tmp_path, rows, layout="blocks")
    assert index["columns"]["input"] == "fixed_size_list<item: uint16>[16]"
    shards: Any = Shards(tmp_path)
    assert same(shards.read(np.arange(ROWS)), rows)
    assert np.shares_memory(shards.batch(0)["input"].pad(16, 0), shards.batch(0)["input"].values)
    with pytest.raises(ValueError, match=r"layout blocks .* column input has 0 to 19"):
        write(tmp_path / "other", example(), layout="blocks")


def test_a_reader_can_be_sent_to_another_process(written):
    shards = pickle.loads(pickle.dumps(Shards(written, artifact="abc")))
    assert same(shards.read([3, 499]), take(example(), [3, 499])) and shards.artifact == "abc"


def test_rows_outside_are_refused(written):
    for index in ([ROWS], [-1]):
        with pytest.raises(IndexError, match=r"(?<![\d.,])500"):
            Shards(written).read(index)


def test_no_rows(written, tmp_path):
    assert num_rows(Shards(written).read([])) == 0
    assert ragged(Shards(written).read([]), "input").values.dtype == np.uint16
    write(tmp_path, take(example(), []))
    assert Shards(tmp_path).rows == 0 and Shards(tmp_path).read([]) == {}


def test_only_closed_shards_are_seen(tmp_path):
    writer = ShardWriter(tmp_path, PER_SHARD, PER_BATCH)
    writer.write(example())
    with pytest.raises(UserError, match=r"index\.json is missing"):
        Shards(tmp_path)
    writer.close()
    assert same(Shards(tmp_path).read(np.arange(ROWS)), example())
    with pytest.raises(FileExistsError, match="already holds"):
        ShardWriter(tmp_path, PER_SHARD)


def test_columns_and_types_must_stay_the_same(tmp_path):
    writer = ShardWriter(tmp_path, 4, 2)
    writer.write({"label": np.zeros(2, np.uint8)})
    with pytest.raises(ValueError, match="do not fit"):
        writer.write({"label": np.zeros(2, np.int64)})


def test_every_flipped_byte_is_named(copy):
    """In the file and the part that holds it, and by reading as well as by `verify`."""
    index = json.loads((copy / INDEX).read_text())
    rng = np.random.default_rng(1)
    for number in range(60):
        shard = index["shards"][number % 3]
        stretches = Shards(copy)._parts_of(number % 3)
        parts = {"head": stretches[0], "tail": stretches[-1]}
        parts |= {f"record batch {place}": part for place, part in enumerate(stretches[1:-1])}
        position = int(rng.integers(shard["bytes"]))
        if number < 9:  # the small parts too: a random byte seldom falls there
            part = parts[("head", "tail")[number % 2]]
            position = int(rng.integers(part.start, part.end))
        name = next(name for name, part in parts.items() if part.start <= position < part.end)
        path = copy / shard["file"]
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        damage = Shards(copy).verify()
        assert len(damage) == 1 and shard["file"] in damage[0] and f"in its {name} " in damage[0]
        with pytest.raises(ShardDamaged, match=f"{shard['file']} is damaged in its {name}"):
            Shards(copy).read(np.arange(ROWS))
        path.write_bytes(sound)
    assert Shards(copy).verify() == []


def test_damage_elsewhere_does_not_stop_the_reading_of_sound_rows(copy):
    batch, path = Shards(copy)._parts_of(0)[3], copy / "shard-00000.arrow"
    damaged = bytearray(path.read_bytes())
    damaged[(batch.start + batch.end) // 2] ^= 1
    path.write_bytes(damaged)
    shards = Shards(copy, artifact="shards-123")
    assert same(shards.read(np.arange(64)), take(example(), np.arange(64)))
    with pytest.raises(ShardDamaged, match=r"rows 128–191 .* delete the artifact shards-123 and run again"):
        shards.read([5, 130])


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -300])
def test_a_truncated_file_is_named(copy, keep):
    path = copy / "shard-00001.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ShardDamaged, match=re.escape(f"{path} has ")):
        Shards(copy).read([250])
    assert len(Shards(copy).verify()) == 1
    assert num_rows(Shards(copy).read([0, 450])) == 2  # the other files are sound


def test_a_missing_file_is_named(copy):
    (copy / "shard-00002.arrow").unlink()
    with pytest.raises(ShardDamaged, match=r"shard-00002\.arrow is missing"):
        Shards(copy).read([499])
    assert ["shard-00002.arrow is missing" in message for message in Shards(copy).verify()] == [True]


def test_a_damaged_index_is_named(copy):
    path = copy / INDEX
    sound = path.read_bytes()
    rng = np.random.default_rng(2)
    for position in [0, len(sound) - 1, *rng.integers(0, len(sound), 40).tolist()]:
        damaged = bytearray(sound)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        if json_equal(bytes(damaged), sound):
            continue
        with pytest.raises(ShardDamaged, match=r"index\.json cannot be trusted"):
            Shards(copy)


def json_equal(a: bytes, b: bytes) -> bool:
    """Whether two files say the same: a byte between the values may change without a meaning."""
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


def test_damaged_parts_are_named(copy):
    path = copy / "shard-00001.json"
    path.write_bytes(path.read_bytes()[:-2] + b" }")
    with pytest.raises(ShardDamaged, match=r"shard-00001\.json is not what was written"):
        Shards(copy).read([250])
    path.unlink()
    assert ["shard-00001.json is missing" in message for message in Shards(copy).verify()] == [True]
    assert num_rows(Shards(copy).read([0, 450])) == 2


@settings(max_examples=30, deadline=None)
@given(
    item=st.sampled_from([(), (3,), (2, 4)]),
    dtype=st.sampled_from([np.uint8, np.int64, np.float16, np.float32]),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    data=st.data(),
)
def test_runs_of_items_come_back_as_they_were(tmp_path_factory, item, dtype, lengths, data):
    folder = tmp_path_factory.mktemp("items")
    rng = np.random.default_rng(len(lengths))
    column = Ragged.from_lengths(rng.integers(0, 200, (sum(lengths), *item)).astype(dtype), lengths)
    write(folder, {"input": column, "label": np.arange(len(lengths))})
    shards = Shards(folder)
    assert shards.items == sum(lengths) and shards.verify() == []
    asked = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=20))
    stored = shards.read(asked)["input"]
    assert isinstance(stored, Ragged) and stored.item == item and stored.values.dtype == dtype
    assert all(np.array_equal(stored.row(place), column.row(row)) for place, row in enumerate(asked))
    assert shards.lengths(asked).tolist() == [lengths[row] for row in asked]
    batch = shards.batch(0)["input"]
    assert isinstance(batch, Ragged) and not batch.values.flags.owndata and not batch.values.flags.writeable


def test_items_of_another_shape_or_type_do_not_fit(tmp_path):
    writer = ShardWriter(tmp_path, PER_SHARD, PER_BATCH)
    writer.write({"input": Ragged.from_rows([np.zeros((70, 3), np.float32)] * 70)})
    with pytest.raises(ValueError, match="do not fit shards with"):
        writer.write({"input": Ragged.from_rows([np.zeros((70, 3), np.float16)] * 70)})


def test_frames_are_stored_in_blocks_where_rows_are_as_long(tmp_path):
    frames = np.random.default_rng(0).normal(size=(40, 5, 3)).astype(np.float16)
    rows: Rows = {"input": Ragged.from_lengths(frames.reshape(-1, 3), np.full(40, 5))}
    write(tmp_path, rows, layout="blocks")
    assert same(Shards(tmp_path).read(np.arange(40)), rows)
    assert np.array_equal(Shards(tmp_path).batch(0)["input"].pad(5, 0), frames)  # type: ignore[union-attr]


def test_arrays_have_no_lengths(tmp_path):
    write(tmp_path, {"input": np.zeros((9, 2), np.float32)})
    with pytest.raises(ValueError, match="arrays of one shape, which have no lengths"):
        Shards(tmp_path).lengths([1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.data())
def test_shards_written_apart_are_joined(tmp_path_factory, counts, data):
    folder, start = tmp_path_factory.mktemp("joined"), 0
    rows = example(sum(counts))
    for number, count in enumerate(counts):
        write(folder / f"piece-{number}", take(rows, np.arange(start, start + count)))
        start += count
    index = join(folder / "all", [folder / f"piece-{number}" for number in range(len(counts))], {"a": 1})
    shards = Shards(folder / "all")
    assert index["rows"] == shards.rows == sum(counts) and shards.extra == {"a": 1} and shards.verify() == []
    assert shards.items == len(rows["input"].values)
    asked = data.draw(st.lists(st.integers(0, sum(counts) - 1), max_size=20))
    assert same(shards.read(asked), take(rows, asked))
    assert not any(path.name.startswith("piece") for path in folder.iterdir())


def test_shards_of_other_columns_are_not_joined(tmp_path):
    rows = example(10)
    write(tmp_path / "one", rows)
    write(tmp_path / "other", {name: column for name, column in rows.items() if name != "label"})
    with pytest.raises(ValueError, match="shards of different columns cannot be joined"):
        join(tmp_path / "all", [tmp_path / "one", tmp_path / "other"])
    assert Shards(tmp_path / "one").rows == Shards(tmp_path / "other").rows == 10, "nothing was moved"


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.shards.writer.FORMAT", 4)
    write(tmp_path, example(3))
    monkeypatch.undo()
    with pytest.raises(UserError, match="shard format 4, but this version reads 3"):
        Shards(tmp_path)


@pytest.mark.parametrize("more", [b"\0", bytes(1 << 16)])
def test_a_file_that_has_grown_is_named(copy, more):
    """Arrow reads its index from the end: of a longer file it may read another one."""
    path = copy / Shards(copy).index["shards"][1]["file"]
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(more)
    message = f"{path.name} has {size + len(more)} bytes where {size} were written"
    (problem,) = Shards(copy).verify()
    assert message in problem
    with pytest.raises(ShardDamaged, match=re.escape(message)):
        Shards(copy).read(np.array([PER_SHARD]))
    assert num_rows(Shards(copy).read(np.arange(PER_SHARD))) == PER_SHARD, "the other shards are sound"
