"""The cache of units and of digests: whatever becomes of it, a corpus is what a fresh start gives."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest import plan as plan_module
from data_prep.text.ingest import units
from data_prep.text.ingest.plan import plan
from tests.data_prep.bad_input import fuzz
from tests.data_prep.bad_input.checks import check, line, run, units_of
from tests.data_prep.bad_input.test_changed_bytes import CHANGES
from tests.data_prep.test_ingest import contents, prose


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pick=st.integers(0, 999), changes=CHANGES, gone=st.booleans())
def test_a_changed_unit_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, pick: int, changes: list[fuzz.Change], gone: bool
) -> None:
    folder = tmp_path_factory.mktemp("units")
    (folder / "texts").mkdir()
    lines = [line(prose(number % 9)) for number in range(12)]
    (folder / "texts" / "a.jsonl").write_text("".join([*lines, "nonsense\n"]))
    (folder / "texts" / "b.txt").write_text(prose(50))
    places = {"downloads": folder / "downloads", "split": 0.2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "UNIT_BYTES", 1500)
        expected = run(folder / "texts", out=folder / "one", **places), contents(folder / "one")
        files = sorted(path for path in units_of(folder / "downloads").rglob("*") if path.is_file())
        path = files[pick % len(files)]
        path.unlink() if gone else path.write_bytes(fuzz.change(path.read_bytes(), changes, files[0].read_bytes()))
        assert (run(folder / "texts", out=folder / "two", **places), contents(folder / "two")) == expected
    shutil.rmtree(folder)


@pytest.mark.parametrize("junk", ["file", "empty folder", "folder with a folder"])
def test_junk_in_the_place_of_a_unit_is_replaced(tmp_path: Path, many: Path, junk: str) -> None:
    run(many, out=tmp_path / "one", downloads=tmp_path / "downloads")
    place = sorted(units_of(tmp_path / "downloads").iterdir())[0]
    shutil.rmtree(place)
    if junk == "file":
        place.write_text("junk")
    else:
        (place / "unit.json" if "with" in junk else place).mkdir(parents=True)
    run(many, out=tmp_path / "two", downloads=tmp_path / "downloads")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("seed", range(3))
def test_files_that_come_go_and_change_give_what_a_fresh_start_gives(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "UNIT_BYTES", 2500)
    seen: list[tuple[str, int]] = []
    rows = units.rows
    monkeypatch.setattr(units, "rows", lambda part, *rest: seen.append((part.name, part.start)) or rows(part, *rest))
    draw, folder, downloads = random.Random(seed), tmp_path / "texts", tmp_path / "downloads"
    folder.mkdir()

    def content() -> bytes:
        text = "".join(line(prose(draw.randrange(60))) for _ in range(draw.randrange(1, 20)))
        return text.encode() + draw.choice([b"", b"nonsense\n", b'{"text": ""}\n'])

    def add() -> None:
        name = f"{draw.randrange(1000):03d}" + draw.choice([".jsonl", ".jsonl", ".txt", ".jsonl.gz", ".jsonl.xz"])
        pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)
        (folder / name).write_bytes(pack(content()))

    for _ in range(6):
        add()
    for step in range(8):
        known = sorted(folder.iterdir())
        chosen = draw.choice(known)
        match draw.randrange(6):
            case 0 | 1:
                add()
            case 2 if len(known) > 2:
                chosen.unlink()
            case 3:
                chosen.rename(chosen.with_name(f"{draw.randrange(1000):03d}{''.join(chosen.suffixes)}"))
            case 4 if chosen.suffix == ".jsonl":
                chosen.write_bytes(chosen.read_bytes() + line(prose(step)).encode())
            case _:
                os.utime(chosen)  # only looks new
        before = {path.name for path in units_of(downloads).glob("*")}
        planned = plan([SourceConfig(path=str(folder))], CleanConfig(max_rejects=1.0), tmp_path / "unused")
        seen.clear()
        summary = run(folder, out=tmp_path / f"{step}", downloads=downloads, split=0.2)
        check(tmp_path / f"{step}", summary)
        new = {unit.key: unit for unit in planned if unit.key not in before}.values()
        assert seen == [(part.name, part.start) for unit in new for part in unit.parts], "only what is new is read"
        assert run(folder, out=tmp_path / f"fresh-{step}", split=0.2) == summary
        assert contents(tmp_path / f"{step}") == contents(tmp_path / f"fresh-{step}")


@pytest.mark.parametrize("change", ["moved", "shortened"])
def test_a_changed_cache_of_digests_changes_no_row(tmp_path: Path, many: Path, change: str) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    run(many, out=tmp_path / "one", **places)
    path = tmp_path / "downloads" / "digests.json"
    known = json.loads(path.read_text())
    for entry in known.values():
        if isinstance(entry, list):
            entry[1] = [entry[1][0] + 500, *entry[1][1:]] if change == "moved" else entry[1][:2]
    path.write_text(json.dumps(known))
    run(many, out=tmp_path / "two", **places)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_names_of_a_damaged_unit_are_forgotten(tmp_path: Path, many: Path) -> None:
    places = {"downloads": tmp_path / "downloads", "split": 0.2}
    run(many, out=tmp_path / "one", **places)
    for path in units_of(tmp_path / "downloads").glob("*/names.arrow"):
        path.write_bytes(path.read_bytes().replace(b"a.jsonl:", b"b.jsonl:"))  # in place, where it is mapped
    run(many, out=tmp_path / "two", **places)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_damaged_units_leave_nothing_behind(tmp_path: Path, many: Path) -> None:
    run(many, out=tmp_path / "one", downloads=tmp_path / "downloads")
    unit = next(units_of(tmp_path / "downloads").iterdir())
    before = {path.name for path in unit.iterdir()}
    (unit / "keys.u64").write_bytes(b"damaged")
    run(many, out=tmp_path / "two", downloads=tmp_path / "downloads")
    assert {path.name for path in unit.iterdir()} == before
