"""Which detector of a recipe is in use: the champion. Another one takes over only by doing as well on the same rows.

The rows are those of the newer one's test split that neither has learned from (`pipeline.scoring.training_rows`). With
labels the area under the ROC curve decides. Without them the rows are taken for normal, and the share of them that is
flagged should be what the threshold was drawn for: the nearer to it the better, and what is off by no more than the
standard error of that share counts as met. Of documents it is how well they are told from the same documents with their
words in another order.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from data_prep.shards.format import write_whole
from data_prep.text.passages import Passage, changed, of_split, shuffling
from pipeline.artifact import Artifact
from pipeline.scoring import training_rows
from pipeline.scoring.detectors import AnyDetector, open_any
from pipeline.scoring.document_detector import DocumentDetector
from pipeline.scoring.row_detector import FILE, Detector, name_of

_log = logging.getLogger(__name__)
DETECTOR = "detector"  # folder of an anomaly job's artifact
LEAST_ROWS = 20
NORMAL = 0
DOCUMENTS = 500  # most that detectors are compared on
AUROC = "AUROC"
SHARE = "share flagged"


class TooFewRowsError(UserError):
    """There are too few test rows to tell which detector is better."""


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
    rule: str = ""
    """Which value is better, where it is not the higher one."""
    left_out: int = 0
    """Test rows that one of them has learned from."""

    @property
    def why(self) -> str:
        other = "there was none" if self.champion is None else f"{self.champion:.4f} before"
        without = f" (without {self.left_out:,} that one of them learned from)" if self.left_out else ""
        return f"{self.measure} {self.challenger:.4f} on {self.rows:,} test rows{without}, {other}{self.rule}"


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
    too few to tell, or the champion is gone. Whoever else compares detectors of the recipe meanwhile is waited for.
    """
    with _alone(folder, recipe):
        return _challenge(folder, recipe, challenger, corpus, normal)


def challenge_with(folder: Path, recipe: str, made: Mapping[str, Artifact]) -> Verdict | None:
    """The same with what a run of a recipe made; None if it made no detector, or there are too few rows to tell.

    Also None for a detector that was compared before: what is found in the store again is not a newer one.
    """
    for artifact in made.values():
        challenger = artifact.path / DETECTOR
        if (challenger / FILE).is_file():
            normal = artifact.config["job"].get("normal", [])
            with _alone(folder, recipe):
                held = champion(folder, recipe)
                if held and str(challenger) in held.judged:
                    return None
                try:
                    return _challenge(folder, recipe, challenger, made["ingest"].path, normal)
                except TooFewRowsError as error:
                    _log.warning("%s", error)
                    return None
    return None


