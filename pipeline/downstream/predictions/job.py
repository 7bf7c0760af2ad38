"""The job `predictions`: what a pretrained network of text predicts on held-out rows, and whether it has learned.

    held-out rows, corrupted as evaluation does ─► the network      ─┐
                                                ─► random weights    ├─► nats per token, accuracy, by row
    training rows, the same tokens ─► n-grams, Kneser–Ney           ─┘         └─► verdict, examples

It asks the objective (`targets`, `guesses`, `written` of `training.objectives.text.TextObjective`), and so takes
whatever predicts tokens: masked ones, the next one, those of a sequence of its own. To have it in a recipe:

    downstream:
      - {name: predictions, task: predictions}

The network of random weights is the one that training began with. N-grams are given what the network sees next
to a token (`pipeline.downstream.predictions.ngrams`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.downstream.config import JobConfig, Problem, check_held_out, held_out_text_problems
from pipeline.training_settings import training_settings
from training import objectives

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 2
READS = ("pretrained", "shards", "preprocessor")
FEWEST_ROWS = 8  # that a figure is worth
_OF_TRAINING = ("name", "kind", "corruption", "order", "network", "networks", "objective", "seed")


class Config(JobConfig):
    """What the network predicts on held-out rows, compared with n-gram models of the same tokens."""

    task: Literal["predictions"]
    """Which job it is."""
    rows: int = Field(default=512, ge=FEWEST_ROWS)
    """Maximum number of held-out rows."""
    train_tokens: int = Field(default=5_000_000, ge=1000)
    """Maximum number of training tokens that n-grams are counted of."""
    examples: int = Field(default=8, ge=1)
    """Number of examples that are shown."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, an objective that predicts tokens, and held-out rows."""
    yield from held_out_text_problems(recipe, job)
    if recipe.data.kind == "text" and not hasattr(objectives.module_of(recipe.objective.name).build, "guesses"):
        yield ".task", f"{recipe.objective.name} predicts no tokens; leave out {job.name!r}"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """How training reads rows and builds its networks, and whether it began with random weights."""
    of_training = training_settings(recipe)
    return {
        "pretraining": {name: of_training[name] for name in _OF_TRAINING if name in of_training},
        "from_random": recipe.train.start is None,
    }


def check_inputs(job: JobConfig, settings: dict[str, Any], inputs: Mapping[str, Artifact]) -> None:
    """See `pipeline.downstream`."""
    check_held_out(job, inputs["shards"], FEWEST_ROWS)


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`."""
    for name in ("loss", "accuracy", "bits_per_byte"):
        yield from (name, f"{name}/*")
    yield from ("tokens", "gain", "gain/*", "judged/*")


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Predict the targets of held-out rows by the network, by random weights and by n-grams.

    inputs: `pretrained`, whose `model/` is what the objective exported; `shards`, training and validation rows;
    `preprocessor`, the tokenizer. Losses are in nats per token, accuracies in 0 … 1. UserError where there are no
    held-out rows.
    """
    from pipeline.downstream.predictions.trial import Trial

    return Trial(job, settings, inputs, context).run(out_dir)
