"""A detector of unusual rows or images, as a folder that `sesame score` opens: networks and a threshold.

detector.json         kind of score, threshold, histograms of scores and columns of normal rows, and the range of their
                      scores; for images, how they are read
transform.json        of a table: from columns to numbers
training_rows.npy     which rows it has learned from (`pipeline.scoring.training_rows`)
member-0/ member-1/   networks, each with its reference (`training.inference.anomaly`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat

from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.errors import UserError
from data_prep.images import units
from data_prep.images.pixels import DecodedImage, ImagesConfig
from data_prep.opening.files import UnfitError, clause
from data_prep.sealed import sealed, write_whole
from data_prep.sources.archives import SourceFile, listed
from data_prep.sources.config import Accepts, SourceConfig
from data_prep.sources.records import Reject
from data_prep.tables import files as tables
from data_prep.tables.transform.transform import Transform
from data_prep.tables.typed import Typed
from pipeline.fingerprint import digest
from pipeline.scoring import training_rows
from pipeline.scoring.detector import (
    FILE,
    FORMAT,
    REASONS,
    Batch,
    Description,
    Evaluation,
    Header,
    Reason,
    Scores,
    auroc,
    digests_of,
    read_description,
    unusable,
)
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.scoring.row_reasons import RowInputs, outside_of, reasons, shares
from training.inference.anomaly import Reference, Scorer, Usual
from training.inference.networks.arrays import open_model
from training.models.autoencoders.autoencoder import Autoencoder, save_model

TRANSFORM = "transform.json"
READING = {"size", "channels", "patch", "standardise"}  # of the settings of images
IMAGES = 256  # scored together
AUROC, SHARE = "AUROC", "share flagged"
NORMAL = 0  # class of a table's rows
_UNIT = Usual(0.0, 1.0, 1.0)
_NONE_ODD: Mapping[str, np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class LabelledRows:
    """Some rows of a test split."""

    corpus: ArrayCorpus
    included: np.ndarray  # bool, of all rows of the split

    def __len__(self) -> int:
        return int(self.included.sum())

    def batches(self) -> Iterator[tuple[ArrayBatch, np.ndarray]]:
        """Batches of all rows, with the indices of the included ones in each."""
        for batch in self.corpus.batches():
            yield batch, np.flatnonzero(self.included[batch.row])

    def normal_classes(self, normal: Sequence[str]) -> list[int]:
        """Numbers of the normal classes; empty if unknown."""
        if self.corpus.schema is not None:
            return [NORMAL] if self.corpus.schema.normal is not None else []
        return [number for number, name in enumerate(self.corpus.classes) if name in normal]


@dataclass(frozen=True)
class RowDetector:
    """Networks, their references and a threshold, for the rows of a table or for images."""

    KIND: ClassVar[str] = "rows"

    scorer: Scorer
    score_name: str
    """Which of the scorer's scores it uses."""
    threshold: float
    baseline: Baseline
    transform: Transform | None = None
    importance_samples: int = 50
    false_alarms: float = 0.01
    """Share of normal rows that the threshold should flag."""
    images: ImagesConfig | None = None
    """How images are read; None for a table."""
    usual: Usual = _UNIT
    """The range of the scores of normal rows of a table, before they are raised."""
    held_out: int = 0
    """Number of normal rows that the threshold was drawn by; 0 if unknown."""

    @property
    def reads(self) -> str:
        """Names its columns and their kinds; for images their shape."""
        if self.transform is not None and self.transform.schema is not None:
            return digest({"columns": sorted(self.transform.schema.kinds.items())})[:8]
        return digest({"shape": list(self.scorer.members[0][0].shape)})[:8]

    @property
    def columns(self) -> list[str]:
        """The raw column of each feature; for images the pixels."""
        if self.transform is not None:
            return self.transform.columns_of
        channels, _, width = self.scorer.members[0][0].shape
        return [f"pixel {place // width},{place % width}" for place in range(self.values)] * (channels == 1) or [
            f"channel {place // (self.values // channels)}" for place in range(self.values)
        ]

    @property
    def values(self) -> int:
        """Features of a row."""
        return int(np.prod(self.scorer.members[0][0].shape))

    # -- files and rows -----------------------------------------------------------------------------------------------

    def readable(self, name: str) -> bool:
        """Whether a file of that name may hold rows of a table, or images, as the detector reads them."""
        return self._accepts().readable(name)

    def files(self, path: str, downloads: Path) -> list[SourceFile]:
        """The files of a path that may hold its rows; an archive's members count as files."""
        schema = self.transform.schema if self.transform else None
        source = SourceConfig(path=path)
        if schema is not None:
            source = source.model_copy(update={"encoding": schema.encoding, "delimiter": schema.delimiter})
        return listed(source, self._accepts(), downloads)

    def _accepts(self) -> Accepts:
        if self.transform is None:
            return units.accepts(self._reading)
        schema = self.transform.schema
        return tables.accepts(schema.layout if schema else None)

    def header(self) -> Header:
        """The header of the table's layout."""
        layout = tables.layout_of(self.transform.schema) if self.transform and self.transform.schema else None
        return Header(layout.skip, layout.header) if layout else Header()

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        """The rows of a file as `score` takes them, and rejects that cannot be read."""
        if self.transform is not None:
            yield from self._rows_of(file, self.transform)
            return
        for part in self._images_of(file):
            yield part if isinstance(part, Reject) else part._replace(inputs=self.inputs(part.inputs))

    def _rows_of(self, file: SourceFile, transform: Transform) -> Iterator[Batch | Reject]:
        if transform.schema is None:
            raise ValueError("the transform of a detector keeps the schema of its table")
        for part in tables.typed_batches(file, transform.schema):
            if isinstance(part, Typed):
                rows = pa.record_batch(list(part.columns.values()), names=list(part.columns))
                yield Batch([file.name] * rows.num_rows, part.positions, self.inputs(rows, part.odd))
            else:
                yield part

    def _images_of(self, file: SourceFile) -> Iterator[Batch | Reject]:
        waiting: list[DecodedImage] = []
        _, height, width = self.scorer.members[0][0].shape
        for image in units.images(file, self._reading):
            if isinstance(image, Reject):
                yield image
                continue
            if image.pixels.shape[1:] != (height, width):
                size = " × ".join(map(str, image.pixels.shape[1:]))
                reason = f"is {size} pixels and not {height} × {width}, and data.images.size was not set"
                yield Reject(image.source, image.position, reason)
                continue
            waiting.append(image)
            if len(waiting) == IMAGES:
                yield _together(waiting)
                waiting.clear()
        if waiting:
            yield _together(waiting)

    @property
    def _reading(self) -> ImagesConfig:
        if self.images is None:
            raise ValueError("a detector without a transform keeps how images are read")
        return self.images

    def inputs(self, rows: pa.RecordBatch | np.ndarray, odd: Mapping[str, np.ndarray] = _NONE_ODD) -> RowInputs:
        """Inputs of `score` from columns of a table, or images uint8 [R, C, H, W].

        odd: bool [R] by column, where a value was none of the column's kind, and is null.
        """
        if isinstance(rows, pa.RecordBatch):
            if self.transform is None:
                raise UserError("this detector is for images, and these rows are of a table.")
            return RowInputs(
                self.transform.within(self.transform.apply(rows)), outside_of(self.transform, rows, odd), rows, odd
            )
        shape = self.scorer.members[0][0].shape
        if self.transform is not None or rows.shape[1:] != tuple(shape):
            expected = "the rows of a table" if self.transform else f"images of shape {tuple(shape)}"
            raise UserError(f"this detector is for {expected}, and these are images of shape {rows.shape[1:]}.")
        return RowInputs(rows.astype(np.float32) / np.float32(255), np.zeros((len(rows), 0)))

    # -- scores and reasons -------------------------------------------------------------------------------------------

    def score(self, inputs: RowInputs) -> Scores:
        """Scores of rows, each of which depends only on its row."""
        plain = self.scorer.scores(inputs.values, self.importance_samples)[self.score_name]
        score = self.usual.raised(plain, inputs.outside)
        flag = ~(score <= self.threshold)  # also where the score is NaN
        reasons: list[list[Reason]] = [[] for _ in score]
        flagged = np.flatnonzero(flag)
        if len(flagged):
            for row, why in zip(flagged.tolist(), self._reasons(inputs.taken(flagged), plain[flagged]), strict=True):
                reasons[row] = why
        return Scores(score, flag, reasons)

    def _reasons(self, inputs: RowInputs, plain: np.ndarray) -> list[list[Reason]]:
        """Raw columns (for images pixels) with their shares of the score, the largest first."""
        if self.transform is not None:
            column_shares, _ = shares(self.scorer, self.transform, self.usual, plain, inputs)
            return reasons(self.transform, column_shares, inputs)
        names, errors = by_column(self.scorer.by_feature(inputs.values), self.columns)
        of_pixels = errors / np.maximum(errors.sum(1, keepdims=True), np.finfo(float).tiny)
        return [
            [Reason(names[place], float(share[place])) for place in np.argsort(-share, kind="stable")[:REASONS]]
            for share in of_pixels
        ]

    def drift_columns(self, inputs: RowInputs, scores: Scores) -> dict[str, np.ndarray]:
        """The score, and for a table every feature, and how far each column lies outside."""
        columns = drift_columns(scores.score, self.transform, inputs)
        return {name: columns[name] for name in self.baseline.edges}

    # -- comparison ---------------------------------------------------------------------------------------------------

    def test_rows(self, corpus: Path, learned: np.ndarray) -> tuple[LabelledRows, int]:
        """Rows of the test split whose digests are not among `learned`; how many were left out."""
        split = ArrayCorpus(corpus, "test")
        learned_rows = [np.isin(training_rows.of_rows(batch.input), learned) for batch in split.batches()]
        is_new = ~np.concatenate([np.empty(0, bool), *learned_rows])
        return LabelledRows(split, is_new), len(is_new) - int(is_new.sum())

    def evaluate(self, rows: LabelledRows, normal: Sequence[str]) -> Evaluation:
        """AUROC; without both normal rows and anomalies among the labels the share flagged."""
        scores, flags, labels = [], [], []
        for batch, indices in rows.batches():
            scored = self.score(self.inputs(batch.input))
            scores.append(scored.score[indices])
            flags.append(scored.flag[indices])
            labels.append(batch.label[indices])
        label = np.concatenate(labels)
        is_labelled = label >= 0
        anomalous = ~np.isin(label, rows.normal_classes(normal))[is_labelled]
        if len(np.unique(anomalous)) == 2:
            return Evaluation(AUROC, auroc(np.concatenate(scores)[is_labelled], anomalous))
        return Evaluation(SHARE, float(np.concatenate(flags).mean()), self.false_alarms)

    # -- as a folder --------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the folder; `detector.json` comes last, and makes it complete."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (model, reference) in enumerate(self.scorer.members):
            member = folder / f"member-{number}"
            save_model(member, model)
            reference.save(member)
        if self.transform is not None:
            self.transform.save(folder / TRANSFORM)
        about: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.KIND,
            "score": self.score_name,
            "threshold": self.threshold,
            "importance_samples": self.importance_samples,
            "members": len(self.scorer.members),
            "baseline": self.baseline.to_json(),
            "false_alarms": self.false_alarms,
            "held_out": self.held_out,
            "files": digests_of(folder),
            "usual": [self.usual.low, self.usual.high, self.usual.top],
            "images": self.images.model_dump(mode="json", include=READING) if self.images else None,
        }
        write_whole(folder / FILE, sealed(about))

    @staticmethod
    def open(folder: Path) -> RowDetector:
        """Open a folder. UserError if it holds no detector."""
        about = read_description(folder, _Description)
        try:
            detector = RowDetector(
                Scorer([_member(folder / f"member-{number}") for number in range(about.members)]),
                about.score,
                about.threshold,
                Baseline(about.baseline.edges, about.baseline.counts),
                Transform.load(folder / TRANSFORM) if (folder / TRANSFORM).exists() else None,
                about.importance_samples,
                about.false_alarms,
                ImagesConfig.model_validate({**about.images, "labels": "none"}) if about.images else None,
                Usual(*about.usual),
                about.held_out,
            )
        except ValueError as error:
            raise unusable(folder, clause(error)) from error
        if problem := detector.problem():
            raise unusable(folder, problem)
        return detector

    def problem(self) -> str:
        """What of its parts does not fit the others; empty if nothing."""
        shapes = {tuple(model.shape) for model, _ in self.scorer.members}
        if len(shapes) > 1:
            return "its networks are for rows of several shapes"
        (shape,) = shapes
        if self.transform is None and (self.images is None or len(shape) != 3):
            return "it is for images, and does not say how they are read"
        if self.transform is not None and (len(self.transform.features),) != shape:
            return f"{TRANSFORM} makes {len(self.transform.features)} values of a row, and its networks take {shape}"
        if self.transform is not None and self.transform.schema is None:
            return f"{TRANSFORM} does not say what columns its table has"
        if self.score_name not in self.scorer.names:
            return f"it has no score {self.score_name!r}"
        known = set(drift_columns(np.empty(0), self.transform, _no_rows(self.transform)))
        if unknown := sorted(set(self.baseline.edges) - known):
            return f"its histograms are of {unknown[0]!r}, which its rows have not"
        return ""


