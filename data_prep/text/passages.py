"""Passages of documents, and the same made unusual: words in another order, or some of them replaced.

    document ─► sentences ─► passages of about so many words, cut where sentences end

Both changes leave punctuation, spaces and the lengths of sentences as they were. Shuffling leaves also the words of
every sentence: whoever only counts words sees no difference. Words are put in as often as training documents use them,
so that a replaced word need not be a rare one. All draws are keyed: by the seed, the draw and the passage's place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.corpus.documents import Corpus
from data_prep.rng import Draws, key
from data_prep.shards.order import permute
from data_prep.sources.config import SourceConfig
from data_prep.sources.records import Reject
from data_prep.text.documents import documents
from data_prep.text.units import Cleaner

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Chinese: each a word
WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+(?:['’-](?:(?![{_ALONE}])\w)+)*")
SHUFFLE, REPLACE, WHICH = range(3)  # draws
MOST_READ = 5000  # documents of another kind

Change = Callable[[list[str], int], list[str]]
"""Of a passage's sentences, given its place among those that are changed."""


class Passage(NamedTuple):
    """Consecutive sentences of a document; `number`: of the passage in it, from 1, or 0 where it is all of it."""

    document: str
    number: int
    sentences: list[str]

    @property
    def name(self) -> str:
        return f"{self.document}, passage {self.number}" if self.number else self.document

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


def passages(name: str, sentences: Sequence[str], words: int | None) -> Iterator[Passage]:
    """A document in passages of `words` words or a sentence more; what is left over counts if it is half of that."""
    if words is None:
        if any(map(WORD.search, sentences)):
            yield Passage(name, 0, list(sentences))
        return
    collected: list[str] = []
    count = number = 0
    for place, sentence in enumerate(sentences, 1):
        collected.append(sentence)
        count += len(WORD.findall(sentence))
        if count >= words or (place == len(sentences) and count >= words / 2):
            number += 1
            yield Passage(name, number, collected)
            collected, count = [], 0


def of_split(folder: Path, split: str, words: int | None, max_passages: int, seed: int) -> list[Passage]:
    """At most so many passages of a split, of documents in keyed order, in keyed order."""
    corpus = Corpus(folder, split)
    order = permute(np.arange(len(corpus)), len(corpus), key(seed, f"documents {split}"))
    collected: list[Passage] = []
    for number in order.tolist():
        document = corpus[number]
        collected += passages(document.name, document.sentences, words)
        if len(collected) >= max_passages:
            break
    return some(collected, max_passages, seed, f"passages {split}")


def of_source(
    source: SourceConfig, cleaner: Cleaner, words: int | None, max_passages: int, seed: int, downloads: Path
) -> list[Passage]:
    """At most so many passages of documents from elsewhere."""
    collected, read = list[Passage](), 0
    for row in documents(source, downloads):
        cleaned = row if isinstance(row, Reject) else cleaner(row)
        if not isinstance(cleaned, Reject):
            read += 1
            collected += passages(cleaned.document.name, cleaned.sentences, words)
        if read == MOST_READ:
            break
    return some(collected, max_passages, seed, f"passages {source.package or source.path}")


def some(candidates: Sequence[Passage], max_passages: int, seed: int, purpose: str) -> list[Passage]:
    """At most so many, in keyed order."""
    order = (
        permute(np.arange(min(max_passages, len(candidates))), len(candidates), key(seed, purpose))
        if candidates
        else []
    )
    return [candidates[place] for place in order]


# -- changes ----------------------------------------------------------------------------------------------------------


def shuffling(seed: int, draw: int) -> Change:
    """Words change places within their sentences."""
    name = key(seed, "shuffled words")

    def change(sentences: list[str], place: int) -> list[str]:
        draws, done, changed = Draws(name, draw, place), 0, []
        for sentence in sentences:
            words = WORD.findall(sentence)
            order = np.argsort(draws.bits(SHUFFLE, np.arange(done, done + len(words))), kind="stable")
            changed.append(_filled(sentence, [words[number] for number in order]))
            done += len(words)
        return changed

    return change


def replacing(seed: int, draw: int, share: float, used: Sequence[str]) -> Change:
    """Each word is replaced with probability `share`, by one of those `used` in training documents."""
    name = key(seed, "replaced words")

    def change(sentences: list[str], place: int) -> list[str]:
        draws, done, changed = Draws(name, draw, place), 0, []
        for sentence in sentences:
            words = WORD.findall(sentence)
            position = np.arange(done, done + len(words))
            hit = draws.uniform(REPLACE, position) < share
            other = draws.below(len(used), WHICH, position)
            pairs = zip(words, hit, other, strict=True)
            changed.append(_filled(sentence, [used[int(number)] if new else word for word, new, number in pairs]))
            done += len(words)
        return changed

    return change


def changed(chosen_passages: Iterable[Passage], change: Change) -> list[Passage]:
    """Passages changed, each by its place."""
    return [
        passage._replace(sentences=change(passage.sentences, place)) for place, passage in enumerate(chosen_passages)
    ]


def _filled(sentence: str, words: Sequence[str]) -> str:
    """The sentence with other words where its words were."""
    replacements = iter(words)
    return WORD.sub(lambda _: next(replacements), sentence)
