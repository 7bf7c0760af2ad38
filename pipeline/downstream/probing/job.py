"""The job `probe`: which layer of a network knows what a task asks, by a linear classifier on its frozen vectors.

    rows of a task ─► network, not trained ─► vectors of each layer ─► logistic regression ─► scores, layer by layer

Rows with one label are the pooled vectors of their tokens, words the vector of their first piece, both as in
fine-tuning, with its draws of training rows. Validation rows choose a layer; others are reported.

A probe may learn by heart what it is asked. Its control task says how well it does so (Hewitt & Liang 2019):
each word type has one label, drawn from those of the training rows, wherever it stands. Selectivity is the accuracy of
the task less that of the control. Rows with one label have no words in common to learn by heart, and no control.

Beside it: the same network from random weights, other networks, and methods without a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.errors import UserError, choices
from data_prep.labelled.examples import Task
from data_prep.labelled.files import LabelledConfig, load
from data_prep.settings import identity
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream import frozen_models, model_names
from pipeline.downstream.config import JobConfig, Problem, kind_problems, length_problems
from pipeline.downstream.fine_tune import checks
from pipeline.downstream.fine_tune.checks import BASELINES, HAS
from pipeline.downstream.frozen_models import compared
from pipeline.downstream.model_names import PRETRAINED, SCRATCH

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

__all__ = ["OPTIONAL", "READS", "VERSION", "Config", "compared", "needs", "numbers", "remarks", "run", "settings"]

VERSION = 2
READS = ("pretrained", "corpus")
OPTIONAL = ("corpus",)  # which some registered data are derived from
PROBED: tuple[Task, ...] = ("classification", "tagging")


class Config(JobConfig):
    """Linear probes of every layer."""

    task: Literal["probe"]
    """Which job it is."""
    data: LabelledConfig
    """Rows with a label each, or for each of their words."""
    labels: int | None = Field(default=None, ge=2)
    """Training rows that a probe learns from; null, or more than there are, is all of them."""
    seeds: int = Field(default=3, ge=1)
    """Number of repetitions, each with other training rows and other control labels."""
    layers: list[int] = Field(default=[])
    """Layers that are probed, 0 being the embeddings; empty: all."""
    length: int = Field(default=128, ge=4)
    """Most tokens of a row, specials included."""
    window_overlap: int | None = Field(default=None, ge=0)
    """Tokens that two windows of a long sentence have in common, where words have labels; null: a third of `length`."""
    pooling: Literal["cls", "mean", "last"] = "mean"
    """Vector of a row with one label: its first token's, the mean of all, or its last token's."""
    regularisation: float = Field(default=1.0, gt=0)
    """Weight of the squared norm of the probe's weights beside the sum of its losses (1/C of scikit-learn)."""
    iterations: int = Field(default=300, ge=1)
    """Most iterations of L-BFGS; how many probes reach them is said."""
    control: bool = True
    """Whether words get control labels, too."""
    validation_rows: int | None = Field(default=None, ge=1)
    """Rows that choose a layer; null: all."""
    test_rows: int | None = Field(default=None, ge=1)
    """Rows that are reported; null: all."""
    models: list[str] = Field(default=[PRETRAINED, SCRATCH], min_length=1)
    """Networks: pretrained; scratch, its shape with random weights; names of an evaluation's `networks`; or folders."""
    baselines: list[str] = Field(default=[])
    """Methods without a network to compare with, those of fine-tuning."""

    @property
    def written(self) -> bool:
        """Whether answers are written as texts."""
        return False

    @property
    def class_weights(self) -> None:
        """All labels weigh alike."""

    @property
    def label_counts(self) -> list[int]:
        """`labels` as fine-tuning has them, of a job that is fitted to its data (`fitted`)."""
        return [] if self.labels is None else [self.labels]


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, known models and baselines, and enough positions."""
    yield from kind_problems(recipe, job, ("text",))
    yield from model_names.problems(job.models, job.baselines)
    yield from length_problems(recipe, job.length)
    known = [name for task in PROBED for name in BASELINES[task]]
    for index, name in enumerate(job.baselines):
        if name not in known:
            yield f".baselines.{index}", f"{name!r} is no baseline for {job.task}; {choices(name, known)}"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of the user's files; `cleaning` of texts, `seed`, `titles` of models; of a suite `task`.

    The user's files are read, too: UserError, before anything is trained, if they cannot serve the job.
    """
    from pipeline.downstream.fine_tune.job import contents_of

    known = frozen_models.settings(recipe, job)
    known["contents"] |= {str(path): contents_of(path) for path in job.data.files()}
    if job.data.name is None:
        check(job, checks.read(job, recipe.cleaning))
    of_suite = {} if job.data.suite is None else {"task": identity(job.data.task_file()[0])}
    return {**of_suite, **known, "cleaning": asdict(recipe.cleaning)}


def check(job: Config, data: checks.Findings) -> None:
    """UserError if labelled data cannot serve the job."""
    where = f"downstream {job.name}: {job.data.shown}"
    if data.task not in PROBED:
        raise UserError(f"{where}: has {HAS[data.task]}, and {job.task} asks labels of rows or words; name another.")
    if wrong := [*data.problems, *data.score_problems(dict.fromkeys(("validation", data.reported)))]:
        raise UserError(f"{where}: {'; '.join(wrong)}.")
    for name in job.baselines:
        if name not in BASELINES[data.task]:
            known = choices(name, BASELINES[data.task])
            raise UserError(f"{where}: has {HAS[data.task]}, for which there is no baseline {name!r}; {known}.")


def remarks(recipe: Any, job: Config) -> list[str]:
    """What is odd about the user's labels."""
    texts = [] if job.data.name is not None else said_of(job, checks.read(job, recipe.cleaning))
    return [f"downstream {job.name}: {text}" for text in texts]


def said_of(job: Config, data: checks.Findings) -> list[str]:
    """What is odd about labelled data, in sentences with numbers."""
    texts = list(data.remarks)
    if data.reported == "validation":
        texts.append("the layer is chosen on the rows that are reported, for there is no test: scores are flattered")
    if job.labels is not None and job.labels > data.rows["train"]:
        texts.append(f"labels asks for {job.labels:,} rows, and train has {data.rows['train']:,}")
    return texts


def fitted(job: Config, data: checks.Findings) -> Config:
    """The job with as many labels as there are at most."""
    rows = data.rows["train"]
    return job.model_copy(update={"labels": rows if job.labels is None else min(job.labels, rows)})


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`: of each model at the layer that validation chooses, and at the last."""
    yield from ("*_best", "*_last", *(f"*/{name}" for name in job.baselines))


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Probe every layer of every model, with every seed.

    inputs: `pretrained`, a network of texts in `model/`; those of `compared`, alike; `corpus`, which may include
    packages of labelled data. Reports scores in 0 … 1. UserError for data without labels of rows or words.
    """
    from pipeline.downstream.fine_tune import baselines
    from pipeline.downstream.probing import report
    from pipeline.downstream.probing.trials import Trials

    context.progress("reading labelled examples")
    corpus = inputs["corpus"].path if "corpus" in inputs else None
    data = load(job.data, context.downloads, corpus, Cleaning(**settings["cleaning"]))
    known = checks.findings(data)
    check(job, known)
    job, said = fitted(job, known), said_of(job, known)
    models = frozen_models.FrozenModels.of(job, settings, inputs, context)
    trials = Trials(job, models, data, context)
    of_models = trials.run()
    beside = baselines.cells(job, models.seed, data)
    return report.build(job, data, of_models, beside, models, [*said, *trials.remarks], out_dir / "figures")
