"""Bytes that were changed at random: files, shards and recipes are read, or refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from tests.data_prep.bad_input import fuzz
from tests.data_prep.bad_input.checks import SOUND, check, run, texts

CHANGES = st.lists(
    st.builds(fuzz.Change, st.integers(0, 63), st.integers(0, 1 << 16), st.integers(0, 255), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)
FORMATS = st.sampled_from(sorted(fuzz.valid_files()))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=FORMATS, other=FORMATS, inside=st.booleans(), changes=CHANGES)
def test_changed_files_are_read_to_their_end(name: str, other: str, inside: bool, changes: list[fuzz.Change]) -> None:
    fuzz.check_rows(name, fuzz.changed_file(name, changes, inside, other))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(name=FORMATS, other=FORMATS, inside=st.booleans(), changes=CHANGES)
def test_changed_files_spoil_no_corpus(
    tmp_path_factory: pytest.TempPathFactory, name: str, other: str, inside: bool, changes: list[fuzz.Change]
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    (folder / "texts").mkdir()
    (folder / "texts" / "0.txt").write_text(SOUND[0])
    (folder / "texts" / name).write_bytes(fuzz.changed_file(name, changes, inside, other))
    summary = run(folder / "texts", out=folder / "out")
    check(folder / "out", summary)
    assert SOUND[0] in texts(folder / "out")
    shutil.rmtree(folder)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kind=st.sampled_from(["shards", "shards", "tokens"]), file=st.integers(0, 99), changes=CHANGES)
def test_changed_shards_give_their_rows_or_none(
    tmp_path_factory: pytest.TempPathFactory, kind: str, file: int, changes: list[fuzz.Change]
) -> None:
    files = fuzz.valid_folders()[kind]
    name = sorted(files)[file % len(files)]
    data = fuzz.change(files[name], changes, files[sorted(files)[(file + 1) % len(files)]])
    place = tmp_path_factory.getbasetemp() / "changed-shards"
    if kind == "shards":
        fuzz.check_shards_apart(name, data, place)
    else:
        fuzz.check_folder(kind, name, data, place)


@pytest.mark.parametrize("kind", ["shards", "tokens"])
def test_a_file_that_is_gone_or_another_s_is_refused(tmp_path: Path, kind: str) -> None:
    files = fuzz.valid_folders()[kind]
    for name, raw in files.items():
        others = [other for key, other in files.items() if other != raw and not (name == "index.json" < key)]
        for content in (None, b"", b"{}", *others):
            assert fuzz.check_folder(kind, name, content, tmp_path / "folder"), name


@settings(max_examples=80, deadline=None, derandomize=True)
@given(which=st.integers(0, 1), changes=CHANGES)
def test_changed_recipes_are_recipes_or_refused(
    tmp_path_factory: pytest.TempPathFactory, which: int, changes: list[fuzz.Change]
) -> None:
    known = fuzz.valid_recipes()
    data = fuzz.change(known[which], changes, known[1 - which], fuzz.YAML_WORDS[10:15])
    fuzz.check_recipe(data, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    "text",
    [
        *("seed: !!int abc", "seed: !!float abc", "seed: !!map abc", "seed: !!seq abc", "seed: !!seq {a: b}"),
        *("seed: !!map [a]", "seed: " + "1" * 5000, "default_scale: [a]\nscales: {a: {}}"),
    ],
)
def test_odd_yaml_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    fuzz.check_recipe(text.encode() + b"\n" + fuzz.valid_recipes()[1], tmp_path)


def test_a_changed_corpus_is_refused(tmp_path: Path, many: Path) -> None:
    run(many, out=tmp_path / "out")
    path = next(iter(Corpus(tmp_path / "out").files))
    path.write_bytes(path.read_bytes().replace(b"river", b"liver"))
    with pytest.raises(UserError):
        texts(tmp_path / "out")
