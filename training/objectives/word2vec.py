"""CBOW and skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1301.3781 and 1310.4546; word2vec.c).

    skip-gram   each word of a window predicts the word in its centre
    cbow        the mean of the window's words predicts the word in its centre

    loss = Σ over predictions of  −log σ(v·o) − k · E over noise words n of log σ(−v·n)

A word of frequency f is kept with probability √(t/f) + t/f before windows are laid; half of a window is 1 … `window`
words, drawn for each centre; noise is drawn by count^¾, and a noise word that is the one predicted does not count. All
of it is drawn by the number of the row: the same rows are the same predictions in any batch, on any worker.

As in word2vec.c and gensim, the gradient of CBOW's mean is added to each word of the window undivided, and a step adds
what its predictions say, where other objectives take the mean: `train.lr` is their α (0.025; word2vec.c's CBOW 0.05).
Three things differ. The words of a step are taken together. A stretch of 16 centres shares `shared` noise words, each
of which counts k / `shared` (Ji et al. 2016, arXiv:1604.04661): the same expected loss, by products of matrices. σ is
computed where word2vec.c looks it up and cuts it off at ±6.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged
from data_prep.tokens.vocabulary.word import read_counts
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.word_vectors_config import word_vectors_config, word_vectors_problems
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import EXAMPLE_LENGTH, seen_tokens

if TYPE_CHECKING:
    from torch import nn

VERSION = 1
SUBSAMPLE, HALF, NOISE = range(3)  # draws: by position in the row; noise by its number
BLOCK = 16  # centres that share noise
TERM = "negative-sampling"


class Word2VecOptions(Settings):
    """`objective.options` of `word2vec`."""

    model: Literal["cbow", "skip-gram"] = "skip-gram"
    """What predicts a word: the mean of the words around it, or each of them."""
    window: int = Field(default=5, ge=1, le=256)
    """Most words on each side of the one predicted."""
    subsample: float = Field(default=1e-3, ge=0)
    """Frequency t above which words are left out at random; 0: all are kept."""
    negatives: int = Field(default=5, ge=1)
    """Words of noise for each prediction, k."""
    noise_power: float = Field(default=0.75, ge=0)
    """Power of a word's count, to which its probability as noise is proportional."""
    shared: int = Field(default=16, ge=1)
    """Words of noise drawn for each stretch of centres, which stand for k of each prediction."""


Options = Word2VecOptions


