"""How surprising each token is to a masked LM that sees what stands around it.

    document ─► windows ─► k rounds: every k-th token masked ─► −log p(token | the others), once for each token

Windows are the rows that training composes of a document: whole sentences, as many as fit.

The mean over a document's tokens is its negative pseudo-log-likelihood per token (Salazar et al. 2020,
arXiv:1910.14659). They mask one token at a time; here k forward passes do for a window of any length, and with k as
large as the window the numbers are theirs. 1/k is the share of tokens that is masked together: near the rate of the
network's training, it sees rows like those that it learned from.

A token's surprisal is a function of its document only: windows and rounds follow from nothing else, rows are padded
to a width that follows from their own length, and dropout is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Specials, offsets_of, ragged
from data_prep.tokens.compose import ComposeConfig, compose
from data_prep.tokens.corpus import TokenCorpus
from data_prep.tokens.tokenizers import specials as specials_of
from training.distributed import seed_torch
from training.models.text.architectures import attention_of
from training.models.text.block_sparse import with_block_sparse
from training.models.text.folder import open_config, open_pretrained
from training.models.text.network import KeepPositions, accepted

AROUND = 2  # tokens of a row that are not the document's: [CLS] and [SEP]
PAD_TO = 8
TOKENS = 1 << 13  # of a batch
LOGITS = 1 << 24  # of a batch: 64 MiB


def by_document(corpus: TokenCorpus) -> Ragged:
    """The tokens of each document in one row."""
    return Ragged(corpus.tokens, corpus.document_starts)


class Surprisals(NamedTuple):
    """Surprisals of the tokens of documents, in nats; both Ragged float32 with the documents' offsets."""

    surprisal: Ragged
    """−log p of each token."""
    entropy: Ragged
    """−Σ p log p: the surprisal that the network expects in each place."""

    def mean(self) -> np.ndarray:
        """Negative pseudo-log-likelihood per token of each document: float64 [D]."""
        return mean_by_row(self.surprisal)

    def excess(self) -> np.ndarray:
        """Mean surprisal minus the expected one of each document: float64 [D]; near 0 for text as in training."""
        return mean_by_row(Ragged(self.surprisal.values - self.entropy.values, self.surprisal.offsets))


class _Batch(NamedTuple):
    """Rows of one width, [B, L] each."""

    ids: np.ndarray  # int64, nothing masked yet
    attention: np.ndarray  # int64, 0: padding
    masked: np.ndarray  # bool


def mean_by_row(values: Ragged) -> np.ndarray:
    """Means of rows, none of which is empty: float64 [R]."""
    if not len(values):
        return np.empty(0)
    return np.add.reduceat(values.values.astype(np.float64), values.offsets[:-1]) / values.lengths


class PseudoLikelihood:
    """A masked LM and its tokenizer's special ids.

    length: tokens of a window, the two special ones included. rounds: k.
    """

    def __init__(self, model: Any, specials: Specials, length: int, rounds: int, device: torch.device) -> None:
        if rounds < 1:
            raise ValueError(f"in {rounds} rounds nothing is masked")
        self.windows = ComposeConfig.model_validate({"kind": "packed", "length": length})
        self.model = model.to(device).eval()
        self.specials, self.rounds, self.device = specials, rounds, device
        self._accepted = accepted(model, "attention_mask")
        self._keep = KeepPositions(model.base_model)

    @staticmethod
    def open(
        folder: Path, length: int, rounds: int, device: torch.device, random: int | None = None
    ) -> PseudoLikelihood:
        """From a folder that `transformers` opens; with `random`, a network of its shape with weights of that seed.

        UserError where it holds no masked LM, or one for shorter rows.
        """
        from transformers import AutoModelForMaskedLM

        try:
            config = open_config(folder)
            config._attn_implementation = attention_of(config.model_type)
            if random is None:
                model = open_pretrained(folder, "AutoModelForMaskedLM", config=config, dtype=torch.float32)
            else:
                with torch.random.fork_rng(devices=[]):
                    seed_torch(random)
                    model = with_block_sparse(AutoModelForMaskedLM.from_config(config))
        except (UserError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{folder} holds no masked LM that can be used ({reason}); pretrain one.") from error
        positions = getattr(config, "max_position_embeddings", length)
        if positions < length:
            raise UserError(f"{folder}: the network has {positions} positions, and windows are of {length} tokens.")
        return PseudoLikelihood(model, specials_of(folder), length, rounds, device)

    def surprisals(self, documents: TokenCorpus) -> Surprisals:
        """The surprisals of all tokens of documents, none of which is empty."""
        rows = compose(documents, self.windows, self.specials, 0, "", 0, range(len(documents))).rows
        surprisal, entropy = (np.empty(len(documents.tokens), np.float32) for _ in range(2))
        for batch, index in self._batches(ragged(rows, "input")):
            surprisal[index], entropy[index] = (values.cpu().numpy() for values in self._forward(batch))
        starts = documents.document_starts
        return Surprisals(Ragged(surprisal, starts), Ragged(entropy, starts))

    def _batches(self, windows: Ragged) -> Iterator[tuple[_Batch, np.ndarray]]:
        """Rows with the tokens to mask, and the positions of those tokens among all tokens of the documents."""
        text = windows.lengths - AROUND
        starts, rounds = offsets_of(text)[:-1], np.minimum(self.rounds, text)
        widths = np.minimum(-(-windows.lengths // PAD_TO) * PAD_TO, self.windows.length)
        for width in np.unique(widths).tolist():
            inside = np.flatnonzero(widths == width)
            row = np.repeat(inside, rounds[inside])
            turn = Ragged.from_lengths(row, rounds[inside]).positions()
            logits = max(1, width // self.rounds) * self.specials.vocabulary
            size = max(1, min(TOKENS // width, LOGITS // logits))
            for batch in (slice(start, start + size) for start in range(0, len(row), size)):
                yield self._rows(windows.take(row[batch]), starts[row[batch]], turn[batch], width)

    def _rows(self, windows: Ragged, starts: np.ndarray, turn: np.ndarray, width: int) -> tuple[_Batch, np.ndarray]:
        length, place = windows.lengths[:, None], np.arange(width) - 1  # in the text
        text = (place >= 0) & (place < length - AROUND)
        masked = text & (place % self.rounds == turn[:, None])
        ids = windows.pad(width, self.specials.pad).astype(np.int64)
        return _Batch(ids, (place < length - 1).astype(np.int64), masked), (starts[:, None] + place)[masked]

    @torch.inference_mode()
    def _forward(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Surprise and entropy of the masked tokens, [M] each."""
        ids, attention, masked = (torch.from_numpy(array).to(self.device) for array in batch)
        self._keep.positions = masked.flatten().nonzero().squeeze(1)
        options = {"attention_mask": attention} if self._accepted else {}
        try:
            output = self.model(input_ids=ids.masked_fill(masked, self.specials.mask), **options)
        finally:
            self._keep.positions = None
        logs = output.logits.squeeze(0).float().log_softmax(-1)
        surprisal = -logs.gather(1, ids[masked].unsqueeze(1)).squeeze(1)
        return surprisal, -(logs.exp() * logs).sum(-1)
