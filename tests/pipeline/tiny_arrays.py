"""A table and images made here, and recipes for them that run in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.shards.reader import Shards
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.recipe.load import load
from pipeline.stage import Context
from pipeline.stages.job import JOB
from pipeline.store.store import Store
from training.config import PlacementConfig

COLOURS = ("red", "green", "blue")


def table(path: Path, rows: int = 240, anomalies: int = 24) -> Path:
    """Five numbers on a plane through three, a colour, now and then nothing; anomalies lie off the plane."""
    random = np.random.default_rng(5)
    plane = random.normal(size=(2, 5))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{i}" for i in range(5)), "colour", "kind"])
        for number in range(rows):
            bad = number < anomalies
            values = 10 + random.normal(size=2) @ plane + 0.05 * random.normal(size=5) + bad * random.normal(size=5) * 2
            cells = [f"{value:.4f}" for value in values]
            if number % 17 == 3:
                cells[number % 5] = ""
            writer.writerow([*cells, COLOURS[number % 3], "odd" if bad else "usual"])
    return path


def pictures(path: Path, count: int = 160) -> Path:
    """Grey 8×8 images: a bright column, or a bright row."""
    random = np.random.default_rng(6)
    pixels = random.integers(0, 40, (count, 8, 8), np.uint8)
    for number, picture in enumerate(pixels):
        place = random.integers(8)
        picture[(slice(None), place) if number % 2 else (place,)] = 220
    np.savez(path, x=pixels, y=np.arange(count) % 2)
    return path


def recipe(folder: Path, kind: str = "table", **sections: str) -> Path:
    """Write the data and a recipe for it; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "table":
        path = table(folder / "rows.csv")
        meaning, network = "table: {target: kind, normal: [usual]}", "{hidden: [16], bottleneck: 2}"
    else:
        path = pictures(folder / "images.npz")
        meaning, network = "images: {channels: 1}", "{hidden: [32], bottleneck: 4, output: sigmoid}"
    given: dict[str, Any] = {
        "data": f"{{kind: {kind}, sources: [{{path: {path}}}], {meaning}, split: {{validation: 0.2, test: 0.2}}}}",
        "network": f"{{architecture: mlp, config: {network}}}",
        "objective": "{name: autoencoder}",
        "train": "{global_batch: 16, steps: 30, lr: 1e-2, log_every: 5, precision: fp32}",
        "downstream": "[{name: codes, task: codes, rows: 100, neighbours: 5}]",
        **sections,
    }
    text = "\n".join(["name: tiny-arrays", *(f"{name}: {value}" for name, value in given.items())])
    where = folder / f"tiny-{kind}.yaml"
    where.write_text(text + "\n")
    return where


def store_of(home: Path) -> Store:
    """Where `make` keeps what it made."""
    return Store(home / "store")


def make(path: Path, home: Path, *settings: str) -> dict[str, Artifact]:
    """All stages of a recipe, without a flow."""
    loaded = load(path, overrides=settings)
    store, downloads = store_of(home), home / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    context = Context(downloads=downloads, placement=loaded.placement.model_dump(mode="json"))
    artifacts: dict[str, Artifact] = {}
    for node in dag.nodes(loaded, downloads):
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts


def rows_of(artifacts: dict[str, Artifact], split: str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of networks float32 [R, *shape] and the labels [R] of a split."""
    table = Shards(artifacts["shards"].path / split)
    rows = table.read(np.arange(table.rows))
    return scaled(np.asarray(rows["input"])), np.asarray(rows["label"])


def same_twice(artifacts: dict[str, Artifact], name: str, folder: Path, steps: int = 20) -> bool:
    """Whether a job that trains one seed for a few steps only comes to the same summary when it is done twice."""
    config = artifacts[name].config
    train = {**config["train"], "steps": steps}
    job = {**config["job"], **({"seeds": 1} if "seeds" in config["job"] else {})}
    first, second = (rerun(artifacts, name, folder / number, train=train, job=job) for number in ("first", "second"))
    return first == second


def rerun(artifacts: dict[str, Artifact], name: str, out_dir: Path, **settings: Any) -> dict[str, Any]:
    """The summary of a job that is carried out again, on what it read before, with settings of its own."""
    out_dir.mkdir()
    roles = {"corpus": "ingest", "preprocessor": "transform", "shards": "shards", "pretrained": "pretrain"}
    inputs = {role: artifacts[source] for role, source in roles.items() if source in artifacts}
    context = Context(downloads=out_dir, placement=PlacementConfig(threads=1).model_dump(mode="json"))
    return JOB.run({**artifacts[name].config, **settings}, inputs, out_dir, context)
