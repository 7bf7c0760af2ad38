"""Which split of a published data set a file is by its name: train.csv, KDDTest+.txt, val/cat/1.jpg, t10k-images.

The outermost folder or file whose name says a split decides. Two such names are of one data set if they are in one
folder and the same letters come before the word (`in_domain_train`, `in_domain_dev`). Files of several splits of one
data set are never mixed unless the source says so: `check` refuses them, and `split_of` says where their rows go.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.sources.files import shown

NAMES = "names"
"""The value of a source's `split` with which names decide."""
_WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "t10k", "eval", "evaluation", "heldout", "holdout"),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_INSIDE = re.compile(r"([a-z]+?)(train|test)")  # kddtrain, xtest: counts only beside its counterpart
_PIECES = re.compile(r"t10k|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")  # words, also of camelCase; no digits
# Words that may follow a split's name in the name of a data file. A title ("Train robbers", "Test pilots") goes on.
_AFTER = {"set", "data", "dataset", "split", "full", "part", "percent", "of", "images", "labels", "features", "x", "y"}
_AFTER |= {"a", "b", "clean", "other", "matched", "mismatched", "ubyte", "idx"}
_LEAST_SHARE = 0.2  # of the files, if names go on like titles
_SHOWN = 3
_HELD_OUT = ("test", "validation", None)


class Named(Protocol):
    """A listed file."""

    @property
    def name(self) -> str:
        """LABEL/relative/path, or only the file's name if the source is one file."""
        ...


class Split(Protocol):
    """Files that are read together."""

    @property
    def split(self) -> str | None: ...


N = TypeVar("N", bound=Named)
U = TypeVar("U", bound=Split)


class Claim(NamedTuple):
    """The split that a file's name says."""

    split: str
    data_set: tuple[str, ...]
    """Equal for the files of one data set."""
    plain: bool
    """Nothing follows the word that a title would go on with."""
    inside: bool
    """The word is the end of another (`xtest`)."""


def claims(files: Sequence[tuple[SourceConfig, str]]) -> list[Claim | None]:
    """What the name of each file says; None: nothing. files: source and name (LABEL/relative/path) of each."""
    claimed = [_claim(source.path or "", name) for source, name in files]
    splits = _splits_of(claimed)
    return [claim if claim and not (claim.inside and len(splits[claim.data_set]) < 2) else None for claim in claimed]


def by_split(source: SourceConfig, files: Sequence[N]) -> list[tuple[str | None, list[N]]]:
    """The files of a source by the split that its `split` gives them; None: as `data.split` divides them.

    Raises UserError if names are to decide and none says a split.
    """
    if source.split != NAMES:
        return [(None if source.split == "train" else source.split, list(files))]
    said = claims([(source, file.name) for file in files])
    if files and not any(said):
        raise UserError(
            f"data.sources: {shown(source.path or '')} has split: {NAMES}, and none of its files ({len(files):,}) is "
            "named like a part to train, validate or test on; leave split out, give each part a source with a split, "
            "or unpack archives of documents, each of which is read as a whole"
        )
    splits: dict[str | None, list[N]] = defaultdict(list)
    for claim, file in zip(said, files, strict=True):
        splits[claim.split if claim and claim.split != "train" else None].append(file)
    return list(splits.items())


def held_out_first(units: Iterable[U]) -> list[U]:
    """Units in an order in which a row of a declared test is no copy of one to train on, but the other way round."""
    return sorted(units, key=lambda unit: _HELD_OUT.index(unit.split))


def check(listed: Iterable[tuple[SourceConfig, Sequence[Named]]]) -> None:
    """UserError if files of several splits of one data set would be mixed, because no source says where they go."""
    undeclared = [
        (source, name)
        for source, files in listed
        if source.path is not None and source.split is None
        for name in dict.fromkeys(file.name for file in files)  # of a file in stretches: once
    ]
    said = claims(undeclared)
    splits = _splits_of(said)
    mixed = [
        (claim, name)
        for claim, (_, name) in zip(said, undeclared, strict=True)
        if claim and len(splits[claim.data_set]) > 1
    ]
    if not any(claim.plain for claim, _ in mixed) and len(mixed) < max(1, _LEAST_SHARE * len(undeclared)):
        return
    names_of = {split: [name for claim, name in mixed if claim.split == split] for split in _WORDS}
    parts = "; ".join(f"{split} ({len(names):,}): {_shown(names)}" for split, names in names_of.items() if names)
    raise UserError(
        f"data.sources: these files are named as parts of one data set, and would be mixed: {parts}. Set the source's "
        f"split: {NAMES} to train on the one and hold the others out, or split: train to train on all of them, or give "
        "a path with the files that you mean"
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _splits_of(said: Iterable[Claim | None]) -> Mapping[tuple[str, ...], set[str]]:
    """The splits of each data set."""
    splits: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for claim in filter(None, said):
        splits[claim.data_set].add(claim.split)
    return splits


def _claim(path: str, name: str) -> Claim | None:
    first, *below = name.split("/")
    for depth, part in enumerate(below):
        if claim := _said(part, (path, first, *below[:depth])):
            return claim
    return _said(first, (path.rstrip("/").rpartition("/")[0],))  # the source itself, beside other sources


def _said(part: str, folders: tuple[str, ...]) -> Claim | None:
    """What a folder or a file below `folders` is by its name."""
    before = ""
    for section in part.split("."):
        words = [word.lower() for word in _PIECES.findall(section)]
        for number, word in enumerate(words):
            within = None if word in _SPLIT_OF else _INSIDE.fullmatch(word)
            if word in _SPLIT_OF or within:
                split, prefix = (within[2], within[1]) if within else (_SPLIT_OF[word], "")
                plain = all(after in _AFTER for after in words[number + 1 :])
                return Claim(split, (*folders, before + prefix), plain, within is not None)
            before += word
    return None
