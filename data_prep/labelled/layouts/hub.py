"""Folders of data sets as Hugging Face's `datasets` writes them, read without it; no code of theirs is run.

dataset_dict.json, train/, test/ …          DatasetDict.save_to_disk: a folder for each split
state.json, data-00000-of-00002.arrow …     Dataset.save_to_disk
train-00000-of-00001.parquet …              as on the hub, by the names of files or of their folders
train.jsonl, test.csv …                     likewise, where a split has no Parquet or Arrow files

A folder holds one data set: where a split's files lie in several folders, such as one for each language, one is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.labelled.layouts import arrow, table
from data_prep.labelled.rows import Asked, Reading, Row, first_of
from data_prep.opening.files import UnfitError, checked, inside, read_json

_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_ABOUT = (_DICT, _STATE, _INFO, "dataset_infos.json", "config.json")  # what tells of rows, and holds none
_NUMBER = re.compile(r"\d+")
_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[Row | UserError]:
    """The rows of one split of a folder. UserError if there is none, or if its files are not whole."""
    if not path.is_dir():
        raise UserError(f"{path} is no folder of a data set; give one, or the layout table for a file")
    checked(path)
    if code := sorted(file.name for file in path.glob("*.py")):
        reading.notes.append(f"{', '.join(code)} of {path.name}: code, which is not run")
    split = "test" if asked.split == "predict" else asked.split
    folder = path
    if (path / _DICT).exists():
        folder = path / _split_of(path, _members(path / _DICT, "splits"), split)
    if (folder / _INFO).exists():
        named = arrow.class_names(_json(folder / _INFO).get("features"))
        reading.classes.update({name: named[name] for name in named if not asked.wanted or name in asked.wanted})
    for file in _saved(folder) if (folder / _STATE).exists() else _shards(folder, split, reading):
        shown = path.name + str(file)[len(str(path)) :]
        for row in table.rows(file, asked, reading):
            yield row if isinstance(row, UserError) else row._replace(place=shown + row.place[len(file.name) :])


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except UnfitError as error:
        raise UserError(f"{path.parent}: {error}; save the data set again.") from None


def _members(path: Path, name: str) -> list[str]:
    names = _json(path).get(name)
    if not isinstance(names, list) or not all(isinstance(item, str) and item.isprintable() for item in names):
        raise UserError(f"{path}: has no list {name!r} of names; save the data set again.")
    return names


def _split_of(path: Path, names: list[str], split: str) -> str:
    """The folder of a split, by one of its usual names."""
    known = [name for name in names if name in _NAMES.get(split, (split,))]
    if not known or not (path / known[0]).is_dir():
        raise UserError(f"{path} has no split {split}; it has {', '.join(names)}: name the folder of one")
    return known[0]


def _saved(folder: Path) -> list[Path]:
    """The files of `Dataset.save_to_disk`, in order."""
    state = _json(folder / _STATE)
    if state.get("_indices_files"):
        raise UserError(f"{folder} is a selection of other rows; save it after flatten_indices()")
    files = state.get("_data_files")
    names = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    try:
        return [inside(folder, name) for name in names]
    except UnfitError as error:
        raise UserError(f"{folder}: {error}; save the data set again.") from None


def _shards(folder: Path, split: str, reading: Reading) -> list[Path]:
    """Files with the rows of a split; all, where no name says which split is meant."""
    files = sorted(file for file in folder.rglob("*") if file.name.lower().endswith(table.FORMATS) and file.is_file())
    files = [file for file in files if file.name not in _ABOUT and not _is_hidden(file.relative_to(folder))]
    split_of = {file: _named_split(file.relative_to(folder)) for file in files}
    names = sorted({name for name in split_of.values() if name})
    chosen = [file for file in files if split_of[file] == split] if names else files
    if not files:
        raise UserError(f"{folder} has no {_STATE} and no files such as .parquet, .jsonl or .csv; give another folder")
    if not chosen:
        raise UserError(f"{folder} has no files of {split}; it has {', '.join(names)}")
    chosen = _of_one_format(folder, chosen, reading)
    _check_one_set(folder, chosen, split)
    if incomplete := _incomplete(chosen):
        raise UserError(f"{folder}: {incomplete} is not there; download the data set again")
    if len({_NUMBER.sub("#", file.name) for file in chosen}) > 1:
        reading.notes.append(f"{split} of {folder.name} is all of {', '.join(file.name for file in chosen)}")
    return chosen


def _of_one_format(folder: Path, files: list[Path], reading: Reading) -> list[Path]:
    """Those of some files that are tables of Arrow, with a note on the others; or all, if they have one format."""
    chosen = [file for file in files if file.name.lower().endswith(arrow.SUFFIXES)]
    if chosen and len(chosen) < len(files):
        others = [file.relative_to(folder).as_posix() for file in files if file not in chosen]
        reading.notes.append(f"{first_of(others)} of {folder.name}: not read beside its Parquet or Arrow files")
    ends = sorted({next(end for end in table.FORMATS if file.name.lower().endswith(end)) for file in chosen or files})
    if len(ends) > 1:
        raise UserError(
            f"{folder} has files that end in {' and in '.join(ends)}; name those that are meant, as a table"
        )
    return chosen or files


def _check_one_set(folder: Path, files: list[Path], split: str) -> None:
    """UserError if files of a split lie in several folders, other than such as have a split's name."""
    usual = {name for names in _NAMES.values() for name in names}
    paths = (file.relative_to(folder).parts[:-1] for file in files)
    sets = {"/".join(piece for piece in pieces if piece.lower() not in usual) or "." for pieces in paths}
    if len(sets) > 1:
        found = ", ".join(sorted(sets))
        raise UserError(f"{folder} has files of {split} in several folders: {found}; name the one that is meant")


def _is_hidden(path: Path) -> bool:
    return any(piece.startswith(".") for piece in path.parts)


def _named_split(path: Path) -> str:
    """The split that a file's name, or that of its folder, begins with; "" if there is none."""
    for piece in reversed(path.parts):
        for split, names in _NAMES.items():
            if any(re.match(rf"{name}(?![a-z])", piece.lower()) for name in names):
                return split
    return ""


def _incomplete(files: list[Path]) -> str:
    """The name of a file of a numbered sequence that is missing; "" if none is."""
    for file in files:
        if match := re.fullmatch(r"(.*-)(\d+)-of-(\d+)(\..*)", file.name):
            before, number, count, end = match.groups()
            for place in range(int(count) if int(count) < 10_000 else 0):
                name = f"{before}{place:0{len(number)}d}-of-{count}{end}"
                if not file.with_name(name).exists():
                    return name
    return ""
