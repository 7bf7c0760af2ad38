"""The predictions of a job, one row each, in a Parquet file that its report names. `sesame compare` reads it.

    id          string         identifies the row within its part; its own, or its place and a digest of its content
    truth       list<string>   the label; the number; the tag of each word, or of each hundredth of a second, null where
                               it is not known; all accepted answers or texts
    predicted   list<string>   likewise; empty if nothing was predicted
    score       double         confidence in the prediction, a probability if there is one; may be null
    split       string         test or validation
    seed        int64          of the repetition
    task        string         its head, metrics and labels are in the file's metadata
    language    string         "" if unknown
    n_best      list<struct>   of answers that stand in contexts: the best ones, best first, each with `text`,
                               `start` (its first character in the context; null: no answer) and `score`, their shares

A choice is its number, from 0. A part is the rows of one task, split, seed and language. Numbers survive the round trip
exactly. Pages carry checksums, which are verified.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError
from pipeline.downstream import metrics

FILE = "predictions.parquet"
VERSION = 1
_METADATA = b"sesame.predictions"
_TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("truth", _TEXTS, nullable=False),
        pa.field("predicted", _TEXTS, nullable=False),
        pa.field("score", pa.float64()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
    ]
)
SPAN = pa.struct([pa.field("text", pa.string()), pa.field("start", pa.int64()), pa.field("score", pa.float64())])
WITH_N_BEST = SCHEMA.append(pa.field("n_best", pa.list_(SPAN)))
"""The columns of files with answers that stand in contexts."""

PartKey: TypeAlias = tuple[str, str, str, int]
"""Task, split, language, seed."""


@dataclass(frozen=True)
class PredictedTask:
    """How a task is scored; see `pipeline.downstream.metrics`. labels: in the task's order, if it has any."""

    head: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one task, split, seed and language, with truth and predictions in the form that metrics take."""

    task: str
    split: str
    seed: int
    ids: Sequence[str]
    truth: Sequence[Any]
    predicted: Sequence[Any]
    scores: Sequence[float | None] | None = None
    language: str = ""
    n_best: Sequence[Sequence[tuple[str, int | None, float]]] | None = None

    @property
    def key(self) -> PartKey:
        return (self.task, self.split, self.language, self.seed)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The contents of a file."""

    tasks: dict[str, PredictedTask]
    parts: list[Part]


_OPTIONAL: tuple[Callable[[Any], list[str]], Callable[[list[str]], Any]] = (
    lambda value: [] if value is None else [str(value)],
    lambda texts: texts[0] if texts else None,
)
_SEQUENCE = (lambda values: [None if value is None else str(value) for value in values], list)
_NUMBER = (lambda value: [repr(float(value))], lambda texts: float(texts[0]))
_FORMS = {  # head → how truth and predictions are written and read
    "class": (_OPTIONAL, _OPTIONAL),
    "choice": (_OPTIONAL, _OPTIONAL),
    "score": (_NUMBER, _NUMBER),
    "tags": (_SEQUENCE, _SEQUENCE),
    "answer": (_SEQUENCE, _OPTIONAL),
    "text": (_SEQUENCE, _OPTIONAL),
}
_LENGTHS = {"class": (1, 1), "choice": (1, 1), "score": (1, 1), "text": (1, math.inf)}  # of truth, least and most
_TASKS = TypeAdapter(dict[str, PredictedTask])


