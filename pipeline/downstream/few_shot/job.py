"""The job `few-shot`: a decoder answers from a prompt with zero, one or a few examples; nothing is trained.

    row ─► description, shots, prompt ─┬─► log-likelihood of each choice ─► the rules of `rules`
                                       └─► greedy text ─► exact match

Shots are training rows drawn by keys: others for every row (Brown et al. 2020, section 2.4; the default), or the same
for all rows of a seed. Prompts, ids and scores are those of lm-evaluation-harness (`rules`,
`training.inference.likelihood`); the draws of shots are its own. Prompts that are too long lose their beginning; how
many did is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Belongs
from pipeline.downstream.config import JobConfig, Problem, kind_problems, length_problems
from pipeline.downstream.few_shot import task_file
from pipeline.downstream.fine_tune.job import contents_of
from pipeline.downstream.model_names import OWN, PRETRAINED, SCRATCH, problems
from training.models.text.architectures import architecture_of, types_with

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

VERSION = 3
READS = ("pretrained",)


class Config(JobConfig):
    """Answers of a decoder from examples in its prompt, without training."""

    task: Literal["few-shot"]
    """Which job it is."""
    file: str
    """A task file: rows, prompt, choices."""
    shots: list[int] = Field(default=[0, 1, 4], min_length=1)
    """Numbers of training rows, with answers, that a prompt begins with."""
    seeds: int = Field(default=3, ge=1)
    """Number of repetitions, each with other shots."""
    orders: int = Field(default=1, ge=1)
    """Number of orders in which the same shots are tried."""
    draw: Literal["row", "seed"] = "row"
    """row: each row has shots of its own; seed: all rows of a seed have the same."""
    rows: int | None = Field(default=None, ge=1)
    """Most test rows; null: all."""
    begins: bool = True
    """Whether prompts begin with the network's [BOS], as documents of `compose.frame: bos-eos` do."""
    calibrate: bool = True
    """Whether choices are calibrated by prompts that say nothing; of tasks with labels alone."""
    write: bool = True
    """Whether answers are also written and compared word for word."""
    max_new_tokens: int = Field(default=16, ge=1)
    """Most tokens of a written answer."""
    models: list[str] = Field(default=[PRETRAINED, SCRATCH], min_length=1)
    """Networks: pretrained, scratch (its shape with random weights), or folders that `transformers` can open."""

    belongs: ClassVar[dict[str, Belongs]] = {"orders": Belongs("2 or more shots", lambda job: max(job.shots) > 1)}


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, and a decoder where the recipe's network is among the models."""
    yield from kind_problems(recipe, job, ("text",))
    yield from problems(job.models)
    network = recipe.network if set(OWN) & set(job.models) else None
    if network is not None and not architecture_of(network.architecture).causal:
        text = f"{job.name!r} asks a network that writes on from a prompt, and {network.architecture!r} does not"
        yield "network.architecture", f"{text}; choose a decoder such as {types_with('causal')}, or leave the job out"
    if min(job.shots) < 0:
        yield ".shots", f"{min(job.shots)} is no number of rows"
    if len(set(job.shots)) < len(job.shots):
        yield ".shots", "names a number twice"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of the user's files by path, and `seed`.

    The task is read, too: UserError, before anything is trained, if it cannot serve the job.
    """
    path = Path(job.file).expanduser()
    others = [Path(model).expanduser() for model in job.models if model not in OWN]
    contents = {str(file): contents_of(file) for file in (*task_file.files_of(path), *others)}
    data = task_file.load(path)
    pool = pool_of(job, data)
    times = Counter(row.prompt for row in pool)
    available = len(pool) - max((times[row.prompt] for row in data.test), default=0)  # no row is a shot of its own
    if max(job.shots) > available:
        whose = "are not the row that is asked" if job.draw == "row" else "are no test rows"
        raise UserError(
            f"downstream {job.name}: shots asks for {max(job.shots):,} rows, and train of {path} has {available:,} "
            f"that {whose}; name other shots, or another train."
        )
    if recipe.network is not None and set(OWN) & set(job.models) and (job.write or data.task.choices is None):
        for _, problem in length_problems(recipe, job.max_new_tokens + 1):
            raise UserError(
                f"downstream {job.name}: max_new_tokens: {job.max_new_tokens:,} leaves prompts no room ({problem}); "
                "lower it, or set write to false."
            )
    return {"contents": contents, "seed": recipe.seed}


def pool_of(job: Config, data: task_file.TaskData) -> list[task_file.Question]:
    """Rows that shots are drawn from. Where all rows of a seed have the same ones, no test row is among them."""
    if job.draw == "row":
        return data.train
    asked = {row.prompt for row in data.test}
    return [row for row in data.train if row.prompt not in asked]


def remarks(recipe: Any, job: Config) -> list[str]:
    """What is odd about the task and its rows, and what of them is not used."""
    data = task_file.load(Path(job.file).expanduser())
    asked, known = {row.prompt for row in data.test}, {row.prompt for row in data.train}
    said = list(data.notes)
    if shared := sum(row.prompt in known for row in data.test):
        said.append(f"{shared:,} of {len(data.test):,} test rows are in train, too; none is a shot of its own")
    if len(asked) < len(data.test):
        said.append(f"{len(data.test) - len(asked):,} of {len(data.test):,} test rows repeat another")
    return [f"downstream {job.name}: {text}" for text in said]


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Ask every model with every number of shots, seed and order.

    inputs: `pretrained`, with a `transformers` folder `model/` of a decoder. Reports accuracies in 0 … 1 by rule, mean
    and standard deviation over seeds and over orders, beside the most frequent answer and a guess. UserError for a task
    that cannot be meant. RuntimeError if a weight changed.
    """
    from pipeline.downstream.few_shot import report
    from pipeline.downstream.few_shot.trials import Trials

    data = task_file.load(Path(job.file).expanduser())
    trials = Trials(job, settings["seed"], data, inputs["pretrained"], context)
    return report.build(job, data, trials.test, trials.run(), out_dir / "figures")
