"""What is wrong or odd about a fine-tuning's labelled data and other networks, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_prep.errors import UserError, choices
from data_prep.kinds import kind_read_by
from data_prep.labelled import checks
from data_prep.labelled.examples import TEXT, Task
from data_prep.labelled.files import Labelled, LabelledConfig, load
from data_prep.opening.files import UnfitError, read_json
from data_prep.tokens import pretrained
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream import metrics
from pipeline.downstream.fine_tune.metrics import unscorable
from pipeline.fingerprint import digest
from training.models import adapters
from training.models.described import described
from training.models.text.architectures import Architecture, architecture_in, architecture_of

TASKS_WRITTEN: tuple[Task, ...] = ("classification", "regression", "question-answering", "text-to-text")
"""Those whose answers a network can write."""
BASELINES: dict[Task, tuple[str, ...]] = {
    "classification": ("majority", "tfidf"),
    "tagging": ("majority", "unigram", "window"),
    "regression": ("mean", "similarity"),
    "choice": ("majority", "overlap"),
    "question-answering": ("no-answer", "nearby"),
    "text-to-text": ("copy", "nearest"),
}
BASELINES_OF_FILES: dict[Task, tuple[str, ...]] = {
    "classification": ("majority", "statistics"),
    "tagging": ("majority", "statistics"),
    "regression": ("mean", "statistics"),
    "choice": ("majority", "nearest-statistics"),
    "question-answering": ("no-answer", "nearest-statistics"),
}
"""Those of tasks whose rows are files, such as recordings."""
WEIGHTED = ("tfidf", "window", "statistics")
"""Baselines that learn by a loss, in which labels have the weights of `class_weights` as in that of networks."""
HAS: dict[Task, str] = {
    "classification": "a label for each row",
    "tagging": "tags of words or segments",
    "regression": "a number for each row",
    "choice": "choices in each row",
    "question-answering": "answers in contexts",
    "text-to-text": "texts to write",
}

if TYPE_CHECKING:
    from pipeline.downstream.fine_tune.job import Config


def baselines_of(kind: str | None, task: Task) -> tuple[str, ...]:
    """Names of the methods without a network for a task on a kind of data; None: on any."""
    if kind is None:
        return tuple(dict.fromkeys([*BASELINES.get(task, ()), *BASELINES_OF_FILES.get(task, ())]))
    return (BASELINES if kind == TEXT else BASELINES_OF_FILES).get(task, ())


def check(job: Config, others: list[Path], cleaning: Cleaning, kind: str = TEXT) -> None:
    """UserError if the user's file of labels or another's network cannot serve the job, or a library is missing.

    others: folders of networks. kind: of data that the recipe's network reads.
    """
    if job.adapters is not None and (needed := adapters.missing()):
        raise UserError(f"downstream {job.name}: adapters: {needed}.")
    for folder in others:
        for problem in _of_network(folder, job, kind):
            raise UserError(f"downstream {job.name}: models: {folder}: {problem}.")
    if job.data.name is not None:
        return
    data = read(job, cleaning, kind)
    if reasons := list(_of_files(job, data)):
        raise UserError(f"downstream {job.name}: {job.data.shown}: {'; '.join(reasons)}.")
    check_labels(job, data)


@dataclass(frozen=True)
class Findings:
    """What is known of labelled data once they were read: the rows themselves need not stay in memory."""

    task: Task
    reported: str
    rows: Mapping[str, int]
    """By split."""
    labels: tuple[str, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    contents: str = ""
    """Digest of the examples that are files; empty: there are none."""
    files: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """These files, each with its state."""
    unscorable: Mapping[str, str] = field(default_factory=dict)
    """By split, of validation and `reported`, why the metrics are not defined for its rows."""

    def score_problems(self, splits: Iterable[str]) -> Iterator[str]:
        """Why some of these splits cannot be scored."""
        for split in splits:
            if split in self.unscorable:
                yield f"the rows of {split} cannot be scored: {self.unscorable[split]}"


def findings(data: Labelled) -> Findings:
    wrong = [text.rstrip(".") for text in metrics.problems(data.metrics, data.head)]
    wrong += [f"has no rows of {split}" for split in ("train", "validation") if not data.splits[split]]
    rows = {split: len(examples) for split, examples in data.splits.items()}
    problems = (*wrong, *checks.problems(data))
    examples = [example for split in data.splits.values() for example in split if example.files]
    contents = digest([example.digest for example in examples]) if examples else ""
    paths = (file for example in examples for file in example.files if isinstance(file, str))
    files = tuple((path, _state(Path(path))) for path in paths)
    said = tuple(checks.remarks(data))
    scored = {} if wrong else {split: unscorable(data, data.splits[split]) for split in ("validation", data.reported)}
    reasons = {split: why.rstrip(".") for split, why in scored.items() if why}
    return Findings(data.task, data.reported, rows, tuple(data.labels), problems, said, contents, files, reasons)


def chooses(job: Config) -> list[str]:
    """What scores of validation rows choose."""
    chosen = ["learning rates"] if max(map(len, (job.lrs, job.scratch_lrs, job.frozen_lrs))) > 1 else []
    return [*chosen, *(["the states to keep"] if job.evaluate_every is not None else [])]


def remarks(job: Config, data: Findings) -> list[str]:
    """What is odd about labelled data, in sentences with numbers."""
    available, texts = data.rows["train"], list(data.remarks)
    if data.reported == "validation" and (chosen := chooses(job)):
        texts.append(
            f"{' and '.join(chosen)} are chosen on the rows that are reported, for there is no test: scores are "
            "flattered"
        )
    if (most := max(job.label_counts, default=0)) > available:
        texts.append(f"labels asks for {most:,} rows, and train has {available:,}")
    if job.submission and not data.rows.get("predict"):
        texts.append("submission asks for files for a test server, and there are no rows of predict")
    return [f"downstream {job.name}: {text}" for text in texts]


def fitted(job: Config, data: Findings) -> Config:
    """The job with as many labels at most as there are, and all of them as their number."""
    available = data.rows["train"]
    counts = (available if number is None else min(number, available) for number in job.labels)
    return job.model_copy(update={"labels": list(dict.fromkeys(counts))})


def check_labels(job: Config, data: Findings) -> None:
    """UserError if the job names labels that the data do not have."""
    named = job.class_weights if isinstance(job.class_weights, dict) else ()
    for label in named:
        if label not in data.labels:
            raise UserError(
                f"downstream {job.name}: class_weights: {job.data.shown} has no label {label!r}; "
                f"{choices(label, data.labels)}."
            )


class ReadsLabels(Protocol):
    """A job that reads labelled data. written: whether answers are written as texts."""

    @property
    def data(self) -> LabelledConfig: ...

    @property
    def written(self) -> bool: ...


def read(job: ReadsLabels, cleaning: Cleaning, kind: str = TEXT) -> Findings:
    """What the user's files hold. They are read once, unless they change. kind: of data that the network reads."""
    about = tuple(_state(file) for file in job.data.files())
    known = _read(job.data.model_dump_json(), about, cleaning, job.written, kind)
    if any(_state(Path(file)) != state for file, state in known.files):
        _read.cache_clear()
        known = _read(job.data.model_dump_json(), about, cleaning, job.written, kind)
    return known


