"""A recipe as a DAG of stages: what each needs, and which are already stored.

ingest ─► fit (tokenizer, transform) ─► shards ─► pretrain ─► one downstream job per entry ─► report
                          networks that exist ─► init ─► one downstream job per entry ─► report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.kinds import kind_of
from pipeline import downstream
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Evaluation, Experiment, Recipe
from pipeline.stage import Stage
from pipeline.stages import fit, ingest, init, job, pretrain, report, shards
from pipeline.store.store import Store
from pipeline.training_settings import start_files


@dataclass(frozen=True)
class Node:
    """A stage with its config, and by role the names of the nodes it reads."""

    name: str
    stage: Stage
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    apart: bool = False  # may be carried out in a process of its own, beside others
    files: Mapping[str, Path] = field(default_factory=dict)  # the user's, by their digests in the config


@dataclass(frozen=True)
class PlannedNode:
    """A node with its stored artifact, or the reason why it has to be made."""

    node: Node
    artifact: Artifact | None
    why: str


def nodes(recipe: Experiment, downloads: Path) -> list[Node]:
    """The DAG in topological order."""
    if isinstance(recipe, Evaluation):
        names = {"init": "", **{f"init-{name}": name for name in recipe.networks}}
        dag = [
            Node(node, init.INIT, init.config(recipe, name), files=init.files(recipe, name))
            for node, name in names.items()
        ]
        by_role = {downstream.role_of(name) if name else "pretrained": node for node, name in names.items()}
    else:
        assert isinstance(recipe, Recipe)
        dag, by_role = _pretraining(recipe, downloads)
    dag += [_job(recipe, entry, downloads, by_role) for entry in recipe.downstream]
    return [*dag, Node("report", report.REPORT, report.config(recipe), _all(dag))]


def _pretraining(recipe: Recipe, downloads: Path) -> tuple[list[Node], dict[str, str]]:
    """The nodes that make a network, and those that jobs may read, by role."""
    fits = kind_of(recipe.data.kind).fits
    preprocessor = {"preprocessor": fits} if fits else {}
    dag = [Node("ingest", ingest.INGEST, ingest.config(recipe, downloads))]
    if fits:
        dag.append(Node(fits, fit.FIT, fit.config(recipe), {"corpus": "ingest"}))
    dag += [
        Node(
            "shards",
            shards.SHARDS,
            shards.config(recipe),
            {"corpus": "ingest", **preprocessor},
            files=shards.files(recipe),
        ),
        Node(
            "pretrain",
            pretrain.PRETRAIN,
            pretrain.config(recipe),
            {"shards": "shards", **preprocessor},
            files=start_files(recipe),
        ),
    ]
    return dag, {"corpus": "ingest", **preprocessor, "shards": "shards", "pretrained": "pretrain"}


def _job(recipe: Experiment, entry: Any, downloads: Path, by_role: Mapping[str, str]) -> Node:
    """The node of a downstream job. by_role: names of the nodes that it may read."""
    others = map(downstream.role_of, downstream.compared(recipe, entry))
    reads = {role: by_role[role] for role in (*downstream.module_of(entry.task).READS, *others) if role in by_role}
    config = downstream.config_of(recipe, entry, downloads)
    files = start_files(recipe) if isinstance(recipe, Recipe) else {}
    return Node(entry.name, job.JOB, config, reads, apart=True, files=files)


def _all(dag: list[Node]) -> dict[str, str]:
    return {node.name: node.name for node in dag}


def plan(dag: list[Node], store: Store) -> list[PlannedNode]:
    """Look up every node. A node can be stored only if all its inputs are: its key needs their digests."""
    planned: dict[str, PlannedNode] = {}
    for node in dag:
        inputs = {role: planned[name].artifact for role, name in node.inputs.items()}
        why = store.why(node.stage, node.config, inputs)
        stored_inputs = {role: artifact for role, artifact in inputs.items() if artifact is not None}
        artifact = store.get(node.stage.key(node.config, stored_inputs)) if why == "stored" else None
        planned[node.name] = PlannedNode(node, artifact, why)
    return list(planned.values())


def inputs_of(node: Node, artifacts: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The node's inputs by role. artifacts: by the name of the node that made them."""
    return {role: artifacts[name] for role, name in node.inputs.items()}