def drift_columns(score: np.ndarray, transform: Transform | None, inputs: RowInputs) -> dict[str, np.ndarray]:
    """What drift is measured on, by name: scores [R], and of a table every feature, and how far values lie outside.

    A feature whose name is taken, by the score or by another one, is called "column …".
    """
    columns = {SCORE: score}
    if transform is None:
        return columns
    outside = {f"{column.name}: outside": inputs.outside[:, number] for number, column in enumerate(transform.columns)}
    for name, values in [*zip(transform.features, inputs.values.T, strict=True), *outside.items()]:
        while name in columns:
            name = f"column {name}"
        columns[name] = values
    return columns


def _together(waiting: Sequence[DecodedImage]) -> Batch:
    positions = np.array([image.position for image in waiting])
    return Batch([image.source for image in waiting], positions, np.stack([image.pixels for image in waiting]))


def _member(folder: Path) -> tuple[Autoencoder, Reference]:
    """A network and its reference. UnfitError where they are of different networks."""
    model, reference = open_model(folder), Reference.load(folder)
    values = model.values
    if reference.spread.shape != (values,) or reference.precision.shape != reference.centre.shape * 2:
        raise UnfitError(f"{folder.name}: its reference is of another network")
    return model, reference


def _no_rows(transform: Transform | None) -> RowInputs:
    features, columns = (len(transform.features), len(transform.columns)) if transform else (0, 0)
    return RowInputs(np.zeros((0, features), np.float32), np.zeros((0, columns)))


class _Description(Description):
    """What `detector.json` of a folder says."""

    score: str
    importance_samples: int = Field(ge=1, le=100_000)
    members: int = Field(ge=1, le=1000)
    false_alarms: float = Field(ge=0, le=1)
    held_out: int = Field(ge=0)
    usual: list[FiniteFloat] = Field(min_length=3, max_length=3)
    images: dict[str, Any] | None


def by_column(by_feature: np.ndarray, columns_of: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Errors [R, D] of features added up by raw column: names [C], in order, and errors [R, C]."""
    names = list(dict.fromkeys(columns_of))
    place = {name: number for number, name in enumerate(names)}
    belongs = np.zeros((len(columns_of), len(names)))
    belongs[np.arange(len(columns_of)), [place[name] for name in columns_of]] = 1
    return names, by_feature @ belongs
