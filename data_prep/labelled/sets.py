"""Labelled data sets that are registered by name, each derived from a corpus or a package.

    sotu-punctuation  the words of speeches without case and punctuation; tag: the mark after each
    sotu-era          passages of speeches; label: their era
    brown-pos         sentences of the Brown corpus; tag: the part of speech of each word

All are split by document, so that no speech or text is in two splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_prep.corpus.documents import SPLITS, Corpus, CorpusDocument, SplitConfig, assign_splits
from data_prep.errors import UserError, choices
from data_prep.labelled.examples import Example, Labelled
from data_prep.rng import Draws, key
from data_prep.sources import packages

# ---------------------------------------------------------------- punctuation restoration

MARKS = ["O", "COMMA", "PERIOD", "QUESTION"]
_O, _COMMA, _PERIOD, _QUESTION = range(4)
_WINDOW = (15, 25)  # minimum and maximum words of a window
_AROUND_WORDS = "\"'“”‘’()[]{}«»….,;:?!—–-•*_|/\\"
_REMARK = re.compile(r"\[[^\]]*\]")
_DASH = re.compile(r"(—|--+)")
_FINISHED = re.compile(r"[.?!;:…][\"'”’)]*$")
_SPEAKER = re.compile(r"(?:The (?:Vice )?President|Audience members?)\.$")


def words_and_marks(sentence: str) -> list[tuple[str, int]]:
    """Words of a sentence, in lower case without punctuation, each with the mark that follows it.

    A period, exclamation mark or semicolon is PERIOD, a comma, colon or dash COMMA (Tilk and Alumäe
    2016, https://github.com/ottokart/punctuator2). A dot inside a sentence belongs to its word
    ("mr", "u.s"). Empty for text that is not a sentence: headings, the names of speakers.
    """
    before, last, after_remarks = sentence.rpartition("]")  # a bracket that never closes would be followed to the end
    sentence = f"{_REMARK.sub(' ', before + last)}{after_remarks}".strip()
    if not _FINISHED.search(sentence) or sentence.isupper() or _SPEAKER.match(sentence):
        return []
    words: list[tuple[str, int]] = []
    pieces = sentence.split()
    if _DASH.search(sentence):
        pieces = [piece for token in pieces for piece in _DASH.split(token) if piece]
    for number, piece in enumerate(pieces):
        if piece.isalnum():  # the common case: no mark follows
            words.append((piece.lower(), _O))
            continue
        word = piece.strip(_AROUND_WORDS)
        after = piece[piece.rindex(word) + len(word) :] if word else piece
        mark = _mark(after, last=number == len(pieces) - 1, alone=not word)
        if word:
            words.append((word.lower(), mark))
        elif words and words[-1][1] == _O:
            words[-1] = (words[-1][0], mark)
    return words


def _mark(after: str, last: bool, alone: bool) -> int:
    """The mark for the characters after a word (`alone`: between words)."""
    if "?" in after:
        return _QUESTION
    if "!" in after or ";" in after:
        return _PERIOD
    if "," in after or ":" in after or "—" in after or "--" in after:
        return _COMMA
    if "." in after or "…" in after:
        pause = "…" in after or ".." in after
        return _PERIOD if last else _COMMA if pause else _O
    return _COMMA if alone and after in ("-", "–") else _O


def _punctuation(corpus: Corpus, seed: int) -> Iterator[Example]:
    low, high = _WINDOW
    interned: dict[str, str] = {}  # one string object per word, not per occurrence
    for document in corpus.documents:
        pairs = [pair for sentence in document.sentences for pair in words_and_marks(sentence)]
        draws = Draws(key(seed, "punctuation windows", document.name), 0, 0)
        lengths = low + draws.below(high - low + 1, 0, np.arange(len(pairs) // low))
        end = 0
        for length in lengths.tolist():
            start, end = end, end + length
            window = pairs[start:end]
            if len(window) >= low:
                words = tuple(interned.setdefault(word, word) for word, _ in window)
                yield Example(words=words, tags=tuple(mark for _, mark in window))


# ---------------------------------------------------------------- eras

# Eras are separated by the Civil War, the turn of the century and the end of the Second World War.
ERAS = {"1790-1860": 1860, "1861-1900": 1900, "1901-1945": 1945, "1946-": 9999}
_PASSAGE = 60  # words


def _era(document: CorpusDocument) -> int:
    year = document.meta.get("year")
    if not isinstance(year, int):
        raise UserError(
            f"the document {document.name!r} has no year, which sotu-era needs; give it a corpus of the package sotu"
        )
    return next(number for number, last in enumerate(ERAS.values()) if year <= last)


def _eras(corpus: Corpus, seed: int) -> Iterator[Example]:
    for document in corpus.documents:
        label = _era(document)
        words = " ".join(document.sentences).split()
        for start in range(0, len(words) - _PASSAGE + 1, _PASSAGE):
            yield Example(text=" ".join(words[start : start + _PASSAGE]), label=label)


# ---------------------------------------------------------------- parts of speech

# Petrov, Das and McDonald 2012, "A universal part-of-speech tagset", and their map of Brown's tags.
POS = ["ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "VERB", "X", "."]
_BROWN_TO_POS = {
    tag: pos
    for pos, tags in {
        "ADJ": "ap jj jjr jjs jjt od",
        "ADP": "cs in",
        "ADV": "* ql qlp rb rbr rbt rn wql wrb",
        "CONJ": "cc",
        "DET": "abx at dt dt$ dti dts dtx pp$ wdt wp$",
        "NOUN": "cd$ nn nn$ nns nns$ np np$ nps nps$ nr nr$ nrs pn pn$",
        "NUM": "cd",
        "PRON": "pp$$ ppl ppls ppo pps ppss wpo wps",
        "PRT": "abl abn ap$ ex jj$ rb$ rp to uh",
        "VERB": "be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz md vb vbd vbg vbn vbz",
        "X": "nil do+ppss wdt+ber+pp wdt+do+pps",
        ".": "' '' ( ) , -- . : ``",
    }.items()
    for tag in tags.split()
}
_TAG_SUFFIX = re.compile(r"(?:-(?:tl|hl|nc|t|n))+$")  # title, headline, cited; two are cut short


def universal_tag(tag: str) -> str:
    """One of the 12 universal tags for a tag of the Brown corpus, as it stands in the files.

    Foreign words are X. A contraction is its first part, or PRT when what follows is a verb
    ("it's" pps+bez, "let's" vb+ppo is VERB); a negation is its verb ("don't" do*).
    """
    if tag.startswith("fw-"):
        return "X"
    tag = tag if tag in _BROWN_TO_POS else _TAG_SUFFIX.sub("", tag)
    if tag in _BROWN_TO_POS:
        return _BROWN_TO_POS[tag]
    parts = [part if part == "*" else part.rstrip("*") for part in tag.split("+")]
    first = _BROWN_TO_POS[parts[0]]
    if len(parts) == 1 or first == "VERB":
        return first
    contracted = _BROWN_TO_POS[parts[1]] == "VERB" or tag == "wrb+in"  # "why'n", why don't
    return "PRT" if contracted else first


class _PosOf(dict[str, int]):
    """Index of the universal tag of each of Brown's tags, computed once."""

    def __missing__(self, tag: str) -> int:
        self[tag] = POS.index(universal_tag(tag))
        return self[tag]


def _brown(downloads: Path, split: SplitConfig, seed: int) -> dict[str, list[Example]]:
    package = packages.PACKAGES["brown"]
    files = sorted(packages.fetch("brown", downloads).glob(package.members))
    split_of = assign_splits([file.name for file in files], split, seed)
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    pos_of = _PosOf()
    for file in files:
        for line in file.read_text(encoding="utf-8").split("\n"):
            tokens = [token.rpartition("/") for token in line.split()]
            if tokens:
                words = tuple(word for word, _, _ in tokens)
                tags = tuple(pos_of[tag] for _, _, tag in tokens)
                splits[split_of[file.name]].append(Example(words=words, tags=tags))
    return splits


# ---------------------------------------------------------------- registry


def _from_corpus(
    build: Callable[[Corpus, int], Iterable[Example]], corpus: Path | None, name: str, seed: int
) -> dict[str, list[Example]]:
    if corpus is None:
        raise UserError(f"{name} is derived from a corpus of the package sotu, and none was given")
    splits = {split: list(build(Corpus(corpus, split), seed)) for split in SPLITS}
    empty = [split for split, examples in splits.items() if not examples]
    if empty:
        raise UserError(
            f"the corpus in {corpus} gives {name} no examples for {' and '.join(empty)};"
            " ingest more documents or hold more of them out"
        )
    return splits


def registered(name: str, downloads: Path, corpus: Path | None, split: SplitConfig, seed: int) -> Labelled:
    """Build one of `REGISTERED`. `corpus` is the folder of a corpus of the package sotu."""
    if name == "sotu-punctuation":
        return Labelled(
            task="tagging",
            labels=MARKS,
            splits=_from_corpus(_punctuation, corpus, name, seed),
            description=f"Punctuation restoration: words of presidential speeches in windows of {_WINDOW[0]} to "
            f"{_WINDOW[1]}, in lower case, each tagged with the mark that follows it.",
            licence=packages.PACKAGES["sotu"].licence,
            protocol="F1 of COMMA, PERIOD and QUESTION together (micro) over the words of the test documents; "
            "marks and classes as in Tilk and Alumäe (2016).",
        )
    if name == "sotu-era":
        return Labelled(
            task="classification",
            labels=list(ERAS),
            splits=_from_corpus(_eras, corpus, name, seed),
            description="Passages of 60 words of presidential speeches, by era; dates in the text are left in.",
            licence=packages.PACKAGES["sotu"].licence,
            protocol="Accuracy over the passages of the test documents.",
        )
    if name == "brown-pos":
        return Labelled(
            task="tagging",
            labels=POS,
            splits=_brown(downloads, split, seed),
            description="The Brown corpus with the 12 universal part-of-speech tags, split by text.",
            licence=packages.PACKAGES["brown"].licence,
            protocol="Accuracy over the words of the test texts, punctuation included.",
        )
    raise UserError(f"no labelled data set is called {name!r}; {choices(name, REGISTERED)}")


REGISTERED: Sequence[str] = ("sotu-punctuation", "sotu-era", "brown-pos")
