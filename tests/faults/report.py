"""What was tried, what survived, and what was lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.operations import CLASSES, Operation

AT_ANY_TIME, BETWEEN = "any", "between"
"""In place of an operation's class: for what does not strike at one that was traced, and for harm between two runs."""


@dataclass
class Tried:
    """A fault that struck: where, and why something was lost, if it was."""

    scenario: str
    kind: str
    operation: Operation
    lost: str = ""


@dataclass
class Traced:
    """A scenario's operations in a run that nothing disturbed, what it made, and how long it took."""

    operations: list[Operation]
    outcome: Any
    seconds: float


@dataclass
class Report:
    """What a campaign found."""

    tried: list[Tried] = field(default_factory=list)
    missed: int = 0
    """Faults that were armed and did not strike: the run was over before, or never wrote so large a file."""
    seconds: float = 0.0
    traced: dict[str, Traced] = field(default_factory=dict)

    @property
    def lost(self) -> list[Tried]:
        return [trial for trial in self.tried if trial.lost]

    def not_hit(self) -> list[str]:
        """Classes of operations of a scenario that its trace has and no fault met."""
        hit = {(trial.scenario, trial.operation.kind) for trial in self.tried}
        traced = {(name, operation.kind) for name, trial in self.traced.items() for operation in trial.operations}
        return sorted(f"{name}: {kind}" for name, kind in traced - hit)

    def never_hit(self) -> list[str]:
        """Classes of operations that no fault met in any scenario."""
        return sorted(set(CLASSES) - {trial.operation.kind for trial in self.tried})

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        tried = [{**asdict(trial), "operation": trial.operation._asdict()} for trial in self.tried]
        never = {"not_hit": self.not_hit(), "never_hit": self.never_hit()}
        return {"tried": tried, **never, "missed": self.missed, "seconds": self.seconds}


def table(report: Report) -> str:
    """Tried, survived and lost, by stage and class of operation; and by kind."""
    lines = [f"{'stage':24}{'operation':10}{'tried':>7}{'survived':>10}{'lost':>6}   kinds"]
    groups: dict[tuple[str, str], list[Tried]] = defaultdict(list)
    order = [*CLASSES, AT_ANY_TIME, BETWEEN]
    for trial in report.tried:
        groups[trial.scenario, trial.operation.kind].append(trial)
    stages = list(dict.fromkeys(trial.scenario for trial in report.tried))
    for stage, kind in sorted(groups, key=lambda group: (stages.index(group[0]), order.index(group[1]))):
        trials = groups[stage, kind]
        lost = sum(bool(trial.lost) for trial in trials)
        kinds = ", ".join(f"{count} {name}" for name, count in Counter(trial.kind for trial in trials).most_common())
        lines.append(f"{stage:24}{kind:10}{len(trials):7}{len(trials) - lost:10}{lost:6}   {kinds}")
    lines += ["", f"{'kind':34}{'tried':>7}{'survived':>10}{'lost':>6}"]
    for kind, count in Counter(trial.kind for trial in report.tried).most_common():
        lost = sum(bool(trial.lost) for trial in report.tried if trial.kind == kind)
        lines.append(f"{kind:34}{count:7}{count - lost:10}{lost:6}")
    total, lost = len(report.tried), len(report.lost)
    lines += [f"{'all':34}{total:7}{total - lost:10}{lost:6}", ""]
    each = report.seconds / max(total, 1)
    lines.append(f"{report.seconds:.0f} s, {each:.2f} s each; {report.missed} more were armed and did not strike.")
    return "\n".join(lines)
