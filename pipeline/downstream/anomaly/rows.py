"""The rows that an anomaly job trains and tests on: drawn for every seed, then scaled.

    rows of the corpus without duplicates; inputs that occur both as normal and as an anomaly are left out
      normal ──► train_share ──┬─► learn      training rows of networks
                               └─► held_out   for thresholds and the choice of candidates
             └─► the others ──► test
      anomalies ──► contamination (into learn and held_out, unmarked)   ──► marked, for binary classifiers
                └─► the others ──► test

By time (`data.table.time`) rows are not drawn: the latest normal ones are tested on, those before them held out.

The transform of a table is fitted only on `learn`, after the draw. Draws are keyed by the number of the split. Labels
of anomalies are their kinds; where marked ones are of a few kinds only, these rotate from split to split.
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
from data_prep.tables.transform.transform import Transform, TransformConfig
from pipeline.downstream.anomaly.job import Config
from pipeline.scoring import training_rows
from pipeline.scoring.row_detector import NORMAL

LEAST_LEARNED = 10  # rows


@dataclass(frozen=True)
class Draw:
    """Indices of rows in one split."""

    learn: np.ndarray
    held_out: np.ndarray
    marked: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    """[test] bool: which of them are anomalies."""
    known_kinds: frozenset[str] = frozenset()
    """Kinds of the marked anomalies; empty: all kinds."""

    @property
    def train(self) -> np.ndarray:
        """All rows given as normal, for methods that need no held-out rows."""
        return np.concatenate([self.learn, self.held_out])


@dataclass(frozen=True)
class ScaledRows:
    """All rows as network inputs."""

    inputs: np.ndarray  # float32 [N, *shape]
    within: np.ndarray  # the same as networks score them: numbers beyond the learned range are at its ends
    transform: Transform | None  # of a table
    outside: np.ndarray  # float64 [N, columns]: how far values of a table lie outside of those learned from

    @property
    def flat(self) -> np.ndarray:
        return self.inputs.reshape(len(self.inputs), -1)


class Pool:
    """The labelled rows of all splits of a corpus."""

    def __init__(self, folder: Path, job: Config, seed: int) -> None:
        self.job, self.seed = job, seed
        self.corpora = [ArrayCorpus(folder, split) for split in SPLITS]
        count = sum(len(corpus) for corpus in self.corpora)
        chosen = np.arange(count)
        if count > job.rows:
            chosen = np.sort(permute(np.arange(job.rows), count, key(seed, f"{job.name} rows")))
        first, parts, labels, kinds, places = 0, [], [], list[str](), list[tuple[ArrayCorpus, int]]()
        for corpus in self.corpora:
            rows = chosen[(chosen >= first) & (chosen < first + len(corpus))] - first
            first += len(corpus)
            if len(rows):
                batch = corpus.read(rows)
                known = np.flatnonzero(normal_rows(corpus, job, batch.label) >= 0)
                parts.append(_taken(batch.input, known))
                labels.append(batch.label[known])
                kinds += [label or "" for label in corpus.labels(rows[known])]
                places += [(corpus, int(row)) for row in rows[known]]
        if not places:
            raise UserError(f"downstream.{job.name}: no row has a label; give labels, or leave out what is normal.")
        anomalous = normal_rows(self.corpora[0], job, np.concatenate(labels)) == 0
        joined = _joined(parts)
        distinct, self.torn = _distinct(training_rows.of_rows(joined), anomalous)
        """Number of rows left out because equal inputs occur both as normal and as an anomaly."""
        self.anomalous = anomalous[distinct]
        """[N] bool."""
        self.places = [places[row] for row in distinct]
        self.labels = np.array(kinds, np.str_)[distinct]
        """[N]: labels of the sources, which are also the kinds of anomalies."""
        self.kinds: list[str] = np.unique(self.labels[self.anomalous]).tolist()
        self.rows: pa.RecordBatch | np.ndarray = _taken(joined, distinct)
        self.times = _times(self.rows, self.corpora[0])
        """[N] times of the rows, if splits are by time."""
        if self.anomalous.all():
            raise UserError(
                f"downstream.{job.name}: none of the {len(self.anomalous):,} rows is normal; correct what is normal."
            )
        most = int(self.anomalous.sum()) - 1
        self.marked = [count for count in job.marked if job.known_kinds or count <= most]
        """Numbers of labelled anomalies that classifiers get: those that leave some to test on."""

    def draw(self, number: int) -> Draw:
        """Split `number`; UserError where there are too few rows for it."""
        job = self.job
        normal, odd = (
            self._shuffled(rows, f"{job.name} {name} {number}")
            for name, rows in (("normal", ~self.anomalous), ("anomalies", self.anomalous))
        )
        num_normal = round(job.train_share * len(normal))
        num_mixed = round(job.contamination / (1 - job.contamination) * num_normal)
        known_kinds = self._known(number)
        marked, rest = self._marked(odd[num_mixed:], known_kinds)
        if len(odd) and not len(rest):
            raise UserError(
                f"downstream.{job.name}: of {len(odd)} anomalies, {num_mixed} unmarked and "
                f"{max(self.marked, default=0)} marked ones leave none to test on; lower contamination or marked."
            )
        train = np.concatenate([normal[:num_normal], odd[:num_mixed]])
        train = self._mixed(train, number)
        num_held_out = round(job.threshold_share * len(train))
        if len(train) - num_held_out < LEAST_LEARNED or not num_held_out or num_normal == len(normal):
            raise UserError(
                f"downstream.{job.name}: {len(normal)} normal rows are too few to learn from, to draw thresholds by "
                "and to test on; add sources."
            )
        test = np.concatenate([normal[num_normal:], rest])
        return Draw(train[num_held_out:], train[:num_held_out], marked, test, self.anomalous[test], known_kinds)

    def _known(self, number: int) -> frozenset[str]:
        """Kinds of the marked anomalies in split `number`: each in turn, in an order keyed by the seed."""
        count, num_kinds = self.job.known_kinds, len(self.kinds)
        if not count or not num_kinds:
            return frozenset()
        if count >= num_kinds:
            raise UserError(
                f"downstream.{self.job.name}.known_kinds: the anomalies are of {num_kinds} kinds, and {count} known "
                "ones leave no new one; lower it."
            )
        turn = np.arange(number * count, (number + 1) * count) % num_kinds
        order = permute(np.arange(num_kinds), num_kinds, key(self.seed, f"{self.job.name} kinds"))
        return frozenset(self.kinds[place] for place in order[turn].tolist())

    def _marked(self, odd: np.ndarray, known_kinds: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
        """Marked anomalies and the others, both in order. UserError where there are too few."""
        count = max(self.marked, default=0)
        if not known_kinds:
            return odd[:count], odd[count:]
        of_known = np.flatnonzero(np.isin(self.labels[odd], list(known_kinds)))
        if count >= len(of_known):
            raise UserError(
                f"downstream.{self.job.name}.marked: there are {len(of_known)} anomalies of the kinds "
                f"{', '.join(sorted(known_kinds))}, and {count} marked ones leave none of them to test on; lower it."
            )
        return odd[of_known[:count]], np.delete(odd, of_known[:count])

    def _mixed(self, train: np.ndarray, number: int) -> np.ndarray:
        """Rows to train on in the order in which they are divided: what is held out comes first, by time the latest."""
        if self.times is not None:
            return train[np.argsort(-self.times[train], kind="stable")]
        return train[permute(np.arange(len(train)), len(train), key(self.seed, f"{self.job.name} train {number}"))]

    def _shuffled(self, which: np.ndarray, purpose: str) -> np.ndarray:
        """Rows in an order of the split's own; by time, from the first to the latest, which is that of every split."""
        rows = np.flatnonzero(which)
        if self.times is not None:
            return rows[np.argsort(self.times[rows], kind="stable")]
        return rows[permute(np.arange(len(rows)), len(rows), key(self.seed, purpose))]

    def scaled(self, learn: np.ndarray, config: dict[str, Any] | None) -> ScaledRows:
        """All rows as network inputs; for a table by a transform fitted on the rows `learn`."""
        if isinstance(self.rows, np.ndarray):
            inputs = scaled(self.rows)
            return ScaledRows(inputs, inputs, None, np.zeros((len(self.rows), 0)))
        learned = self.rows.take(pa.array(np.sort(learn)))
        transform = Transform.fit(lambda: [learned], TransformConfig.model_validate(config), self.corpora[0].schema)
        inputs = transform.apply(self.rows)
        return ScaledRows(inputs, transform.within(inputs), transform, transform.outside(self.rows))

    def named(self, row: int) -> tuple[str, str]:
        """The source of a row, and its label, – if it has none."""
        corpus, place = self.places[row]
        return corpus.names([place])[0], corpus.labels([place])[0] or "–"


