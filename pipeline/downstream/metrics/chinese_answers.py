"""Exact match and F1 of Chinese answers, as the official script of CMRC 2018 scores them (Cui et al. 2019; version 4).

It is what DRCD is usually scored with, too. A fixed list of punctuation is taken out, letters are in lower case.
Chinese characters are compared one by one, other text by its words (`nltk`'s, of a Penn Treebank). F1 is of the longest
run of them that both answers have, so the order counts; exact match leaves spaces as they are. The best of a question's
right answers counts, and a question without a prediction is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from pipeline.downstream.metrics.measured import Measured, check_rows
from pipeline.downstream.metrics.squad import Answers, Golds, of_answers

PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What is taken out. The script lists an ellipsis of two characters, too, which no single one is equal to: it stays."""
_FIRST_CHINESE, _LAST_CHINESE = "\u4e00", "\u9fa5"


def cmrc(truth: Golds, predicted: Answers) -> Measured:
    """F1 and exact match. ValueError for a question without a right answer."""
    check_rows(truth, predicted)
    for row, golds in enumerate(truth):
        if not golds:
            raise ValueError(f"question {row} has no right answer; the rules of CMRC need one")
    return of_answers(np.array([_best(*pair) for pair in zip(truth, predicted, strict=True)]))


def segments(text: str) -> list[str]:
    """What is compared: each Chinese character, and the words of all else."""
    pieces: list[str] = []
    for is_chinese, run in groupby(_kept(text), _is_chinese):
        characters = list(run)
        pieces.extend(characters if is_chinese else _words()("".join(characters)))
    return pieces


def longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest run of items that stands in both."""
    numbers = {item: number for number, item in enumerate({*first, *second})}
    a, b = (np.array([numbers[item] for item in items], np.int64) for items in (first, second))
    runs, longest = np.zeros(len(b) + 1, np.int64), 0
    for item in a:  # runs[j + 1]: the length of the common run that ends here and at b[j]
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


def _f1(gold: Sequence[str], found: Sequence[str]) -> float:
    common = longest_common_run(gold, found)
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _kept(text: str) -> Iterator[str]:
    return (character for character in text.lower().strip() if character not in PUNCTUATION)


def _is_chinese(character: str) -> bool:
    return _FIRST_CHINESE <= character <= _LAST_CHINESE


@functools.cache
def _words() -> Callable[[str], list[str]]:
    """Words of text that is not Chinese. Sentences are not parted first: answers are parts of one."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer().tokenize