def check(options: Word2VecOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from word_vectors_problems(networks["model"])


def kept_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """[V]: √(t/f) + t/f, at most 1; 0 for what does not occur, as special tokens do not (word2vec.c)."""
    frequency = counts / max(counts.sum(), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = threshold / frequency
    probability = np.minimum(np.sqrt(ratio) + ratio, 1.0) if threshold else np.ones(len(counts))
    return np.where(counts > 0, probability, 0.0)


class Word2Vec(BaseObjective):
    """See the module's docstring."""

    unit, shown = "words", (TERM,)

    def __init__(
        self, options: Word2VecOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from training.models.text.word_vectors import WordVectors

        if data.specials is None:
            raise ValueError(f"data of kind {data.kind!r} have no special tokens")
        self.options, self.data, self.specials = options, data, data.specials
        if data.preprocessor is None:  # what is priced has no tokenizer yet
            self.counts = (~self.specials.is_special).astype(np.int64)
        else:
            self.counts = read_counts(data.preprocessor)
        self.kept = kept_probability(self.counts, options.subsample)
        self.noise = np.cumsum(np.where(self.counts > 0, self.counts.astype(float) ** options.noise_power, 0.0))
        if not self.noise[-1]:
            raise UserError("tokenizer.min_count: no word occurs that often; lower it or give more text.")
        self.averaged = options.model == "cbow"
        self.network = WordVectors(word_vectors_config(networks["model"]), self.specials.vocabulary)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        """`kept`: the words that subsampling leaves. `half`: of their windows. `noise`. `words`: [R], before it."""
        tokens = seen_tokens(rows)
        if "sequence" in rows:
            raise UserError(
                "compose: word2vec reads a row as one text; set compose.pack to false, and no kind that joins."
            )
        row, position = tokens.row_index(), tokens.positions()
        kept = self.kept[tokens.values]
        is_kept = draws.uniform(SUBSAMPLE, position, row) < kept
        row, position = row[is_kept], position[is_kept]
        lengths = np.bincount(row, minlength=len(tokens))
        half = 1 + draws.below(self.options.window, HALF, position, row)
        num_noise = -(-lengths // BLOCK) * self.options.shared
        noise = Ragged.from_lengths(np.empty(num_noise.sum(), np.int64), num_noise)
        place = draws.uniform(NOISE, noise.positions(), noise.row_index()) * self.noise[-1]
        noise.values[:] = np.searchsorted(self.noise, place, side="right")
        return {
            "kept": Ragged.from_lengths(tokens.values[is_kept].astype(np.int64), lengths),
            "half": Ragged.from_lengths(half, lengths),
            "noise": noise,
            "words": np.bincount(tokens.row_index(), weights=kept > 0, minlength=len(tokens)).astype(np.int64),
            **{name: column for name, column in rows.items() if name == "source"},
        }

    def collate(self, rows: Rows) -> Batch:
        if "kept" not in rows:
            rows = self.drawn(rows, Draws(0, 0, np.arange(num_rows(rows))))
        kept, half, window = ragged(rows, "kept"), ragged(rows, "half"), self.options.window
        blocks = -(-kept.lengths // BLOCK)
        row = np.repeat(np.arange(len(kept)), blocks)
        start = kept.offsets[row] + BLOCK * (np.arange(len(row)) - np.repeat(np.cumsum(blocks) - blocks, blocks))
        context = start[:, None] + np.arange(-window, BLOCK + window)
        centre = context[:, window:-window]
        has_context = (context >= kept.offsets[row][:, None]) & (context < kept.offsets[row + 1][:, None])
        reach = np.append(half.values, 0)[np.where(has_context[:, window:-window], centre, -1)]
        distance = np.abs(np.arange(BLOCK + 2 * window)[:, None] - window - np.arange(BLOCK))
        distance[distance == 0] = window + 1  # no word predicts itself
        pairs = (distance <= reach[:, None, :]) & has_context[:, :, None]
        ids = np.append(kept.values, 0)
        batch = {
            "context": ids[np.where(has_context, context, -1)],
            "centre": ids[np.where(has_context[:, window:-window], centre, -1)],
            "noise": ragged(rows, "noise").values.reshape(-1, self.options.shared),
            "pairs": pairs.astype(np.float32),
            "words": np.asarray(rows["words"]),
            "block_row": row,
        }
        batch["inputs"], (batch["context"],) = self._numbered(batch["context"])
        batch["outputs"], (batch["centre"], batch["noise"]) = self._numbered(batch["centre"], batch["noise"])
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        return {**tensors, "noise_weights": self._noise_weights(tensors)}

    def _numbered(self, *ids: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The ids that occur, ascending, and the place of each among them."""
        number = np.zeros(self.specials.vocabulary, np.int64)
        for part in ids:
            number[part] = 1
        present = np.flatnonzero(number)
        number[present] = np.arange(len(present))
        return present, [number[part] for part in ids]

    def _noise_weights(self, batch: Batch) -> torch.Tensor:
        """How much each word of noise counts: k / shared for each prediction of another word."""
        differs = (batch["centre"][:, :, None] != batch["noise"][:, None, :]).float()
        differs *= self.options.negatives / self.options.shared
        if self.averaged:
            return differs * batch["pairs"].amax(1).unsqueeze(2)
        return torch.bmm(batch["pairs"], differs)

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss, adds=True)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        predictions = batch["pairs"].amax(1) if self.averaged else batch["pairs"]
        return {TERM: float(predictions.sum())}

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        names = ("inputs", "outputs", "context", "centre", "noise", "pairs", "noise_weights")
        found, told_apart = networks["model"](*(batch[name] for name in names), self.averaged)
        return Loss({TERM: found + told_apart})

    def num_units(self, batch: Batch) -> int:
        return int(batch["words"].sum())

    def num_positions(self, batch: Batch) -> int:
        return self.num_units(batch)

    def flops(self, batch: Batch) -> float:
        contexts, centres, noise = (batch[name].shape[1] for name in ("context", "centre", "noise"))
        products = centres * (contexts + noise) if self.averaged else contexts * (centres + noise)
        return 3.0 * 2 * len(batch["centre"]) * products * self.network.config.size

    def example(self, n: int) -> Rows:
        length = self.data.length or EXAMPLE_LENGTH
        tokens = np.random.default_rng(0).choice(self.specials.ordinary, (n, length)).astype(np.uint32)
        return {"input": Ragged.from_lengths(tokens.ravel(), np.full(n, length))}

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """What `training.models.text.word_vectors` describes, with the tokenizer's files."""
        from training.models.text.word_vectors import save_network

        if self.data.preprocessor is None:
            raise ValueError("text was trained on without the folder of its tokenizer")
        ids = np.flatnonzero(self.counts)
        save_network(path, self.network, [self.specials.texts[number] for number in ids], ids)
        for file in sorted(self.data.preprocessor.glob("tokenizer*.json")):
            shutil.copyfile(file, path / file.name)

    def exported(self) -> nn.Module:
        return self.network


build = Word2Vec