def _state(file: Path) -> tuple[int, ...]:
    """When a file changed, and its size; of one that is not there, nothing."""
    try:
        about = file.stat()
    except OSError:
        return ()
    return (about.st_mtime_ns, about.st_size)


@lru_cache
def _read(config: str, changed: tuple[tuple[int, ...], ...], cleaning: Cleaning, written: bool, kind: str) -> Findings:
    return findings(load(LabelledConfig.model_validate_json(config), Path(), None, cleaning, written, kind))


def _of_files(job: Config, data: Findings) -> Iterator[str]:
    if data.task not in (TASKS_WRITTEN if job.written else (job.task,)):
        yield f"has {HAS[data.task]}, and task {job.task} needs {HAS.get(job.task, job.task)}"
    available = data.rows["train"]
    if not job.data.is_task and (most := max(job.label_counts, default=0)) > available:
        yield f"labels asks for {most:,} rows, and train has {available:,}"
    for name in job.baselines if job.written else ():
        if name not in BASELINES[data.task]:
            known = choices(name, BASELINES[data.task])
            yield f"has {HAS[data.task]}, for which there is no baseline {name!r}; {known}"
    yield from data.problems
    yield from data.score_problems(dict.fromkeys([*(["validation"] if chooses(job) else []), data.reported]))


def architecture_problems(job: Config, model_type: str) -> Iterator[tuple[str, str]]:
    """Settings by which a network of a type cannot be fine-tuned, and why."""
    by_first = job.task not in ("tagging", "question-answering", "text-to-text") and job.pooling == "cls"
    if by_first and architecture_of(model_type).causal:
        yield ".pooling", f"of {model_type!r} a row's first token sees nothing of the row; set it to last, or mean"
    if job.layer_decay != 1:
        line = architecture_of(model_type)
        if line.shared_layers or line.encoder_decoder:
            why = "layers share their weights" if line.shared_layers else "layers are two stacks"
            yield ".layer_decay", f"of {model_type!r} the {why}; set it to 1.0"


def _of_network(folder: Path, job: Config, kind: str) -> Iterator[str]:
    """Why a network in a folder cannot be fine-tuned by a job on data of a kind."""
    if (kind_read_by(folder) or TEXT) != kind:
        yield f"its network does not read {kind}; name one that does"
    elif kind == TEXT:
        yield from _of_network_of_text(folder, job)
    else:
        network = described(folder)
        line = architecture_of(network.architecture)
        yield from _shape_problems(job, line, network.architecture, network.config, line.first(0), job.length)


def _of_network_of_text(folder: Path, job: Config) -> Iterator[str]:
    config: Any = None
    try:
        config = read_json(folder / "config.json")
    except UnfitError as error:
        yield f"config.json cannot be read ({error})"
    if not isinstance(config, dict) or "model_type" not in config:
        yield "config.json names no model_type"
        return
    line = architecture_in(config)
    if job.written and not (line.causal or line.encoder_decoder):
        yield f"{config['model_type']!r} does not write; name a decoder, or an encoder with one"
        return
    pad = pretrained.specials(folder).get("pad")
    if pad is None and not line.causal:
        yield "its tokenizer has no token for padding"
        return
    asked = job.length + (job.max_answer if job.written and line.causal else 0)
    yield from _shape_problems(job, line, config["model_type"], config, line.first(pad or 0), asked)


def _shape_problems(
    job: Config, line: Architecture, model_type: str, config: Mapping[str, Any], first: int, asked: int
) -> Iterator[str]:
    """first: the number of the first position. asked: the length of the longest row."""
    yield from (f"{path[1:]}: {text}" for path, text in architecture_problems(job, model_type))
    positions = config.get(line.setting("max_position_embeddings"))
    if isinstance(positions, int) and positions < asked + first:
        yield f"length {asked} exceeds its {positions - first} positions"
