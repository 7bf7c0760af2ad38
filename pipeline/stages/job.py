"""Artifacts → a job's report, figures and files.

report.json, report.md, tables/, figures/      `pipeline.reports.report`
other files                                    of the job
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import downstream
from pipeline.artifact import Artifact
from pipeline.downstream import finished
from pipeline.reports.report import write
from pipeline.stage import Context, Stage


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    """Carry out the job of the config's task (`pipeline.downstream.config_of`)."""
    downstream.check_inputs(config, inputs)
    module, job, settings = downstream.of_config(config)
    report = module.run(job, settings, inputs, out_dir, context)
    write(report, out_dir)
    finished.forget(context)
    return report.summary


JOB = Stage("job", 1, run)
