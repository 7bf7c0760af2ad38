"""What the command line says at the end of a run."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from flows.show.summary import summarise
from pipeline.reports.report import Report, Table, write
from pipeline.runs import Run, StageRecord


def test_a_run_that_pretrains_nothing_names_its_network(tmp_path: Path) -> None:
    job = Report("marks", "How well.", [Table("Scores", ["model"], [["**pretrained**"]])], [], "It is good.", {})
    folders = {name: tmp_path / name for name in ("init", "marks", "report")}
    for folder in folders.values():
        folder.mkdir()
    write(job, folders["marks"])
    network = {"architecture": "bert", "parameters": 1234, "vocabulary": 8}
    (folders["report"] / "report.json").write_text(json.dumps({"network": network, "downstream": {"marks": {}}}))
    run = Run("finetune-1", "finetune", "tiny")
    run.stages = {name: StageRecord(f"{name}-1", str(folder), False, 1.0) for name, folder in folders.items()}
    console = Console(width=120, record=True)
    run.refused = [f"register: MlflowException: reason {number}" for number in range(5)]
    summarise(run, console)
    said = console.export_text()
    assert "MLflow refused a record, which it does not show: register: MlflowException: reason 2\n" in said
    assert "reason 3" not in said and "MLflow refused 2 more." in said
    assert "Network: bert, 1,234 parameters" in said and "It is good." in said and "sesame inspect" not in said
    assert str(folders["init"] / "model") in said and "more labels and repetitions" in said
