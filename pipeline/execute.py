"""Carries out the nodes of a DAG: makes what the store lacks, and reports to the tracker and the console."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import downstream
from pipeline.artifact import TABLES, Artifact
from pipeline.dag import Node, inputs_of
from pipeline.flatten import flatten
from pipeline.gate import ENCODER, FINE_TUNED, Candidate
from pipeline.recipe.recipe import Experiment
from pipeline.reports.report import read
from pipeline.runs import Run, numbers
from pipeline.side_by_side import SideBySide
from pipeline.stage import Context, Stage
from pipeline.stages.job import JOB
from pipeline.stages.pretrain import PRETRAIN
from pipeline.stages.report import suite_in
from pipeline.store.store import Store
from pipeline.tracking import pages, registry
from pipeline.tracking.tracking import TrackedRun, Tracker, follow
from training.job import METRICS
from training.monitor.names import LOSS, SECONDS_LEFT, SKIPPED, speed_of

Progress = Callable[..., None]


@dataclass
class Execution:
    """One flow run over a store. `artifacts` grows node by node."""

    recipe: Experiment
    store: Store
    run: Run
    tracker: Tracker
    downloads: Path
    dag: Sequence[Node]
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    where: SideBySide = field(default_factory=SideBySide)

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in self.dag}
        placement = self.recipe.placement.model_dump(mode="json")
        self.parent = self.tracker.run(
            self.run.run_id,
            params=flatten(self.recipe.science()),
            tags={
                "recipe": self.recipe.name,
                "scale": self.recipe.scale or "",
                **{f"placement.{name}": value for name, value in placement.items()},
            },
            experiment=pages.of_experiment(self.recipe),
        )
        self.parent.describe(pages.of_flow(self.recipe))
        self.parent.text(self.recipe.to_yaml(), "recipe.yaml")

    def carry_out(self, node: Node, progress: Progress) -> tuple[Artifact, bool]:
        """The node's artifact, and whether it was already stored."""
        began = time.monotonic()
        inputs = inputs_of(node, self.artifacts)
        children: list[TrackedRun] = []
        stage = Stage(node.stage.name, node.stage.version, self._tracked(node, inputs, progress, children))
        context = Context(
            downloads=self.downloads,
            progress=progress,
            placement=self.recipe.placement.model_dump(mode="json"),
            files=node.files,
        )
        artifact, reused = self.store.produce(stage, node.config, inputs, context)
        self.artifacts[node.name] = artifact
        if children and node.stage.name == JOB.name:
            self._register(children[-1], artifact, inputs)
        self.run.note(node.name, artifact, reused, time.monotonic() - began)
        charts = _charts(node, artifact.summary)
        self.parent.metrics({f"{node.name}/{name}": value for name, value in charts.items()}, step=0)
        return artifact, reused

    def _check_jobs(self) -> None:
        """UserError, before the network is trained, if what is stored by now cannot serve a job."""
        for node in self.dag:
            if node.stage.name == JOB.name:
                stored = {role: self.artifacts[name] for role, name in node.inputs.items() if name in self.artifacts}
                downstream.check_inputs(node.config, stored)

    def _tracked(
        self, node: Node, inputs: Mapping[str, Artifact], progress: Progress, children: list[TrackedRun]
    ) -> Callable[..., dict[str, Any]]:
        """The stage's function inside an MLflow run, which is added to `children`; only stages that do work get one."""

        def run(config: dict[str, Any], artifacts: dict[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
            if node.stage.name == PRETRAIN.name:
                self._check_jobs()
            child = self.tracker.run(
                node.name,
                parent=self.parent,
                params=flatten(config),
                tags={
                    "stage": node.stage.name,
                    "recipe": self.recipe.name,
                    "scale": self.recipe.scale or "",
                    "artifact": context.key,
                    **{f"parent.{role}": artifact.key for role, artifact in inputs.items()},
                },
            )
            children.append(child)
            with child:
                for role, artifact in inputs.items():
                    child.dataset(
                        role, artifact.output_digest, str(artifact.path), node.name, numbers(artifact.summary)
                    )
                steps = config.get("train", {}).get("steps")
                with following_metrics(context.work / METRICS, child, progress, steps) as logged:
                    carry_out = partial(self.where.run, node) if self.where.is_apart(node) else node.stage.run
                    summary = carry_out(config, artifacts, out, context)
                # What was logged step by step is not logged again.
                unlogged = {name: value for name, value in _charts(node, summary).items() if name not in logged}
                child.metrics(unlogged, step=int(summary.get("step", 0)))
                child.text(json.dumps(summary, indent=1, default=str), "summary.json")
                self._show(child, out, context)
                if node.stage.name == JOB.name:
                    child.describe(pages.of_job(read(out)))
            return summary

        return run

    def _show(self, child: TrackedRun, out: Path, context: Context) -> None:
        """Log figures, pages and tables of the stage. Files are sent from where they stay once committed."""
        for path in sorted(out.rglob("*")):
            if path.suffix in (".png", ".md") or path.name in ("report.json", "stats.json"):
                child.artifact(path, str(path.parent.relative_to(out)) if path.parent != out else "")
            elif path.parent == out / TABLES and path.suffix == ".json":
                child.table(**json.loads(path.read_text(encoding="utf-8")), file=f"{TABLES}/{path.name}")

    def proposed_candidates(self, kind: str) -> Iterator[tuple[Candidate, Path]]:
        """Candidates of a kind that the jobs of this run propose, made now or stored, and their folders."""
        for node in self.dag:
            if node.stage.name == JOB.name and node.name in self.artifacts:
                artifact = self.artifacts[node.name]
                for candidate, owner in _candidates(artifact.path, artifact, inputs_of(node, self.artifacts), kind):
                    yield candidate, self.store.check_whole(owner).path / candidate.path

    def _register(self, child: TrackedRun, job: Artifact, inputs: Mapping[str, Artifact]) -> None:
        """Register the networks that a job proposes as versions of the recipe's models; the gate picks the champions.

        The job is stored by then: its own folders stay where they are until they were sent.
        """
        for kind in (ENCODER, FINE_TUNED):
            for candidate, owner in _candidates(job.path, job, inputs, kind):
                registry.register(
                    child,
                    self.store.check_whole(owner).path / candidate.path,
                    f"{self.recipe.name}-{candidate.name or kind}",
                    candidate,
                    numbers(job.summary),
                    owner.key,
                    about=pages.of_job(read(job.path)),
                    about_model=pages.of_model(self.recipe.name, kind),
                )

    def finish(self, status: str) -> None:
        """End the parent run as FINISHED, FAILED or KILLED, with the results so far in its description."""
        jobs = [node.name for node in self.dag if node.stage.name == JOB.name and node.name in self.artifacts]
        reports = {name: read(self.artifacts[name].path) for name in jobs}
        pretraining = self.artifacts["pretrain"].summary if "pretrain" in self.artifacts else None
        suite = suite_in(self.artifacts["report"].path) if "report" in self.artifacts else None
        if pretraining is not None or reports:
            self.parent.describe(pages.of_flow(self.recipe, pretraining, reports, suite))
        self.parent.end(status)


def _charts(node: Node, summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary that become charts: metrics of a job, losses and speed of pretraining."""
    if node.stage.name == JOB.name:
        return numbers(summary)
    return {name: value for name, value in numbers(summary).items() if pages.is_chart(name)}


def _candidates(
    folder: Path, own: Artifact, inputs: Mapping[str, Artifact], kind: str
) -> Iterator[tuple[Candidate, Artifact]]:
    """Candidates of a kind in a job's report, and the artifacts that hold them: one of its inputs, or its own."""
    for candidate in read(folder).candidates:
        owner = inputs.get(candidate.role) if candidate.role else own
        if candidate.kind == kind and owner is not None:
            yield candidate, owner


@contextmanager
def following_metrics(path: Path, child: TrackedRun, progress: Progress, steps: int | None) -> Iterator[set[str]]:
    """Inside the block, pass records that appear in a metrics log to the tracker and the progress line.

    Yields the set of names of the metrics logged so far.
    """
    began = time.time()
    logged: set[str] = set()

    def pass_on(record: dict[str, Any]) -> None:
        warnings = record.pop("warnings", [])
        child.record(
            {name: value for name, value in record.items() if name in ("step", "time") or pages.is_chart(name)}
        )
        logged.update(record)
        if steps and speed_of(record) and record.get("time", 0) >= began:
            for warning in warnings:
                progress(_line(record, steps), record["step"] / steps, warning=warning)
            progress(_line(record, steps), record["step"] / steps)

    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(path, pass_on, stop), name="follow metrics", daemon=True)
    thread.start()
    try:
        yield logged
    finally:
        stop.set()
        thread.join()


def _line(record: Mapping[str, Any], steps: int) -> str:
    """step 120 of 600, loss 3.210, 9,500 tokens/s, 4 min left, 2 updates skipped"""
    phrases = [f"step {record['step']:,} of {steps:,}"]
    if LOSS in record:  # not where every update was skipped
        phrases.append(f"loss {record[LOSS]:.3f}")
    phrases.append(speed_of(record))
    if record.get(SECONDS_LEFT):
        phrases.append(f"{_duration(record[SECONDS_LEFT])} left")
    if SKIPPED in record:
        phrases.append(f"{record[SKIPPED]:.0f} updates skipped")
    return ", ".join(phrases)


def _duration(seconds: float) -> str:
    """45 s, 12 min, 3.4 h, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
