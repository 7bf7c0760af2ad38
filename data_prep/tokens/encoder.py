"""Encodes sentences with a cache of words: the same ids as those of the tokenizer, several times faster.

Words are repeated in text, so the ids of known words are looked up:

    sentences ─► chunks at spaces ─► distinct chunks ─► numbers ─► their ids, concatenated
                                            └── new ones ──► the tokenizer

This is exact if a tokenizer encodes the text between two spaces independently. That holds for BERT's WordPiece, which
drops spaces, and for byte-level BPE, where spaces and line breaks belong to the chunk after them (batches with other
white space than these bypass the cache). If each character is a token, a table is used. Any other tokenizer encodes
everything itself.

Where a tokenizer spells white space, the white space between sentences is text, too, as it is where the tokenizer is
used on whole texts (`encode_documents`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_prep.arrow import pc
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged
from data_prep.tokens.cleaning import cleaning_of, without_cleaning

MOST_CHUNKS = 1 << 18  # cached at a time, about 50 MB with their ids
MOST_IDS = 1 << 21
MOST_COUNTED = 1 << 10
PLAIN_BATCH = 2048  # texts per call of the tokenizer, whose result takes about 200 bytes per token
PLAIN_CHARACTERS = 1 << 20  # of texts of several sentences, per call
_OTHER = r"[\t\x0b\f\r\x1c-\x1f \x85\p{Z}]"  # white space that is no line break
_UNUSUAL = rf"  |\n\n\n|{_OTHER}\n|\n{_OTHER}|\x00"  # where byte-level BPE may treat white space differently


class Encoder:
    """`encode(sentences)` of one tokenizer, without special tokens, truncation or padding.

    Sentences are those of clean texts: the tokenizer's own cleaning (`data_prep.tokens.cleaning`) is left out.
    "[MASK]" in a text is ordinary text, not a mask. Caches words, so use one encoder for a complete corpus. Not
    thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = without_cleaning(tokenizer)  # a copy, so that the caller's settings do not change
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        vocabulary = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.dtype = np.dtype(np.uint16 if vocabulary <= 65_535 else np.uint32)
        self._kind = _kind(self.tokenizer)
        cleaning = cleaning_of(tokenizer)
        self.keep_lines = cleaning is not None and cleaning.keep_lines
        self.spells_white_space = line_break(tokenizer) is not None
        self._prefix = "" if self._kind != "spaced words" else _without_prefix(self.tokenizer)
        self._unknown = _unknown(self.tokenizer)
        self._table = _table(self.tokenizer, self.dtype) if self._kind == "characters" else None
        self._forget()

    def encode(self, sentences: pa.StringArray | Sequence[str]) -> Ragged:
        """The ids of each sentence; a sentence may have none. Fastest for thousands of sentences in an Arrow array."""
        texts: pa.StringArray = sentences if isinstance(sentences, pa.StringArray) else pa.array(sentences, pa.string())
        return self._encoded(self._with_prefix(texts))

    def begins(self, before: pa.StringArray) -> np.ndarray:
        """[S] bool: which sentences are encoded independently of others; before: as in `encode_documents`."""
        if self._kind == "characters":
            return np.ones(len(before), bool)
        begins = pc.is_null(before) if self._kind == "none" else pc.fill_null(pc.not_equal(before, ""), True)
        return begins.to_numpy(zero_copy_only=False)

    def encode_documents(self, sentences: pa.StringArray, before: pa.StringArray) -> Ragged:
        """The ids of each sentence, with the white space before it: joined, what the whole documents' texts become.

        before: the white space before each sentence, null where a document begins (`data_prep.tokens.cleaning`). A
        token is of the sentence that it begins in; a sentence within another's token has none.
        """
        firsts = pc.is_null(before)
        opening = self._with_prefix(sentences) if self._prefix else sentences
        texts = pc.binary_join_element_wise(pc.fill_null(before, ""), pc.if_else(firsts, opening, sentences), "")
        begins = self.begins(before)
        return self._encoded(texts) if begins.all() else self._divided(texts, begins)

    def _with_prefix(self, texts: pa.StringArray) -> pa.StringArray:
        if not self._prefix:
            return texts
        takes = pc.match_substring_regex(texts, "^[^ ]")
        return pc.if_else(takes, pc.binary_join_element_wise(self._prefix, texts, ""), texts)

    def _divided(self, texts: pa.StringArray, begins: np.ndarray) -> Ragged:
        """The ids of texts; those that continue the text before are encoded together with it."""
        characters = pc.utf8_length(texts).to_numpy()
        group = np.cumsum(begins) - 1
        first = np.flatnonzero(begins)
        place = np.cumsum(characters) - characters
        place -= place[first][group]  # of each text in its group
        groups = ["".join(part) for part in _split(texts.to_pylist(), first.tolist())]
        ids, lengths = [np.empty(0, self.dtype)], np.zeros(len(texts), np.int64)
        for start, stop in _batches([len(text) for text in groups]):
            with using_tokenizer():
                encodings = self.tokenizer.encode_batch(groups[start:stop], add_special_tokens=False)
            for number, encoding in enumerate(encodings, start):
                parts = slice(first[number], first[number + 1] if number + 1 < len(first) else len(texts))
                starts = np.maximum.accumulate(np.array([start for start, _ in encoding.offsets], np.int64))
                lengths[parts] = np.diff(np.searchsorted(starts, place[parts]), append=len(starts))
                ids.append(np.array(encoding.ids, self.dtype))
        return Ragged.from_lengths(np.concatenate(ids), lengths)

    def _encoded(self, texts: pa.StringArray) -> Ragged:
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

    def unknown_characters(self, sentences: pa.StringArray, encoded: Ragged) -> int:
        """Number of the sentences' characters that the unknown token stands for.

        encoded: their ids. Characters are counted in the first `MOST_COUNTED` sentences that have such a token, and
        taken to be as many for each token of the others.
        """
        if self._unknown is None:
            return 0
        is_unknown = encoded.values == self._unknown
        tokens = np.bincount(encoded.row_index()[is_unknown], minlength=len(encoded))
        chosen = np.flatnonzero(tokens)[:MOST_COUNTED]
        if not len(chosen):
            return 0
        texts = sentences.take(pa.array(chosen)).to_pylist()
        characters = 0
        for encoded_text in self.tokenizer.encode_batch(texts, add_special_tokens=False):
            for number, (start, stop) in zip(encoded_text.ids, encoded_text.offsets, strict=True):
                characters += stop - start if number == self._unknown else 0
        return round(characters * int(tokens.sum()) / int(tokens[chosen].sum()))

    def _chunks(self, texts: pa.StringArray) -> pa.ListArray | None:
        """The chunks of each text between spaces; None if the tokenizer may not encode them independently."""
        if self._kind == "words":
            return pc.split_pattern(texts, " ")
        if self._kind == "spaced words" and not pc.any(pc.match_substring_regex(texts, _UNUSUAL)).as_py():
            for blank in " \n":
                texts = pc.replace_substring(texts, blank, f"\0{blank}")
            return pc.split_pattern(pc.replace_substring(texts, "\n\0\n", "\n\n"), "\0")
        return None

    def _learn(self) -> None:
        """Encode the new chunks."""
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
            with using_tokenizer():
                ids_of = [
                    encoding.ids for encoding in self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                ]
            lengths.append(np.fromiter(map(len, ids_of), np.int64, len(ids_of)))
            ids.append(np.fromiter(chain.from_iterable(ids_of), self.dtype, int(lengths[-1].sum())))
        return Ragged.from_lengths(np.concatenate(ids), np.concatenate(lengths))

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._known = _lists(Ragged(np.empty(0, self.dtype), np.zeros(1, np.int64)))


