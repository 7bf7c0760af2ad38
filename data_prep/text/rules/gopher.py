"""Gopher's tests of quality and repetition (Rae et al. 2021, appendix A.1.1 and table A1).

Words are separated by white space, lines by a line end, paragraphs by two or more; empty ones are ignored. A line or
paragraph is a duplicate if it repeats an earlier one; its first occurrence is not. All occurrences of a repeated n-gram
are duplicates, and a character in several of them counts once. Shares refer to all characters except white space
(n-grams) or line ends (lines, paragraphs).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from data_prep.text.rules.config import GopherConfig, Outcome

_LETTER = re.compile(r"[^\W\d_]")
_BLANK_LINES = re.compile(r"\n{2,}")
_BULLETS = ("•", "‣", "⁃", "∙", "◦", "●", "○", "■", "□", "▪", "▫", "-", "–", "*")
_ELLIPSES = ("...", "…")
_TOP = (2, 3, 4)
_DUPLICATE = (5, 6, 7, 8, 9, 10)


class Gopher:
    """Rejects texts, by the cheapest tests first: a function from a cleaned text to an `Outcome`."""

    def __init__(self, config: GopherConfig) -> None:
        self._config = config
        stop_words = "|".join(sorted(map(re.escape, {word.lower() for word in config.stop_words})))
        self._stop_word = re.compile(rf"\b(?:{stop_words})\b", re.IGNORECASE) if stop_words else None
        self._limits: dict[int, float | None] = {
            **{n: getattr(config, f"top_{n}gram_characters") for n in _TOP},
            **{n: getattr(config, f"duplicate_{n}gram_characters") for n in _DUPLICATE},
        }

    def __call__(self, text: str) -> Outcome:
        words = text.split()
        fault = self._word_fault(text, words) or self._line_fault(text) or self._ngram_fault(words)
        return Outcome(None, f"gopher: {fault}") if fault else Outcome(text)

    def _word_fault(self, text: str, words: list[str]) -> str:
        config = self._config
        if config.min_words is not None and len(words) < config.min_words:
            return f"fewer than {config.min_words} words"
        if config.max_words is not None and len(words) > config.max_words:
            return f"more than {config.max_words} words"
        if not words:
            return ""
        mean = sum(map(len, words)) / len(words)
        if config.min_mean_word_length is not None and mean < config.min_mean_word_length:
            return "words too short"
        if _above(mean, config.max_mean_word_length):
            return "words too long"
        if _above(text.count("#") / len(words), config.max_symbols_per_word):
            return "too many hash signs"
        if _above(sum(map(text.count, _ELLIPSES)) / len(words), config.max_symbols_per_word):
            return "too many ellipses"
        if config.min_alphabetic_words is not None:
            alphabetic = sum(1 for word in words if word.isalpha() or _LETTER.search(word))
            if alphabetic / len(words) < config.min_alphabetic_words:
                return "too few words with a letter"
        return "" if self._has_stop_words(text) else "too few stop words"

    def _has_stop_words(self, text: str) -> bool:
        stop_words: set[str] = set()
        if self._stop_word is not None and self._config.min_stop_words:
            for match in self._stop_word.finditer(text):
                stop_words.add(match[0].lower())
                if len(stop_words) >= self._config.min_stop_words:
                    return True
        return self._stop_word is None or not self._config.min_stop_words

    def _line_fault(self, text: str) -> str:
        config = self._config
        lines = [line for line in text.split("\n") if line]
        if not lines:
            return ""
        if _above(sum(line.startswith(_BULLETS) for line in lines) / len(lines), config.max_bullet_lines):
            return "too many bullets"
        if _above(sum(line.endswith(_ELLIPSES) for line in lines) / len(lines), config.max_ellipsis_lines):
            return "too many lines that end in an ellipsis"
        pieces, characters = duplicates(lines)
        if _above(pieces, config.duplicate_lines):
            return "duplicate lines"
        if _above(characters, config.duplicate_line_characters):
            return "characters in duplicate lines"
        pieces, characters = duplicates([part for part in _BLANK_LINES.split(text) if part])
        if _above(pieces, config.duplicate_paragraphs):
            return "duplicate paragraphs"
        if _above(characters, config.duplicate_paragraph_characters):
            return "characters in duplicate paragraphs"
        return ""

    def _ngram_fault(self, words: list[str]) -> str:
        for n, share in ngram_shares(words):
            if _above(share, self._limits[n]):
                return f"most frequent {n}-gram" if n in _TOP else f"duplicate {n}-grams"
        return ""


def _above(value: float, limit: float | None) -> bool:
    return limit is not None and value > limit


def duplicates(pieces: list[str]) -> tuple[float, float]:
    """The share of pieces that repeat an earlier one, and the share of all characters in them; both in 0 … 1."""
    different = set(pieces)
    if len(different) == len(pieces):
        return 0.0, 0.0
    characters = sum(map(len, pieces))
    repeated = characters - sum(map(len, different))
    return 1 - len(different) / len(pieces), repeated / characters


def ngram_shares(words: list[str]) -> Iterator[tuple[int, float]]:
    """Pairs (n, share of characters in 0 … 1) for the words of a text, in ascending order of n.

    The share is that of the most frequent n-gram for n = 2 … 4, and that of all duplicate n-grams for n = 5 … 10. Ends
    at the first n without duplicates, as there are no longer ones then. Fast, because a duplicate n-gram begins where
    two duplicate (n − 1)-grams follow each other, so few places are examined for each n.
    """
    total = sum(map(len, words))
    counts = Counter(pairwise(words))
    starts = [place for place, pair in enumerate(pairwise(words)) if counts[pair] > 1]
    for n in (*_TOP, *_DUPLICATE):
        if n > 2:
            shorter = set(starts)
            places = [place for place in starts if place + 1 in shorter]
            ngrams = [tuple(words[place : place + n]) for place in places]
            counts = Counter(ngrams)
            starts = [place for place, ngram in zip(places, ngrams, strict=True) if counts[ngram] > 1]
        if not starts:
            return
        yield n, _top_share(counts, total) if n in _TOP else _covered(words, starts, n) / total


def _top_share(counts: Counter[tuple[str, ...]], total: int) -> float:
    """Share of characters in the n-gram that occurs most often; of several such n-grams, the longest."""
    highest_count = max(counts.values())
    longest = max(sum(map(len, ngram)) for ngram, count in counts.items() if count == highest_count)
    return min(1.0, highest_count * longest / total)  # occurrences that overlap would count some characters twice


def _covered(words: list[str], starts: list[int], n: int) -> int:
    """Number of characters in the n-grams that begin at the words `starts`, in ascending order."""
    characters = end = 0
    for start in starts:
        characters += sum(map(len, words[max(start, end) : start + n]))
        end = start + n
    return characters
