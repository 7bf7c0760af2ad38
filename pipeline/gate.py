"""Candidates for use, and the rule by which one of them takes the champion's place.

A job proposes what it made or tested as a `Candidate` in its report. Whoever keeps the champion of a name (MLflow's
registry for encoders, a file for detectors) asks `decide`, and keeps the decision with its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

CHAMPION, CHALLENGER = "champion", "challenger"
ENCODER, DETECTOR = "encoder", "detector"  # kinds of candidates
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Candidate:
    """What a job proposes for use, and how well it does."""

    kind: str
    """ENCODER or DETECTOR: candidates compete with those of their kind."""
    role: str
    """The job's input that holds its files, by role; "" where the job made them itself."""
    path: str
    """Its folder in that artifact."""
    measure: str
    """What its score is called."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that identify the evaluation (data, protocol, seeds): scores are compared only if these are equal."""
    score: float | None = None
    """None: it is scored where it is compared, on rows that neither it nor the champion has learned from."""
    spread: float | None = None
    """Standard deviation of the score over seeds or splits."""
    direction: Direction = "higher"
    """Which scores are better."""


@dataclass(frozen=True)
class Score:
    """How well something does in an evaluation."""

    value: float
    evaluation: str
    """Identifies the evaluation: what was measured, on which data."""
    direction: Direction = "higher"
    spread: float | None = None
    wanted: float | None = None
    """Where the best value is this one, and `direction` says nothing."""
    tolerance: float = 0.0
    """How far off `wanted` is as good as there."""

    @property
    def merit(self) -> float:
        """The higher the better."""
        if self.wanted is not None:
            return -max(0.0, abs(self.value - self.wanted) - self.tolerance)
        return self.value if self.direction == "higher" else -self.value

    @property
    def text(self) -> str:
        return f"{self.value:.6g} ± {self.spread:.2g}" if self.spread else f"{self.value:.6g}"


class Decision(NamedTuple):
    """Whether a challenger takes the champion's place, and why, as a clause."""

    takes_over: bool
    reason: str


def decide(challenger: Score, champion: Score | None, called: str = "the champion", held: bool = True) -> Decision:
    """The one rule: into an empty place goes any finite score, into a held one a score that is not worse.

    champion: None where there is none (`held` false) or it has no score. `called`: the champion, in words. Scores of
    different evaluations are not compared: whoever holds the place keeps it.
    """
    if not math.isfinite(challenger.value):
        return Decision(False, f"its score is {challenger.value}")
    if not held:
        return Decision(True, "there was none")
    if champion is None or not math.isfinite(champion.value) or champion.evaluation != challenger.evaluation:
        why = "was not scored by the same evaluation; score both by one, or move the alias by hand"
        return Decision(False, f"{called}, {why}")
    worse = "higher" if challenger.direction == "lower" else "lower"
    if challenger.wanted is not None:
        worse = "farther off"
    if challenger.merit >= champion.merit:
        return Decision(True, f"{challenger.text} is not {worse} than the {champion.text} of {called} so far")
    return Decision(False, f"{challenger.text} is {worse} than the {champion.text} of {called}")
