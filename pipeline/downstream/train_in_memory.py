"""Training of networks by a job, on rows in memory, with the recipe's settings or variations of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.corruptions import build, config_of
from data_prep.corruptions.warp import AugmentConfig
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Rows
from data_prep.shards.streams import CORRUPT, CORRUPT_HELD_OUT
from pipeline.downstream.finished import digest_of, once
from pipeline.downstream.rows import batches
from pipeline.stage import Context
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig

_RECORDS = "records.json"


class TrainedNetwork(NamedTuple):
    """A trained network."""

    model: Any
    """`training.models.autoencoders.autoencoder.Autoencoder`, in evaluation mode."""
    records: list[dict[str, Any]]
    """Records that training logged."""


def trained(
    config: Mapping[str, Any],
    rows: Rows,
    seed: int,
    context: Context,
    held_out: Rows | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> TrainedNetwork:
    """Train by a job's settings (their `augment`, `corruption`, `network`, `objective`, `train`) on `rows`.

    rows, held_out: `input` [R, …]. Everything random is keyed by `seed`. progress: called with the share of
    steps done. A network that an earlier attempt at the job trained is reused (`finished`).
    """
    settings = {name: config.get(name) for name in ("kind", "augment", "corruption", "network", "objective", "train")}
    identity = {"network": settings, "seed": seed, "rows": digest_of(rows), "held out": digest_of(held_out)}
    network = once(context, identity, lambda: _train(config, rows, seed, context, held_out, progress), _save, _open)
    progress(1.0)
    return network


def _save(network: TrainedNetwork, folder: Path) -> None:
    from training.models.autoencoders.autoencoder import save_model

    save_model(folder, network.model)
    (folder / _RECORDS).write_text(json.dumps(network.records))


def _open(folder: Path) -> TrainedNetwork:
    from training.inference.networks.arrays import open_model

    return TrainedNetwork(open_model(folder), json.loads((folder / _RECORDS).read_text()))


def _train(
    config: Mapping[str, Any],
    rows: Rows,
    seed: int,
    context: Context,
    held_out: Rows | None,
    progress: Callable[[float], None],
) -> TrainedNetwork:
    import torch

    from training.distributed import choose_device
    from training.objectives import build

    torch.manual_seed(seed)
    objective = ObjectiveConfig.model_validate(config["objective"])
    network = NetworkConfig.model_validate(config["network"])
    device = choose_device(context.one_worker.device).type
    facts = DataFacts(config["kind"], tuple(rows), np.asarray(rows["input"]).shape[1:])
    built: Any = build(objective, {"model": network}, facts, device)
    augment = AugmentConfig.model_validate(config.get("augment", {}))
    records = train_objective(
        built, rows, config["train"], seed, context, held_out, augment, noise_of(config), progress=progress
    )
    return TrainedNetwork(built.model.eval().requires_grad_(False).cpu(), records)


def train_objective(
    objective: Any,
    rows: Rows,
    train: Mapping[str, Any],
    seed: int,
    context: Context,
    held_out: Rows | None = None,
    augment: AugmentConfig = AugmentConfig(),  # noqa: B008 - it is frozen
    spoil: Callable[[Rows, Draws], Rows] | None = None,
    progress: Callable[[float], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Train any objective by `train` (a `TrainConfig`'s values) on columns in memory; returns what was logged."""
    from training.data import Corpus, MemoryTable, Stream
    from training.distributed import Worker, choose_device, set_up_cpu
    from training.job import augmented
    from training.loop import Training

    placement = context.one_worker
    set_up_cpu(placement.threads)
    config = TrainConfig.model_validate(dict(train))
    count = len(next(iter(rows.values())))

    def stream(rows: Rows, purpose: str, augment: AugmentConfig) -> Stream:
        table = MemoryTable(rows, len(next(iter(rows.values()))))
        return Stream([Corpus("rows", table)], seed, OrderConfig(block=1), augmented(augment, spoil), purpose)

    records: list[dict[str, Any]] = []

    def log(record: dict[str, Any]) -> None:
        records.append(record)
        progress(record["step"] / config.steps)

    Training(
        objective,
        stream(rows, CORRUPT, augment),
        config.model_copy(update={"start": None, "global_batch": min(config.global_batch, count)}),
        placement=PlacementConfig(device=placement.device),
        worker=Worker(device=choose_device(placement.device)),
        seed=seed,
        held_out=None if held_out is None else stream(held_out, CORRUPT_HELD_OUT, AugmentConfig()),
        held_out_rows=0 if held_out is None else min(len(next(iter(held_out.values()))), config.evaluate_rows),
        log=log,
    ).run()
    return records


def noise_of(config: Mapping[str, Any]) -> Callable[[Rows, Draws], Rows]:
    """The corruption of a job's config."""
    return build(config_of(config["corruption"]))


def encoded(model: Any, rows: np.ndarray) -> np.ndarray:
    """Codes of rows, float32; both [R, …]."""
    return applied(model.encode, rows)


def rebuilt(model: Any, rows: np.ndarray) -> np.ndarray:
    """Reconstructed rows, float32; both [R, …]."""
    return applied(model, rows)


def applied(function: Callable[[Any], Any], rows: np.ndarray) -> np.ndarray:
    """A network's function applied to rows [R, …], batch by batch."""
    import torch

    with torch.no_grad():
        parts = [function(torch.from_numpy(np.ascontiguousarray(rows[batch]))) for batch in batches(len(rows))]
        return torch.cat(parts).cpu().numpy()
