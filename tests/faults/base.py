"""What faults are injected into begins with: data, a recipe, and what its stages make when nothing disturbs them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from matplotlib.figure import Figure

from data_prep.text.ingest import decide
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.dag import Node
from pipeline.execute import Execution
from pipeline.recipe.load import load
from pipeline.recipe.recipe import Recipe
from pipeline.reports import data
from pipeline.runs import Run
from pipeline.store import gc
from pipeline.store import store as store_module
from pipeline.store.provenance import provenance
from pipeline.store.store import Store
from pipeline.tracking import sender
from pipeline.tracking.tracking import Tracker
from tests.pipeline import tiny
from training import loop
from training.monitor.names import PASSING

SMALLER = {  # than the recipe of other tests: a stage takes a tenth of a second
    "labels: [8, 24]": "labels: [8]",
    "seeds: 2": "seeds: 1",
    "steps: 10\n": "steps: 2\n",
    "validation_rows: 16": "validation_rows: 8",
    "test_rows: 32": "test_rows: 8",
}
SETTINGS = ("placement.threads=1", "placement.device=cpu", "data.clean.near_duplicates={threshold: 0.8}")
TIMES = {"time", "workers/tokens_per_second", "workers/mfu", "warnings"} | PASSING  # a slow worker is warned of


class Base:
    """Data, a recipe, and the artifacts of a run of all its stages that nothing disturbed."""

    def __init__(self, folder: Path) -> None:
        path = tiny.recipe(folder)
        text = path.read_text()
        for old, new in SMALLER.items():
            assert old in text, f"tests/pipeline/tiny.py no longer says {old!r}"
            text = text.replace(old, new)
        path.write_text(text)
        twice = (folder / "texts" / "document-00.txt").read_text()
        (folder / "texts" / "document-98.txt").write_text(twice)  # duplicates, so that rejects are written
        (folder / "texts" / "document-99.txt").write_text(twice.replace("winter", "summer", 1))
        recipe = load(str(path), None, list(SETTINGS))
        assert isinstance(recipe, Recipe)
        self.recipe = recipe
        self.downloads = folder / "downloads"
        self.store = Store(folder / "store")
        self.nodes: dict[str, Node] = {node.name: node for node in dag.nodes(self.recipe, self.downloads)}
        self.made: dict[str, Artifact] = {}

    def make(self) -> None:
        """Run all stages. Trains, so the process that forks must not call it: PyTorch's autograd cannot be forked."""
        execution = self.execution(self.store.home.parent, self.store, self.downloads)
        for node in self.nodes.values():
            execution.carry_out(node, lambda message, done=None: None)

    def find(self) -> None:
        """Look up what `make` made."""
        for node in self.nodes.values():
            artifact = self.store.get(node.stage.key(node.config, dag.inputs_of(node, self.made)))
            assert artifact is not None
            self.made[node.name] = artifact

    def execution(self, home: Path, store: Store, downloads: Path) -> Execution:
        """Over a store, with tracking into a spool of `home` that nobody sends."""
        run = Run("run", self.recipe.name, None)
        tracker = Tracker(home, "http://127.0.0.1:9", self.recipe.name, run.run_id)
        return Execution(self.recipe, store, run, tracker, downloads, list(self.nodes.values()), dict(self.made))


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """What costs time and has nothing to do with faults is done once; bounds that need millions of rows are lowered."""
    known, picture = provenance(), io.BytesIO()
    figure, axes = data.new_axes("loss", "step", "nats")
    axes.plot([0, 1])
    figure.savefig(picture, format="png", dpi=20)

    def save(figure: Figure, path: Path, **options: Any) -> None:
        with path.open("wb") as file:
            file.write(picture.getvalue())

    logging.getLogger("pipeline").setLevel(logging.ERROR)  # which warns of every damaged line and record
    with contextlib.ExitStack() as stack:
        for where, name, value in (
            (store_module, "provenance", lambda: dict(known)),
            (Figure, "savefig", save),
            (loop, "peak_flops", lambda device, precision: 0.0),
            (decide, "_ROWS_IN_MEMORY", 4),
            (gc, "GRACE_SECONDS", -1.0),
            (sender.Sender, "start", lambda self: None),
        ):
            stack.enter_context(mock.patch.object(where, name, value))
        yield


def curve(artifact: Artifact) -> list[dict[str, float]]:
    """What a training artifact says of every step, but for how long it took."""
    path = artifact.path / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]
