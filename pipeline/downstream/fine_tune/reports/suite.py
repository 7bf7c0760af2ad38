"""The report of a suite: one table of the models of all its jobs, beside published rows, and the protocol in words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.downstream.fine_tune.reports import languages
from pipeline.downstream.metrics import metric_notes
from pipeline.downstream.metrics.suite import GLUE, SuiteScore, glue_score, suite_score
from pipeline.downstream.model_names import PRETRAINED, SCRATCH
from pipeline.reports.report import Report, Table
from pipeline.reports.spread import mean_and_spread

NONE = "–"
BASELINE = "best baseline"
_COUNTED = {"squad": ("exact", "f1"), "squad-v2": ("exact", "f1"), "cmrc": ("exact", "f1"), "rouge": ("rouge1",)}
"""What is shown of metrics that have several numbers."""
Row = dict[str, Any]
"""A cell of a job's report: a model, its scores by seed."""


@dataclass(frozen=True)
class Column:
    """A task, or one of its parts, such as MNLI's mismatched rows. suffix: what its metrics' names end in."""

    name: str
    metrics: tuple[str, ...]
    suffix: str = ""

    def by_seed(self, cell: Row) -> dict[str, list[float]]:
        """Percentages by metric and seed; without metrics that are not defined for these rows."""
        known = [name for name in self.metrics if name + self.suffix in cell["all"][0]]
        return {name: [100 * scores[name + self.suffix] for scores in cell["all"]] for name in known}


def build(about: Mapping[str, Any], reports: Mapping[str, Report]) -> Report:
    """The report of a suite whose jobs have these reports.

    about: name, about, source, average, lacks, published, missing, tasks (by job) and metrics (by task), as
    `pipeline.stages.report` has them in its config, and perhaps encoders (`languages.table`). Where tasks are learned
    or tested in several languages, the first table is by language.
    """
    reports = {name: report for name, report in reports.items() if name in about["tasks"]}
    columns = {name: _columns(about["tasks"][name], report, about["metrics"]) for name, report in reports.items()}
    titled = [column for of_job in columns.values() for column in of_job]
    score = _scorer(about, reports, titled)
    rows, numbers, protocol = [], {}, ""
    for model, cells in _models(reports).items():
        by_column: dict[str, dict[str, list[float]]] = {}
        shown = []
        for name, of_job in columns.items():
            for column in of_job:
                cell = cells.get(name)
                values = {} if cell is None else column.by_seed(cell)
                if len(values) == len(column.metrics):
                    by_column[column.name] = values
                named = f" ({cell['model']})" if cell is not None and model == BASELINE else ""
                of_metrics = [mean_and_spread(values[name], 1) if name in values else NONE for name in column.metrics]
                shown.append(" / ".join(of_metrics) + named if values else NONE)
        last = []
        if score is not None and len(by_column) == len(titled):
            suite, values = _suite(score, by_column)
            numbers[f"{about['name']}/{model.replace(' ', '-')}"] = statistics.fmean(values)
            last, protocol = [mean_and_spread(values, 1)], protocol or suite.protocol
        rows.append(
            [f"**{model}**" if model == PRETRAINED else model, *shown, *(last or [NONE] * (score is not None)), ""]
        )
    others = [_published(row, titled, score is not None) for row in about["published"]]
    rows += [shown for shown in others if any(cell != NONE for cell in shown[1:-1])]
    names = [f"{column.name} ({' / '.join(column.metrics)})" for column in titled]
    counted = {task: _counted(of) for task, of in about["metrics"].items()}
    by_language = languages.table(about, reports, counted)
    by_model = Table("Scores in percent", ["model", *names, *(["score"] if score else []), "source"], rows)
    transferred = languages.transferred(about, reports, counted) if by_language else ""
    return Report(
        title=about["name"],
        about=about["about"],
        tables=[by_model] if by_language is None else [by_language, by_model],
        figures=[],
        verdict=" ".join(filter(None, [transferred, protocol, *_protocol(about, reports)])),
        numbers=numbers,
        notes={"jobs": list(reports)},
    )


def _columns(task: str, report: Report, metrics: Mapping[str, Sequence[str]]) -> list[Column]:
    """A column for each part of a task's rows, or one for all."""
    scores = report.notes["cells"][0]["all"][0]
    shown = tuple(name for name in _counted(metrics[task]) if name in scores) or (report.notes["metric"],)
    parts = report.notes.get("parts", [])
    return [Column(part, shown, f"/{part}") for part in parts] or [Column(task, shown)]


