"""How likely a decoder finds text: continuations of contexts, and whole texts in windows.

    context, continuation ─► ids ─► Σ log p(continuation | context)
    text                  ─► windows, each token predicted once ─► nats per token, bits per byte

The definitions are those of lm-evaluation-harness (Gao et al. 2021; version 0.4), so that numbers compare:

    ids of a continuation    those of context + continuation from the context's own number of ids on; spaces that end
                             the context count as the continuation's
    too long                 the context loses tokens on its left
    windows of a text        disjoint, each as long as the network; the first begins after [BOS], later ones see one
                             token before what they predict, the last one as many as fit
    words                    `re.split(r"\\s+", text)`
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from data_prep.errors import UserError
from training.inference.language_model import LanguageModel
from training.models.text.network import KeepPositions, accepted

TOKENS = 1 << 13  # of a batch
LOGITS = 1 << 24  # of a batch: 64 MiB
UNLIMITED = 2048  # tokens of a window, for networks that have no most


class Continuation(NamedTuple):
    """How likely a continuation is after its context."""

    log_likelihood: float
    """Σ log p of its tokens, in nats."""
    tokens: int
    cut: int
    """Tokens that the context lost on its left."""


@dataclass(frozen=True)
class TextLikelihood:
    """Log-likelihood of one text or several (add them up), and what it is divided by.

    words and num_bytes are those of the text as it was given, in UTF-8, whatever the tokenizer makes of it.
    """

    log_likelihood: float = 0.0
    tokens: int = 0
    words: int = 0
    num_bytes: int = 0

    def __add__(self, other: TextLikelihood) -> TextLikelihood:
        return TextLikelihood(
            self.log_likelihood + other.log_likelihood,
            self.tokens + other.tokens,
            self.words + other.words,
            self.num_bytes + other.num_bytes,
        )

    @property
    def nats_per_token(self) -> float:
        return -self.log_likelihood / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(-self.log_likelihood, self.num_bytes)

    @property
    def word_perplexity(self) -> float:
        return math.exp(-self.log_likelihood / self.words)


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Bits per byte of UTF-8 of texts whose tokens cost `nats` altogether: nats / (bytes · ln 2).

    Unlike nats per token, it compares networks with different tokenizers. The `nats` must be those of all tokens that
    the bytes were made into.
    """
    if num_bytes < 1:
        raise ValueError("a text without bytes has no bits per byte")
    return nats / (num_bytes * math.log(2))


def num_words(text: str) -> int:
    """Words of a text as lm-evaluation-harness counts them: white space at its ends makes an empty one."""
    return len(re.split(r"\s+", text))


