"""A recipe as a DAG of stages: which there are, what each needs, and which of them the store already has.

ingest ─► tokenizer ─► shards ─► pretrain ─► one downstream job per entry ─► report

Tables and pictures need no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import downstream
from pipeline.array_recipe import ArrayRecipe
from pipeline.artifact import Artifact
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Stage
from pipeline.stages import ingest, job, pretrain, report, shards_text, tokenizer
from pipeline.store.store import Store

# The node that makes what a job reads in a role.
NODES_OF_ROLES = {"corpus": "ingest", "preprocessor": "tokenizer", "shards": "shards", "pretrained": "pretrain"}


@dataclass(frozen=True)
class Node:
    """A stage with its config, and by role the names of the nodes it reads."""

    name: str
    stage: Stage
    config: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    heavy: bool = False  # worth a job of its own on a cluster


@dataclass(frozen=True)
class Planned:
    """What will happen to a node: its artifact if the store has it, else why it has to be made."""

    node: Node
    artifact: Artifact | None
    why: str


def nodes(recipe: Recipe | ArrayRecipe, downloads: Path) -> list[Node]:
    """The DAG in an order in which every node follows what it reads."""
    return _of_text(recipe, downloads) if isinstance(recipe, Recipe) else _of_arrays(recipe, downloads)


def _of_text(recipe: Recipe, downloads: Path) -> list[Node]:
    dag = [
        Node("ingest", ingest.INGEST, ingest.config(recipe, downloads)),
        Node("tokenizer", tokenizer.TOKENIZER, tokenizer.config(recipe), {"corpus": "ingest"}),
        Node("shards", shards_text.SHARDS, shards_text.config(recipe), {"corpus": "ingest", "tokenizer": "tokenizer"}),
        Node(
            "pretrain",
            pretrain.PRETRAIN,
            pretrain.config(recipe),
            {"shards": "shards", "tokenizer": "tokenizer"},
            heavy=True,
        ),
    ]
    return _with_jobs(recipe, dag, downloads)


def _of_arrays(recipe: ArrayRecipe, downloads: Path) -> list[Node]:
    from pipeline.stages import array_ingest, shards_arrays

    dag = [
        Node("ingest", array_ingest.ARRAY_INGEST, array_ingest.config(recipe, downloads)),
        Node("shards", shards_arrays.ARRAY_SHARDS, shards_arrays.config(recipe), {"corpus": "ingest"}),
        Node("pretrain", pretrain.PRETRAIN, pretrain.config(recipe), {"shards": "shards"}, heavy=True),
    ]
    return _with_jobs(recipe, dag, downloads)


def _with_jobs(recipe: Recipe | ArrayRecipe, dag: list[Node], downloads: Path) -> list[Node]:
    """The DAG with the recipe's jobs and the report after it."""
    known = {node.name for node in dag}
    nodes_of = {role: name for role, name in NODES_OF_ROLES.items() if name in known}
    jobs = [
        Node(
            entry.name,
            job.JOB,
            downstream.config_of(recipe, entry, downloads),
            {role: nodes_of[role] for role in downstream.module_of(entry.task).READS},
            heavy=True,
        )
        for entry in recipe.downstream
    ]
    dag = [*dag, *jobs]
    return [*dag, Node("report", report.REPORT, report.config(recipe), _all(dag))]


def _all(dag: list[Node]) -> dict[str, str]:
    return {node.name: node.name for node in dag}


def plan(dag: list[Node], store: Store) -> list[Planned]:
    """Look every node up. A node can be stored only if all it reads is: its key needs their digests."""
    planned: dict[str, Planned] = {}
    for node in dag:
        inputs = {role: planned[name].artifact for role, name in node.inputs.items()}
        why = store.why(node.stage, node.config, inputs)
        known = {role: artifact for role, artifact in inputs.items() if artifact is not None}
        artifact = store.get(node.stage.key(node.config, known)) if why == "stored" else None
        planned[node.name] = Planned(node, artifact, why)
    return list(planned.values())


def inputs_of(node: Node, made: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The node's inputs by role, of what has been made."""
    return {role: made[name] for role, name in node.inputs.items()}
