"""The job `text-restoration`: what an encoder-decoder writes when it is given corrupted texts that it has not seen.

    held-out rows, corrupted as evaluation does ─► the network writes ─► put in ─┐
                                                 ─► as they are                  ├─► chrF, BLEU, ROUGE, examples
    the same rows, clean                                                        ─┘

Nothing tells the network what it should have written so far, as training and `predictions` do. To have it in a recipe:

    downstream:
      - {name: restorations, task: text-restoration}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.downstream.config import JobConfig, Problem, held_out_text_problems
from pipeline.downstream.predictions.job import FEWEST_ROWS, check_inputs, settings

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

__all__ = ["READS", "VERSION", "Config", "check_inputs", "needs", "numbers", "run", "settings"]

VERSION = 1
READS = ("pretrained", "shards", "preprocessor")


class Config(JobConfig):
    """Restored texts compared with corrupted ones, by chrF, BLEU and ROUGE."""

    task: Literal["text-restoration"]
    """Which job it is."""
    rows: int = Field(default=128, ge=FEWEST_ROWS)
    """Maximum number of held-out rows."""
    beams: int = Field(default=1, ge=1)
    """Texts that beam search keeps; 1: the likeliest token each time."""
    examples: int = Field(default=8, ge=1)
    """Number of examples that are shown."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, a corruption that leaves a sequence to write, and held-out rows."""
    yield from held_out_text_problems(recipe, job)
    if recipe.data.kind == "text" and recipe.corruption.targets != "sequence":
        yield ".task", f"corruption.kind {recipe.corruption.kind} leaves no sequence to write; leave out {job.name!r}"


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`."""
    for name in ("chrf", "bleu", "rouge1", "rouge2", "rougeL", "equal"):
        yield from (name, f"{name}/given")
    yield from ("gain", "gain/*")


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Restore held-out rows. inputs: `pretrained`, `shards`, `preprocessor`. UserError where no rows are held out."""
    from pipeline.downstream.text_restoration.trial import Restoring

    return Restoring(job, settings, inputs, context).run(out_dir)
