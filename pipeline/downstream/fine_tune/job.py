"""The jobs of labelled tasks: fine-tuning a pretrained encoder and others, beside methods without a network.

For every number of labels n and every seed s, all models are trained on the same n examples (drawn by s) for the same
number of steps or epochs, and scored on the same test rows, so their differences are paired. Each model's learning rate
is chosen per n on validation rows, with a draw of examples that no reported seed uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_prep.errors import UserError, choices
from data_prep.kinds import kinds_of_files
from data_prep.labelled.examples import TASKS, TEXT
from data_prep.labelled.files import LabelledConfig, load
from data_prep.labelled.task import FILE_HEADS
from data_prep.settings import changed_default, identity
from data_prep.sources.separated import with_version
from data_prep.tokens.cleaning import Cleaning
from pipeline.artifact import MODEL
from pipeline.downstream import model_names, role_of
from pipeline.downstream.config import JobConfig, Problem, kind_problems, length_problems
from pipeline.downstream.fine_tune import checks
from pipeline.downstream.model_names import FROZEN, OWN, PRETRAINED, SCRATCH
from pipeline.fingerprint import digest, file_digest
from pipeline.gate import ENCODER
from training.hardware import resolve_precision
from training.models.adapters import AdaptersConfig
from training.models.text.architectures import architecture_of

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 6
FINE_TUNED = "fine-tuned"  # the folder of the network that is kept
SUBMISSION = "submission"  # the folder of files for test servers
READS = ("pretrained", "corpus")
OPTIONAL = ("corpus",)  # which some registered data are derived from
WRITTEN = "text-to-text"  # the task whose answers are texts
_LABELLED = ("classification", "tagging")  # tasks whose network has a score for each label
_OF_FILES = tuple(TASKS[head] for head in FILE_HEADS)  # tasks whose rows may be files, such as recordings
_OF_POSITIONS = ("tagging", "question-answering")  # tasks whose networks pool no vectors
_ATTRIBUTED = ("classification", "regression", "choice")  # tasks with one answer to a row
_LEAST = {"tagging": 3, "question-answering": 6}  # of tasks with windows: a window's tokens that are not of its overlap
_ADDED = (
    "submission", "epochs", "evaluate_every", "early_stopping", "layer_decay", "adapters", "class_weights",
    "attributions", "max_question",
)  # fmt: skip


class Config(JobConfig):
    """Fine-tuning, compared with baselines."""

    task: Literal["classification", "tagging", "regression", "choice", "question-answering", "text-to-text"]
    """A label for a row, or for each of its words or each part of a recording; a number; one of the row's own
    choices; a part of its context; or a text, as which labels, numbers and answers may be written, too."""
    data: LabelledConfig
    """The labelled examples."""
    labels: list[int | None] = Field(min_length=1)
    """Numbers of labelled training examples; null, or more than there are, is all of them."""
    seeds: int = Field(default=1, ge=1)
    """Number of repetitions, each with other examples and other initial weights."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of each fine-tuning; null: `epochs` says how long it is."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the labelled examples, or the windows of long ones, instead of `steps`."""
    evaluate_every: int | None = Field(default=None, ge=1)
    """Steps from one score on validation rows to the next, of which the best state is kept; null: the last state is."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Consecutive evaluations without a better score after which training ends; null: it takes all its steps."""
    batch: int = Field(ge=1)
    """Rows per step."""
    length: int = Field(ge=4)
    """Most tokens of a row, specials included; of recordings most frames, and what is longer is read in pieces."""
    length_window: int | None = changed_default(None, 32, ge=2)
    """Number of batches whose rows are regrouped by length, for less padding; null: rows stay in the order drawn."""
    pooling: Literal["cls", "mean", "last"] = "cls"
    """Feature of a row: the output at its first token, [CLS]; its mean over all tokens; or the output at its last
    token, [EOS], where alone a decoder has seen all of a row."""
    window_overlap: int | None = Field(default=None, ge=0)
    """Tokens or frames that two windows have in common, of sentences and recordings (tagging) and contexts
    (question-answering) that are longer than a row; null: a third of `length`."""
    max_question: int = Field(default=64, ge=1)
    """Most tokens or frames of a question about a context, which is cut and counted where it is longer, or leaves a
    context no room beside `window_overlap`."""
    max_answer: int = Field(default=30, ge=1)
    """Most tokens or frames of an answer, or tokens of a text that is written, its end included."""
    lrs: list[float] = Field(min_length=1)
    """Peak learning rates tried from pretrained weights."""
    scratch_lrs: list[float] = Field(default_factory=list)
    """Peak learning rates tried from random weights; empty: those of `lrs`."""
    frozen_lrs: list[float] = Field(default_factory=list)
    """Peak learning rates tried for the linear layer on the frozen network; empty: those of `lrs`."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor by which the learning rate falls from the task's own layer to the network's last, and from each to the one
    below it, the embeddings last (ELECTRA, Clark et al. 2020, appendix B: 0.8, 0.9); not from random weights."""
    adapters: AdaptersConfig | None = None
    """Low-rank adapters (LoRA): of pretrained weights they alone learn, with the linear layer where there is one; needs
    the extra `adapters` of this package."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """Weights of labels in the losses of networks and of baselines that have one (tfidf, window): by label, 1 where it
    is not named; balanced: the rarer, the heavier (n_samples / (n_classes · count), as in scikit-learn); null: all
    alike."""
    validation_rows: int = Field(ge=1)
    """Rows that choose settings."""
    test_rows: int | None = Field(ge=1)
    """Rows that are reported; null: all."""
    baselines: list[str] = Field(default_factory=list)
    """Methods without a network to compare with."""
    models: list[str] = Field(default=["pretrained", "scratch"], min_length=1)
    """Networks to fine-tune: pretrained; scratch, its shape with random weights; frozen, under which the linear layer
    alone learns; names of an evaluation's `networks`; or folders that `transformers` can open, or of encoders of
    frames."""
    attributions: int = Field(default=0, ge=0)
    """Wrong answers, those of which the pretrained network is most sure, whose words, or stretches of recordings, are
    left out in turn to see which push towards them."""
    submission: bool = False
    """Whether the pretrained network's predictions for rows without labels (`predict` of a task) are written as test
    servers ask for them: after training with the most labels, in the first seed."""

    @property
    def written(self) -> bool:
        """Whether answers are written as texts."""
        return self.task == WRITTEN

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was added later and is not set, so that keys of results stay as they were."""
        fields = type(self).model_fields
        unset = [name for name in _ADDED if getattr(self, name) == fields[name].default]
        return {name: value for name, value in dump(self).items() if name not in unset}

    @model_validator(mode="after")
    def _is_consistent(self) -> Config:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"takes one of steps and epochs, found {'neither' if self.steps is None else 'both'}")
        if self.early_stopping is not None and self.evaluate_every is None:
            raise ValueError("'early_stopping' counts evaluations; set 'evaluate_every', too")
        overlap = self.length // 3 if self.window_overlap is None else self.window_overlap
        if self.task in _LEAST and overlap > self.length - _LEAST[self.task]:
            raise ValueError(f"a length of {self.length} with a window_overlap of {overlap} leaves windows no room")
        for label, weight in self.class_weights.items() if isinstance(self.class_weights, dict) else ():
            if not 0 < weight < math.inf:
                raise ValueError(f"class_weights: {label!r} has the weight {weight:g}; weights are positive")
        return self

    @property
    def label_counts(self) -> list[int]:
        """`labels` of a job that is fitted to its data (`checks.fitted`)."""
        return [number for number in self.labels if number is not None]


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A kind of data that task files have, known baselines, and enough positions where the recipe's network is among
    the models."""
    yield from kind_problems(recipe, job, (TEXT, *kinds_of_files()))
    if recipe.kind in kinds_of_files():
        yield from _file_problems(recipe.kind, job)
    if set(OWN) & set(job.models):
        yield from _network_problems(recipe, job)
    if job.class_weights is not None and job.task not in _LABELLED:
        yield ".class_weights", f"are of {' and '.join(_LABELLED)}, and task is {job.task}; leave them out"
    if job.adapters is not None and not set(job.models) - {SCRATCH, FROZEN}:
        yield ".adapters", "are of pretrained weights that learn, and models has none; leave them out"
    if job.attributions and job.task not in _ATTRIBUTED:
        yield ".attributions", f"are of {', '.join(_ATTRIBUTED)}, and task is {job.task}; leave them out"
    if job.written and job.layer_decay != 1:
        yield ".layer_decay", f"is of encoders, and task is {job.task}; set it to 1.0"
    if job.written and FROZEN in job.models:
        yield ".models", f"{FROZEN} trains a linear layer, and {WRITTEN} has none; leave it out"
    yield from model_names.problems(job.models, job.baselines, trains=True)
    for name in ("submission", "attributions") if PRETRAINED not in job.models else ():
        if getattr(job, name):
            yield f".{name}", f"is of the network {PRETRAINED}, which models leaves out"
    tasks = checks.TASKS_WRITTEN if job.written else (job.task,)
    of_task = [name for task in tasks for name in checks.baselines_of(recipe.kind, task)]
    for index, name in enumerate(job.baselines):
        if name not in of_task:
            yield f".baselines.{index}", f"{name!r} is no baseline for {job.task}; {choices(name, of_task)}"


def _file_problems(kind: str, job: Config) -> Iterator[Problem]:
    """Settings of jobs on texts that a job on files, such as recordings, does not have."""
    if job.task not in _OF_FILES:
        yield ".task", f"{job.task} is of text, and the network reads {kind}; it has {', '.join(_OF_FILES)}"
    if not job.data.is_task:
        yield ".data", f"of kind {kind} rows are told by a task file; set it to {{task: …}}"
    if job.pooling != "mean" and job.task not in _OF_POSITIONS:
        yield ".pooling", f"{job.pooling} is of tokens, and the network reads {kind}; set it to mean"


def _network_problems(recipe: Any, job: Config) -> Iterator[Problem]:
    """Why the recipe's own network cannot be fine-tuned."""
    if recipe.network is None:
        yield from length_problems(recipe, job.length)
        return
    architecture, room = recipe.network.architecture, job.length
    if job.written:
        line = architecture_of(architecture)
        if not (line.causal or line.encoder_decoder):
            yield ".task", f"{job.task} asks a network that writes, and {architecture!r} does not"
            return
        room += job.max_answer if line.causal else 0
    yield from length_problems(recipe, room)
    yield from checks.architecture_problems(job, architecture)


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of the user's files by path; `cleaning` of texts; `precision`, resolved; `seed`; of a suite
    `task`, the settings that are not defaults; `weighted`: baselines that learn with weights of labels; `examples`:
    digest of those that are files.

    The user's files are read, too: UserError, before anything is trained, if they cannot serve the job.
    """
    cleaning = recipe.cleaning
    named = {name: network.folder for name, network in recipe.other_networks.items()}
    others = [Path(model).expanduser() for model in compared(job) if model not in named]
    files = [*others, *job.data.files()]
    contents = {str(path): contents_of(path) for path in files}
    known = [Path(named[model]).expanduser() for model in compared(job) if named.get(model)]
    checks.check(job, [*others, *known], cleaning, recipe.kind)
    examples = "" if job.data.name is not None else checks.read(job, cleaning, recipe.kind).contents
    weighted = [name for name in job.baselines if name in checks.WEIGHTED and job.class_weights is not None]
    of_suite = {} if job.data.suite is None else {"task": identity(job.data.task_file()[0])}
    return {
        **of_suite,
        **({"weighted": weighted} if weighted else {}),
        **({"examples": examples} if examples else {}),
        "contents": contents,
        "cleaning": asdict(cleaning),
        "seed": recipe.seed,
        "precision": resolve_precision(recipe.precision, recipe.placement.device),
    }


def compared(job: Config) -> list[str]:
    """The models that are not of the recipe's own network."""
    return [model for model in job.models if model not in OWN]


