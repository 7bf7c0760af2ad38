"""Base of the jobs' settings, and requirements that several jobs share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings
from data_prep.sources.config import SourceConfig
from pipeline.slug import SLUG
from pipeline.training_settings import training_settings as of_training
from training.models.text.architectures import default_setting, line_of

Problem = tuple[str, str]
"""(path, what is wrong there); see `pipeline.downstream`."""
VALIDATION_SPLIT = "validation"
FEWEST_POSITIONS = 510  # of networks whose recipe does not say
NOUNS = {"text": "text", "table": "tables", "images": "images"}


class JobConfig(Settings):
    """Base of all jobs' sections."""

    name: str = Field(pattern=SLUG)
    """Names the job in reports and keys."""


def kind_problems(recipe: Any, job: Any, kinds: Sequence[str]) -> Iterator[Problem]:
    """A problem if the recipe's kind of data, where it is known, is not among those that the job reads."""
    if recipe.kind is not None and recipe.kind not in kinds:
        wanted = " and ".join(NOUNS.get(kind, kind) for kind in kinds)
        yield ".task", f"{job.task} is of {wanted}, and the network reads {recipe.kind}"


def held_out_text_problems(recipe: Any, job: JobConfig, split: str = "validation") -> Iterator[Problem]:
    """Whether a recipe is of text and holds some of it out."""
    yield from kind_problems(recipe, job, ("text",))
    if recipe.data.kind == "text" and getattr(recipe.data.split, split) == 0:
        yield f"data.split.{split}", f"{job.name!r} needs held-out documents; set it above 0"


def check_held_out(job: JobConfig, shards: Any, fewest: int = 1) -> None:
    """UserError if shards have too few validation rows for a job."""
    rows = shards.summary.get(VALIDATION_SPLIT, {}).get("rows", 0)
    if rows < fewest:
        raise UserError(
            f"downstream.{job.name}: {rows:,} held-out rows are too few, and {fewest:,} are needed; raise "
            "data.split.validation, or add documents."
        )


def objective_problems(recipe: Any, job: Any, objective: str) -> Iterator[Problem]:
    """A problem if the recipe has another objective than the job tests."""
    if recipe.objective.name != objective:
        text = f"{job.task} is of {objective}, found {recipe.objective.name}; leave out {job.name!r}"
        yield "objective.name", text


def split_problems(sources: Sequence[SourceConfig], field: str) -> Iterator[Problem]:
    """A problem for every source of a job that declares a split, which only those of `data.sources` have."""
    for place, source in enumerate(sources):
        if source.split is not None:
            yield (
                f".{field}.{place}.split",
                "a job uses all of a source; leave split out, or give a path with some files",
            )


def length_problems(recipe: Any, length: int | None) -> Iterator[Problem]:
    """A problem if the recipe's network has too few positions for rows of the job's length."""
    if length is None or recipe.network is None:
        return
    line = line_of(recipe.network.architecture)
    name, first = line.setting("max_position_embeddings"), line.first(0)
    positions = recipe.network.config.get(name)
    if positions is None and length + first > FEWEST_POSITIONS:
        positions = default_setting(recipe.network.architecture, name)
    if isinstance(positions, int) and positions < length + first:
        counted = f", counted from {first} on" if first else ""
        yield ".length", f"{length} exceeds network.config.{name} {positions}{counted}"


def training_settings(recipe: Any) -> dict[str, Any]:
    """Settings with which a job trains networks as the recipe does."""
    settings = of_training(recipe)
    return {name: value for name, value in settings.items() if name not in ("name", "order")}
