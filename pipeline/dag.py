"""A recipe as a DAG of stages: which there are, what each needs, and which of them the store already has.

ingest ─► tokenizer ─► shards ─► pretrain ─► one downstream job per entry ─► report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact
from pipeline.downstream import fine_tune
from pipeline.recipe import Recipe
from pipeline.stage import Stage
from pipeline.stages import ingest, pretrain, report, shards, tokenizer
from pipeline.store import Store


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


def nodes(recipe: Recipe, downloads: Path) -> list[Node]:
    """The DAG in an order in which every node follows what it reads."""
    dag = [
        Node("ingest", ingest.INGEST, ingest.config(recipe, downloads)),
        Node("tokenizer", tokenizer.TOKENIZER, tokenizer.config(recipe), {"corpus": "ingest"}),
        Node("shards", shards.SHARDS, shards.config(recipe), {"corpus": "ingest", "tokenizer": "tokenizer"}),
        Node(
            "pretrain",
            pretrain.PRETRAIN,
            pretrain.config(recipe),
            {"shards": "shards", "tokenizer": "tokenizer"},
            heavy=True,
        ),
    ]
    read = {"pretrained": "pretrain", "corpus": "ingest"}
    dag += [
        Node(job.name, fine_tune.DOWNSTREAM, fine_tune.config(recipe, job), read, heavy=True)
        for job in recipe.downstream
    ]
    everything = {node.name: node.name for node in dag}
    dag.append(Node("report", report.REPORT, report.config(recipe), everything))
    return dag


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
