"""Which detector of a recipe is in use: the champion. Another one takes over only by doing as well on the same rows.

The rows are the test split of the newer one, which neither has seen. With labels the area under the ROC curve decides;
without them the share of rows that are flagged, which for normal rows should be what the threshold was drawn for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from data_prep.arrays_corpus import ArrayCorpus
from data_prep.errors import UserError
from data_prep.shards import write_whole
from pipeline.artifact import Artifact
from pipeline.detector import FILE, Detector, name_of

DETECTOR = "detector"  # folder of an anomaly job's artifact
LEAST_ROWS = 20
NORMAL = 0


@dataclass(frozen=True)
class Champion:
    """Where the detector in use lies, and what it was chosen by."""

    folder: str
    name: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """A comparison: (champion's, challenger's), and whether the challenger takes over."""

    measure: str
    rows: int
    champion: float | None
    challenger: float
    promoted: bool

    @property
    def why(self) -> str:
        other = "there was none" if self.champion is None else f"{self.champion:.4f} before"
        return f"{self.measure} {self.challenger:.4f} on {self.rows:,} test rows, {other}"


def champion(folder: Path, recipe: str) -> Champion | None:
    """The detector in use, from `folder`; None where there is none yet."""
    path = folder / f"{recipe}.json"
    if not path.is_file():
        return None
    try:
        return Champion(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the recipe again.") from None


def challenge(folder: Path, recipe: str, challenger: Path, corpus: Path) -> Verdict:
    """Let a detector take over if it does as well as the champion on the test rows of `corpus`.

    UserError where the rows are too few to tell.
    """
    held = champion(folder, recipe)
    rows = ArrayCorpus(corpus, "test")
    if len(rows) < LEAST_ROWS:
        raise UserError(f"{recipe}: {len(rows)} test rows are too few to compare detectors; raise data.split.test.")
    new = _measured(Detector.open(challenger), rows)
    old = _measured(Detector.open(Path(held.folder)), rows) if held and Path(held.folder).is_dir() else None
    better = old is None or (new[1] >= old[1] if new[0] == "AUROC" else new[1] <= old[1])
    verdict = Verdict(new[0], len(rows), old[1] if old else None, new[1], better)
    if better:
        folder.mkdir(parents=True, exist_ok=True)
        chosen = Champion(str(challenger), name_of(challenger), verdict.why)
        write_whole(folder / f"{recipe}.json", json.dumps(asdict(chosen), indent=1).encode())
    return verdict


def challenge_with(folder: Path, recipe: str, made: Mapping[str, Artifact]) -> Verdict | None:
    """The same with what a run of a recipe made; None if it made no detector, or too few rows are held out to tell."""
    for artifact in made.values():
        challenger = artifact.path / DETECTOR
        if (challenger / FILE).is_file():
            corpus = made["ingest"].path
            return (
                challenge(folder, recipe, challenger, corpus)
                if len(ArrayCorpus(corpus, "test")) >= LEAST_ROWS
                else None
            )
    return None


def _measured(detector: Detector, rows: ArrayCorpus) -> tuple[str, float]:
    scores, flags, labels = [], [], []
    for batch in rows.batches():
        found = detector.judge(detector.inputs(batch.input))
        scores.append(found.score)
        flags.append(found.flag)
        labels.append(batch.label)
    label = np.concatenate(labels)
    known = label >= 0
    if len(np.unique(label[known])) == 2 and rows.schema is not None and rows.schema.normal is not None:
        return "AUROC", auroc(np.concatenate(scores)[known], label[known] != NORMAL)
    return "share flagged", float(np.concatenate(flags).mean())


def auroc(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Area under the ROC curve of scores [R] that are higher for anomalies."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(anomalous), np.asarray(scores)))
