"""Exact match and F1 of Chinese answers, computed like the official script of CMRC 2018 (Cui et al. 2019; version 4).

DRCD is usually scored with it, too. A fixed list of punctuation is removed and letters are lower-cased. Each Chinese
character is one item, other text is split into words (nltk's Penn Treebank tokenizer). F1 is based on the longest
common substring of items, so order matters. Exact match keeps spaces. Of several accepted answers the best match
counts, and a missing prediction is wrong.

The script first splits other text into sentences, by a model of Punkt that nltk downloads and that is not had here.
That makes a difference where a sentence ends inside of such text with a full stop: `a. b` is a, ., b there, and a., b
here. Question and exclamation marks are words in both; straight quotation marks behind them may open or close.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from pipeline.downstream.metrics.measured import Measured
from pipeline.downstream.metrics.squad import Answers, Golds, check_answerable, of_answers

PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""Removed before comparing. The script also lists a two-character ellipsis, which never equals a single character."""
_FIRST_CHINESE, _LAST_CHINESE = "\u4e00", "\u9fa5"


def cmrc(truth: Golds, predicted: Answers) -> Measured:
    """F1 and exact match. UserError if a question has no accepted answer."""
    check_answerable(truth, predicted)
    return of_answers(np.array([_best(*pair) for pair in zip(truth, predicted, strict=True)]))


def segments(text: str) -> list[str]:
    """The items that are compared: Chinese characters, and words of other text."""
    pieces: list[str] = []
    for is_chinese, run in groupby(_kept(text), _is_chinese):
        characters = list(run)
        pieces.extend(characters if is_chinese else _words()("".join(characters)))
    return pieces


def longest_common_substring(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common substring."""
    numbers = {item: number for number, item in enumerate({*first, *second})}
    a, b = (np.array([numbers[item] for item in items], np.int64) for items in (first, second))
    runs, longest = np.zeros(len(b) + 1, np.int64), 0
    for item in a:  # runs[j + 1]: length of the common run ending here and at b[j]
        runs[1:] = np.where(b == item, runs[:-1] + 1, 0)
        longest = max(longest, int(runs.max()))
    return longest


def _best(golds: Sequence[str], answer: str | None) -> tuple[float, float]:
    if answer is None:
        return 0.0, 0.0
    found, plain = segments(answer), "".join(_kept(answer))
    return max(_f1(segments(gold), found) for gold in golds), max(
        float("".join(_kept(gold)) == plain) for gold in golds
    )


def _f1(gold: Sequence[str], answer: Sequence[str]) -> float:
    common = longest_common_substring(gold, answer)
    if not common:
        return 0.0
    precision, recall = common / len(answer), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _kept(text: str) -> Iterator[str]:
    return (character for character in text.lower().strip() if character not in PUNCTUATION)


def _is_chinese(character: str) -> bool:
    return _FIRST_CHINESE <= character <= _LAST_CHINESE


@functools.cache
def _words() -> Callable[[str], list[str]]:
    """The word tokenizer for other text, which is not split into sentences first."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer().tokenize
