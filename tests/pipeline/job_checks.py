"""What every job's report must be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from pipeline import downstream
from pipeline.artifact import TABLES, Artifact
from pipeline.reports.report import Report, Table, read


def whole_report(job: Artifact) -> Report:
    """The report of a job, once all its parts have been found to be there and to agree."""
    report = read(job.path)
    for table in report.tables:
        assert table.rows and {len(row) for row in table.rows} == {len(table.columns)}
        assert all(isinstance(cell, str) and cell for row in table.rows for cell in row)
    assert report.about.endswith(".") and report.verdict.endswith(".")
    drawn = {file.name for file in (job.path / "figures").iterdir()}
    assert {figure.file for figure in report.figures} == drawn != set()
    assert report.numbers and all(math.isfinite(value) for value in report.numbers.values())
    assert job.summary == report.summary
    section = job.config["job"]
    module = downstream.module_of(section["task"])
    if hasattr(module, "numbers"):
        assert_announced(module.Config.model_validate(section, strict=False), report.numbers)
    page = (job.path / "report.md").read_text()
    assert report.verdict in page and all(f"(figures/{name})" in page for name in drawn)
    for candidate in report.candidates:
        assert candidate.role or (job.path / candidate.path).is_dir()
    kept = [json.loads(path.read_text()) for path in (job.path / TABLES).iterdir()]
    assert sorted(len(table["data"]) for table in kept) == sorted(len(table.rows) for table in report.tables)
    return report


def assert_announced(config: Any, numbers: Iterable[str]) -> None:
    """Comparisons find out before anything runs whether a job makes a number: a job that names any names all."""
    names = downstream.numbers_of(config)
    if names is not None:
        assert [number for number in numbers if not downstream.is_among(number, names)] == []
        assert not downstream.is_among("no such number", names)


def table(report: Report, title: str) -> Table:
    """The table of a title."""
    (match,) = [table for table in report.tables if table.title == title]
    return match
