"""What was read of tables and images is not read again, and does not show in what comes out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.corpus import unit_cache
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.errors import UserError
from data_prep.images import units as image_units
from data_prep.images.pixels import ImagesConfig
from data_prep.tables import files
from data_prep.tables import units as table_units
from data_prep.tables.schema import TableConfig
from tests.data_prep.arrays_input import ingested, rejected, rows_of
from tests.data_prep.images.test_pixels import picture
from tests.data_prep.test_arrays import files_of, table

Read = Callable[[], list[str]]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.csv").write_text(table(50, 40 * number) + "no row\n")
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Names of the files that were read since it was last called."""
    opened: list[str] = []
    tables_, pictures = table_units.raw_batches, image_units.images

    def of_table(file, *rest):  # type: ignore[no-untyped-def]
        opened.append(file.name.rpartition("/")[2])
        return tables_(file, *rest)

    def of_pictures(file, *rest):  # type: ignore[no-untyped-def]
        opened.append(file.name.rpartition("/")[2])
        return pictures(file, *rest)

    monkeypatch.setattr(table_units, "raw_batches", of_table)
    monkeypatch.setattr(image_units, "images", of_pictures)

    def read_since() -> list[str]:
        names, opened[:] = sorted(opened), []
        return names

    return read_since


def test_a_run_that_was_ended_goes_on(
    tmp_path: Path, tables: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingested(tables, out=tmp_path / "whole", config=TableConfig(target="label"))
    assert read() == [f"{n}.csv" for n in range(6)]
    read_unit, count = table_units.read, Counter[str]()

    def ended(*arguments):  # type: ignore[no-untyped-def]
        count["read"] += 1
        if count["read"] == 4:
            raise KeyboardInterrupt
        return read_unit(*arguments)

    monkeypatch.setattr(table_units, "read", ended)
    with pytest.raises(KeyboardInterrupt):
        ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    assert read() == ["0.csv", "1.csv", "2.csv"]
    summary = ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    assert read() == ["3.csv", "4.csv", "5.csv"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert ingested(tables, out=tmp_path / "out", config=TableConfig(target="label")) == summary
    assert read() == [] and files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_what_changed_or_came_is_read_alone(tmp_path: Path, tables: Path, read: Read) -> None:
    config = TableConfig(target="label")
    ingested(tables, out=tmp_path / "out", config=config)
    read()
    (tables / "2.csv").write_text(table(30, 1000))
    (tables / "6.csv").write_text("x,c,label\nlow,a,0\n")  # a column that is a number everywhere else
    ingested(tables, out=tmp_path / "out", config=config)
    assert read() == ["2.csv", "6.csv"]
    ingested(tables, out=tmp_path / "fresh", config=config)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")
    read()
    os.utime(tables / "1.csv", (0, 0))
    (tables / "0.csv").unlink()
    ingested(tables, out=tmp_path / "less", config=config)
    assert "0.csv" not in read()
    ingested(tables, out=tmp_path / "out", config=config)
    assert read() == [], "a file that was touched holds what it held"


def test_what_a_table_means_is_no_reason_to_read_it_again(tmp_path: Path, tables: Path, read: Read) -> None:
    ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    read()
    ingested(tables, out=tmp_path / "out", config=TableConfig(kinds={"x": "categorical"}), seed=1)
    assert read() == []
    ingested(tables, out=tmp_path / "out", config=TableConfig(target="label", drop=["c"]))
    assert len(read()) == 6


def test_a_damaged_or_removed_unit_is_read_again(tmp_path: Path, tables: Path, read: Read) -> None:
    ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    before = files_of(tmp_path / "out")
    raw = sorted((tmp_path / "out-downloads" / unit_cache.FOLDER).glob("*/raw.arrow"))
    raw[0].write_bytes(raw[0].read_bytes()[:-9])
    unit_cache.collect(raw[0].parents[1], -1)
    assert not list((tmp_path / "out-downloads" / unit_cache.FOLDER).iterdir())
    read()
    ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    assert len(read()) == 6
    raw[1].write_bytes(raw[1].read_bytes()[:-9])
    ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    assert len(read()) == 1 and files_of(tmp_path / "out") == before


def test_pictures_that_come_change_their_run_alone(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_units, "_UNIT_FILES", 16)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(120):
        Image.fromarray(picture(number, 5, 5)).save(folder / f"{number:03d}.png")
    ingested(folder, out=tmp_path / "out", config=ImagesConfig())
    assert len(read()) == 120
    Image.fromarray(picture(500, 5, 5)).save(folder / "060a.png")
    ingested(folder, out=tmp_path / "out", config=ImagesConfig())
    again = read()
    assert "060a.png" in again and len(again) < 60
    ingested(folder, out=tmp_path / "fresh", config=ImagesConfig())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")
    read()
    ingested(folder, out=tmp_path / "out", config=ImagesConfig(size=4))
    assert len(read()) == 121


def test_a_large_file_of_row_groups_is_read_in_stretches(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"x": [n * 0.5 for n in range(900)], "c": [f"{'abc'[n % 3]}{n}" for n in range(900)]})
    path = tmp_path / "large.parquet"
    pq.write_table(rows, path, row_group_size=100)
    whole = ingested(path, out=tmp_path / "whole", config=TableConfig(), split=0.1)
    assert read() == ["large.parquet"]
    monkeypatch.setattr(files, "TARGET", path.stat().st_size // 4)
    cut = ingested(path, out=tmp_path / "cut", config=TableConfig(), split=0.1)
    assert 3 <= len(read()) <= 5 and cut["sources"][0]["files"] == 1
    assert {**cut, "sources": []} == {**whole, "sources": []}
    for split in SPLITS:
        whole_corpus, cut_corpus = (ArrayCorpus(tmp_path / name, split) for name in ("whole", "cut"))
        everything = range(len(whole_corpus))
        assert whole_corpus.names(everything) == cut_corpus.names(everything)
        assert rows_of(tmp_path / "whole", split) == rows_of(tmp_path / "cut", split)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 400] = bytes(400)
    path.write_bytes(raw)
    ingested(path, out=tmp_path / "damaged", config=TableConfig())
    (bad,) = rejected(tmp_path / "damaged")
    assert bad["reason"].startswith("damaged file") and 300 < bad["position"] < 600
    assert sum(len(ArrayCorpus(tmp_path / "damaged", split)) for split in SPLITS) > 500, "other stretches are sound"


def test_a_file_that_changes_while_it_is_read_leaves_no_unit(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = table_units.raw_batches

    def changing(file, *rest):  # type: ignore[no-untyped-def]
        yield from real(file, *rest)
        if file.name.endswith("3.csv"):
            (tables / "3.csv").write_text(table(5, 7))
            yield from real(file, *rest)

    monkeypatch.setattr(table_units, "raw_batches", changing)
    with pytest.raises(UserError, match=r"3\.csv changed while it was read"):
        ingested(tables, out=tmp_path / "out", config=TableConfig(target="label"))
    assert len(list((tmp_path / "out-downloads" / unit_cache.FOLDER).iterdir())) == 3
