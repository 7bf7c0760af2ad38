"""All artifacts of a run → one page for people and one file for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from data_prep.kinds import kind_of
from data_prep.legible import escaped, prose
from pipeline.artifact import TABLES, Artifact
from pipeline.downstream.fine_tune.reports import suite as of_suite
from pipeline.recipe import suite as suites
from pipeline.recipe.recipe import Experiment
from pipeline.reports import expert_use, findings, tables
from pipeline.reports.report import FIGURES, FILE, PAGE, Report, Table, for_mlflow, markdown, of_values, page, read
from pipeline.stage import Context, Stage
from pipeline.stages.job import JOB
from training.monitor import names
from training.monitor.names import speed_of

SUMMARIES = {"init": "network", "ingest": "corpus", "shards": "shards", "pretrain": "pretraining"}
"""Names of summaries in report.json, by the names of their nodes."""
TAKES = {"vocabulary": "tokens", "bands": "bands"}
"""What a network takes, as its summary and its page call it."""
SUITE = "suite"
"""Key of the report of all jobs of a suite in report.json."""


def config(recipe: Experiment) -> dict[str, Any]:
    about = {"name": recipe.name, "title": recipe.title, "reproduces": recipe.reproduces, "scale": recipe.scale}
    suite = suites.described(recipe)
    return {**about, "kind": recipe.kind, **({SUITE: suite} if suite else {})}


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    jobs = {name: artifact for name, artifact in inputs.items() if artifact.stage == JOB.name}
    reports = {name: read(artifact.path) for name, artifact in jobs.items()}
    stages = {name: artifact for name, artifact in inputs.items() if name not in jobs}
    pretrained = "pretrain" in stages
    known = findings.of_artifacts(stages, context.downloads) if pretrained else []
    finding_texts = [finding.text for finding in known]
    suite = of_suite.build(config[SUITE], reports) if SUITE in config else None
    result = {
        **config,
        "findings": finding_texts,
        "artifacts": {name: artifact.key for name, artifact in inputs.items()},
        **{key: stages[name].summary for name, key in SUMMARIES.items() if name in stages},
        "downstream": {name: asdict(report) for name, report in reports.items()},
        **({SUITE: asdict(suite)} if suite else {}),
    }
    (out_dir / FILE).write_text(json.dumps(result, indent=1))
    of_network = _of_pretraining(config, inputs, finding_texts) if pretrained else _of_networks(stages)
    (out_dir / PAGE).write_text("\n".join(_page(config, of_network, reports, suite)), encoding="utf-8")
    for name, artifact in inputs.items():
        if name in {"pretrain", *jobs} and (artifact.path / FIGURES).is_dir():
            shutil.copytree(artifact.path / FIGURES, out_dir / FIGURES / name)
    if suite is not None:
        named = {suite.title: suite.tables[0], **{f"{suite.title} by model": table for table in suite.tables[1:]}}
        tables.write({name: for_mlflow(table) for name, table in named.items()}, out_dir / TABLES)
    return {"downstream": list(jobs), **(suite.numbers if suite else {})}


def suite_in(folder: Path) -> Report | None:
    """The report of a suite in the folder of a run's report, if there is one."""
    values = json.loads((folder / FILE).read_text(encoding="utf-8")).get(SUITE)
    return None if values is None else of_values(values)


def _page(config: dict[str, Any], of_network: list[str], reports: dict[str, Report], suite: Report | None) -> list[str]:
    """of_network: lines about the network that the jobs are of. suite: of all jobs of one."""
    scale = f", scale {escaped(config['scale'])}" if config["scale"] else ""
    lines = [
        f"# {escaped(config['title'] or config['name'])}",
        "",
        f"Recipe {escaped(config['name'])}{scale}. {prose(config['reproduces'])}",
        "",
    ]
    if suite is not None:
        lines += [page(suite, level=2), ""]
    if reports:
        lines += ["## In one sentence", *_verdicts(reports), ""]
    lines += of_network
    for name, report in reports.items():
        lines += [page(report, f"{FIGURES}/{quote(name)}", level=2), ""]
    return lines


def _verdicts(reports: dict[str, Report]) -> list[str]:
    """That of the only job, or a list with the name of each."""
    if len(reports) == 1:
        return [prose(report.verdict) for report in reports.values()]
    return ["", *(f"- **{escaped(name)}**: {prose(report.verdict)}" for name, report in reports.items())]


def _of_networks(stages: dict[str, Artifact]) -> list[str]:
    lines = []
    for name, artifact in stages.items():
        summary, other = artifact.summary, name.partition("-")[2]
        about = f"{escaped(summary['architecture'])}, {summary['parameters']:,} parameters"
        called = f"{escaped(other)}, another to compare with" if other else "A network that existed"
        takes = next(f"{summary[noun]:,} {shown}" for noun, shown in TAKES.items() if noun in summary)
        lines += [f"{called}: {about}, {takes}.", ""]
    return ["## Network", *lines]


def _of_pretraining(config: dict[str, Any], inputs: dict[str, Artifact], finding_texts: list[str]) -> list[str]:
    """Lines about data and pretraining."""
    corpus, shards, pretraining = (inputs[name].summary for name in ("ingest", "shards", "pretrain"))
    summary = kind_of(config["kind"]).describe(corpus, shards["train"])
    lines = ["## Data", prose(summary), ""]
    if finding_texts:
        lines += ["To know before reading figures:", "", *(f"- {escaped(text)}" for text in finding_texts), ""]
    figures = sorted(path.name for path in (inputs["pretrain"].path / FIGURES).glob("*.png"))
    return [*lines, "## Pretraining", *_pretraining(pretraining, figures), *_by_source(config["kind"], inputs)]


def _by_source(kind_name: str, inputs: dict[str, Artifact]) -> list[str]:
    """Of a mixture, a table by source: how its texts are cut, and its held-out losses."""
    kind = kind_of(kind_name)
    if kind.fits is None or kind.fits not in inputs:
        return []
    columns, rows = kind.of_sources(inputs["ingest"].path, inputs[kind.fits].path, inputs["shards"].summary)
    if not rows:
        return []
    held_out = names.held_out(inputs["pretrain"].summary)
    measures = {"held-out loss": "loss", "bits per byte": names.BITS_PER_BYTE}
    shown = {title: name for title, name in measures.items() if any(f"{name}/{row[0]}" in held_out for row in rows)}
    lines = [
        [*row, *(f"{held_out[key]:.3f}" if (key := f"{name}/{row[0]}") in held_out else "–" for name in shown.values())]
        for row in rows
    ]
    return ["### By source", "", markdown(Table("By source", ["source", *columns, *shown], lines)), ""]


def _pretraining(summary: dict[str, Any], figures: Sequence[str]) -> list[str]:
    """Duration, held-out metrics, loss curve and, of a mixture, how its experts are used."""
    held_out = names.single(names.held_out(summary))
    ordered = dict.fromkeys([*(name for name in summary["shown"] if name in held_out), *sorted(held_out)])
    return [
        f"{summary['step']:,} steps, {summary['samples']:,} samples, {summary['train_seconds']:.0f} s in "
        f"{summary['precision']}, {speed_of(summary)} at the end.",
        "",
        "| held-out metric | value |",
        "|---|---|",
        *(f"| {escaped(name)} | {held_out[name]:.4g} |" for name in ordered),
        "",
        *(f"The network that it started from: {remark}." for remark in map(escaped, summary.get("started", ()))),
        *(f"![{name[:-4]}]({FIGURES}/pretrain/{name})" for name in ("loss.png", expert_use.FILE) if name in figures),
        "",
    ]


REPORT = Stage("report", 4, run)
