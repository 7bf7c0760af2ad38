"""Tables and images through everything: Prefect, two Ray Train workers, MLflow; the network is one worker's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.records import read_records
from tests.flows.end_to_end.test_quickstart import sesame
from tests.pipeline import tiny_arrays

pytestmark = pytest.mark.slow  # Ray takes its time to start
TRAIN = "{global_batch: 16, steps: 40, lr: 3e-3, log_every: 5, evaluate_every: 20, precision: fp32}"
CONV = "{architecture: conv, config: {hidden: [4, 8], bottleneck: 8, latent: grid}}"


def compressing(folder: Path) -> Path:
    """A recipe for a compressor of colour images."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (80, 4, 4, 3), np.uint8)
    np.savez(folder / "colour.npz", x=coarse.repeat(4, 1).repeat(4, 2))
    data = f"{{kind: images, sources: [{{path: {folder / 'colour.npz'}}}], images: {{channels: 3}}, "
    return tiny_arrays.recipe(
        folder,
        "images",
        data=data + "split: {validation: 0.2, test: 0.2}}",
        network=CONV,
        objective="{name: compression, options: {distortion_weight: 0.01}}",
        train=TRAIN,
        downstream="[]",
    )


def ran(home: Path, recipe: Path, *words: str) -> dict[str, Any]:
    return json.loads(sesame(home, "run", str(recipe), *words, "--json").stdout.strip().splitlines()[-1])


def losses(run: dict[str, Any]) -> dict[str, list[float]]:
    """In training and on held-out rows, in the order of steps."""
    records = list(read_records(Path(run["stages"]["pretrain"]["path"]) / "metrics.jsonl"))
    names = ("train/loss", "validation/loss")
    return {name: [record[name] for record in records if name in record] for name in names}


def held(run: dict[str, Any]) -> list[dict[str, int]]:
    """Bytes of parameters and of the optimizer, by worker."""
    manifest = json.loads((Path(run["stages"]["pretrain"]["path"]).parent / "manifest.json").read_text())
    return [rank["model"] for rank in manifest["summary"]["bytes_held"]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """An auto-encoder of images on one worker, and its recipe."""
    home = tmp_path_factory.mktemp("alone")
    recipe = tiny_arrays.recipe(home / "recipe", "images", train=TRAIN)
    return ran(home, recipe), recipe


@pytest.mark.parametrize("zero", ["null", "2"])
def test_two_workers_learn_what_one_learns(tmp_path: Path, alone: tuple[dict[str, Any], Path], zero: str) -> None:
    by_one, recipe = alone
    two = ran(tmp_path, recipe, "--workers", "2", "--set", f"placement.zero={zero}")
    assert two["status"] == "done" and list(two["stages"]) == ["ingest", "shards", "pretrain", "codes", "report"]
    names = ("ingest", "shards", "pretrain")
    assert [two["stages"][name]["artifact"] for name in names] == [by_one["stages"][name]["artifact"] for name in names]
    by_two_losses, wanted = losses(two), losses(by_one)
    assert len(wanted["train/loss"]) == 8 and len(wanted["validation/loss"]) == 2
    for name in wanted:
        assert by_two_losses[name] == pytest.approx(wanted[name], rel=1e-4)
    assert wanted["train/loss"][-1] < 0.8 * wanted["train/loss"][0]
    assert len(held(two)) == 2 and len(held(by_one)) == 1
    optimizer = held(by_one)[0]["optimizer"]
    assert sum(rank["optimizer"] for rank in held(two)) == pytest.approx(
        optimizer * (2 if zero == "null" else 1), rel=0.1
    )
    page = (Path(two["stages"]["report"]["path"]) / "report.md").read_text()
    assert "images/s at the end" in page and "tokens" not in page


@pytest.mark.parametrize("zero", ["1", "2"])
def test_a_compressor_on_two_workers(tmp_path: Path, zero: str) -> None:
    """Its noise is drawn by each worker, so its curve is another one; it learns, and its codes come back."""
    from training.inference.codec import Codec

    run = ran(tmp_path, compressing(tmp_path / "recipe"), "--workers", "2", "--set", f"placement.zero={zero}")
    curve = losses(run)
    assert curve["train/loss"][-1] < 0.8 * curve["train/loss"][0]
    assert len(held(run)) == 2 and abs(held(run)[0]["optimizer"] - held(run)[1]["optimizer"]) < 100
    codec = Codec.open(Path(run["stages"]["pretrain"]["path"]) / "model")
    pixels = np.load(tmp_path / "recipe" / "colour.npz")["x"][0].transpose(2, 0, 1)
    assert np.array_equal(codec.decode(codec.encode(pixels)), codec.rebuilt(pixels))
