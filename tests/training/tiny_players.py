"""Small objectives of several networks and of whole batches, for tests of the loop's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.rng import Draws
from data_prep.shards.rows import Rows
from tests.training.tiny_arrays import SEED, WIDTH, vectors
from training.config import OrderConfig, PlacementConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.loop import Training
from training.objective import AnyTurn, BaseObjective, Batch, Loss, Networks, Turn, WholeBatchTurn

TEMPERATURE = 0.2
VIEW = 7  # number of a draw


class Arrays(BaseObjective):
    """Batches of vectors."""

    def collate(self, rows: Rows) -> Batch:
        return {name: torch.from_numpy(np.asarray(rows[name])) for name in rows if name != "label"}


def info_nce(features: dict[str, Tensor]) -> Loss:
    """Each row's first view tells its second one from those of all others (van den Oord et al. 2018)."""
    logits = F.normalize(features["one"], dim=1) @ F.normalize(features["two"], dim=1).T / TEMPERATURE
    right = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, right)
    rows = float(len(logits))
    return Loss({"info-nce": loss}, {"accuracy": ((logits.argmax(1) == right).sum(), rows)})


class Contrastive(Arrays):
    """Two views of a row, drawn by key, are to be told from those of other rows: a loss of the whole batch."""

    def __init__(self, dropout: float = 0.0, norm: bool = False) -> None:
        layers = [nn.Linear(WIDTH, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(16, 4))

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        values = np.asarray(rows["input"])
        noise = [draws.uniform(VIEW + view, np.arange(WIDTH)[:, None]).T for view in range(2)]
        views = {
            name: (values + 0.1 * part).astype(np.float32) for name, part in zip(("one", "two"), noise, strict=True)
        }
        return {**rows, **views}

    def turns(self, phase: str, step: int) -> Sequence[AnyTurn]:
        return [WholeBatchTurn("model", self._features, info_nce)]

    def _features(self, networks: Networks, batch: Batch) -> dict[str, Tensor]:
        return {name: networks["model"](batch[name]) for name in ("one", "two")}


class Game(Arrays):
    """Two players in turns, a network that nobody plays, and a layer of a player that stays as it is."""

    def __init__(self) -> None:
        self.first = nn.Sequential(nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH))
        self.first[0].requires_grad_(False)
        self.second = nn.Linear(WIDTH, 1)
        self.still = nn.Linear(WIDTH, 3).requires_grad_(False)
        self.asked = 0
        self.prepared = 0

    def networks(self) -> dict[str, nn.Module]:
        return {"first": self.first, "second": self.second, "still": self.still}

    def prepare(self, networks: Networks, batch: Batch, draws: Draws) -> Batch:
        self.prepared += 1
        return {**batch, "made": networks["first"](batch["input"]), "target": networks["still"](batch["input"])}

    def turns(self, phase: str, step: int) -> Sequence[AnyTurn]:
        def rows(batch: Batch) -> dict[str, float]:
            return {"distance": float(len(batch["input"]))}

        def critic(networks: Networks, batch: Batch) -> Loss:
            score = networks["second"](batch["made"]) - networks["second"](batch["input"])
            return Loss({"distance": F.softplus(score).sum()})

        def maker(networks: Networks, batch: Batch) -> Loss:
            output = networks["first"](batch["input"])
            kept = (networks["still"](output) - batch["target"]).square().sum()
            return Loss({"distance": F.softplus(-networks["second"](output)).sum() + kept})

        return [Turn("second", rows, critic), Turn("first", rows, maker)]

    def after_step(self, step: int, steps: int) -> None:
        with torch.no_grad():
            self.still.weight.mul_(1 - 1 / steps)


class Noisy(Arrays):
    """Samples from torch's generator, in evaluation too."""

    def __init__(self) -> None:
        self.network = nn.Linear(WIDTH, WIDTH)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def turns(self, phase: str, step: int) -> Sequence[AnyTurn]:
        def loss(networks: Networks, batch: Batch) -> Loss:
            output = networks["model"](batch["input"])
            return Loss({"error": (output + torch.randn_like(output) - batch["input"]).square().sum()})

        return [Turn("model", lambda batch: {"error": float(batch["input"].numel())}, loss)]


def training(
    objective: Any,
    worker: Worker | None = None,
    *,
    placement: PlacementConfig | None = None,
    checkpoints: Path | None = None,
    log: Any = None,
    **train: Any,
) -> Training:
    """A training of such an objective, ready to run; build it after seeding torch."""
    settings = {"global_batch": 24, "steps": 8, "lr": 1e-2, "log_every": 1, "precision": "fp32", **train}
    order = OrderConfig(block=8, window=4)

    def stream(rows: int, seed: int, purpose: str) -> Stream:
        return Stream([Corpus(purpose, MemoryTable({"input": vectors(rows, seed)}, rows))], SEED, order, None, purpose)

    return Training(
        objective=objective,
        stream=stream(200, 0, "tiny"),
        config=TrainConfig.model_validate(settings),
        placement=placement or PlacementConfig(),
        worker=worker or Worker(),
        seed=SEED,
        held_out=stream(35, 1, "h"),
        held_out_rows=35,
        checkpoints=checkpoints,
        identity={"recipe": "tiny"},
        log=log or (lambda record: None),
    )


def seeded(kind: Any, **options: Any) -> Any:
    """An objective with the same first weights every time."""
    torch.manual_seed(SEED)
    return kind(**options)


def losses(kind: Any, worker: Worker | None = None, options: dict[str, Any] | None = None, **more: Any) -> list[float]:
    """The training losses of one run, step by step, on every worker."""
    records: list[dict[str, Any]] = []
    training(seeded(kind, **(options or {})), worker, log=records.append, **more).run()
    curve = [record["train/loss"] for record in records if "train/loss" in record]
    return (worker or Worker()).gather(curve)[0]
