"""One fine-tuning, as it is kept until its job is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import Predicted, Span
from pipeline.downstream.fine_tune.job import FINE_TUNED

_TRIAL = "trial.json"


@dataclass(frozen=True)
class Trial:
    """One fine-tuning: scores by name, and what was predicted for the rows that they are of; neither, where the network
    diverged."""

    scores: dict[str, float]
    predicted: Predicted
    steps: int = 0
    """Steps that were taken."""
    best_step: int = 0
    """The step whose state is judged: the last, or the best of those that were scored on validation rows."""
    weights: tuple[int, int] = (0, 0)
    """How many weights were learned, and how many there are."""
    padding: float | None = None
    """Share of padding in the positions of its batches."""
    threshold: float | None = None
    """That of “no answer”, where validation rows chose one."""
    counted: Mapping[str, Sequence[Counted]] = field(default_factory=dict)
    """What of the rows of each split that it read is cut, or not learned."""
    network: FineTuned | Path | None = None
    """What was trained, or the folder of an earlier attempt that holds it; only of the network that is kept."""

    @property
    def diverged(self) -> bool:
        """Whether its weights or scores are no finite numbers."""
        return not self.scores


def save(trial: Trial, folder: Path) -> None:
    """Write it, with the network that it keeps."""
    names = ("scores", "steps", "best_step", "weights", "padding", "threshold", "counted")
    values = {name: getattr(trial, name) for name in names}
    values |= {"predicted": asdict(trial.predicted)}
    (folder / _TRIAL).write_text(json.dumps(values))
    if isinstance(trial.network, FineTuned):
        exported.save(folder / FINE_TUNED, trial.network)


def read(folder: Path) -> Trial:
    """What `save` wrote."""
    values = json.loads((folder / _TRIAL).read_text())
    network = folder / FINE_TUNED
    predicted = Predicted(**values["predicted"])
    predicted = replace(predicted, n_best=[[Span(*span) for span in spans] for spans in predicted.n_best])
    counted = {split: [Counted(*each) for each in of_split] for split, of_split in values["counted"].items()}
    values |= {"predicted": predicted, "weights": tuple(values["weights"]), "counted": counted}
    return Trial(**values, network=network if network.is_dir() else None)