def windows(length: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(first, begin, end) of the windows of a text of `length` tokens for a network of `most` positions.

    Tokens begin … end − 1 are predicted, from those from `first` on; first = −1 stands for the token before the text.
    """
    begin = 0
    while begin < length:
        end = min(length, begin + most)
        yield max(-1, end - 1 - most), begin, end
        begin = end


class Likelihood:
    """Likelihoods by a decoder.

    begins: contexts begin with the network's [BOS], as documents did in training (`add_bos_token` of the harness, whose
    default is false); not of tokenizers where that is [EOS], too.
    """

    def __init__(self, model: LanguageModel, begins: bool = True) -> None:
        if not model.architecture.causal:
            raise UserError(
                "likelihoods are those of decoders, which predict each token of a text from those before it."
            )
        self.model = model
        self.before = [model.bos] if begins and model.bos is not None else []
        self.most = model.length or UNLIMITED
        self._accepted = accepted(model.network, "attention_mask")
        self._keep = KeepPositions(model.network.base_model)

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of a context and of its continuation. UserError where the continuation has none."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        ids = self.model.plain_ids(context + continuation)
        start = len(self.model.plain_ids(context))
        if not ids[start:]:
            raise UserError(f"the tokenizer makes nothing of {continuation!r} after {context[-40:]!r}.")
        return [*self.before, *ids[:start]] or [self._first()], ids[start:]

    def context(self, text: str) -> list[int]:
        """The ids of a context."""
        return [*self.before, *self.model.plain_ids(text)] or [self._first()]

    def continuations(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Continuation]:
        """Likelihoods of continuations, (ids of the context, ids of the continuation) each.

        Pairs of the same ids but the last one are one row. UserError for a continuation that has no room.
        """
        rows: dict[tuple[int, ...], int] = {}
        wanted: list[tuple[int, Sequence[int], int]] = []  # row, continuation, tokens cut
        for context, continuation in pairs:
            if len(continuation) > self.most or not context:
                raise UserError(
                    f"a continuation of {len(continuation):,} tokens has no room in {self.most:,} positions."
                )
            whole = (*context, *continuation)
            cut = max(0, len(whole) - self.most - 1)
            wanted.append((rows.setdefault(whole[cut:-1], len(rows)), continuation, cut))
        by_row: list[list[int]] = [[] for _ in rows]
        for place, (row, _, _) in enumerate(wanted):
            by_row[row].append(place)
        scored: list[Continuation | None] = [None] * len(wanted)
        inputs = list(rows)
        for batch in self._batches(inputs, [max(len(wanted[p][1]) for p in places) for places in by_row]):
            places = [place for row in batch for place in by_row[row]]
            targets = [wanted[place][1] for place in places]
            row_of = [number for number, row in enumerate(batch) for _ in by_row[row]]
            values = self._score([inputs[row] for row in batch], row_of, targets)
            for place, value in zip(places, values, strict=True):
                scored[place] = Continuation(value, len(wanted[place][1]), wanted[place][2])
        return [kept for kept in scored if kept is not None]

    def texts(self, texts: Sequence[str]) -> list[TextLikelihood]:
        """Likelihoods of whole texts, window by window. A text without tokens has a likelihood of 1."""
        pairs: list[tuple[Sequence[int], Sequence[int]]] = []
        counts = []
        for text in texts:
            ids = self.model.plain_ids(text)
            given = [self._first(), *ids]
            parts = [
                (given[first + 1 : begin + 1], ids[begin:end]) for first, begin, end in windows(len(ids), self.most)
            ]
            pairs += parts
            counts.append((len(parts), len(ids), text))
        scored = iter(self.continuations(pairs))
        return [
            TextLikelihood(
                math.fsum(next(scored).log_likelihood for _ in range(parts)),
                tokens,
                num_words(text),
                len(text.encode("utf-8", "surrogatepass")),
            )
            for parts, tokens, text in counts
        ]

    def _first(self) -> int:
        """The context of a text without one."""
        first = self.model.bos if self.model.bos is not None else self.model.eos
        if first is None:
            raise UserError("the tokenizer has neither [BOS] nor [EOS], and nothing else stands before a text.")
        return first

    def _batches(self, rows: Sequence[Sequence[int]], targets: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of rows, the longest first, so many that activations and logits stay small."""
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        batch: list[int] = []
        logits = 0
        for row in order:
            width = len(rows[batch[0]]) if batch else 0
            logits += targets[row] * self.model.specials.vocabulary
            if batch and (width * (len(batch) + 1) > TOKENS or logits > LOGITS):
                yield batch
                batch, logits = [], targets[row] * self.model.specials.vocabulary
            batch.append(row)
        if batch:
            yield batch

    @torch.inference_mode()
    def _score(
        self, rows: Sequence[Sequence[int]], row_of: Sequence[int], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        """Σ log p of targets, the last that the rows with these numbers predict."""
        device, lengths = self.model.device, np.array([len(row) for row in rows])
        width = int(lengths.max())
        ids = torch.full((len(rows), width), self.model.pad)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        counts = np.array([len(target) for target in targets])
        places = np.concatenate(
            [np.arange(lengths[row] - count, lengths[row]) for row, count in zip(row_of, counts, strict=True)]
        )
        flat = torch.from_numpy(np.repeat(row_of, counts) * width + places).to(device)
        distinct, index = torch.unique(flat, return_inverse=True)
        wanted = torch.tensor([token for target in targets for token in target], device=device)
        inputs = {}
        if self._accepted and (lengths < width).any():
            inputs["attention_mask"] = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64)).to(
                device
            )
        self._keep.positions = distinct
        logits = self.model.network(input_ids=ids.to(device), use_cache=False, **inputs).logits[0].float()
        self._keep.positions = None
        log_p = F.log_softmax(logits, -1)
        values = log_p[index, wanted].double().cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.add.reduceat(values, starts).tolist()
