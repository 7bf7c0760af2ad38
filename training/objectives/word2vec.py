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
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.settings import Belongs, Settings
from data_prep.shards.rows import Ragged, Rows, num_rows, offsets_of, ragged
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


def windows(half: Ragged) -> tuple[np.ndarray, np.ndarray]:
    """Places of the words of each centre's window [P], by centre and then by word; sizes of windows, [N]."""
    before, after = reach(half)
    sizes, numbers = before + after, np.arange(len(before))
    offsets = offsets_of(sizes)
    centre = np.repeat(numbers, sizes)
    context = np.arange(offsets[-1]) - (offsets[:-1] - numbers + before)[centre]
    context += context >= centre  # no word predicts itself
    return context, sizes


def row_sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[R] int64: sums of the integers or truths of each row, from each of the offsets [R + 1] to the next."""
    return np.diff(offsets_of(values)[offsets])


class ByWord(NamedTuple):
    """Where words occur in lists of words: M entries of U different words."""

    present: np.ndarray  # ids of the words, ascending, [U]
    offsets: np.ndarray  # where the entries of each word begin, [U + 1]
    lists: np.ndarray  # the number of each entry's list, [M]
    places: np.ndarray  # its place among the entries of all lists, [M]


def by_word(ids: np.ndarray, offsets: np.ndarray, vocabulary: int) -> ByWord:
    """Of lists that begin at `offsets`. It is the transpose of a sparse matrix, which keeps the order of entries."""
    places = np.arange(len(ids), dtype=ids.dtype)
    words = csr_array((places, ids, offsets), shape=(len(offsets) - 1, vocabulary)).tocsc()
    present = np.flatnonzero(np.diff(words.indptr))
    return ByWord(present, np.append(words.indptr[present], words.indptr[-1]), words.indices, words.data)


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
        kept_places = np.flatnonzero(is_kept)
        row, position = row[kept_places], position[kept_places]
        lengths = row_sums(is_kept, tokens.offsets)
        half = Ragged.from_lengths(1 + draws.below(self.options.window, HALF, position, row), lengths)
        return {
            "kept": Ragged.from_lengths(tokens.values[kept_places].astype(np.int32), lengths),
            "half": half,
            "noise": self._noise(half, draws),
            "words": row_sums(kept > 0, tokens.offsets),
            **{name: column for name, column in rows.items() if name == "source"},
        }

    def _noise(self, half: Ragged, draws: Draws) -> Ragged:
        if self.options.loss == "hierarchical-softmax":
            return Ragged.from_lengths(np.empty(0, np.int64), np.zeros(len(half), np.int64))
        num_predictions = self._num_predictions(half, np.add(*reach(half)))
        num_noise = -(-num_predictions // self.options.shared) * self.options.negatives
        noise = Ragged.from_lengths(np.empty(num_noise.sum(), np.int32), num_noise)
        noise.values[:] = self.noise.at(draws.uniform(NOISE, noise.positions(), noise.row_index()))
        return noise

    def _num_predictions(self, half: Ragged, sizes: np.ndarray) -> np.ndarray:
        """Of each row, [R] int64. sizes: of the windows."""
        return row_sums(sizes > 0 if self.averaged else sizes, half.offsets)

    def _noise_of_predictions(self, rows: Rows, sizes: np.ndarray) -> np.ndarray:
        """[P, k], in the order of the predictions; no line with hierarchical softmax. sizes: of the windows."""
        noise = ragged(rows, "noise").values.reshape(-1, self.options.negatives)
        if self.options.shared == 1 or not len(noise):
            return noise
        lengths = self._num_predictions(ragged(rows, "half"), sizes)
        starts, shares = offsets_of(lengths)[:-1], offsets_of(-(-lengths // self.options.shared))[:-1]
        within = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        return noise[within // self.options.shared + np.repeat(shares, lengths)]

    def collate(self, rows: Rows) -> Batch:
        """What `training.models.text.word_vectors.network` takes; `words` of each row; the number of `predictions`."""
        if "kept" not in rows:
            rows = self.drawn(rows, Draws(0, 0, np.arange(num_rows(rows))))
        words, vocabulary = ragged(rows, "kept").values, self.specials.vocabulary
        context, sizes = windows(ragged(rows, "half"))
        noise = self._noise_of_predictions(rows, sizes)
        if self.averaged:
            members, member_offsets = words[context], offsets_of(sizes[sizes > 0])
            predicted, prediction_offsets = words[sizes > 0], np.arange(len(member_offsets))
        else:  # each word is a mean of its own; its predictions are brought together
            pairs = by_word(words[context], offsets_of(sizes), vocabulary)
            members, member_offsets = pairs.present, np.arange(len(pairs.offsets))
            predicted, prediction_offsets = words[pairs.lists], pairs.offsets
            noise = noise[pairs.places[: len(noise)]]
        targets, per_prediction, is_positive, weights = self._targets(predicted, noise)
        target_offsets = offsets_of(per_prediction)[prediction_offsets]
        lists = members, member_offsets, targets, target_offsets  # in 32 bits they are sorted and read a third faster
        members, member_offsets, targets, target_offsets = (numbers.astype(np.int32) for numbers in lists)
        by_input = by_word(members, member_offsets, vocabulary)
        by_output = by_word(targets, target_offsets, vocabulary)
        num_members = np.diff(member_offsets)
        batch = {
            "members": members, "member_offsets": member_offsets,
            "shares": np.repeat((1 / num_members).astype(np.float32), num_members),
            "targets": targets, "target_offsets": target_offsets,
            "is_positive": is_positive.astype(np.float32), "weights": weights.astype(np.float32),
            "inputs": by_input.present, "input_offsets": by_input.offsets, "member_means": by_input.lists,
            "outputs": by_output.present, "output_offsets": by_output.offsets, "target_means": by_output.lists,
            "target_numbers": by_output.places,
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
        is_positive = np.zeros(targets.shape, bool)
        is_positive[:, 0] = True
        weights = is_positive | (targets != predicted[:, None])
        per_prediction = np.full(len(predicted), targets.shape[1])
        return targets.ravel(), per_prediction, is_positive.ravel(), weights.ravel()

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
