"""Everything a run made → one page for people and one file for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact
from pipeline.downstream.fine_tune.report import verdict
from pipeline.recipe.recipe import AnyRecipe
from pipeline.stage import Context, Stage
from training.monitor import names
from training.monitor.names import speed_of

PARTS = ("ingest", "tokenizer", "shards", "pretrain")


def config(recipe: AnyRecipe) -> dict[str, Any]:
    return {"name": recipe.name, "title": recipe.title, "reproduces": recipe.reproduces, "scale": recipe.scale}


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
    (out_dir / "report.md").write_text(_markdown(config, inputs, jobs, reports))
    for name, artifact in {"pretrain": inputs["pretrain"], **jobs}.items():
        if (artifact.path / "figures").is_dir():
            shutil.copytree(artifact.path / "figures", out_dir / "figures" / name)
    return {"downstream": list(jobs)}


def _markdown(
    config: dict[str, Any], inputs: dict[str, Artifact], jobs: dict[str, Artifact], reports: dict[str, Any]
) -> str:
    corpus, train = inputs["ingest"].summary, inputs["shards"].summary["train"]
    pretraining = inputs["pretrain"].summary
    held_out = names.held_out(pretraining)
    scale = f", scale {config['scale']}" if config["scale"] else ""
    lines = [
        f"# {config['title'] or config['name']}",
        "",
        f"Recipe `{config['name']}`{scale}. {config['reproduces']}",
        "",
        "## Data",
        f"{corpus['kept']:,} documents kept, {corpus['rejected']:,} rejected, {corpus['duplicates']:,} duplicates; "
        f"{train['corpus_tokens']:,} training tokens in {train['rows']:,} rows "
        f"({train['padding_share']:.1%} padding).",
        "",
        "## Pretraining",
        f"{pretraining['step']:,} steps, {pretraining['samples']:,} samples, {pretraining['train_seconds']:.0f} s in "
        f"{pretraining['precision']}, {speed_of(pretraining)} at the end.",
        "",
        "| held-out metric | value |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in sorted(held_out.items())),
        "",
        "![loss](figures/pretrain/loss.png)",
        "",
    ]
    for name, artifact in jobs.items():
        text = (artifact.path / "report.md").read_text().removeprefix("# ")
        if "figures" in reports[name]:
            lines += ["## " + text.replace("](figures/", f"](figures/{name}/"), ""]
        else:
            lines += ["## " + text, f"![learning curve](figures/{name}/learning-curve.png)", ""]
    if reports:
        told = (report["verdict"] if "verdict" in report else verdict(report) for report in reports.values())
        lines += ["## In one sentence", *told, ""]
    return "\n".join(lines)


REPORT = Stage("report", 1, run)