def remarks(recipe: Any, job: Config) -> list[str]:
    """What is odd about the user's file of labels."""
    return [] if job.data.name is not None else checks.remarks(job, checks.read(job, recipe.cleaning, recipe.kind))


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`: scores by model and number of labels, and paired differences."""
    metrics = ("F1", "accuracy") if job.task == "tagging" else ("accuracy",)  # what the tags are is not known yet
    if job.data.is_task:
        metrics = ("*",)
    names = [*map(model_names.slug, job.models), *job.baselines]
    for labels in job.labels:
        count = "*" if labels is None else labels  # how many there are is not known yet
        yield from (f"{metric}/{model}_{count}" for metric in metrics for model in names)
        yield f"difference/*_{count}"
        yield f"padding/*_{count}"


def contents_of(path: Path) -> str:
    """Digest of a file, or of the files in a folder: the key depends on their contents, and on what reads labels."""
    if path.is_file():
        return with_version(file_digest(path), path.name)
    if path.is_dir():
        return digest({str(p.relative_to(path)): file_digest(p) for p in sorted(path.rglob("*")) if p.is_file()})
    raise UserError(f"downstream: {path} does not exist; correct data.path or models in the recipe.")


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Fine-tune every model with every number of labels, and score all on the same test rows.

    inputs: `pretrained`, with a `transformers` folder `model/`; those of `compared`, alike; `corpus`, which may include
    packages of labelled data.
    Reports scores in 0 … 1 (accuracy, or micro-averaged F1 where tags have an outside class), mean and standard
    deviation over seeds, paired differences, and the pretrained encoder as a candidate. UserError for missing labelled
    data or unknown baselines. Fine-tuning is BERT's (Devlin et al. 2019, section 3.2).
    """
    from pipeline.downstream import predictions_file
    from pipeline.downstream.fine_tune import answered, baselines, exported
    from pipeline.downstream.fine_tune.attributions import shown as attributed
    from pipeline.downstream.fine_tune.heads import tokenizer_of
    from pipeline.downstream.fine_tune.reports import report
    from pipeline.downstream.fine_tune.trials import Trials
    from training.inference.opening import is_served

    context.progress("reading labelled examples")
    corpus = inputs["corpus"].path if "corpus" in inputs else None
    kind = job.data.kind  # that of the recipe: `settings` has refused others
    data = load(job.data, context.downloads, corpus, Cleaning(**settings["cleaning"]), job.written, kind)
    known = checks.findings(data)
    if known.contents != settings.get("examples", ""):
        raise UserError(f"{job.data.shown}: its {data.noun}s have changed since this run began; run it again.")
    checks.check_labels(job, known)
    job, said = checks.fitted(job, known), checks.remarks(job, known)
    for remark in said if job.data.name is not None else ():
        context.progress("labelled examples", None, warning=remark)  # of a file it was told before anything ran
    others = {model: inputs[role].path / MODEL for model in compared(job) if (role := role_of(model)) in inputs}
    trials = Trials(job, settings, data, inputs["pretrained"], context, others)
    read = None if kind == TEXT else tokenizer_of(trials.shape, inputs["pretrained"].path / MODEL, framed=False)
    cells = [*trials.run(), *baselines.cells(job, settings["seed"], data, read)]
    made_of = inputs["corpus"].output_digest if "corpus" in inputs else ""
    evaluation = {"job": job.model_dump(mode="json"), **settings, "corpus": made_of}
    said += trials.remarks()
    served = is_served(inputs["pretrained"].path / MODEL)
    if not served:
        said.append("the encoder is not registered: no library but this one opens it, by `open_encoder`")
    made = report.build(job, data, cells, settings["precision"], evaluation, out_dir / "figures", said)
    if PRETRAINED in job.models:
        report.write_predictions(job, data, trials, out_dir)
        trials.export(out_dir / FINE_TUNED)
        if job.submission and data.splits.get("predict"):
            files, unread = trials.submit(job.data.task_file()[0], out_dir / SUBMISSION)
            made = report.with_submission(made, [f"{SUBMISSION}/{file}" for file in files], unread)
        first, figures = trials.predicted[PRETRAINED, max(job.label_counts)][0], out_dir / "figures"
        tables, drawn = answered.shown(data, trials.reported(), first, figures)
        made = replace(
            made,
            tables=[*made.tables, *tables],
            figures=[*made.figures, *drawn],
            predictions=predictions_file.FILE,
        )
        if job.attributions:
            context.progress(f"leaving out parts of {job.attributions:,} wrong answers")
            model = exported.open_fine_tuned(out_dir / FINE_TUNED)
            made = attributed.added(made, model, data, trials.reported(), first, job.attributions, figures)
    candidates = [each for each in made.candidates if served or each.kind != ENCODER]
    return replace(made, candidates=candidates)
