"""A recipe as a DAG of stages: which there are, what each needs, and which of them the store already has.

ingest ─► what its kind of data fits ─► shards ─► pretrain ─► one downstream job per entry ─► report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.kinds import kind_of
from pipeline.artifact import Artifact
from pipeline.downstream.fine_tune import job as fine_tune
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Stage
from pipeline.stages import fit, ingest, pretrain, report, shards
from pipeline.store.store import Store


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
    fits = kind_of(recipe.data.kind).fits
    preprocessor = {"preprocessor": fits} if fits else {}
    dag = [Node("ingest", ingest.INGEST, ingest.config(recipe, downloads))]
    if fits:
        dag.append(Node(fits, fit.FIT, fit.config(recipe), {"corpus": "ingest"}))
    dag += [
        Node("shards", shards.SHARDS, shards.config(recipe), {"corpus": "ingest", **preprocessor}),
        Node("pretrain", pretrain.PRETRAIN, pretrain.config(recipe), {"shards": "shards", **preprocessor}, heavy=True),
    ]
    made = {"corpus": "ingest", **preprocessor, "shards": "shards", "pretrained": "pretrain"}
    dag += [job_node(recipe, job, downloads, made) for job in recipe.downstream]
    from pipeline.stages import array_report

    stage = report.REPORT if recipe.compose else array_report.ARRAY_REPORT
    return [*dag, Node("report", stage, report.config(recipe), _all(dag))]


def job_node(recipe: Recipe, job: Any, downloads: Path, made: Mapping[str, str]) -> Node:
    """The node of a downstream job; `made` has the names of the nodes it may read, by role."""
    if job.task == "document-anomaly":
        from pipeline.downstream.document_anomaly import job as document_anomaly

        stage, config = document_anomaly.DOCUMENT_ANOMALY, document_anomaly.config(recipe, job, downloads)
        roles = ("pretrained", "corpus")
    elif job.task in ("classification", "tagging"):
        stage, config, roles = fine_tune.DOWNSTREAM, fine_tune.config(recipe, job), ("pretrained", "corpus")
    else:
        from pipeline.downstream import job as arrays

        stage, config, roles = arrays.ARRAY_JOB, arrays.config(recipe, job, downloads), tuple(made)
    return Node(job.name, stage, config, {role: made[role] for role in roles}, heavy=True)


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
