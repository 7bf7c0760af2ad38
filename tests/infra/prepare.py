"""Prepares a recipe's data as `sesame run` does, and says where:  python -m tests.infra.prepare RECIPE [RAY_ADDRESS]"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from flows.machine.environment import prepare
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.stage import Context


def main() -> None:
    home = Home.find()
    prepare(home.prefect)
    recipe = load(Path(sys.argv[1]))
    address = sys.argv[2] if len(sys.argv) > 2 else None
    context = Context(downloads=home.downloads, placement={"data_workers": 1, "ray_address": address})
    made: dict[str, Artifact] = {}
    for node in dag.nodes(recipe, home.downloads)[:3]:
        made[node.name], _ = home.store().produce(node.stage, node.config, dag.inputs_of(node, made), context)
    digests = {name: artifact.output_digest for name, artifact in made.items()}
    print(json.dumps({"digests": digests, "tasks": _tasks() if address else {}}))


def _tasks() -> dict[str, int]:
    """How many of our tasks ran on each host."""
    import ray
    from ray.util.state import list_tasks

    hosts = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    tasks: Any = list_tasks(filters=[("name", "=", "_call")], detail=True, limit=1000)
    return dict(Counter(hosts[str(task.node_id)] for task in tasks))


if __name__ == "__main__":
    main()