def line_break(tokenizer: Tokenizer) -> int | None:
    """The token of a line break, as a byte, a character or a byte-fallback piece; None if there is none."""
    if isinstance(tokenizer.model, models.WordPiece):
        return None
    pieces = ("Ċ",) if isinstance(tokenizer.decoder, decoders.ByteLevel) else ("\n", "<0x0A>")
    return next((number for number in map(tokenizer.token_to_id, pieces) if number is not None), None)


def _without_prefix(tokenizer: Tokenizer) -> str:
    """Let byte-level BPE take the beginnings of texts as they are; what it would have put before them."""
    splitter = json.loads(tokenizer.to_str())["pre_tokenizer"]
    if not splitter["add_prefix_space"]:
        return ""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return " "


def _split(texts: list[str], first: list[int]) -> Iterator[list[str]]:
    yield from (texts[start:stop] for start, stop in pairwise([*first, len(texts)]))


def _batches(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Consecutive texts of at most `PLAIN_CHARACTERS` together, or one."""
    start = total = 0
    for number, length in enumerate(lengths):
        if number > start and total + length > PLAIN_CHARACTERS:
            yield start, number
            start, total = number, 0
        total += length
    if start < len(lengths):
        yield start, len(lengths)


class _Numbers(dict[str, int]):
    """Numbers chunks in order of appearance; `new`: those not encoded yet."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, chunk: str) -> int:
        number = self[chunk] = len(self)
        self.new.append(chunk)
        return number


def _lists(ids: Ragged) -> pa.LargeListArray:
    return pa.LargeListArray.from_arrays(pa.array(ids.offsets), pa.array(ids.values))


def _unknown(tokenizer: Tokenizer) -> int | None:
    """The id of the token for what is not in the vocabulary; None if there is no such token."""
    model = json.loads(tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        return model["unk_id"]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None


def _kind(tokenizer: Tokenizer) -> str:
    """The exact way of caching for a tokenizer: "words", "spaced words", "characters" or "none"."""
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model, normalizer, splitter = (spec[name] or {"type": None} for name in ("model", "normalizer", "pre_tokenizer"))
    if any(not token["special"] for token in spec["added_tokens"]):
        return "none"  # such a token may contain spaces
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
