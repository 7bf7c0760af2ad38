"""CBOW and skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1301.3781 and 1310.4546; word2vec.c).

    skip-gram   each word of a window predicts the word in its centre
    cbow        the mean of the window's words predicts the word in its centre

    negative sampling      loss = Σ over predictions of  −log σ(v·o) − Σ over its k noise words n of log σ(−v·n)
    hierarchical softmax   loss = Σ over predictions of  −Σ over the nodes n above o of log σ(±v·n)

A word of frequency f is kept with probability √(t/f) + t/f before windows are laid; half of a window is 1 … `window`
words, drawn for each centre; k words of noise are drawn by count^¾, and a noise word that is the one predicted
does not count. All of it is drawn by the number of the row: the same rows are the same predictions in any batch, on any
worker. The nodes are those of the words' Huffman tree, + where its branch is 0; a node with |v·n| > 6 does not count.

As in word2vec.c and gensim, the gradient of CBOW's mean is added to each word of the window undivided, and a step adds
what its predictions say, where other objectives take the mean: `train.lr` is their α (0.025; word2vec.c's CBOW 0.05).
Three things differ. The words of a step are taken together. `shared` predictions in a row have the same words of noise,
which are then drawn, read and changed less often. σ is computed where word2vec.c looks it up and, with noise, takes it
for 0 or 1 beyond ±6.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.settings import Belongs, Settings
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged
from data_prep.tokens.vocabulary.huffman import huffman_paths
from data_prep.tokens.vocabulary.word import read_counts
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.word_vectors.config import word_vectors_config, word_vectors_problems
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import example_tokens, seen_tokens, zipf_frequencies

if TYPE_CHECKING:
    from torch import nn

VERSION = 2
SUBSAMPLE, HALF, NOISE = range(3)  # draws: by position in the row; noise by its number
CUT = 6.0  # |v·n| beyond which hierarchical softmax leaves a node out
CELLS = 1 << 20  # of equal probability, for each of which it is known which noise begins there


class Word2VecOptions(Settings):
    """`objective.options` of `word2vec`."""

    model: Literal["cbow", "skip-gram"] = "skip-gram"
    """What predicts a word: the mean of the words around it, or each of them."""
    loss: Literal["negative-sampling", "hierarchical-softmax"] = "negative-sampling"
    """Tell a word from noise, or its way down the Huffman tree of all words from others."""
    window: int = Field(default=5, ge=1, le=256)
    """Most words on each side of the one predicted."""
    subsample: float = Field(default=1e-3, ge=0)
    """Frequency t above which words are left out at random; 0: all are kept."""
    negatives: int = Field(default=5, ge=1)
    """Words of noise for each prediction, k."""
    shared: int = Field(default=4, ge=1)
    """Predictions in a row that have the same words of noise; 1: each has its own, as in word2vec.c."""
    noise_power: float = Field(default=0.75, ge=0)
    """Power of a word's count, to which its probability as noise is proportional."""

    belongs: ClassVar[dict[str, Belongs]] = dict.fromkeys(
        ("negatives", "shared", "noise_power"),
        Belongs("loss negative-sampling", lambda options: options.loss == "negative-sampling"),
    )


Options = Word2VecOptions


