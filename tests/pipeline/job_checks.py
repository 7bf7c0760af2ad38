"""What every job's report must be."""

from __future__ import annotations

import json
import math
from typing import Any

from pipeline.artifact import Artifact


def whole_report(job: Artifact) -> dict[str, Any]:
    """The report of a job, once all its parts have been found to be there and to agree."""
    report = json.loads((job.path / "report.json").read_text())
    assert {"title", "task", "about", "heads", "rows", "figures", "verdict", "summary"} <= set(report)
    assert report["rows"] and {len(row) for row in report["rows"]} == {len(report["heads"])}
    assert all(isinstance(cell, str) and cell for row in report["rows"] for cell in row)
    assert report["about"].endswith(".") and report["verdict"].endswith(".")
    assert report["figures"]
    drawn = {file.name for file in (job.path / "figures").iterdir()}
    assert set(report["figures"].values()) == drawn
    assert all(math.isfinite(value) for value in report["summary"].values()) and report["summary"]
    assert job.summary == report["summary"]
    page = (job.path / "report.md").read_text()
    assert report["verdict"] in page and all(f"(figures/{name})" in page for name in drawn)
    return report
