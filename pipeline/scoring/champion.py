"""The champion: the detector of a recipe in use. A challenger replaces it if it does as well on the same rows.

It belongs to a name and to what it reads (columns and their kinds, the shape of images). A detector of the same name
that reads something else, as that of a copied recipe does, takes nobody's place: it is the champion of `NAME@…`.

The rows are those of the challenger's test split that neither has learned from (`pipeline.scoring.training_rows`).
With labels, the area under the ROC curve decides. Without labels, rows are assumed to be normal, and the share flagged
should be the one that the threshold was chosen for: the nearer the better, and a difference within the standard error
counts as none. For documents it is the AUROC against the same documents with their words shuffled. `pipeline.gate`
decides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import UserError
from pipeline.gate import Candidate, Champion, Score, champion, comparison_lock, decide, save_champion
from pipeline.scoring import training_rows
from pipeline.scoring.detector import FILE, Detector, Evaluation, name_of
from pipeline.scoring.detectors import open_any

__all__ = ["DETECTOR", "Verdict", "challenge", "champion", "propose"]

_log = logging.getLogger(__name__)
DETECTOR = "detector"  # folder of an anomaly job's artifact
LEAST_ROWS = 20


class TooFewRowsError(UserError):
    """There are too few test rows to tell which detector is better."""


@dataclass(frozen=True)
class Verdict:
    """A comparison: scores of champion and challenger, and whether the challenger takes over."""

    measure: str
    rows: int
    champion: float | None
    challenger: float
    promoted: bool
    rule: str = ""
    """Which value is better, if not the higher one."""
    left_out: int = 0
    """Test rows that one of them has learned from."""

    @property
    def why(self) -> str:
        other = "there was none" if self.champion is None else f"{self.champion:.4f} before"
        without = f" (without {self.left_out:,} that one of them learned from)" if self.left_out else ""
        return f"{self.measure} {self.challenger:.4f} on {self.rows:,} test rows{without}, {other}{self.rule}"


def name_for(folder: Path, recipe: str, detector: Detector) -> str:
    """The name by which a detector competes: the recipe's, unless the champion of that name reads something else."""
    held = champion(folder, recipe)
    if held is None:
        return recipe
    reads = held.reads
    if not reads and (Path(held.folder) / FILE).is_file():
        in_use = _usable(recipe, held)
        reads = in_use.reads if in_use else ""
    return recipe if reads in ("", detector.reads) else f"{recipe}@{detector.reads}"


def _usable(recipe: str, held: Champion) -> Detector | None:
    """The detector in use; None if it is damaged, or of a version whose detectors cannot be read, which is reported."""
    try:
        return open_any(Path(held.folder))
    except UserError as error:
        _log.warning("%s: the detector in use takes no part in comparisons: %s", recipe, error)
        return None


def challenge(folder: Path, recipe: str, challenger: Path, corpus: Path, normal: Sequence[str] = ()) -> Verdict:
    """Let a detector take over if it does as well as the champion on the test rows of `corpus`.

    normal: classes of normal images, if known; a table's schema defines its own. UserError where there are too few
    rows, or the champion's files are gone. Waits for other comparisons of the recipe's detectors.
    """
    with comparison_lock(folder, recipe):
        name = name_for(folder, recipe, open_any(challenger))
        return _challenge(folder, name, challenger, corpus, normal)


def propose(folder: Path, recipe: str, candidate: Candidate, challenger: Path, corpus: Path) -> Verdict | None:
    """Challenge with a job's candidate; None if there are too few test rows.

    Also None for a detector that was compared before, such as one found in the store again.
    """
    with comparison_lock(folder, recipe):
        name = name_for(folder, recipe, open_any(challenger))
        held = champion(folder, name)
        if held and str(challenger) in held.judged:
            return None
        if name != recipe:
            _log.warning(
                "the detector in use of %s reads something else than this one, which is called %s; "
                "give the recipe a name of its own",
                recipe,
                name,
            )
        try:
            return _challenge(folder, name, challenger, corpus, candidate.evaluation.get("normal", ()))
        except TooFewRowsError as error:
            _log.warning("%s", error)
            return None


def _challenge(folder: Path, recipe: str, challenger: Path, corpus: Path, normal: Sequence[str]) -> Verdict:
    held = champion(folder, recipe)
    if held and not (Path(held.folder) / FILE).is_file():
        raise UserError(
            f"{recipe}: the detector in use, {held.folder}, is gone, and nothing can be compared with it; put it back, "
            f"or delete {folder / f'{recipe}.json'} and run the recipe again."
        )
    detector = open_any(challenger)
    other = _usable(recipe, held) if held else None
    rivals = [challenger, *([Path(held.folder)] if held and other else [])]
    rows, left_out = detector.test_rows(corpus, np.concatenate([training_rows.load(rival) for rival in rivals]))
    if len(rows) < LEAST_ROWS:
        new = f" that neither has learned from, of {len(rows) + left_out:,}," if left_out else ""
        raise TooFewRowsError(
            f"{recipe}: {len(rows)} test rows{new} are too few to compare detectors; raise data.split.test."
        )
    measured = _evaluated(detector, rows, normal)
    before = _evaluated(other, rows, normal) if other is not None and other.KIND == detector.KIND else None
    decision = decide(
        _score(measured, len(rows)), _score(before, len(rows)) if before else None, held=before is not None
    )
    verdict = Verdict(
        measured.measure,
        len(rows),
        before.value if before else None,
        measured.value,
        decision.takes_over,
        _rule(measured, before, len(rows)),
        left_out,
    )
    _keep(folder, recipe, challenger, held, verdict)
    return verdict


def _keep(folder: Path, recipe: str, challenger: Path, held: Champion | None, verdict: Verdict) -> None:
    """Record the champion, the compared detectors, and the decision with its numbers."""
    now = held
    if verdict.promoted or now is None:
        now = Champion(str(challenger), name_of(challenger), verdict.why, reads=open_any(challenger).reads)
    judged = dict.fromkeys([*(held.judged if held else ()), str(challenger)])
    decision = {"folder": str(challenger), "in_use": held.folder if held else None, **asdict(verdict)}
    save_champion(folder, recipe, replace(now, judged=tuple(judged)), decision)


def _evaluated(detector: Detector, rows: Any, normal: Sequence[str]) -> Evaluation:
    return detector.evaluate(rows, normal)


def _score(measured: Evaluation, num_rows: int) -> Score:
    tolerance = 0.0 if measured.target is None else _chance(measured.target, num_rows)
    return Score(measured.value, measured.measure, target=measured.target, tolerance=tolerance)


def _chance(asked: float, num_rows: int) -> float:
    """Standard error of the share of so many rows that are flagged, if each is with probability `asked`."""
    return float(np.sqrt(asked * (1 - asked) / num_rows))


def _rule(measured: Evaluation, before: Evaluation | None, num_rows: int) -> str:
    """Explains the comparison of shares flagged."""
    if measured.target is None:
        return ""
    earlier = f", before {before.target:.4f}" if before and before.target not in (None, measured.target) else ""
    off = _chance(measured.target, num_rows)
    return f"; asked for {measured.target:.4f}{earlier}: the nearer the better, and {off:.4f} off is chance"
