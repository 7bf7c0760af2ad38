"""Candidates for use, the rule by which a challenger replaces the champion, and the champion as a file.

A job proposes what it made or tested as a `Candidate` in its report. Champions are aliases in MLflow's registry for
encoders and fine-tuned networks (`pipeline.tracking.registry`), and files here for detectors; both ask `decide` and
record its decision:

    FOLDER/NAME.json              the champion, and what was compared so far; the home, which FOLDER is in, may move
    FOLDER/NAME.decisions.jsonl   every decision
    FOLDER/.NAME.lock             one comparison at a time
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from data_prep.errors import UserError
from data_prep.sealed import write_whole

CHAMPION, CHALLENGER = "champion", "challenger"
ENCODER, DETECTOR, FINE_TUNED = "encoder", "detector", "fine-tuned"  # kinds of candidates
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Candidate:
    """What a job proposes for use, and how well it does."""

    kind: str
    """ENCODER, DETECTOR or FINE_TUNED: candidates compete with those of their kind and name."""
    role: str
    """The job's input that holds its files, by role; "" where the job made them itself."""
    path: str
    """Its folder in that artifact."""
    measure: str
    """What its score is called."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that identify the evaluation (data, protocol, seeds): scores are compared only if these are equal."""
    score: float | None = None
    """None: it is scored in the comparison, on rows that neither it nor the champion has learned from."""
    spread: float | None = None
    """Standard deviation of the score over seeds or splits."""
    direction: Direction = "higher"
    """Which scores are better."""
    name: str = ""
    """What it is called among those of its recipe; empty: as its kind."""


@dataclass(frozen=True)
class Score:
    """A score in an evaluation."""

    value: float
    evaluation: str
    """Identifies the evaluation: what was measured, on which data."""
    direction: Direction = "higher"
    spread: float | None = None
    target: float | None = None
    """The best value, where there is one; `direction` is then ignored."""
    tolerance: float = 0.0
    """Distance from `target` that counts as none."""

    @property
    def merit(self) -> float:
        """The higher the better."""
        if self.target is not None:
            return -max(0.0, abs(self.value - self.target) - self.tolerance)
        return self.value if self.direction == "higher" else -self.value

    @property
    def text(self) -> str:
        return f"{self.value:.6g} ± {self.spread:.2g}" if self.spread else f"{self.value:.6g}"


class Decision(NamedTuple):
    """Whether a challenger takes the champion's place, and why, as a clause."""

    takes_over: bool
    reason: str


def decide(challenger: Score, champion: Score | None, called: str = "the champion", held: bool = True) -> Decision:
    """The rule: any finite score fills an empty place; a champion is replaced by a score that is not worse.

    champion: None where there is none (`held` false) or it has no score. `called`: the champion, in words. Scores of
    different evaluations are not compared: the current holder keeps the place.
    """
    if not math.isfinite(challenger.value):
        return Decision(False, f"its score is {challenger.value}")
    if not held:
        return Decision(True, "there was none")
    if champion is None or not math.isfinite(champion.value) or champion.evaluation != challenger.evaluation:
        why = "was not scored by the same evaluation; score both by one, or move the alias by hand"
        return Decision(False, f"{called}, {why}")
    worse = "higher" if challenger.direction == "lower" else "lower"
    if challenger.target is not None:
        worse = "farther off"
    if challenger.merit >= champion.merit:
        return Decision(True, f"{challenger.text} is not {worse} than the {champion.text} of {called} so far")
    return Decision(False, f"{challenger.text} is {worse} than the {champion.text} of {called}")


@dataclass(frozen=True)
class Champion:
    """What is in use: its folder, and why it was chosen."""

    folder: str
    name: str
    why: str
    judged: tuple[str, ...] = ()
    """Folders of all that have been compared so far."""
    reads: str = ""
    """What a detector reads, see `pipeline.scoring.detector`; empty if unknown."""


def champion(folder: Path, name: str) -> Champion | None:
    """The champion of that name; None if there is none. UserError for a damaged file."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        judged = tuple(str(folder.parent / other) for other in values.get("judged", ()))
        return Champion(**{**values, "folder": str(folder.parent / values["folder"]), "judged": judged})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run the recipe again.") from None


@contextmanager
def comparison_lock(folder: Path, name: str) -> Iterator[None]:
    """Held from reading the champion to writing it; other comparisons wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def save_champion(folder: Path, name: str, champion: Champion, decision: Mapping[str, Any]) -> None:
    """Write the champion, and append the decision to the log. Folders in FOLDER's parent are written relative to it."""
    parent = folder.parent.absolute()

    def noted(place: str) -> str:
        return str(Path(place).relative_to(parent)) if Path(place).is_relative_to(parent) else place

    noted_champion = replace(champion, folder=noted(champion.folder), judged=tuple(map(noted, champion.judged)))
    with (folder / f"{name}.decisions.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(decision) + "\n")
    write_whole(folder / f"{name}.json", json.dumps(asdict(noted_champion), indent=1).encode())
