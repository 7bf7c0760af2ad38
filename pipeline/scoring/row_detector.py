"""A detector of unusual rows, as a folder that `sesame score` opens: networks, what is normal to them, and a threshold.

detector.json         which score, above which it is an alarm, what scores and columns of normal rows look like; of
                      pictures how they are read
transform.json        of a table: from columns to numbers
learned.npy           which rows it has learned from (`pipeline.scoring.training_rows`)
member-0/ member-1/   networks, each with its reference (`training.inference.anomaly`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.errors import UserError
from data_prep.images.pixels import ImagesConfig
from data_prep.shards.format import sealed, unsealed, write_whole
from data_prep.tables.transform import Transform
from pipeline.downstream.anomaly.reasons import by_column
from pipeline.fingerprint import digest, file_digest
from pipeline.scoring.drift import SCORE, Baseline
from training.inference.anomaly import Reference, Scorer
from training.models.autoencoder import open_model, save_model

FORMAT = 1
FILE, TRANSFORM = "detector.json", "transform.json"
REASONS = 3  # columns that are named for a row
FALSE_ALARMS = 0.01  # of detectors from before it was kept
READING = {"size", "channels", "patch", "standardise"}  # of the settings of pictures


class Scores(NamedTuple):
    """What a detector says of R rows."""

    score: np.ndarray  # [R] float64, higher is more unusual
    flag: np.ndarray  # [R] bool, above the threshold
    reasons: list[list[tuple[str, float]]]  # of each row: columns, and their share of what makes it unusual


@dataclass(frozen=True)
class Detector:
    """Networks, their references and a threshold; `name` is the digest of all that its scores depend on."""

    scorer: Scorer
    score: str
    threshold: float
    baseline: Baseline
    transform: Transform | None = None
    importance_samples: int = 50
    false_alarms: float = FALSE_ALARMS
    """Share of normal rows that the threshold was drawn to flag."""
    images: ImagesConfig | None = None
    """How pictures are read; None: of a table."""

    @property
    def columns(self) -> list[str]:
        """The raw column of each feature; of pictures, the pixels."""
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

    def inputs(self, rows: pa.RecordBatch | np.ndarray) -> np.ndarray:
        """What networks are given, float32 [R, *shape], of columns, or of pictures uint8 [R, C, H, W]."""
        if isinstance(rows, pa.RecordBatch):
            if self.transform is None:
                raise UserError("this detector is for pictures, and these rows are of a table.")
            return self.transform.apply(rows)
        shape = self.scorer.members[0][0].shape
        if self.transform is not None or rows.shape[1:] != tuple(shape):
            wanted = "the rows of a table" if self.transform else f"pictures of shape {tuple(shape)}"
            raise UserError(f"this detector is for {wanted}, and these are pictures of shape {rows.shape[1:]}.")
        return rows.astype(np.float32) / np.float32(255)

    def judge(self, inputs: np.ndarray) -> Scores:
        """Scores of what `inputs` gave, each a function of its row alone."""
        score = self.scorer.scores(inputs, self.importance_samples)[self.score]
        flag = ~(score <= self.threshold)  # also where the score is no number
        reasons: list[list[tuple[str, float]]] = [[] for _ in score]
        flagged = np.flatnonzero(flag)
        if len(flagged):
            for row, why in zip(flagged.tolist(), self._reasons(inputs[flagged]), strict=True):
                reasons[row] = why
        return Scores(score, flag, reasons)

    def told(self, inputs: np.ndarray, found: Scores) -> dict[str, np.ndarray]:
        """What drift is measured on."""
        values = watched(found.score, self.transform, inputs)
        return {name: values[name] for name in self.baseline.edges}

    def _reasons(self, inputs: np.ndarray) -> Iterator[list[tuple[str, float]]]:
        """Raw columns by the share of the error that goes with each, the largest first; of pictures, pixels."""
        if self.transform is not None:
            columns = np.array(self.columns)
            called = list(dict.fromkeys(self.columns))
            shares, _ = self.scorer.reasons(inputs, [np.flatnonzero(columns == name) for name in called])
        else:
            called, errors = by_column(self.scorer.by_feature(inputs), self.columns)
            shares = errors / np.maximum(errors.sum(1, keepdims=True), np.finfo(float).tiny)
        for share in shares:
            yield [(called[place], float(share[place])) for place in np.argsort(-share, kind="stable")[:REASONS]]

    def save(self, folder: Path) -> None:
        """Write the folder; `detector.json` last, so that it is there whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (model, reference) in enumerate(self.scorer.members):
            member = folder / f"member-{number}"
            save_model(member, model)
            reference.save(member)
        if self.transform is not None:
            self.transform.save(folder / TRANSFORM)
        about: dict[str, Any] = {
            "format": FORMAT,
            "score": self.score,
            "threshold": self.threshold,
            "importance_samples": self.importance_samples,
            "members": len(self.scorer.members),
            "baseline": self.baseline.to_json(),
            "false_alarms": self.false_alarms,
            "files": _files(folder),
            **({"images": self.images.model_dump(mode="json", include=READING)} if self.images else {}),
        }
        write_whole(folder / FILE, sealed(about))

    @staticmethod
    def open(folder: Path) -> Detector:
        """UserError where the folder holds no detector."""
        try:
            about = unsealed((folder / FILE).read_bytes())
            if about["format"] != FORMAT:
                raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
            changed = [name for name, found in about.get("files", {}).items() if file_digest(folder / name) != found]
            if changed:
                raise ValueError(f"{changed[0]} is not the one that it was made with")
            members = [folder / f"member-{number}" for number in range(about["members"])]
            scorer = Scorer([(open_model(member), Reference.load(member)) for member in members])
            transform = Transform.load(folder / TRANSFORM) if (folder / TRANSFORM).is_file() else None
            return Detector(
                scorer,
                about["score"],
                about["threshold"],
                Baseline.of_json(about["baseline"]),
                transform,
                about["importance_samples"],
                about.get("false_alarms", FALSE_ALARMS),
                _images(about, scorer.members[0][0].shape) if transform is None else None,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} holds no detector that can be used ({error}); run its recipe again.") from error


def watched(score: np.ndarray, transform: Transform | None, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What drift is measured on, by name: scores [R], and of a table every feature of inputs [R, D].

    A feature whose name is taken, by the score or by another one, is called "column …".
    """
    found = {SCORE: score}
    for name, values in zip(transform.features, inputs.T, strict=True) if transform else ():
        while name in found:
            name = f"column {name}"
        found[name] = values
    return found


def _files(folder: Path) -> dict[str, str]:
    """Digests of what lies beside `detector.json`, by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def _images(about: dict[str, Any], shape: tuple[int, ...]) -> ImagesConfig:
    """As they were for training; an early detector does not say more than its shape does: only squares were resized."""
    channels, height, width = shape
    early = {
        "size": height if height == width else None,
        "channels": channels,
        "standardise": about.get("standardise", False),
    }
    return ImagesConfig.model_validate({**about.get("images", early), "labels": "none"})


def name_of(folder: Path) -> str:
    """Digest of a detector's files, 16 hex digits: scores carry it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest({str(path.relative_to(folder)): file_digest(path) for path in files})[:16]
