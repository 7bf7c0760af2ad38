"""C4's rules for single pages (Raffel et al. 2020, section 2.2, and the code published with the paper).

The rule about all pages together, repeated spans, is in `data_prep.text.rules.spans`.

Where paper and code differ: `lorem ipsum` and `{` reject a page wherever they occur, as in the paper (the code looks
only at lines that it keeps). Citation marks are removed before anything else, so that the rules are idempotent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError
from data_prep.sources.lines import lines_of
from data_prep.text import sentences
from data_prep.text.rules.config import C4Config, Outcome

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_SPACES = re.compile(r" {2,}")
_WORD = re.compile(r"\w+")
_POLICY = re.compile(r"terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")
_WITHOUT_SPACES = ("ja", "th", "zh")  # a bad word is one even inside other characters


class C4:
    """Drops lines of a page, or rejects it: a function from a cleaned text to an `Outcome`.

    language: ISO 639 code of the language whose rules split sentences. Raises UserError if the list of bad words cannot
    be read.
    """

    def __init__(self, config: C4Config, language: str) -> None:
        self._config = config
        self._language = language
        self._marks = tuple(mark for mark in config.end_marks if mark)
        self._too_few = f"c4: fewer than {config.min_sentences} sentences"
        words = [] if config.bad_words is None else read_bad_words(config.bad_words)
        self._is_bad = _bad_word_test(words, language in _WITHOUT_SPACES) if words else None

    def __call__(self, text: str) -> Outcome:
        config = self._config
        counts: Counter[str] = Counter()
        if config.citations and "[" in text:
            text = _without_citations(text, counts)
        if config.curly_brackets and "{" in text:
            return Outcome(None, "c4: curly bracket")
        if config.lorem_ipsum and "lorem ipsum" in text.lower():
            return Outcome(None, "c4: lorem ipsum")
        lines = []
        for line in filter(None, map(str.strip, text.split("\n"))):
            fault = self._fault(line)
            if fault:
                counts[fault] += 1
            else:
                lines.append(line)
        if not lines or self._has_too_few_sentences(lines):
            return Outcome(None, self._too_few if config.min_sentences else "c4: no line left")
        text = "\n".join(lines)
        if self._is_bad is not None and self._is_bad(text.lower()):
            return Outcome(None, "c4: bad word")
        return Outcome(text, counts=dict(counts))

    def _fault(self, line: str) -> str:
        """Why a line is dropped; empty if it stays."""
        config = self._config
        if self._marks and (not line.endswith(self._marks) or line.endswith("...")):
            return "c4: line without an end mark"
        words = line.split()
        if len(words) < config.min_words_per_line:
            return f"c4: line of fewer than {config.min_words_per_line} words"
        longest = config.max_word_length
        if longest is not None and len(line) > longest and any(len(word) > longest for word in words):
            return f"c4: line with a word of more than {longest} characters"
        lower = line.lower()
        if config.javascript and "javascript" in lower:
            return "c4: line with javascript"
        if config.policies and _POLICY.search(lower):
            return "c4: line about a policy"
        return ""

    def _has_too_few_sentences(self, lines: list[str]) -> bool:
        count = 0
        for line in lines:
            if count >= self._config.min_sentences:
                break
            count += len(sentences.split(line, self._language))
        return count < self._config.min_sentences


def _without_citations(text: str, counts: Counter[str]) -> str:
    """The text without citation marks, including those that form when others are removed, up to ten times."""
    for _ in range(10):
        text, removed = _CITATION.subn("", text)
        if not removed:
            break
        counts["c4: citation mark"] += removed
        text = _SPACES.sub(" ", text)
    return text


def read_bad_words(path: str) -> list[str]:
    """The words and phrases of a UTF-8 file with one per line: in lower case, sorted, without repetitions.

    Raises UserError if the file cannot be read, or contains none.
    """
    try:
        words = sorted({" ".join(line.lower().split()) for _, line in lines_of(Path(path).expanduser())} - {""})
    except UnfitError as error:
        raise UserError(f"{path}: {error}; mend the list of bad words or leave it out") from None
    if not words:
        raise UserError(f"{path}: the list of bad words is empty; write one a line or leave it out")
    return words


def _bad_word_test(words: list[str], anywhere: bool) -> Callable[[str], bool]:
    """A test of whether a text in lower case contains one of the words: `anywhere`, or not inside longer words."""
    if anywhere:
        any_word = re.compile("|".join(map(re.escape, words)))
        return lambda text: any_word.search(text) is not None
    single = frozenset(word for word in words if _WORD.fullmatch(word))
    others = [(word, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")) for word in words if word not in single]

    def is_bad(text: str) -> bool:
        if not single.isdisjoint(_WORD.findall(text)):
            return True
        return any(word in text and pattern.search(text) for word, pattern in others)

    return is_bad