@contextmanager
def _alone(folder: Path, recipe: str) -> Iterator[None]:
    """One comparison of a recipe's detectors at a time, from reading who holds the place to writing it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{recipe}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _challenge(folder: Path, recipe: str, challenger: Path, corpus: Path, normal: Sequence[str]) -> Verdict:
    held = champion(folder, recipe)
    note = folder / f"{recipe}.json"
    if held and not (Path(held.folder) / FILE).is_file():
        raise UserError(
            f"{recipe}: the detector in use, {held.folder}, is gone, and nothing can be compared with it; put it back, "
            f"or delete {note} and run the recipe again."
        )
    detector = open_any(challenger)
    rivals = [challenger, *([Path(held.folder)] if held else [])]
    met = np.concatenate([training_rows.load(one) for one in rivals])
    rows, left_out = _test_rows(detector, corpus, met)
    if len(rows) < LEAST_ROWS:
        new = f" that neither has learned from, of {len(rows) + left_out:,}," if left_out else ""
        raise TooFewRowsError(
            f"{recipe}: {len(rows)} test rows{new} are too few to compare detectors; raise data.split.test."
        )
    other = open_any(Path(held.folder)) if held else None
    found = _measured(detector, rows, normal)
    before = _measured(other, rows, normal) if type(other) is type(detector) else None
    better = before is None or found.merit >= before.merit
    value = before.value if before else None
    verdict = Verdict(found.measure, len(rows), value, found.value, better, _rule(found, before, len(rows)), left_out)
    chosen = Champion(str(challenger), name_of(challenger), verdict.why) if better or held is None else held
    judged = dict.fromkeys([*(held.judged if held else ()), str(challenger)])
    write_whole(note, json.dumps(asdict(replace(chosen, judged=tuple(judged))), indent=1).encode())
    return verdict


@dataclass(frozen=True)
class _Rows:
    """Some rows of a split."""

    corpus: ArrayCorpus
    kept: np.ndarray  # bool, of all rows of the split

    def __len__(self) -> int:
        return int(self.kept.sum())

    def batches(self) -> Iterator[tuple[ArrayBatch, np.ndarray]]:
        """Batches of all rows, and the places in each of those that are kept."""
        for batch in self.corpus.batches():
            yield batch, np.flatnonzero(self.kept[batch.row])


_Tested: TypeAlias = _Rows | list[Passage]


class _Measured(NamedTuple):
    """How a detector does."""

    measure: str
    value: float
    merit: float
    """The higher the better."""
    asked: float | None = None
    """The share of rows that it should flag, where that is what counts."""


def _test_rows(detector: AnyDetector, corpus: Path, met: np.ndarray) -> tuple[_Tested, int]:
    """Test rows but those whose digests are among `met`; how many were left out."""
    if isinstance(detector, DocumentDetector):
        test = Corpus(corpus, "test")
        known = {
            name for name, one in zip(test.names, np.isin(training_rows.of_documents(test), met), strict=True) if one
        }
        rows = of_split(corpus, "test", detector.passage, DOCUMENTS, seed=0)
        new = [one for one in rows if one.document not in known]
        return new, len(rows) - len(new)
    split = ArrayCorpus(corpus, "test")
    known = [np.isin(training_rows.of_rows(batch.input), met) for batch in split.batches()]
    kept = ~np.concatenate([np.empty(0, bool), *known])
    return _Rows(split, kept), len(kept) - int(kept.sum())


def _measured(detector: AnyDetector | None, rows: _Tested, normal: Sequence[str]) -> _Measured:
    if isinstance(detector, Detector) and isinstance(rows, _Rows):
        return _measured_rows(detector, rows, normal)
    if isinstance(detector, DocumentDetector) and isinstance(rows, list):
        return _measured_documents(detector, rows)
    raise TypeError(f"{type(detector).__name__} does not score {type(rows).__name__}")


def _measured_documents(detector: DocumentDetector, rows: list[Passage]) -> _Measured:
    kinds = (rows, changed(rows, shuffling(0, 0)))
    tokens = (detector.texts.tokens([one.sentences for one in kind]) for kind in kinds)
    normal, odd = (detector.network.surprises(one).mean() for one in tokens)
    truth = np.repeat([False, True], [len(normal), len(odd)])
    area = auroc(np.concatenate([normal, odd]), truth)
    return _Measured(f"{AUROC} beside shuffled words", area, area)


def _measured_rows(detector: Detector, rows: _Rows, normal: Sequence[str]) -> _Measured:
    scores, flags, labels = [], [], []
    for batch, kept in rows.batches():
        found = detector.judge(detector.inputs(batch.input))
        scores.append(found.score[kept])
        flags.append(found.flag[kept])
        labels.append(batch.label[kept])
    label = np.concatenate(labels)
    known = label >= 0
    odd = ~np.isin(label, _normal_classes(rows.corpus, normal))[known]
    if len(np.unique(odd)) == 2:
        area = auroc(np.concatenate(scores)[known], odd)
        return _Measured(AUROC, area, area)
    share, asked = float(np.concatenate(flags).mean()), detector.false_alarms
    return _Measured(SHARE, share, -max(0.0, abs(share - asked) - _chance(asked, len(rows))), asked)


def _chance(asked: float, rows: int) -> float:
    """Standard error of the share of so many rows that are flagged, if each is with probability `asked`."""
    return float(np.sqrt(asked * (1 - asked) / rows))


def _rule(found: _Measured, before: _Measured | None, rows: int) -> str:
    """How shares flagged are compared."""
    if found.asked is None:
        return ""
    earlier = f", before {before.asked:.4f}" if before and before.asked not in (None, found.asked) else ""
    off = _chance(found.asked, rows)
    return f"; asked for {found.asked:.4f}{earlier}: the nearer the better, and {off:.4f} off is chance"


def _normal_classes(rows: ArrayCorpus, normal: Sequence[str]) -> list[int]:
    """Numbers of the classes that are normal; none where nobody tells."""
    if rows.schema is not None:
        return [NORMAL] if rows.schema.normal is not None else []
    return [number for number, name in enumerate(rows.classes) if name in normal]


def auroc(scores: ArrayLike, anomalous: ArrayLike) -> float:
    """Area under the ROC curve of scores [R] that are higher for anomalies."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(anomalous), np.asarray(scores)))
