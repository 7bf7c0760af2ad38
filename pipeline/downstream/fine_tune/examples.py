"""Which examples are learned from and which are scored, and their order in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from data_prep.labelled.examples import Example, Labelled
from data_prep.labelled.segments import UNKNOWN
from data_prep.rng import key
from data_prep.shards.length_buckets import LengthBuckets
from data_prep.shards.order import permute
from data_prep.shards.rows import Rows, ragged
from training.config import OrderConfig
from training.data import Corpus, MemoryTable, Samples, Stream

if TYPE_CHECKING:
    from pipeline.downstream.fine_tune.job import Config


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


def steps_of(job: Config, rows: int) -> int:
    """Most optimizer steps of a fine-tuning on so many rows; a batch may span two epochs."""
    if job.epochs is None:
        return job.steps or 0
    return max(1, math.ceil(job.epochs * rows / min(job.batch, rows)))


def drawn(available: int, labels: int, seed: int, number: int) -> np.ndarray:
    """Training examples of draw `number`: the first of a keyed shuffle, larger ones contain smaller ones."""
    return permute(np.arange(min(labels, available)), available, key(seed, f"labelled draw {number}"))


def label_weights(
    asked: Literal["balanced"] | Mapping[str, float] | None, data: Labelled, examples: Sequence[Example]
) -> np.ndarray | None:
    """Weights of all labels, [labels], in a loss of these examples; None: all alike.

    balanced: scikit-learn's, n_samples / (n_classes · count), of the labels that occur.
    """
    if asked is None:
        return None
    if asked != "balanced":
        return np.array([asked.get(label, 1.0) for label in data.labels])
    from sklearn.utils.class_weight import compute_class_weight

    labels = (label for example in examples for label in example.tags or (example.label,))
    targets = np.array([label for label in labels if label != UNKNOWN])
    weights, occurring = np.ones(len(data.labels)), np.unique(targets)
    weights[occurring] = compute_class_weight("balanced", classes=occurring, y=targets)
    return weights


def some(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """A fixed sample of held-out examples; of several languages equally many of each; all without a limit.

    Where the rows of all languages say the same, in the same order, so do those of the sample.
    """
    if limit is None or len(examples) <= limit:
        return list(examples)
    languages: dict[str, list[Example]] = {}
    for example in examples:
        languages.setdefault(example.language, []).append(example)
    sample: list[Example] = []
    for rest, of_language in zip(range(len(languages), 0, -1), sorted(languages.values(), key=len), strict=True):
        number = min(len(of_language), (limit - len(sample)) // rest)
        chosen = permute(np.arange(number), len(of_language), key(seed, "held-out examples"))
        sample += [of_language[i] for i in chosen]
    return sample
