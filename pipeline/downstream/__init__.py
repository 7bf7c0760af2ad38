"""Downstream jobs: evaluations of a trained network. One file or folder each, registered in `JOBS`.

The module of a job, which imports no PyTorch, MLflow, scikit-learn, matplotlib or transformers, has

    VERSION       raised when the meaning of its result changes; part of the key
    READS         artifact roles that it reads: pretrained, corpus, shards, preprocessor
    OPTIONAL      those of them that it can do without; may be left out. A job that can do without all but `pretrained`
                  evaluates networks that exist, too (`init`)
    Config        its section of a recipe; `task` names it
    needs         requirements that the recipe does not meet, as (path, text). A path that begins with a dot is one of
                  the job's own keys (`.length`), any other is one of the recipe's
    settings      what its result depends on besides `Config` and the artifacts it reads, as JSON values; under "job"
                  the values of its keys that come from the recipe
    check_inputs  (job, settings, inputs by role but `pretrained`): UserError, before the network is trained, where
                  what is stored by then cannot serve it; may be left out
    remarks       what is odd about what it is to read, in sentences; may be left out
    numbers       names of the numbers that its report has, * for any text; may be left out where they are not known
    compared      names of networks that it reads besides, as far as the recipe has them (`networks`): their roles are
                  those of `role_of`; may be left out
    run           (job, settings, inputs by role, folder, context) → `pipeline.reports.report.Report`
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol, Union

from pydantic import Field

JOBS = {
    "classification": "pipeline.downstream.fine_tune.job",
    "tagging": "pipeline.downstream.fine_tune.job",
    "regression": "pipeline.downstream.fine_tune.job",
    "choice": "pipeline.downstream.fine_tune.job",
    "question-answering": "pipeline.downstream.fine_tune.job",
    "text-to-text": "pipeline.downstream.fine_tune.job",
    "few-shot": "pipeline.downstream.few_shot.job",
    "perplexity": "pipeline.downstream.perplexity",
    "text-restoration": "pipeline.downstream.text_restoration.job",
    "document-anomaly": "pipeline.downstream.document_anomaly.job",
    "codes": "pipeline.downstream.autoencoders.codes",
    "restoration": "pipeline.downstream.autoencoders.restoration",
    "generation": "pipeline.downstream.autoencoders.generation",
    "discrete": "pipeline.downstream.autoencoders.discrete",
    "curves": "pipeline.downstream.autoencoders.curves",
    "anomaly": "pipeline.downstream.anomaly.job",
    "compression": "pipeline.downstream.compression.job",
    "predictions": "pipeline.downstream.predictions.job",
    "adaptation": "pipeline.downstream.adaptation.job",
    "word-vectors": "pipeline.downstream.word_vectors.job",
    "alignment": "pipeline.downstream.languages.alignment",
    "token-translation": "pipeline.downstream.languages.token_translation",
    "probe": "pipeline.downstream.probing.job",
}


OF_PRETRAINING = (
    "validation/*",
    "train/*",
    "workers/*",
    "progress/*",
    "step",
    "samples",
    "train_seconds",
    "parameters",
)
"""Names of the numbers of pretraining, as `numbers` gives those of a job."""


class JobModule(Protocol):
    """The module of a job; see above."""

    VERSION: int
    READS: tuple[str, ...]
    Config: type[Any]

    def needs(self, recipe: Any, job: Any) -> Iterator[tuple[str, str]]: ...

    def settings(self, recipe: Any, job: Any, downloads: Path) -> dict[str, Any]: ...

    def run(
        self, job: Any, settings: dict[str, Any], inputs: Mapping[str, Any], out_dir: Path, context: Any
    ) -> Any: ...


def module_of(task: str) -> JobModule:
    """The module of the job for a task."""
    return import_module(JOBS[task])  # type: ignore[return-value]


@functools.cache
def config_union() -> Any:
    """The type of an entry of a recipe's `downstream`: any job's `Config`, discriminated by `task`."""
    configs = dict.fromkeys(module_of(task).Config for task in JOBS)
    return Annotated[Union[tuple(configs)], Field(discriminator="task")]  # noqa: UP007 - of a tuple


def problems(recipe: Any) -> Iterator[tuple[str, str]]:
    """(path, text) of the jobs' requirements that the recipe does not meet."""
    for index, job in enumerate(recipe.downstream):
        for path, text in module_of(job.task).needs(recipe, job):
            yield f"downstream.{index}{path}" if path.startswith(".") else path, text


def roles_of(job: Any) -> set[str]:
    """The artifact roles that a job cannot do without."""
    module = module_of(job.task)
    return set(module.READS) - set(getattr(module, "OPTIONAL", ()))


def compared(recipe: Any, job: Any) -> list[str]:
    """Names of the recipe's other networks that a job reads besides the one that all jobs read."""
    of_job = getattr(module_of(job.task), "compared", None)
    return [] if of_job is None else [name for name in of_job(job) if name in recipe.other_networks]


def role_of(name: str) -> str:
    """The artifact role of one of a recipe's other networks."""
    return f"networks.{name}"


def remarks(recipe: Any) -> Iterator[str]:
    """What is odd about the jobs' own data, in sentences with numbers."""
    for job in recipe.downstream:
        of_job = getattr(module_of(job.task), "remarks", None)
        if of_job is not None:
            yield from of_job(recipe, job)


def config_of(recipe: Any, job: Any, downloads: Path) -> dict[str, Any]:
    """The config of a job's stage: all that its result depends on besides the artifacts that it reads."""
    module = module_of(job.task)
    settings = module.settings(recipe, job, downloads)
    filled = {**job.model_dump(mode="json"), **settings.pop("job", {})}
    return {"job": filled, "version": module.VERSION, **settings}


def of_config(config: Mapping[str, Any]) -> tuple[JobModule, Any, dict[str, Any]]:
    """The module of a job, its `Config` and its settings, by what `config_of` gives."""
    module = module_of(config["job"]["task"])
    settings = {name: value for name, value in config.items() if name not in ("job", "version")}
    return module, module.Config.model_validate(config["job"]), settings


def check_inputs(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """UserError if the artifacts that a job reads besides the network cannot serve it. config: that of `config_of`."""
    module, job, settings = of_config(config)
    if of_job := getattr(module, "check_inputs", None):
        of_job(job, settings, inputs)


def numbers_of(job: Any) -> list[str] | None:
    """Names of the numbers that a job's report has, * for any text; None if the job does not say."""
    of_job = getattr(module_of(job.task), "numbers", None)
    return None if of_job is None else list(of_job(job))


def is_among(number: str, names: Iterable[str]) -> bool:
    """Whether a number has one of these names, in which * is any text."""
    return any(fnmatchcase(number, name) for name in names)
