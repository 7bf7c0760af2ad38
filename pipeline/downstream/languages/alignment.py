"""The job `alignment`: whether an encoder gives what says the same in two languages like vectors, layer by layer.

    parallel sentences ─► mean of all tokens' vectors ─┐                 ┌─ as they are ────────────────┐
    pairs of words ─► mean of the pieces' vectors ─────┴─► each layer ───┴─ without the language's mean ─┴─► cosines

Each text is looked for among all texts of the other language, in both directions: mean reciprocal rank (of words by Liu
et al. 2020, arXiv:2004.09205), and the share that is found first (Tatoeba in XTREME, Hu et al. 2020, which asks with
English texts alone). A language's mean is that of the vectors that are compared, without their pairs (Libovický et al.
2020). Words stand alone, without context.

Beside it: random weights, TF-IDF of character n-grams, chance, and other networks, such as one of early in pretraining.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from data_prep.errors import choices
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream import frozen_models, model_names
from pipeline.downstream.config import JobConfig, Problem, kind_problems
from pipeline.downstream.frozen_models import compared
from pipeline.downstream.languages import parallel
from pipeline.downstream.languages.parallel import ParallelConfig
from pipeline.downstream.model_names import PRETRAINED, SCRATCH

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

__all__ = ["READS", "VERSION", "Config", "compared", "needs", "remarks", "run", "settings"]

VERSION = 1
READS = ("pretrained",)
BASELINES = ("tfidf",)
SENTENCES, WORDS = UNITS = ("sentences", "words")


class Config(JobConfig):
    """Translations found by their vectors, layer by layer."""

    task: Literal["alignment"]
    """Which job it is."""
    sentences: ParallelConfig | None = None
    """Parallel sentences."""
    words: ParallelConfig | None = None
    """Pairs of words."""
    rows: int | None = Field(default=1000, ge=2)
    """Most rows of each, drawn by the recipe's seed; null: all."""
    length: int | None = Field(default=None, ge=3)
    """Most tokens of a text, specials included; null: as many as the network takes."""
    models: list[str] = Field(default=[PRETRAINED, SCRATCH], min_length=1)
    """Networks: pretrained; scratch, its shape with random weights; names of an evaluation's `networks`; or folders."""
    baselines: list[str] = Field(default=[*BASELINES])
    """Methods without a network: tfidf, of character n-grams."""
    sizes: dict[str, float] = Field(default={})
    """How much text models were pretrained on, by name: a figure shows how alignment grows with it."""
    size_of: str = "pretraining text"
    """What `sizes` counts, such as million tokens."""

    @model_validator(mode="after")
    def _has_texts(self) -> Config:
        if self.sentences is None and self.words is None:
            raise ValueError("takes sentences, words or both, and found neither")
        return self

    @property
    def units(self) -> dict[str, ParallelConfig]:
        """What is compared, by what it is called."""
        given = {SENTENCES: self.sentences, WORDS: self.words}
        return {name: of for name, of in given.items() if of is not None}


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, and known models and baselines."""
    yield from kind_problems(recipe, job, ("text",))
    yield from model_names.problems(job.models)
    for index, name in enumerate(job.baselines):
        if name not in BASELINES:
            yield f".baselines.{index}", f"{name!r} is no baseline for {job.task}; {choices(name, BASELINES)}"
    for name in job.sizes:
        if name not in job.models:
            yield f".sizes.{name}", f"is none of models; {choices(name, job.models)}"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of the user's files; `cleaning` of texts, `seed`, `titles` of models.

    The texts are read, too: UserError, before anything is trained, if they cannot serve the job.
    """
    from pipeline.downstream.fine_tune.job import contents_of

    known = frozen_models.settings(recipe, job)
    for of in job.units.values():
        parallel.load(of, recipe.cleaning).pairs()
        known["contents"] |= {str(path): contents_of(path) for path in of.paths()}
    return {**known, "cleaning": asdict(recipe.cleaning)}


def remarks(recipe: Any, job: Config) -> list[str]:
    """What is odd about the texts."""
    said = []
    for unit, of in job.units.items():
        texts = parallel.load(of, recipe.cleaning)
        said += [f"{unit}: {note}" for note in texts.notes]
        said += [
            f"{unit}: {pair.missing:,} of {len(texts.rows):,} rows lack {pair.first} or {pair.second}, and are left out"
            for pair in texts.pairs()
            if pair.missing
        ]
    return [f"downstream {job.name}: {text}" for text in said]


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`: by unit and model, of the last and the best layer; * for its title."""
    for unit in job.units:
        yield from (f"{unit}/{measure}/*" for measure in ("mrr", "top1"))


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Find translations by every layer of every model.

    inputs: `pretrained`, a network of texts in `model/`; those of `compared`, alike. Reports shares of 1. UserError for
    networks that read no texts.
    """
    from pipeline.downstream.languages import alignment_report
    from pipeline.downstream.languages.alignment_trials import Trials

    models = frozen_models.FrozenModels.of(job, settings, inputs, context)
    trials = Trials(job, models, Cleaning(**settings["cleaning"]), context)
    return alignment_report.build(job, trials.texts, trials.run(), models, out_dir / "figures")
