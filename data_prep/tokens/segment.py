"""Words of Chinese text, which has no spaces, where each character is a token: those that a segmenter finds.

    tokens    使 | 用 | 语 | 言 | 模 | 型 | ， | BERT
    words     使用 | 语言 | 模型 | ， | BERT

Whole words are masked so in Chinese (Cui et al. 2021, "Pre-training with whole word masking for Chinese BERT"). Runs of
Chinese characters in one sentence are segmented; where other tokens begin words is left as it is.

The segmenter jieba (a dictionary and a hidden Markov model; its Rust port) was made for simplified characters. Against
the words of UD Chinese GSD, 258,662 characters of traditional text, its F1 is 0.72; it is 0.75 on the same text in
simplified characters, and 0.35 where each character is a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.shards.rows import offsets_of

Name = Literal["jieba"]
SETTING = "compose.segmenter"
_PACKAGES = {"jieba": "rjieba"}
# CJK ideographs, as BERT's tokenizer has them
_CHINESE = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0x2F800, 0x2FA1F)
)  # fmt: skip


_UNSPACED = re.compile(
    f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _CHINESE)}\u3041-\u3096\u30a1-\u30fa"
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ec0-\u0ec6"
    "\u0f40-\u0f6c\u1000-\u102a\u1780-\u17b3]"
)


def identity(name: Name) -> str:
    """Name and version of a segmenter, of which the words depend."""
    return f"{name} {version(_PACKAGES[name])}"


def is_chinese(character: str) -> bool:
    """Whether it is a Chinese character (kana and punctuation are not)."""
    return any(first <= ord(character) <= last for first, last in _CHINESE)


class Units(NamedTuple):
    """Of the letters of some text: the share in scripts without blanks between words, and how many make a unit there.

    A unit is a word or phrase, as rows have it.
    """

    share: float
    letters: float


def unspaced(texts: Sequence[str], begins: np.ndarray) -> Units | None:
    """What units are in scripts without blanks between words (Chinese, kana, Thai, Lao, Tibetan, Burmese, Khmer).

    texts: of each token. begins: [N] bool, where units begin. None where there are no letters of such a script.
    """
    letters = np.array([sum(map(str.isalpha, text)) for text in texts], np.int64)
    counts = np.array([len(_UNSPACED.findall(text)) for text in texts], np.int64)
    of_unit = np.bincount(np.cumsum(begins), counts)
    units = np.count_nonzero(of_unit)
    return Units(float(counts.sum() / letters.sum()), float(of_unit.sum() / units)) if units else None


class Segmenter:
    """Finds words in tokens of one tokenizer. UserError if it has no tokens that are single Chinese characters."""

    def __init__(self, name: Name, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self._codes = np.zeros(max(vocabulary.values()) + 1, np.uint32)  # of characters; 0: not a character
        for piece, number in vocabulary.items():
            if len(piece) == 1 and is_chinese(piece):
                self._codes[number] = ord(piece)
        if not self._codes.any():
            raise UserError(
                f"{SETTING}: {name} makes words of characters, and the tokenizer has no token that is a Chinese "
                "character: use wordpiece or character, with a vocabulary that has room for them, or leave it out"
            )

    def __call__(self, ids: np.ndarray, sentence_offsets: np.ndarray, word_start: np.ndarray) -> np.ndarray:
        """[N] bool, where words begin, given where they begin for the tokenizer; sentence_offsets: [S + 1]."""
        from rjieba import cut

        codes = self._codes[ids]
        place = np.flatnonzero(codes)
        text = codes[place].tobytes().decode("utf-32-le")
        is_first = np.zeros(len(ids) + 1, bool)
        is_first[sentence_offsets] = True
        begins = np.diff(place, prepend=-2) != 1
        begins |= is_first[place]
        runs = np.append(np.flatnonzero(begins), len(place)).tolist()
        lengths = [len(word) for start, stop in pairwise(runs) for word in cut(text[start:stop])]
        starts = word_start.copy()
        starts[place] = False
        starts[place[offsets_of(np.array(lengths, np.int64))[:-1]]] = True
        return starts
