"""Token ids of sentences, several times as fast as the tokenizer that defines them, and equal to its own.

Text repeats its words, so a word's ids are looked up where it was met before:

    sentences ─► chunks at spaces ─► each kind of chunk once ─► numbers ─► their ids, laid end to end
                                                └── new ones ──► the tokenizer

That is exact where a tokenizer treats what lies between two spaces by itself. Two kinds do: BERT's WordPiece, which
throws spaces away, and byte-level BPE, where a space begins the chunk behind it (a batch in which white space is more
than single spaces goes through it as it is). Where each character is a token, a table has them all. Any other
tokenizer is asked for everything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from data_prep.shards.rows import Ragged

MOST_CHUNKS = 1 << 18  # remembered at once, about 50 MB with their ids
MOST_IDS = 1 << 21
PLAIN_BATCH = 2048  # texts given to the tokenizer at once: what it returns takes some 200 bytes a token
_UNUSUAL = r"^ |  |\n|\x00"  # where byte-level BPE may take white space otherwise


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

    def encode(self, sentences: pa.StringArray | Sequence[str]) -> Ragged:
        """The ids of each sentence; a sentence may have none. Quickest for thousands of them in an Arrow array."""
        texts: pa.StringArray = sentences if isinstance(sentences, pa.StringArray) else pa.array(sentences, pa.string())
        if self._table is not None:
            return self._characters(texts.to_pylist(), self._table)
        chunks = self._chunks(texts)
        if chunks is None:
            return self._plain(texts.to_pylist())
        kinds = chunks.flatten().dictionary_encode()
        numbers = np.array([self._numbers[chunk] for chunk in kinds.dictionary.to_pylist()], np.int64)
        self._learn()
        encoded = self._known.take(pa.array(numbers[kinds.indices.to_numpy()]))
        ids, ends = encoded.flatten().to_numpy(), encoded.offsets.to_numpy()
        if len(self._numbers) > MOST_CHUNKS or len(self._known.values) > MOST_IDS:
            self._forget()
        return Ragged(ids, ends[chunks.offsets.to_numpy()])

    def _chunks(self, texts: pa.StringArray) -> pa.ListArray | None:
        """What lies between the spaces of each text; None where the tokenizer may see more than that."""
        if self._kind == "words":
            return pc.split_pattern(texts, " ")  # type: ignore[attr-defined]
        if self._kind == "spaced words" and not pc.any(pc.match_substring_regex(texts, _UNUSUAL)).as_py():  # type: ignore[attr-defined]
            return pc.split_pattern(pc.replace_substring(texts, " ", "\0 "), "\0")  # type: ignore[attr-defined]
        return None

    def _learn(self) -> None:
        """The ids of chunks not met before."""
        if self._numbers.new:
            self._known = pa.concat_arrays([self._known, _lists(self._plain(self._numbers.new))])
            self._numbers.new = []

    def _characters(self, sentences: Sequence[str], table: np.ndarray) -> Ragged:
        normalizer = self.tokenizer.normalizer
        texts = [normalizer.normalize_str(text) for text in sentences] if normalizer else sentences
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        return Ragged.from_lengths(table[codes], [len(text) for text in texts])

    def _plain(self, sentences: Sequence[str]) -> Ragged:
        ids, lengths = [np.empty(0, self.dtype)], [np.empty(0, np.int64)]
        for start in range(0, len(sentences), PLAIN_BATCH):
            batch = list(sentences[start : start + PLAIN_BATCH])
            ids_of = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
            lengths.append(np.fromiter(map(len, ids_of), np.int64, len(ids_of)))
            ids.append(np.fromiter(chain.from_iterable(ids_of), self.dtype, int(lengths[-1].sum())))
        return Ragged.from_lengths(np.concatenate(ids), np.concatenate(lengths))

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._known = _lists(Ragged(np.empty(0, self.dtype), np.zeros(1, np.int64)))


class _Numbers(dict[str, int]):
    """Chunks numbered as they come; `new`: those not learnt yet."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, chunk: str) -> int:
        number = self[chunk] = len(self)
        self.new.append(chunk)
        return number


def _lists(ids: Ragged) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(ids.offsets), pa.array(ids.values))


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