def write(path: Path, tasks: Mapping[str, PredictedTask], parts: Iterable[Part]) -> None:
    """Write the predictions of a job. ValueError for anything that `read` would refuse."""
    parts = list(parts)
    tables = [_table(part, tasks) for part in parts]
    about = {"version": VERSION, "tasks": {name: asdict(task) for name, task in tasks.items()}}
    columns = WITH_N_BEST if any(part.n_best for part in parts) else SCHEMA
    schema = columns.with_metadata({_METADATA: json.dumps(about).encode()})
    table = pa.concat_tables([WITH_N_BEST.empty_table(), *tables]).select(columns.names).cast(schema)
    if problem := _problem(table, tasks):
        raise ValueError(problem)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def is_predictions(path: Path) -> bool:
    """Whether a file was written by `write`."""
    try:
        return _METADATA in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def read(path: Path) -> Predictions:
    """Read a file of predictions. UserError if it is missing, damaged, something else, or of another version."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file of predictions.") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())[:200]}).") from error
    tasks = _tasks(path, table.schema)
    if not table.schema.equals(SCHEMA) and not table.schema.equals(WITH_N_BEST):
        raise UserError(f"{path}: the columns are not those of predictions: {', '.join(SCHEMA.names)}.")
    if problem := _problem(table, tasks):
        raise UserError(f"{path}: {problem}.")
    keys = zip(*(table[name].to_pylist() for name in ("task", "split", "language", "seed")), strict=True)
    rows: dict[PartKey, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return Predictions(tasks, [_part(key, table.take(pa.array(of_part)), tasks) for key, of_part in rows.items()])


def _table(part: Part, tasks: Mapping[str, PredictedTask]) -> pa.Table:
    if part.task not in tasks:
        raise ValueError(f"the task {part.task!r} is not described; tasks are: {', '.join(tasks) or 'none'}")
    (of_truth, _), (of_predicted, _) = _FORMS[tasks[part.task].head]
    count = len(part.ids)
    columns = {
        "id": list(part.ids),
        "truth": [of_truth(value) for value in part.truth],
        "predicted": [of_predicted(value) for value in part.predicted],
        "score": [None] * count if part.scores is None else [None if s is None else float(s) for s in part.scores],
        "split": [part.split] * count,
        "seed": [part.seed] * count,
        "task": [part.task] * count,
        "language": [part.language] * count,
        "n_best": [None] * count if part.n_best is None else [_spans(spans) for spans in part.n_best],
    }
    if uneven := [name for name, values in columns.items() if len(values) != count]:
        raise ValueError(f"{part.task}: {count} ids, but {len(columns[uneven[0]])} of {uneven[0]}")
    return pa.table(columns, WITH_N_BEST)


def _spans(spans: Sequence[tuple[str, int | None, float]]) -> list[dict[str, Any]]:
    return [dict(zip(("text", "start", "score"), span, strict=True)) for span in spans]


def _part(key: PartKey, table: pa.Table, tasks: Mapping[str, PredictedTask]) -> Part:
    task, split, language, seed = key
    (_, of_truth), (_, of_predicted) = _FORMS[tasks[task].head]
    truth, predicted, scores = (table[name].to_pylist() for name in ("truth", "predicted", "score"))
    n_best = None
    if "n_best" in table.column_names and table["n_best"].null_count < len(table):
        n_best = [[(span["text"], span["start"], span["score"]) for span in of] for of in table["n_best"].to_pylist()]
    return Part(
        task,
        split,
        seed,
        table["id"].to_pylist(),
        [of_truth(texts) for texts in truth],
        [of_predicted(texts) for texts in predicted],
        None if all(score is None for score in scores) else scores,
        language,
        n_best,
    )


def _tasks(path: Path, schema: pa.Schema) -> dict[str, PredictedTask]:
    written = (schema.metadata or {}).get(_METADATA)
    if written is None:
        raise UserError(f"{path}: is not a file of predictions; a job's report names its file.")
    try:
        about = json.loads(written)
        version, tasks = about["version"], _TASKS.validate_python(about["tasks"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: its description of tasks cannot be read.") from error
    if version != VERSION:
        raise UserError(f"{path}: has version {version}, but {VERSION} is expected; run the job again.")
    return tasks


def _problem(table: pa.Table, tasks: Mapping[str, PredictedTask]) -> str:
    """The first problem with the rows, as a clause; empty if there is none."""
    for name, task in tasks.items():
        if task.head not in _FORMS:
            return f"the task {name} has the head {task.head!r}; allowed: {', '.join(_FORMS)}"
        if wrong := metrics.problems(task.metrics, task.head):
            return f"the task {name}: {wrong[0]}"
        if not task.metrics:
            return f"the task {name} has no metric"
    if any(table[name].null_count for name in SCHEMA.names if name != "score"):
        return "a value other than a score is missing"
    seen: set[tuple[Any, ...]] = set()
    columns = (table[name].to_pylist() for name in SCHEMA.names)
    for row, (number, truth, predicted, score, *rest) in enumerate(zip(*columns, strict=True)):
        split, seed, name, language = rest
        if name not in tasks:
            return f"row {row} is of the task {name!r}, which is not described"
        if score is not None and not math.isfinite(score):
            return f"the score of row {row} is {score}; expected a number, or none"
        if wrong := _wrong(tasks[name].head, truth, predicted):
            return f"row {row} ({name}, {number}): {wrong}"
        identity = (number, name, split, language, seed)
        if identity in seen:
            return f"row {row} ({name}, {number}) appears twice for seed {seed}"
        seen.add(identity)
    return ""


def _wrong(head: str, truth: list[str | None], predicted: list[str | None]) -> str:
    least, most = _LENGTHS.get(head, (0, math.inf))
    if (None in truth and head != "tags") or None in predicted:
        return "a text is missing"
    if not least <= len(truth) <= most:
        return f"{len(truth)} values are true; expected {'one' if most == 1 else 'one at least'}"
    if head == "tags":
        return "" if len(truth) == len(predicted) else f"{len(truth)} words have {len(predicted)} predicted tags"
    if len(predicted) > 1 or (head == "score" and not predicted):
        return f"{len(predicted)} values are predicted; expected one"
    if head != "score":
        return ""
    try:
        numbers = [float(text or "") for text in (*truth, *predicted)]
    except ValueError:
        return f"{truth[0]!r} and {predicted[0]!r} are not both numbers"
    return "" if all(map(math.isfinite, numbers)) else "a value is not finite"
