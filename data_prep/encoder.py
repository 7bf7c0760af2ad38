"""Token ids of sentences, several times as fast as the tokenizer that defines them, and equal to its own.

Text repeats its words, so a word's ids are looked up where it was met before:

    sentences ─► one string ─► chunks at spaces ─► numbers of chunks ─► their ids, laid end to end
                                      └── new ones ──► the tokenizer

That is exact where a tokenizer treats what lies between two spaces by itself. Two kinds do: BERT's WordPiece, which
throws spaces away, and byte-level BPE, where a space begins the chunk behind it. Where each character is a token, a
table has them all. Any other tokenizer, and any batch in which white space is more than single spaces, goes through
the tokenizer as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_prep.rows import Ragged, offsets_of

MOST_CHUNKS = 1 << 18  # remembered at once, about 50 MB with their ids
MOST_IDS = 1 << 21


class Encoder:
    """`encode(sentences)` of one tokenizer, without special tokens, truncation or padding.

    A text that says "[MASK]" is text, not a mask. Remembers words, so use one for all of a corpus; not for several
    threads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())  # the caller's keeps its settings
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.dtype = np.dtype(np.uint16 if vocabulary <= 65_535 else np.uint32)
        self._kind = _kind(self.tokenizer)
        self._table = _table(self.tokenizer, self.dtype) if self._kind == "characters" else None
        self._forget()

    def encode(self, sentences: Sequence[str]) -> Ragged:
        """The ids of each sentence; a sentence may have none."""
        if self._table is not None:
            return self._characters(sentences, self._table)
        chunks = self._chunks(sentences)
        if chunks is None:
            return self._plain(sentences)
        numbers = np.fromiter(map(self._numbers.__getitem__, chunks), np.int64, len(chunks))
        self._learn()
        ends = np.flatnonzero(numbers == 0)  # chunk 0 stands between two sentences and has no ids
        found = self._known.take(numbers)
        lengths = np.diff(found.offsets[np.concatenate([[0], ends, [len(numbers)]])])
        if len(self._numbers) > MOST_CHUNKS or len(self._known.values) > MOST_IDS:
            self._forget()
        return Ragged(found.values, offsets_of(lengths))

    def _chunks(self, sentences: Sequence[str]) -> list[str] | None:
        """What lies between spaces, and a line end between sentences; None where that is not certain."""
        if self._kind == "words":
            text = " \n ".join(sentences)
            return text.split(" ") if text.count("\n") == len(sentences) - 1 else None
        if self._kind == "spaced words":
            text = "\n".join(sentences)
            odd = text[:1] == " " or "\n " in text or "  " in text or "\0" in text
            if not odd and text.count("\n") == len(sentences) - 1:
                return text.replace("\n", "\0\n\0").replace(" ", "\0 ").split("\0")
        return None

    def _learn(self) -> None:
        """The ids of chunks not met before."""
        if self._numbers.new:
            self._known = Ragged.concat([self._known, self._plain(self._numbers.new)])
            self._numbers.new = []

    def _characters(self, sentences: Sequence[str], table: np.ndarray) -> Ragged:
        normalizer = self.tokenizer.normalizer
        texts = [normalizer.normalize_str(text) for text in sentences] if normalizer else sentences
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        return Ragged.from_lengths(table[codes], [len(text) for text in texts])

    def _plain(self, sentences: Sequence[str]) -> Ragged:
        encodings = self.tokenizer.encode_batch_fast(list(sentences), add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return Ragged.from_lengths(np.fromiter(chain.from_iterable(ids), self.dtype, int(lengths.sum())), lengths)

    def _forget(self) -> None:
        self._numbers = _Numbers({"\n": 0})
        self._known = Ragged(np.empty(0, self.dtype), np.zeros(2, np.int64))


class _Numbers(dict[str, int]):
    """Chunks numbered as they come; `new`: those not learnt yet."""

    def __init__(self, known: dict[str, int]) -> None:
        super().__init__(known)
        self.new: list[str] = []

    def __missing__(self, chunk: str) -> int:
        number = self[chunk] = len(self)
        self.new.append(chunk)
        return number


def _kind(tokenizer: Tokenizer) -> str:
    """Which way of looking up is exact for a tokenizer: "words", "spaced words", "characters" or "none"."""
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model, normalizer, splitter = (spec[name] or {"type": None} for name in ("model", "normalizer", "pre_tokenizer"))
    if any(not token["special"] for token in spec["added_tokens"]):
        return "none"  # such a token may hold spaces
    if model["type"] == "WordPiece" and splitter["type"] == "BertPreTokenizer":
        return "words" if normalizer["type"] in ("BertNormalizer", "Lowercase", None) else "none"
    if normalizer["type"] not in ("Lowercase", None):
        return "none"
    if model["type"] == "BPE" and splitter["type"] == "ByteLevel" and splitter.get("use_regex", True):
        return "spaced words"
    each = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    return "characters" if model["type"] == "WordLevel" and splitter == each else "none"


def _table(tokenizer: Tokenizer, dtype: np.dtype) -> np.ndarray:
    """The id of every code point, for a tokenizer whose pieces are single characters."""
    unknown = tokenizer.token_to_id(json.loads(tokenizer.to_str())["model"]["unk_token"])
    table = np.full(0x110000, unknown, dtype)
    for piece, number in tokenizer.get_vocab(with_added_tokens=False).items():
        if len(piece) == 1:
            table[ord(piece)] = number
    return table
