"""Tables and images small enough to learn in a second, and trainings of every auto-encoder on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.corruptions import CorruptionConfig
from data_prep.corruptions import build as build_corruption
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.views import ViewsConfig
from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.loop import Training
from training.objectives import build

SEED = 7
WIDTH = 12
MLP = NetworkConfig(architecture="mlp", config={"hidden": [24], "bottleneck": 3})
CONV = NetworkConfig(architecture="conv", config={"hidden": [6, 8], "bottleneck": 4, "output": "sigmoid"})
SIGMOID = NetworkConfig(
    architecture="mlp",
    config={"hidden": [24, 12], "bottleneck": 3, "activation": "sigmoid", "output": "sigmoid"},
)


def vectors(rows: int = 400, seed: int = 0) -> np.ndarray:
    """[rows, WIDTH] float32 between 0 and 1, on a curved surface of 3 dimensions and a little beside it."""
    mixing = np.random.default_rng(99).normal(size=(3, WIDTH))
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(rows, 3))
    values = 1 / (1 + np.exp(-hidden @ mixing + 0.05 * random.normal(size=(rows, WIDTH))))
    return values.astype(np.float32)


def images(rows: int = 400, seed: int = 0, shape: tuple[int, int, int] = (1, 9, 7)) -> np.ndarray:
    """[rows, *shape] uint8: a bright rectangle on dark ground, somewhere."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 30, (rows, *shape)).astype(np.uint8)
    for image in values:
        top, left = random.integers(shape[1] - 3), random.integers(shape[2] - 3)
        image[:, top : top + 3, left : left + 3] = 220
    return values


def photographs(rows: int = 64, seed: int = 0, side: int = 16) -> np.ndarray:
    """[rows, 3, side, side] uint8: smooth colours with an edge across, as in photographs."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    values = np.empty((rows, 3, side, side))
    for image in values:
        slope, edge = random.normal(size=(2, 3, 1, 1)), random.normal(size=3)
        image[:] = 128 + 40 * (slope[0] * x + slope[1] * y)
        image += 60 * random.normal(size=(3, 1, 1)) * (edge[0] * (x - 0.5) + edge[1] * (y - 0.5) > 0.2 * edge[2])
    return np.clip(values, 0, 255).astype(np.uint8)


BITS = NetworkConfig(architecture="mlp", config={"hidden": [24], "bottleneck": 8})
GRID = NetworkConfig(architecture="conv", config={**CONV.config, "bottleneck": 1, "latent": "grid"})
TIED = NetworkConfig(architecture="mlp", config={**MLP.config, "tied": True})
CODEC = NetworkConfig(
    architecture="conv", config={"hidden": [12, 16], "bottleneck": 8, "activation": "relu", "latent": "grid"}
)
VQ = {"codes": "vq", "size": 32, "dimension": 4}

# name of a case: objective, its options, network, whether rows are images
CASES: dict[str, tuple[str, dict[str, Any], NetworkConfig, bool]] = {
    "autoencoder": ("autoencoder", {}, MLP, False),
    "tied": ("autoencoder", {}, TIED, False),
    "conv": ("autoencoder", {"loss": "cross-entropy"}, CONV, True),
    "vae": ("vae", {}, MLP, False),
    "vae-bernoulli": ("vae", {"likelihood": "bernoulli"}, CONV, True),
    "binary": ("discrete", {"codes": "binary"}, BITS, False),
    "one-hot": ("discrete", {"codes": "one-hot", "size": 8, "uniform": 0.01}, MLP, False),
    "vq": ("discrete", VQ, MLP, False),
    "vq-gradient": ("discrete", {**VQ, "codebook": "gradient"}, GRID, True),
    "rbm": ("rbm", {}, SIGMOID, False),
    "compression": ("compression", {}, CODEC, True),
}
CONTRASTIVE = NetworkConfig(architecture="conv", config={"hidden": [8, 16], "bottleneck": 16})
# of those that rebuild nothing, in the same form
FEATURES: dict[str, tuple[str, dict[str, Any], NetworkConfig, bool]] = {
    "simclr": ("simclr", {"temperature": 0.5, "projection": 8}, CONTRASTIVE, True),
}
CORRUPTED: dict[str, CorruptionConfig] = {
    "simclr": ViewsConfig(kind="views", area=(0.4, 1.0), flip=0.0, brightness=0.4, contrast=0.4, saturation=0, hue=0),
}


def training(
    case: str,
    worker: Worker | None = None,
    *,
    options: dict[str, Any] | None = None,
    network: NetworkConfig | None = None,
    noise: CorruptionConfig | None = None,
    placement: PlacementConfig | None = None,
    checkpoints: Path | None = None,
    log: Any = None,
    rows: np.ndarray | None = None,
    **train: Any,
) -> Training:
    """A training of a case, ready to run."""
    name, usual, usual_network, is_images = {**CASES, **FEATURES}[case]
    make = images if is_images else vectors
    inputs = make() if rows is None else rows
    settings = {"global_batch": 24, "steps": 12, "lr": 5e-3, "log_every": 1, "weight_decay": 0.0}
    torch.manual_seed(SEED)
    objective = build(
        ObjectiveConfig(name=name, options={**usual, **(options or {})}),
        {"model": network or usual_network},
        DataFacts("images" if is_images else "table", ("input",), inputs.shape[1:]),
        "cpu",
    )
    spoil = build_corruption(noise or CORRUPTED.get(case) or NoneConfig(kind="none"))
    order = OrderConfig(block=8, window=4)
    held_out = make(70, seed=1) if rows is None else rows[:70]
    return Training(
        objective=objective,
        stream=Stream([Corpus("tiny", MemoryTable({"input": inputs}, len(inputs)))], SEED, order, spoil),
        config=TrainConfig(**{"precision": "fp32", **settings, **train}),
        placement=placement or PlacementConfig(),
        worker=worker or Worker(),
        seed=SEED,
        held_out=Stream([Corpus("held-out", MemoryTable({"input": held_out}, len(held_out)))], SEED, order, spoil, "h"),
        held_out_rows=len(held_out),
        checkpoints=checkpoints,
        identity={"recipe": "tiny"},
        log=log or (lambda record: None),
    )


def losses(case: str, **options: Any) -> list[float]:
    """The training losses of one run, step by step."""
    records: list[dict[str, Any]] = []
    training(case, log=records.append, **options).run()
    return [record["train/loss"] for record in records if "train/loss" in record]
