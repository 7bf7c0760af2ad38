"""Carries out the nodes of a DAG: makes what the store lacks, and tells the tracker and the person watching."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact import TABLES, Artifact
from pipeline.dag import Node, inputs_of
from pipeline.recipe.flatten import flatten
from pipeline.recipe.recipe import AnyRecipe
from pipeline.runs import Run, numbers
from pipeline.stage import Context, Stage
from pipeline.stages.pretrain import MODEL
from pipeline.store.store import Store
from pipeline.tracking import registry
from pipeline.tracking.tracking import TrackedRun, Tracker, follow
from training.job import METRICS
from training.monitor.names import LOSS, SECONDS_LEFT, SKIPPED, speed_of

Progress = Callable[..., None]


@dataclass
class Execution:
    """One flow run over a store. `made` grows node by node."""

    recipe: AnyRecipe
    store: Store
    run: Run
    tracker: Tracker
    downloads: Path
    dag: Sequence[Node]
    made: dict[str, Artifact] = field(default_factory=dict)

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
        )
        self.parent.text(self.recipe.to_yaml(), "recipe.yaml")

    def carry_out(self, node: Node, progress: Progress) -> tuple[Artifact, bool]:
        """The node's artifact, and whether it was already there."""
        began = time.monotonic()
        inputs = inputs_of(node, self.made)
        stage = Stage(node.stage.name, node.stage.version, self._watched(node, inputs, progress))
        context = Context(
            downloads=self.downloads,
            progress=progress,
            placement=self.recipe.placement.model_dump(mode="json"),
        )
        artifact, reused = self.store.produce(stage, node.config, inputs, context)
        self.made[node.name] = artifact
        self.run.note(node.name, artifact, reused, time.monotonic() - began)
        self.parent.metrics({f"{node.name}.{n}": v for n, v in numbers(artifact.summary).items()}, step=0)
        return artifact, reused

    def _watched(self, node: Node, inputs: Mapping[str, Artifact], progress: Progress) -> Callable[..., dict[str, Any]]:
        """The stage's function inside an MLflow run of its own: only stages that do work get one."""

        def run(config: dict[str, Any], ins: dict[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
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
            with child:
                for role, artifact in inputs.items():
                    child.dataset(
                        role, artifact.output_digest, str(artifact.path), node.name, numbers(artifact.summary)
                    )
                with followed(context.work / METRICS, child, progress, config.get("train", {}).get("steps")) as told:
                    summary = node.stage.run(config, ins, out, context)
                # What was told step by step is not told again.
                rest = {name: value for name, value in numbers(summary).items() if name not in told}
                child.metrics(rest, step=int(summary.get("step", 0)))
                self._show(child, out, context)
                self._register(node, child, inputs, summary)
            return summary

        return run

    def _show(self, child: TrackedRun, out: Path, context: Context) -> None:
        """Figures, pages and tables of the stage. Files are sent from where they will stay once committed."""
        for path in sorted(out.rglob("*")):
            if path.suffix in (".png", ".md") or path.name in ("report.json", "stats.json"):
                child.artifact(path, str(path.parent.relative_to(out)) if path.parent != out else "")
            elif path.parent == out / TABLES and path.suffix == ".json":
                child.table(**json.loads(path.read_text(encoding="utf-8")), file=f"{TABLES}/{path.name}")

    def _register(self, node: Node, child: TrackedRun, inputs: Mapping[str, Artifact], summary: dict[str, Any]) -> None:
        """A downstream job decides whether the model it tested becomes the champion of its recipe's name."""
        if "pretrained" not in inputs or "pretrained" not in node.config["job"].get("models", []):
            return
        score = f"pretrained_{max(node.config['job']['labels'])}"
        registry.register(
            child,
            inputs["pretrained"].path / MODEL,
            f"{self.recipe.name}-encoder",
            numbers(summary),
            {"job": node.config["job"], "seed": node.config["seed"], "corpus": inputs["corpus"].output_digest},
            score=score,
            artifact=inputs["pretrained"].key,
        )

    def finish(self, status: str) -> None:
        """End the parent run: FINISHED, FAILED or KILLED."""
        self.parent.end(status)


@contextmanager
def followed(path: Path, child: TrackedRun, progress: Progress, steps: int | None) -> Iterator[set[str]]:
    """While inside, records that appear in a metrics log go to the tracker and to the progress line.

    Gives the names of the metrics told, which grows.
    """
    began = time.time()
    told: set[str] = set()

    def tell(record: dict[str, Any]) -> None:
        warnings = record.pop("warnings", [])
        child.record(record)
        told.update(record)
        if steps and speed_of(record) and record.get("time", 0) >= began:
            for warning in warnings:
                progress(_line(record, steps), record["step"] / steps, warning=warning)
            progress(_line(record, steps), record["step"] / steps)

    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(path, tell, stop), name="follow metrics", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def _line(record: Mapping[str, Any], steps: int) -> str:
    """step 120 of 600, loss 3.210, 9,500 tokens/s, 4 min left, 2 updates skipped"""
    said = [f"step {record['step']:,} of {steps:,}"]
    if LOSS in record:  # not where every update was skipped
        said.append(f"loss {record[LOSS]:.3f}")
    said.append(speed_of(record))
    if record.get(SECONDS_LEFT):
        said.append(f"{_duration(record[SECONDS_LEFT])} left")
    if SKIPPED in record:
        said.append(f"{record[SKIPPED]:.0f} updates skipped")
    return ", ".join(said)


def _duration(seconds: float) -> str:
    """45 s, 12 min, 3.4 h, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