def check(options: Word2VecOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from word_vectors_problems(networks["model"])


def kept_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """[V]: √(t/f) + t/f, at most 1; 0 for tokens that do not occur, such as special tokens (word2vec.c)."""
    frequency = counts / max(counts.sum(), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = threshold / frequency
    probability = np.minimum(np.sqrt(ratio) + ratio, 1.0) if threshold else np.ones(len(counts))
    return np.where(counts > 0, probability, 0.0)


class NoiseTable:
    """Ids by their probability, looked up: `at(u)` is the first id whose cumulated weight exceeds the share u."""

    def __init__(self, weights: np.ndarray) -> None:
        self.cumulated = np.cumsum(weights)
        self.first = np.searchsorted(self.cumulated, np.arange(CELLS) / CELLS * self.cumulated[-1], side="right")

    def at(self, share: np.ndarray) -> np.ndarray:
        """[N] in [0, 1) → [N] int64."""
        ids, place = self.first[(share * CELLS).astype(np.int64)], share * self.cumulated[-1]
        behind = np.flatnonzero(self.cumulated[ids] <= place)  # a few: cells are smaller than most words
        ids[behind] = np.searchsorted(self.cumulated, place[behind], side="right")
        return ids


def reach(half: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """How many words of each centre's window come before it and after it, [N] each; windows end with their row."""
    position = half.positions()
    after = np.repeat(half.lengths, half.lengths) - 1 - position
    return np.minimum(half.values, position), np.minimum(half.values, after)


def windows(half: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of centres and of words of their windows, [P] each, by centre and then by word; sizes of windows, [N]."""
    before, after = reach(half)
    sizes, numbers = before + after, np.arange(len(before))
    centre = np.repeat(numbers, sizes)
    context = np.arange(len(centre)) - np.repeat(offsets_of(sizes)[:-1] - numbers + before, sizes)
    context += context >= centre  # no word predicts itself
    return centre, context, sizes


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where stretches of these lengths begin, and where the last one ends: [N + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])


def grouped(places: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The order that brings equal places together, stable, and where each place begins: [groups + 1]."""
    order = np.argsort(places.astype(np.min_scalar_type(groups)), kind="stable")  # of 16 bits: a radix sort
    return order, offsets_of(np.bincount(places, minlength=groups))


class Word2Vec(BaseObjective):
    """See the module's docstring."""

    unit = "words"

    def __init__(
        self, options: Word2VecOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from training.models.text.word_vectors.network import WordVectors

        if data.specials is None:
            raise ValueError(f"data of kind {data.kind!r} have no special tokens")
        self.options, self.data, self.specials = options, data, data.specials
        if data.preprocessor is None:  # for an estimate of costs, there is no tokenizer yet
            self.counts = np.zeros(self.specials.vocabulary, np.int64)
            self.counts[self.specials.ordinary] = 1 + 1e9 * zipf_frequencies(len(self.specials.ordinary))
        else:
            self.counts = read_counts(data.preprocessor)
        self.kept = kept_probability(self.counts, options.subsample)
        if not self.counts.any():
            raise UserError("tokenizer.min_count: no word occurs that often; lower it or give more text.")
        self.shown = (options.loss,)
        if options.loss == "hierarchical-softmax":
            self.paths, self.branches = huffman_paths(self.counts)
        else:
            self.noise = NoiseTable(np.where(self.counts > 0, self.counts.astype(float) ** options.noise_power, 0.0))
        self.averaged = options.model == "cbow"
        self.network = WordVectors(word_vectors_config(networks["model"]), self.specials.vocabulary)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        """`kept`: the words that subsampling leaves. `half`: of their windows. `noise`: k words for each prediction, by
        the centres' and the windows' order. `words`: [R], before subsampling."""
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
        half = Ragged.from_lengths(1 + draws.below(self.options.window, HALF, position, row), lengths)
        return {
            "kept": Ragged.from_lengths(tokens.values[is_kept].astype(np.int64), lengths),
            "half": half,
            "noise": self._noise(half, draws),
            "words": np.bincount(tokens.row_index(), weights=kept > 0, minlength=len(tokens)).astype(np.int64),
            **{name: column for name, column in rows.items() if name == "source"},
        }

    def _noise(self, half: Ragged, draws: Draws) -> Ragged:
        if self.options.loss == "hierarchical-softmax":
            return Ragged.from_lengths(np.empty(0, np.int64), np.zeros(len(half), np.int64))
        num_noise = -(-self._num_predictions(half) // self.options.shared) * self.options.negatives
        noise = Ragged.from_lengths(np.empty(num_noise.sum(), np.int64), num_noise)
        noise.values[:] = self.noise.at(draws.uniform(NOISE, noise.positions(), noise.row_index()))
        return noise

    def _num_predictions(self, half: Ragged) -> np.ndarray:
        """Of each row, [R] int64."""
        before, after = reach(half)
        sizes = before + after
        predictions = sizes > 0 if self.averaged else sizes
        return np.bincount(half.row_index(), weights=predictions, minlength=len(half)).astype(np.int64)

    def _noise_of_predictions(self, rows: Rows) -> np.ndarray:
        """[P, k], in the order of the predictions; no line with hierarchical softmax."""
        noise = ragged(rows, "noise").values.reshape(-1, self.options.negatives)
        if self.options.shared == 1 or not len(noise):
            return noise
        lengths = self._num_predictions(ragged(rows, "half"))
        starts, shares = offsets_of(lengths)[:-1], offsets_of(-(-lengths // self.options.shared))[:-1]
        within = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        return noise[within // self.options.shared + np.repeat(shares, lengths)]

    def collate(self, rows: Rows) -> Batch:
        """What `training.models.text.word_vectors.network` takes; `words` of each row; the number of `predictions`."""
        if "kept" not in rows:
            rows = self.drawn(rows, Draws(0, 0, np.arange(num_rows(rows))))
        words = ragged(rows, "kept").values
        centre, context, sizes = windows(ragged(rows, "half"))
        noise = self._noise_of_predictions(rows)
        inputs, members = self._numbered(words[context])
        if self.averaged:
            predicted, member_offsets = words[sizes > 0], offsets_of(sizes[sizes > 0])
            means = np.arange(len(predicted))
        else:  # each word is a mean of its own; its predictions are brought together
            order, _ = grouped(members, len(inputs))
            predicted, noise, means = words[centre[order]], noise[order[: len(noise)]], members[order]
            members, member_offsets = np.arange(len(inputs)), np.arange(len(inputs) + 1)
        targets, per_prediction, is_positive, weights = self._targets(predicted, noise)
        outputs, targets = self._numbered(targets)
        num_means = len(member_offsets) - 1
        mean_of_target = np.repeat(means, per_prediction)
        by_input, input_offsets = grouped(members, len(inputs))
        by_output, output_offsets = grouped(targets, len(outputs))
        batch = {
            "inputs": inputs, "members": members, "member_offsets": member_offsets,
            "outputs": outputs, "targets": targets,
            "target_offsets": offsets_of(np.bincount(mean_of_target, minlength=num_means)),
            "is_positive": is_positive.astype(np.float32), "weights": weights.astype(np.float32),
            "member_means": np.repeat(np.arange(num_means), np.diff(member_offsets))[by_input],
            "input_offsets": input_offsets,
            "target_means": mean_of_target[by_output], "target_numbers": by_output, "output_offsets": output_offsets,
            "words": np.asarray(rows["words"]), "predictions": np.array(len(predicted)),
        }  # fmt: skip
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _targets(
        self, predicted: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ids of the outputs of each of P predictions [T], how many [P]; which of them are positive, weights [T]."""
        if self.options.loss == "hierarchical-softmax":
            paths = self.paths.take(predicted)
            branches = self.branches.take(predicted).values
            return paths.values, paths.lengths, branches == 0, np.ones(len(branches))
        targets = np.column_stack([predicted, noise])
        weights = np.column_stack([np.ones(len(predicted), bool), noise != predicted[:, None]])
        is_positive = np.zeros(targets.shape, bool)
        is_positive[:, 0] = True
        per_prediction = np.full(len(predicted), targets.shape[1])
        return targets.ravel(), per_prediction, is_positive.ravel(), weights.ravel()

    def _numbered(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids that occur, ascending, and the place of each among them."""
        number = np.zeros(self.specials.vocabulary, np.int64)
        number[ids] = 1
        present = np.flatnonzero(number)
        number[present] = np.arange(len(present))
        return present, number[ids]

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss, adds=True)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {self.options.loss: float(batch["predictions"])}

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        cut = CUT if self.options.loss == "hierarchical-softmax" else math.inf
        return Loss({self.options.loss: networks["model"](batch, cut)})

    def num_units(self, batch: Batch) -> int:
        return int(batch["words"].sum())

    def num_positions(self, batch: Batch) -> int:
        return self.num_units(batch)

    def flops(self, batch: Batch) -> float:
        return (6.0 * len(batch["targets"]) + 2.0 * len(batch["members"])) * self.network.config.size

    def example(self, n: int) -> Rows:
        return {"input": example_tokens(self.data, self.specials, n)}

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """What `training.models.text.word_vectors.network` describes, with the tokenizer's files."""
        from training.models.text.word_vectors.network import save_network

        if self.data.preprocessor is None:
            raise ValueError("text was trained on without the folder of its tokenizer")
        ids = np.flatnonzero(self.counts)
        save_network(path, self.network, [self.specials.texts[number] for number in ids], ids)
        for file in sorted(self.data.preprocessor.glob("tokenizer*.json")):
            shutil.copyfile(file, path / file.name)

    def exported(self) -> nn.Module:
        return self.network


build = Word2Vec
