"""Reports of jobs: one type for every job, written and rendered here. Their texts are no Markdown: pages escape them.

report.json     for programs: `read` gives the report back
report.md       for people
tables/         each table for MLflow's page
figures/        drawn by the job
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data_prep.legible import escaped, prose
from pipeline.artifact import TABLES
from pipeline.gate import Candidate
from pipeline.reports import tables as data_tables

FILE, PAGE, FIGURES = "report.json", "report.md", "figures"
FEW = 4  # examples in a summary


@dataclass(frozen=True)
class Table:
    """A table of texts. A first cell between two asterisks (`**ours**`) marks the row that the report is about.

    examples: of what the job is about, for a person to judge; summaries show the first of them.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    examples: bool = False


@dataclass(frozen=True)
class Figure:
    """A file in `figures/`."""

    title: str
    file: str


@dataclass(frozen=True)
class Report:
    """What a job did and its results."""

    title: str
    about: str
    """What was done, on which data, by which protocol; paragraphs, with an empty line between two."""
    tables: Sequence[Table]
    """The first one holds the main result and is shown in every summary."""
    figures: Sequence[Figure]
    verdict: str
    """One sentence or more."""
    numbers: Mapping[str, float]
    """Metrics to log; a slash in a name groups them."""
    candidates: Sequence[Candidate] = ()
    """What the job proposes for use."""
    predictions: str | None = None
    """A Parquet or Arrow file of predictions in the job's folder, if there is one."""
    licences: Sequence[str] = ()
    """Licences of data that the job brings itself."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Further results for programs, as plain values."""

    @property
    def examples(self) -> list[Table]:
        """The first rows of each table of examples, for summaries."""
        return [replace(table, rows=table.rows[:FEW]) for table in self.tables if table.examples]

    @property
    def summary(self) -> dict[str, Any]:
        """The summary of the job's stage: its numbers, and licences to pass on."""
        return {**self.numbers, **({"licences": list(self.licences)} if self.licences else {})}


def write(report: Report, folder: Path) -> None:
    """Write `report.json`, `report.md` and `tables/`; the job has drawn its figures."""
    (folder / FILE).write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    (folder / PAGE).write_text(page(report), encoding="utf-8")
    named: dict[str, data_tables.Table] = {}
    for table in report.tables:
        name = _slug(table.title)
        named[name if name not in named else f"{name}-{len(named)}"] = for_mlflow(table)
    data_tables.write(named, folder / TABLES)


def read(folder: Path) -> Report:
    """The report that `write` left in a folder."""
    return of_values(json.loads((folder / FILE).read_text(encoding="utf-8")))


def of_values(values: Mapping[str, Any]) -> Report:
    """The report of its plain values (`dataclasses.asdict`)."""
    values = dict(values)
    parts = {
        "tables": [Table(**table) for table in values.pop("tables")],
        "figures": [Figure(**figure) for figure in values.pop("figures")],
        "candidates": [Candidate(**candidate) for candidate in values.pop("candidates")],
    }
    return Report(**values, **parts)


def page(report: Report, figures: str = FIGURES, level: int = 1) -> str:
    """The report as Markdown. figures: their folder relative to the page; level: of the title's heading."""
    heading = "#" * level
    first, *others = report.tables
    lines = [f"{heading} {escaped(report.title)}", "", prose(report.about), "", markdown(first), ""]
    lines += [prose(report.verdict), ""]
    for table in others:
        lines += [f"{heading}## {escaped(table.title)}", "", markdown(table), ""]
    for figure in report.figures:
        lines += [f"![{escaped(figure.title)}]({figures}/{quote(figure.file)})", ""]
    return "\n".join(lines)


def markdown(table: Table) -> str:
    """The table without its title."""
    rows = [[escaped(column) for column in table.columns], ["---"] * len(table.columns)]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: str) -> str:
    marked = re.fullmatch(r"\*\*(.+)\*\*", cell, re.DOTALL)
    return f"**{escaped(marked[1])}**" if marked else escaped(cell)


def for_mlflow(table: Table) -> data_tables.Table:
    """The table with unique column names without dots, at which MLflow's page would split them."""
    columns: list[str] = []
    for column in table.columns:
        name = column.replace(".", "·")
        columns.append(name if name not in columns else f"{name} ({len(columns) + 1})")
    return data_tables.Table(columns, [[cell.strip("*") for cell in row] for row in table.rows])


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "table"