def normal_rows(corpus: ArrayCorpus, job: Config, labels: np.ndarray) -> np.ndarray:
    """Whether rows with these labels [R] are normal: int [R], 1 or 0, −1 unknown. All are if nothing has labels.

    UserError if it is not set which labels of images are normal.
    """
    if corpus.schema is not None:
        if corpus.schema.normal is None:
            return np.ones(len(labels), np.int64)
        normal = [NORMAL]
    else:
        unknown = [name for name in job.normal if name not in corpus.classes]
        if unknown or (corpus.classes and not job.normal):
            listed = ", ".join(corpus.classes) or "none; set data.images.labels"
            raise UserError(f"downstream.{job.name}.normal: name the normal ones of the labels there are ({listed}).")
        if not corpus.classes:
            return np.ones(len(labels), np.int64)
        normal = [corpus.classes.index(name) for name in job.normal]
    return np.where(labels < 0, -1, np.isin(labels, normal))


def _times(rows: pa.RecordBatch | np.ndarray, corpus: ArrayCorpus) -> np.ndarray | None:
    """[R] float64, of the column that a table is split by; None if splits are random."""
    if corpus.schema is None or corpus.schema.time is None or isinstance(rows, np.ndarray):
        return None
    column = rows[corpus.schema.time]
    is_date = corpus.schema.kinds[corpus.schema.time] == "date"
    return (column.cast(pa.int64()) if is_date else column).to_numpy(zero_copy_only=False).astype(np.float64)


def _distinct(inputs: np.ndarray, anomalous: np.ndarray) -> tuple[np.ndarray, int]:
    """Indices of the first row of each distinct input, without inputs on both sides; how many rows the latter are.

    inputs: digests [R]; anomalous [R]. A method that learned such a row as normal would be tested on it as an anomaly.
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