def _models(reports: Mapping[str, Report]) -> dict[str, dict[str, Row]]:
    """By model and job, the cell with the most labels: pretrained first, then others, scratch and the best baseline."""
    models: dict[str, dict[str, Row]] = {PRETRAINED: {}}
    baselines: dict[str, Row] = {}
    for name, report in reports.items():
        cells = report.notes["cells"]
        most = max(cell["labels"] for cell in cells)
        for cell in (cell for cell in cells if cell["labels"] == most):
            if cell["kind"] == "network":
                models.setdefault(cell["model"], {})[name] = cell
            elif name not in baselines or cell["mean"] > baselines[name]["mean"]:
                baselines[name] = cell
    scratch = models.pop(SCRATCH, {})
    return {name: cells for name, cells in {**models, SCRATCH: scratch, BASELINE: baselines}.items() if cells}


def _counted(metrics: Sequence[str]) -> list[str]:
    """The numbers by which metrics are counted."""
    return [number for name in metrics for number in _COUNTED.get(name, (name,))]


def _scorer(
    about: Mapping[str, Any], reports: Mapping[str, Report], columns: Sequence[Column]
) -> Callable[[Mapping[str, Mapping[str, float]], int], SuiteScore] | None:
    """The suite's own score of percentages by column and metric, and a number of seeds; None where it has none."""
    splits = " and ".join(dict.fromkeys(report.notes["split"] for report in reports.values()))
    if about["average"] == "glue" and {column.name for column in columns} <= set(GLUE):
        return lambda values, seeds: glue_score(values, splits, seeds)
    if about["average"] == "tasks":
        metrics = {task: _counted(names) for task, names in about["metrics"].items()}
        metrics |= {task: [] for task in about.get("lacks", ())}
        return lambda values, seeds: suite_score(about["name"], metrics, values, splits, seeds)
    return None


def _suite(
    score: Callable[[Mapping[str, Mapping[str, float]], int], SuiteScore],
    by_column: Mapping[str, Mapping[str, Sequence[float]]],
) -> tuple[SuiteScore, list[float]]:
    """The score of all seeds together, and of each where all jobs have equally many."""
    numbers = {len(values) for of_column in by_column.values() for values in of_column.values()}
    means = {name: {metric: statistics.fmean(v) for metric, v in of.items()} for name, of in by_column.items()}
    suite = score(means, min(numbers))
    if len(numbers) > 1:
        return suite, [suite.score]
    by_seed = [
        score({name: {metric: v[seed] for metric, v in of.items()} for name, of in by_column.items()}, 1).score
        for seed in range(min(numbers))
    ]
    return suite, by_seed


def _published(row: Mapping[str, Any], columns: Sequence[Column], has_score: bool) -> list[str]:
    """A row of others: their percentages, and where they are from."""
    cells = []
    for column in columns:
        scores = row["scores"].get(column.name, {})
        shown = [f"{scores[name]:.1f}" if name in scores else NONE for name in column.metrics]
        cells.append(" / ".join(shown) if scores else NONE)
    average = [NONE if row["average"] is None else f"{row['average']:.1f}"] if has_score else []
    return [row["name"], *cells, *average, f"{row['source']}; {row['split']}"]


def _protocol(about: Mapping[str, Any], reports: Mapping[str, Report]) -> Iterable[str]:
    """How the rows were made, in sentences: seeds, data, what is missing, what is different about published ones."""
    seeds = sorted({len(cell["scores"]) for report in reports.values() for cell in report.notes["cells"]})
    if seeds == [1]:
        yield "Cells are of one seed, whose spread is not known."
    else:
        yield f"Cells are means ± standard deviations of {' or '.join(map(str, seeds))} seeds."
    if few := [text for name, report in reports.items() if (text := _few(about["tasks"][name], report))]:
        yield f"Not all rows were used: {'; '.join(few)}."
    yield from metric_notes(name for task in about["tasks"].values() for name in about["metrics"][task])
    if about["missing"]:
        yield f"Tasks that the folder lacks: {', '.join(about['missing'])}."
    notes = [f"{row['name']}: {row['note']}" for row in about["published"] if row["note"]]
    if about["published"]:
        yield "Rows with a source are of others." + (f" {'; '.join(notes)}." if notes else "")


def _few(task: str, report: Report) -> str:
    """How many rows were used of those there are, if not all."""
    rows, split = report.notes["rows"], report.notes["split"]
    learned, scored = max(cell["labels"] for cell in report.notes["cells"]), report.notes["test_rows"]
    used = {"train": learned, split: scored}
    few = [f"{number:,} of {rows[name]:,} of {name}" for name, number in used.items() if number < rows[name]]
    by_language = sorted(((report.notes.get("languages") or {}).get("test") or {}).values())
    if scored < rows[split] and len(by_language) > 1:
        least, most = by_language[0], by_language[-1]
        few[-1] += f" ({least:,}{f' to {most:,}' if most > least else ''} of each of {len(by_language)} languages)"
    return f"{task} {' and '.join(few)}" if few else ""
