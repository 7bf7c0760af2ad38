"""What is wrong or odd about a fine-tuning's labelled data and other networks, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from data_prep.labelled import checks
from data_prep.labelled.files import Labelled, LabelledConfig, load
from data_prep.opening.files import UnfitError, read_json
from data_prep.tokens import pretrained
from data_prep.tokens.cleaning import Cleaning
from training.models.text.architectures import architecture_of

if TYPE_CHECKING:
    from pipeline.downstream.fine_tune.job import Config


def check(job: Config, others: list[Path], cleaning: Cleaning) -> None:
    """UserError if the user's file of labels or another's network cannot serve the job. others: folders of networks."""
    for folder in others:
        for problem in _of_network(folder, job):
            raise UserError(f"downstream {job.name}: models: {folder}: {problem}.")
    if job.data.path is not None and (reasons := list(_of_file(job, read(job, cleaning)))):
        raise UserError(f"downstream {job.name}: {job.data.path}: {'; '.join(reasons)}.")


def remarks(job: Config, data: Labelled) -> list[str]:
    """What is odd about labelled data, in sentences with numbers."""
    available, texts = len(data.splits["train"]), list(checks.remarks(data))
    if max(job.labels) > available:
        texts.append(f"labels asks for {max(job.labels):,} rows, and train has {available:,}")
    return [f"downstream {job.name}: {text}" for text in texts]


def fitted(job: Config, data: Labelled) -> Config:
    """The job with as many labels at most as there are."""
    available = len(data.splits["train"])
    return job.model_copy(update={"labels": list(dict.fromkeys(min(number, available) for number in job.labels))})


def read(job: Config, cleaning: Cleaning) -> Labelled:
    """The labelled data of the user's file."""
    path = Path(job.data.path or "").expanduser()
    about = path.stat()
    return _read(job.data.model_dump_json(), about.st_mtime_ns, about.st_size, cleaning)


@lru_cache(8)
def _read(config: str, changed: int, size: int, cleaning: Cleaning) -> Labelled:
    return load(LabelledConfig.model_validate_json(config), Path(), None, cleaning)


def _of_file(job: Config, data: Labelled) -> Iterator[str]:
    if data.task != job.task:
        has = {"classification": "a label for each text", "tagging": "a tag for each word"}
        yield f"has {has[data.task]}, and task {job.task} needs {has[job.task]}"
    available = len(data.splits["train"])
    if max(job.labels) > available:
        yield f"labels asks for {max(job.labels):,} rows, and train has {available:,}"
    yield from checks.problems(data)


def pooling_problems(job: Config, model_type: str) -> Iterator[str]:
    """Why a network of a type cannot be asked at a row's first token."""
    if job.task == "classification" and job.pooling == "cls" and architecture_of(model_type).causal:
        yield f"of {model_type!r} a row's first token sees nothing of the row; set it to last, or mean"


def _of_network(folder: Path, job: Config) -> Iterator[str]:
    """Why a network in a folder of `transformers` cannot be fine-tuned by a job."""
    config: Any = None
    try:
        config = read_json(folder / "config.json")
    except UnfitError as error:
        yield f"config.json cannot be read ({error})"
    if not isinstance(config, dict) or "model_type" not in config:
        yield "config.json names no model_type"
        return
    pad, line = pretrained.specials(folder).get("pad"), architecture_of(config["model_type"])
    if pad is None and not line.causal:
        yield "its tokenizer has no token for padding"
        return
    yield from (f"pooling: {text}" for text in pooling_problems(job, config["model_type"]))
    name, first = line.setting("max_position_embeddings"), line.first(pad or 0)
    positions = config.get(name)
    if isinstance(positions, int) and positions < job.length + first:
        yield f"length {job.length} exceeds its {positions - first} positions"
