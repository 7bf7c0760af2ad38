"""The job `adaptation`: a network that went on with other texts (`train.start.folder`), before and after, by source.

    held-out documents ─► tokens of the folder's tokenizer ─► the folder's network          what it knew
                       ─► tokens of the extended one       ─► the same, with new pieces     as training began
                                                           ─► the trained network           what it knows

Losses are in bits per byte of the text that the predicted tokens spell, so that they compare over vocabularies. What is
predicted is what the recipe has predicted: masked tokens, the next one, spans; so they do not compare over objectives.

    downstream:
      - {name: adaptation, task: adaptation}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.kinds import kind_of
from data_prep.settings import identity
from data_prep.tokens import pretrained
from pipeline.downstream.config import JobConfig, Problem, check_held_out, kind_problems
from pipeline.training_settings import training_settings

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "corpus", "shards", "preprocessor")


class Config(JobConfig):
    """How well a network predicts each source before and after it is trained further."""

    task: Literal["adaptation"]
    """Which job it is."""
    rows: int = Field(default=4096, ge=8)
    """Maximum number of held-out rows."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, a network that training starts from, and held-out documents."""
    yield from kind_problems(recipe, job, ("text",))
    start = recipe.train.start
    if start is None or (start.folder is None and start.recipe is None):
        yield "train.start", f"{job.name!r} compares with the network that training starts from; name one (--from)"
    if recipe.data.split.validation == 0:
        yield "data.split.validation", f"{job.name!r} needs held-out documents; set it above 0"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """How rows are made and read, and the tokenizer as it was."""
    tokenizer = recipe.tokenizer.model_copy(update={"add": 0})
    return {
        "pretraining": training_settings(recipe),
        "tokenizer": identity(tokenizer),
        "contents": pretrained.contents(tokenizer.path) if tokenizer.path else "",
        "cleaning": asdict(recipe.data.clean.cleaning),
        "shards": kind_of(recipe.data.kind).shards_settings(recipe),
        "weights": {name: recipe.order.weights.get(name) for name in sorted(recipe.order.weights)},
    }


def check_inputs(job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact]) -> None:
    """See `pipeline.downstream`."""
    check_held_out(job, inputs["shards"])


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Evaluate the three networks on held-out rows of every source.

    inputs: `pretrained`, whose `model/` is what the objective exported; `corpus`, with held-out documents; `shards` and
    `preprocessor`, rows and tokenizer of the training.
    """
    from pipeline.downstream.adaptation.trial import Trial

    return Trial(job, settings, inputs, context).run(out_dir)
