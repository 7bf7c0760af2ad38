"""Labelled examples as rows of token ids, and their order in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tokenizers import Tokenizer, decoders, processors

from data_prep.labelled.files import Example, Labelled
from data_prep.opening.pretrained import using_tokenizer
from data_prep.rng import key
from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.order import permute
from data_prep.shards.rows import Ragged, Rows, ragged, take
from data_prep.tokens import pretrained
from data_prep.tokens.cleaning import without_cleaning
from data_prep.tokens.roles import roles_of, specials_of
from training.config import OrderConfig
from training.data import Corpus, MemoryTable, Samples, Stream
from training.objectives.text import padding_id

E = TypeVar("E")


@dataclass(frozen=True)
class Encoded:
    """Rows of one split and their labels; `cut` of them were longer than their length allows.

    truth: [M] labels of the rows (classification) or of all words (tagging). fits: [M], whether the word fitted into
    its row; one that did not is scored as wrong.
    """

    rows: Rows
    truth: np.ndarray
    fits: np.ndarray
    pad: int
    cut: int = 0

    def __len__(self) -> int:
        return len(self.rows["input"])

    def take(self, index: np.ndarray) -> Rows:
        return take(self.rows, index)


def encode(data: Labelled, examples: Sequence[Example], folder: Path, length: int, framed: bool = False) -> Encoded:
    """Tokenise with the tokenizer in `folder`, at most `length` tokens a row, specials included.

    framed: where the tokenizer does not frame texts itself, rows are [BOS] A [EOS], or [BOS] A [EOS] B [EOS].
    """
    tokenizer, settings = pretrained.read(folder)
    if framed and not tokenizer.num_special_tokens_to_add(False):
        _frame(tokenizer, settings)
    tokenizer.enable_truncation(length)
    pad = padding_id(specials_of(tokenizer, settings))
    if data.task == "classification":
        texts = [(e.text, e.text_pair) if e.text_pair is not None else e.text for e in examples]
        with using_tokenizer():
            encodings = tokenizer.encode_batch(texts)
        truth = np.array([e.label for e in examples])
        rows: Rows = {"label": truth}
        fits = np.ones(len(truth), bool)
    else:
        words = [list(e.words) for e in examples]
        if isinstance(tokenizer.decoder, decoders.ByteLevel):  # the blank before a word is a part of it, as in a text
            tokenizer.normalizer = without_cleaning(tokenizer).normalizer
            words = [[f" {word}" if place else word for place, word in enumerate(some)] for some in words]
        with using_tokenizer():
            encodings = tokenizer.encode_batch(words, is_pretokenized=True)
        first = [_first_pieces(encoding.word_ids) for encoding in encodings]
        tags = [np.array(e.tags)[list(pieces)] for e, pieces in zip(examples, first, strict=True)]
        rows = {
            "target_positions": Ragged.from_rows([list(p.values()) for p in first], np.int64),
            "target_ids": Ragged.from_rows(tags, np.int64),
        }
        truth = np.concatenate([np.array(e.tags) for e in examples])
        fits = np.concatenate(
            [np.isin(np.arange(len(e.words)), list(pieces)) for e, pieces in zip(examples, first, strict=True)]
        )
    rows["input"] = Ragged.from_rows([encoding.ids for encoding in encodings], np.uint32)
    rows["segment"] = Ragged.from_rows([encoding.type_ids for encoding in encodings], np.uint8)
    return Encoded(rows, truth, fits, pad, sum(bool(encoding.overflowing) for encoding in encodings))


def _frame(tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Let a tokenizer put its special tokens around texts, as far as it has them."""
    roles = roles_of(tokenizer, settings)
    bos, eos = roles.get("bos", ""), roles.get("eos", "")
    bos = "" if bos == eos else f"{bos} "
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos}$A {eos}".strip(),
        pair=f"{bos}$A {eos} $B {eos}".strip(),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in {bos.strip(), eos} - {""}],
    )


def _first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Position of the first piece of each word that has one in the row."""
    first: dict[int, int] = {}
    for position, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, position)
    return first


def stream_of(table: MemoryTable, batch: int, seed: int, length_window: int | None) -> Samples:
    """The rows of a table, each once an epoch, in keyed order; rows of similar length are grouped within a window."""
    stream = Stream([Corpus("labelled", table)], seed, OrderConfig(block=1, window=1 << 30))
    if length_window is None:
        return stream
    lengths = ragged(table.columns, "input").lengths
    return _Bucketed(table, LengthBuckets(stream.order, lambda _, rows: lengths[rows], batch, length_window, seed))


@dataclass(frozen=True)
class _Bucketed:
    table: MemoryTable
    order: LengthBuckets

    def read(self, samples: np.ndarray) -> Rows:
        return self.table.read(self.order.locate(samples).row)


def drawn(available: int, labels: int, seed: int, number: int) -> np.ndarray:
    """Training examples of draw `number`: the first of a keyed shuffle, larger ones contain smaller ones."""
    return permute(np.arange(min(labels, available)), available, key(seed, f"labelled draw {number}"))


def some(examples: Sequence[E], limit: int, seed: int) -> list[E]:
    """A fixed sample of held-out examples."""
    if len(examples) <= limit:
        return list(examples)
    return [examples[i] for i in permute(np.arange(limit), len(examples), key(seed, "held-out examples"))]
