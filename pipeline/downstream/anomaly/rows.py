"""The rows that an anomaly job learns from and is tested on: drawn anew for every seed, then scaled.

    rows of the corpus, of equal inputs one; none of those that are there as normal and as an anomaly
      normal ──► train_share ──┬─► learn      what networks learn from
                               └─► held_out   what thresholds are drawn by, and candidates chosen
             └─► the others ──► test
      anomalies ──► contamination (into learn and held_out, unmarked)   ──► marked, for plain classifiers
                └─► the others ──► test

The transform of a table is fitted on `learn` alone, after the draw. Draws are keyed by the seed's number. Anomalies are
of kinds, their labels; where the marked ones are of few, which these are goes round from split to split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.order import permute
from data_prep.tables.transform import Transform, TransformConfig
from pipeline.downstream.anomaly.job import Config
from pipeline.scoring import training_rows

LEAST_LEARNED = 10  # rows


@dataclass(frozen=True)
class Draw:
    """Numbers of rows."""

    learn: np.ndarray
    held_out: np.ndarray
    marked: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    """[test] bool: which of them are anomalies."""
    known: frozenset[str] = frozenset()
    """Kinds of anomalies that the marked ones are of, where others are left out of them."""

    @property
    def train(self) -> np.ndarray:
        """All that are given as normal: what a method without held-out rows learns from."""
        return np.concatenate([self.learn, self.held_out])


@dataclass(frozen=True)
class Scaled:
    """Every row as networks are given it."""

    inputs: np.ndarray  # float32 [N, *shape]
    transform: Transform | None  # of a table

    @property
    def flat(self) -> np.ndarray:
        return self.inputs.reshape(len(self.inputs), -1)


class Pool:
    """The labelled rows of all splits of a corpus."""

    def __init__(self, folder: Path, job: Config, seed: int) -> None:
        self.job, self.seed = job, seed
        self.corpora = [ArrayCorpus(folder, split) for split in SPLITS]
        count = sum(len(corpus) for corpus in self.corpora)
        some = np.arange(count)
        if count > job.rows:
            some = np.sort(permute(np.arange(job.rows), count, key(seed, f"{job.name} rows")))
        first, parts, labels, kinds, places = 0, [], [], list[str](), list[tuple[ArrayCorpus, int]]()
        for corpus in self.corpora:
            rows = some[(some >= first) & (some < first + len(corpus))] - first
            first += len(corpus)
            if len(rows):
                batch = corpus.read(rows)
                known = np.flatnonzero(batch.label >= 0)
                parts.append(_taken(batch.input, known))
                labels.append(batch.label[known])
                kinds += corpus.labels(rows[known])
                places += [(corpus, int(row)) for row in rows[known]]
        anomalous = self._anomalous(np.concatenate(labels) if labels else np.empty(0, np.int64))
        joined = _joined(parts)
        kept, self.torn = _distinct(training_rows.of_rows(joined), anomalous)
        """Rows that are left out because equal ones have labels of the other side."""
        self.anomalous = anomalous[kept]
        """[N] bool."""
        self.places = [places[row] for row in kept]
        self.labels = np.array(kinds, np.str_)[kept]
        """[N]: as the sources have them, which is also the kind of an anomaly."""
        self.kinds: list[str] = np.unique(self.labels[self.anomalous]).tolist()
        self.rows: pa.RecordBatch | np.ndarray = _taken(joined, kept)
        self._check(self.anomalous)

    def _anomalous(self, labels: np.ndarray) -> np.ndarray:
        job, corpus = self.job, self.corpora[0]
        if corpus.schema is not None:
            if corpus.schema.normal is None:
                raise UserError(f"downstream.{job.name}: labels must tell what is normal; set data.table.normal.")
            anomalous = labels != 0
        else:
            unknown = [name for name in job.normal if name not in corpus.classes]
            if unknown or not job.normal:
                known = ", ".join(corpus.classes) or "none; set data.images.labels"
                raise UserError(
                    f"downstream.{job.name}.normal: name the normal ones of the labels there are ({known})."
                )
            anomalous = ~np.isin(labels, [corpus.classes.index(name) for name in job.normal])
        self._check(anomalous)
        return anomalous

    def _check(self, anomalous: np.ndarray) -> None:
        if not anomalous.any() or anomalous.all():
            raise UserError(
                f"downstream.{self.job.name}: there must be normal rows and others; correct what is normal."
            )

    def draw(self, number: int) -> Draw:
        """Split `number`; UserError where there are too few rows for it."""
        job = self.job
        normal, odd = (self._shuffled(rows, number) for rows in (~self.anomalous, self.anomalous))
        given = round(job.train_share * len(normal))
        mixed = round(job.contamination / (1 - job.contamination) * given)
        known = self._known(number)
        marked, rest = self._marked(odd[mixed:], known)
        if not len(rest):
            raise UserError(
                f"downstream.{job.name}: of {len(odd)} anomalies, {mixed} unmarked and {max(job.marked, default=0)} "
                "marked ones leave none to test on; lower contamination or marked."
            )
        train = np.concatenate([normal[:given], odd[:mixed]])
        train = train[permute(np.arange(len(train)), len(train), key(self.seed, f"{job.name} train {number}"))]
        held_out = round(job.threshold_share * len(train))
        if len(train) - held_out < LEAST_LEARNED or not held_out or given == len(normal):
            raise UserError(
                f"downstream.{job.name}: {len(normal)} normal rows are too few to learn from, to draw thresholds by "
                "and to test on; add sources."
            )
        test = np.concatenate([normal[given:], rest])
        return Draw(train[held_out:], train[:held_out], marked, test, self.anomalous[test], known)

    def _known(self, number: int) -> frozenset[str]:
        """Kinds that anomalies are marked of in split `number`: each in turn, in an order of the seed's."""
        count, every = self.job.known_kinds, len(self.kinds)
        if not count:
            return frozenset()
        if count >= every:
            raise UserError(
                f"downstream.{self.job.name}.known_kinds: the anomalies are of {every} kinds, and {count} known ones "
                "leave no new one; lower it."
            )
        turn = np.arange(number * count, (number + 1) * count) % every
        order = permute(np.arange(every), every, key(self.seed, f"{self.job.name} kinds"))
        return frozenset(self.kinds[place] for place in order[turn].tolist())

    def _marked(self, odd: np.ndarray, known: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
        """Anomalies that are marked, and the others; both in their order. UserError where there are too few."""
        count = max(self.job.marked, default=0)
        if not known:
            return odd[:count], odd[count:]
        of_known = np.flatnonzero(np.isin(self.labels[odd], list(known)))
        if count >= len(of_known):
            raise UserError(
                f"downstream.{self.job.name}.marked: there are {len(of_known)} anomalies of the kinds "
                f"{', '.join(sorted(known))}, and {count} marked ones leave none of them to test on; lower it."
            )
        return odd[of_known[:count]], np.delete(odd, of_known[:count])

    def _shuffled(self, which: np.ndarray, number: int) -> np.ndarray:
        rows = np.flatnonzero(which)
        purpose = f"{self.job.name} {'anomalies' if self.anomalous[rows[0]] else 'normal'} {number}"
        return rows[permute(np.arange(len(rows)), len(rows), key(self.seed, purpose))]

    def scaled(self, learn: np.ndarray, config: dict[str, Any] | None) -> Scaled:
        """All rows as numbers; of a table by a transform fitted on the rows `learn`."""
        if isinstance(self.rows, np.ndarray):
            return Scaled(scaled(self.rows), None)
        seen = self.rows.take(pa.array(np.sort(learn)))
        transform = Transform.fit(lambda: [seen], TransformConfig.model_validate(config), self.corpora[0].schema)
        return Scaled(transform.apply(self.rows), transform)

    def named(self, row: int) -> tuple[str, str]:
        """Where a row comes from, and its label."""
        corpus, place = self.places[row]
        return corpus.names([place])[0], corpus.labels([place])[0] or ""


def _distinct(inputs: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, int]:
    """The first row of each input, given digests and sides [R], but of inputs of both sides; how many rows those have.

    Whoever learned one of them as normal would be tested on its equal as an anomaly.
    """
    _, first, group, count = np.unique(inputs, return_index=True, return_inverse=True, return_counts=True)
    odd = np.bincount(group[anomalous], minlength=len(count))
    torn = (odd > 0) & (odd < count)
    return np.sort(first[~torn]), int(count[torn].sum())


def _taken(rows: pa.RecordBatch | np.ndarray, index: np.ndarray) -> pa.RecordBatch | np.ndarray:
    return rows[index] if isinstance(rows, np.ndarray) else rows.take(pa.array(index))


def _joined(parts: Sequence[pa.RecordBatch | np.ndarray]) -> pa.RecordBatch | np.ndarray:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
