"""Passages of documents, and unusual versions of them with words shuffled or replaced.

    document ─► sentences ─► passages of about `words` words, cut at ends of sentences

Both changes preserve punctuation, spaces and the lengths of sentences. Shuffling also preserves the words of every
sentence, so that it cannot be detected by counting words. Replacements are drawn with the frequencies of words in
training documents, so they are not necessarily rare. All draws are keyed by the seed, the draw and the passage's place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.corpus.documents import Corpus
from data_prep.corpus.summary import allowed_rejects
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.order import permute
from data_prep.sources.config import SourceConfig
from data_prep.sources.files import shown
from data_prep.sources.records import Reject
from data_prep.text.documents import documents
from data_prep.text.ingest.units import Cleaner

_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Chinese characters, each of which is a word
WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+(?:['’-](?:(?![{_ALONE}])\w)+)*")
SHUFFLE, REPLACE, WHICH = range(3)  # draws
MOST_READ = 5000  # documents read from another source

Change = Callable[[list[str], int], list[str]]
"""(sentences of a passage, index among the changed passages) → changed sentences."""


class Passage(NamedTuple):
    """Consecutive sentences of a document; `number`: of the passage in it, from 1, or 0 for the complete document."""

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
    """Passages of at least `words` words, by less than a sentence; the last one may have half as many."""
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
    """Up to `max_passages` passages of a split, from documents in keyed order, in keyed order."""
    corpus = Corpus(folder, split)
    order = permute(np.arange(len(corpus)), len(corpus), key(seed, f"documents {split}"))
    collected: list[Passage] = []
    for number in order.tolist():
        document = corpus[number]
        collected += passages(document.name, document.sentences, words)
        if len(collected) >= max_passages:
            break
    return sample(collected, max_passages, seed, f"passages {split}")


class SourceRead(NamedTuple):
    """Passages of a source, and what of it was left out."""

    passages: list[Passage]
    rows: int
    """Rows read; of a long source, not all."""
    unreadable: list[Reject]
    """Rows, or whole files, that cannot be read."""
    cleaned_away: Counter[str]
    """Number of documents that cleaning rejected, by reason."""

    @property
    def left_out(self) -> str:
        """What was left out, with numbers and the first reason; empty if nothing was."""
        parts = [f"{count:,} of them {reason}" for reason, count in self.cleaned_away.most_common()]
        if self.unreadable:
            first = self.unreadable[0]
            where = f"{first.source} line {first.position}: {first.reason}"
            parts.insert(0, f"{len(self.unreadable):,} cannot be read ({where})")
        count = len(self.unreadable) + self.cleaned_away.total()
        return f"{count:,} of {self.rows:,} rows are left out: {', '.join(parts)}" if count else ""


def of_source(
    source: SourceConfig,
    cleaner: Cleaner,
    max_rejects: int | float,
    words: int | None,
    max_passages: int,
    seed: int,
    downloads: Path,
) -> SourceRead:
    """Up to `max_passages` passages of documents from another source.

    Raises UserError if more rows cannot be read than `max_rejects` (a number, or a share) allows.
    """
    collected, rows, unreadable, cleaned_away = list[Passage](), 0, list[Reject](), Counter[str]()
    for row in documents(source, downloads, cleaner.config.max_seconds):
        rows += 1
        if isinstance(row, Reject):
            unreadable.append(row)
            continue
        cleaned = cleaner(row)
        if isinstance(cleaned, Reject):
            cleaned_away[cleaned.reason] += 1
            continue
        collected += passages(cleaned.document.name, cleaned.sentences, words)
        if rows - len(unreadable) - cleaned_away.total() == MOST_READ:
            break
    chosen = sample(collected, max_passages, seed, f"passages {source.package or source.path}")
    read = SourceRead(chosen, rows, unreadable, cleaned_away)
    if len(unreadable) > allowed_rejects(max_rejects, rows):
        raise UserError(
            f"the source {source.package or shown(source.path or '')}: {read.left_out}; mend it, or raise "
            f"data.clean.max_rejects: {max_rejects}"
        )
    return read


def sample(candidates: Sequence[Passage], max_passages: int, seed: int, purpose: str) -> list[Passage]:
    """Up to `max_passages` of the candidates, in keyed order."""
    order = (
        permute(np.arange(min(max_passages, len(candidates))), len(candidates), key(seed, purpose))
        if candidates
        else []
    )
    return [candidates[place] for place in order]


# -- changes ----------------------------------------------------------------------------------------------------------


def shuffling(seed: int, draw: int) -> Change:
    """A change that shuffles words within their sentences."""
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
    """A change that replaces each word with probability `share` by one of `used`, the words of training documents."""
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
    """The changed passages; `change` gets the index of each."""
    return [
        passage._replace(sentences=change(passage.sentences, place)) for place, passage in enumerate(chosen_passages)
    ]


def _filled(sentence: str, words: Sequence[str]) -> str:
    """The sentence with its words replaced by `words`."""
    replacements = iter(words)
    return WORD.sub(lambda _: next(replacements), sentence)
