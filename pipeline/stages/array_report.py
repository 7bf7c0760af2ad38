"""Everything a run on tables or pictures made → one page for people and one file for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact
from pipeline.stage import Context, Stage
from training.monitor import names
from training.monitor.names import speed_of

PARTS = ("ingest", "shards", "pretrain")


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    jobs = {name: artifact for name, artifact in inputs.items() if name not in PARTS}
    reports = {name: json.loads((artifact.path / "report.json").read_text()) for name, artifact in jobs.items()}
    result = {
        **config,
        "artifacts": {name: artifact.key for name, artifact in inputs.items()},
        "corpus": inputs["ingest"].summary,
        "shards": inputs["shards"].summary,
        "pretraining": inputs["pretrain"].summary,
        "downstream": reports,
    }
    (out_dir / "report.json").write_text(json.dumps(result, indent=1))
    for name, artifact in {"pretrain": inputs["pretrain"], **jobs}.items():
        if (artifact.path / "figures").is_dir():
            shutil.copytree(artifact.path / "figures", out_dir / "figures" / name)
    (out_dir / "report.md").write_text(_markdown(config, inputs, jobs, reports))
    return {"downstream": list(jobs)}


def _markdown(
    config: dict[str, Any], inputs: dict[str, Artifact], jobs: dict[str, Artifact], reports: dict[str, Any]
) -> str:
    corpus, shards, pretraining = (inputs[name].summary for name in PARTS)
    held_out = names.held_out(pretraining)
    scale = f", scale {config['scale']}" if config["scale"] else ""
    lines = [
        f"# {config['title'] or config['name']}",
        "",
        f"Recipe `{config['name']}`{scale}. {config['reproduces']}",
        "",
        "## Data",
        f"{corpus['kept']:,} rows kept, {corpus['rejected']:,} rejected, {corpus['duplicates']:,} of them duplicates; "
        f"{shards['train']['rows']:,} training rows of shape {tuple(shards['train']['shape'])}.",
        "",
        "## Training",
        f"{pretraining['step']:,} steps, {pretraining['samples']:,} samples, {pretraining['train_seconds']:.0f} s in "
        f"{pretraining['precision']}, {speed_of(pretraining)} at the end.",
        "",
        "| held-out metric | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(held_out.items())),
        "",
        "![loss](figures/pretrain/loss.png)",
        "",
    ]
    for name, artifact in jobs.items():
        page = (artifact.path / "report.md").read_text().replace("](figures/", f"](figures/{name}/")
        lines += ["## " + page.removeprefix("# "), ""]
    if reports:
        lines += ["## In one sentence", *(report["verdict"] for report in reports.values()), ""]
    return "\n".join(lines)


ARRAY_REPORT = Stage("array-report", 1, run)
