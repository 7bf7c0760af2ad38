"""Which detector of a recipe is in use: the champion. Another one takes over only by doing as well on the same rows.

The rows are the test split of the newer one, which neither has seen. With labels the area under the ROC curve decides;
without them the share of rows that are flagged, which for normal rows should be what the threshold was drawn for. Of
documents it is how well they are told from the same documents with their words in another order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from data_prep.arrays_corpus import ArrayCorpus
from data_prep.errors import UserError
from data_prep.shards import write_whole
from pipeline.artifact import Artifact
from pipeline.detector import FILE, Detector, name_of
from pipeline.detectors import AnyDetector, open_any
from pipeline.document_detector import DocumentDetector
from pipeline.downstream.document_rows import Passage, changed, of_split, shuffling

DETECTOR = "detector"  # folder of an anomaly job's artifact
LEAST_ROWS = 20
NORMAL = 0
DOCUMENTS = 500  # most that detectors are compared on
AUROC = "AUROC"


@dataclass(frozen=True)
class Champion:
    """Where the detector in use lies, and what it was chosen by."""

    folder: str
    name: str
    why: str
    judged: tuple[str, ...] = ()
    """Folders of all that have been compared so far."""


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
        told = json.loads(path.read_text(encoding="utf-8"))
        return Champion(**{**told, "judged": tuple(told.get("judged", ()))})
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the recipe again.") from None


def challenge(folder: Path, recipe: str, challenger: Path, corpus: Path, normal: Sequence[str] = ()) -> Verdict:
    """Let a detector take over if it does as well as the champion on the test rows of `corpus`.

    normal: classes of normal pictures, where they are told; of a table its schema tells. UserError where the rows are
    too few to tell.
    """
    held = champion(folder, recipe)
    detector = open_any(challenger)
    rows = _test_rows(detector, corpus)
    if len(rows) < LEAST_ROWS:
        raise UserError(f"{recipe}: {len(rows)} test rows are too few to compare detectors; raise data.split.test.")
    other = open_any(Path(held.folder)) if held and Path(held.folder).is_dir() else None
    new = _measured(detector, rows, normal)
    old = _measured(other, rows, normal) if type(other) is type(detector) else None
    better = old is None or (new[1] >= old[1] if new[0].startswith(AUROC) else new[1] <= old[1])
    verdict = Verdict(new[0], len(rows), old[1] if old else None, new[1], better)
    chosen = Champion(str(challenger), name_of(challenger), verdict.why) if better or held is None else held
    judged = dict.fromkeys([*(held.judged if held else ()), str(challenger)])
    folder.mkdir(parents=True, exist_ok=True)
    told = asdict(replace(chosen, judged=tuple(judged)))
    write_whole(folder / f"{recipe}.json", json.dumps(told, indent=1).encode())
    return verdict


def challenge_with(folder: Path, recipe: str, made: Mapping[str, Artifact]) -> Verdict | None:
    """The same with what a run of a recipe made; None if it made no detector, or too few rows are held out to tell.

    Also None for a detector that was compared before: what is found in the store again is not a newer one.
    """
    held = champion(folder, recipe)
    for artifact in made.values():
        challenger = artifact.path / DETECTOR
        if (challenger / FILE).is_file():
            if held and str(challenger) in held.judged:
                return None
            corpus = made["ingest"].path
            enough = len(_test_rows(open_any(challenger), corpus)) >= LEAST_ROWS
            normal = artifact.config["job"].get("normal", [])
            return challenge(folder, recipe, challenger, corpus, normal) if enough else None
    return None


def _test_rows(detector: AnyDetector, corpus: Path) -> ArrayCorpus | list[Passage]:
    if isinstance(detector, DocumentDetector):
        return of_split(corpus, "test", detector.passage, DOCUMENTS, seed=0)
    return ArrayCorpus(corpus, "test")


def _measured(
    detector: AnyDetector | None, rows: ArrayCorpus | list[Passage], normal: Sequence[str]
) -> tuple[str, float]:
    if isinstance(detector, Detector) and isinstance(rows, ArrayCorpus):
        return _measured_rows(detector, rows, normal)
    if isinstance(detector, DocumentDetector) and isinstance(rows, list):
        return _measured_documents(detector, rows)
    raise TypeError(f"{type(detector).__name__} does not score {type(rows).__name__}")


def _measured_documents(detector: DocumentDetector, rows: list[Passage]) -> tuple[str, float]:
    kinds = (rows, changed(rows, shuffling(0, 0)))
    tokens = (detector.texts.tokens([one.sentences for one in kind]) for kind in kinds)
    normal, odd = (detector.network.surprises(one).mean() for one in tokens)
    truth = np.repeat([False, True], [len(normal), len(odd)])
    return f"{AUROC} beside shuffled words", auroc(np.concatenate([normal, odd]), truth)


def _measured_rows(detector: Detector, rows: ArrayCorpus, normal: Sequence[str]) -> tuple[str, float]:
    scores, flags, labels = [], [], []
    for batch in rows.batches():
        found = detector.judge(detector.inputs(batch.input))
        scores.append(found.score)
        flags.append(found.flag)
        labels.append(batch.label)
    label = np.concatenate(labels)
    known = label >= 0
    odd = ~np.isin(label, _normal_classes(rows, normal))[known]
    if len(np.unique(odd)) == 2:
        return AUROC, auroc(np.concatenate(scores)[known], odd)
    return "share flagged", float(np.concatenate(flags).mean())


def _normal_classes(rows: ArrayCorpus, normal: Sequence[str]) -> list[int]:
    """Numbers of the classes that are normal; none where nobody tells."""
    if rows.schema is not None:
        return [NORMAL] if rows.schema.normal is not None else []
    return [number for number, name in enumerate(rows.classes) if name in normal]


def auroc(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Area under the ROC curve of scores [R] that are higher for anomalies."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(anomalous), np.asarray(scores)))
