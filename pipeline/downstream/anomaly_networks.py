"""The auto-encoders of an anomaly job: which candidate is taken, and training it anew for every split.

A candidate is chosen without a single anomaly: by the loss on held-out normal rows, on splits that are never reported.
For a denoising auto-encoder that loss says how well normal rows are told from noise around them, which is what its
score rests on; for a variational one it is the bound on their likelihood. A network that can copy its input wins by the
former only where there is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data_prep.keyed import key
from data_prep.noise import NoiseConfig, add_noise
from pipeline.array_jobs import DetectorConfig
from pipeline.downstream.anomaly_rows import Pool
from pipeline.stage import Context
from training.anomaly import Scorer
from training.autoencoders import Autoencoder
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig
from training.data import CORRUPT, CORRUPT_HELD_OUT, Corpus, MemoryTable, Stream
from training.distributed import Worker, choose_device, set_up_cpu
from training.loop import Training
from training.objectives import builder

SELECTION = (-1, -2, -3)  # splits that choose


@dataclass(frozen=True)
class Detector:
    """An auto-encoder ready to be trained on any rows."""

    name: str
    objective: ObjectiveConfig
    corruption: NoiseConfig
    network: NetworkConfig
    train: TrainConfig
    placement: PlacementConfig
    members: int
    score: str

    def trained(self, rows: np.ndarray, seed: int, held_out: np.ndarray | None = None) -> tuple[Autoencoder, float]:
        """A network that learned from float32 [R, *shape], and its loss on held-out rows (NaN without)."""
        set_up_cpu(self.placement.threads)
        torch.manual_seed(seed)
        worker = Worker(device=choose_device(self.placement.device))
        objective: Any = builder(self.objective.name)(
            self.objective, self.network, rows.shape[1:], worker.device.type, None
        )
        size = min(self.train.global_batch, len(rows))
        config = self.train.model_copy(
            update={"global_batch": size, "log_every": self.train.steps, "evaluate_every": 0, "start": None}
        )
        summary = Training(
            objective,
            self._stream(rows, seed, CORRUPT),
            config,
            placement=PlacementConfig(device=self.placement.device),
            worker=worker,
            seed=seed,
            held_out=None if held_out is None else self._stream(held_out, seed, CORRUPT_HELD_OUT),
            held_out_rows=0 if held_out is None else len(held_out),
        ).run()
        return objective.model.eval().requires_grad_(False), summary.get("validation_loss", float("nan"))

    def _stream(self, rows: np.ndarray, seed: int, purpose: str) -> Stream:
        noise = self.corruption if self.corruption.kind != "none" else None
        spoil = (lambda found, draws: add_noise(found, noise, draws)) if noise else None
        corpus = Corpus(self.name, MemoryTable({"input": rows}, len(rows)))
        return Stream([corpus], seed, OrderConfig(block=1, window=max(1, len(rows))), spoil, purpose)

    def scorer(self, learn: np.ndarray, held_out: np.ndarray, seed: int) -> Scorer:
        """Its members, trained; both sets of rows float32 [R, *shape]."""
        models = [self.trained(learn, key(seed, f"member {number}") >> 1)[0] for number in range(self.members)]
        return Scorer.fit(models, learn, held_out)


def detectors(config: dict[str, Any], asked: DetectorConfig, context: Context) -> list[Detector]:
    """The candidates: what the job asks for, and the recipe where it asks for nothing."""
    own = NetworkConfig.model_validate(config["network"])
    return [
        Detector(
            asked.name,
            asked.objective or ObjectiveConfig.model_validate(config["objective"]),
            asked.corruption or NoiseConfig.model_validate(config["corruption"]),
            network,
            TrainConfig.model_validate(config["train"]),
            PlacementConfig.model_validate({**context.placement, "workers": 1, "zero": None}),
            asked.members,
            asked.score,
        )
        for network in asked.networks or [own]
    ]


def choose(candidates: list[Detector], pool: Pool, config: dict[str, Any], context: Context) -> tuple[Detector, list]:
    """The candidate of the least held-out loss, and [network, loss] of each; of one alone, nothing is tried."""
    if len(candidates) == 1:
        return candidates[0], []
    tried: list[tuple[float, Detector]] = []
    for candidate in candidates:
        context.progress(f"trying {described(candidate.network)}")
        found = []
        for number in SELECTION:
            draw = pool.draw(number)
            rows = pool.scaled(draw.learn, config["transform"]).inputs
            seed = seed_of(config, candidate, number)
            found.append(candidate.trained(rows[draw.learn], seed, rows[draw.held_out])[1])
        tried.append((float(np.mean(found)), candidate))
    best = min(tried, key=lambda one: one[0])[1]
    return best, [[described(one.network), loss] for loss, one in tried]


def seed_of(config: dict[str, Any], detector: Detector, number: int) -> int:
    """What everything random in training is keyed by, for one split."""
    return key(config["seed"], f"{detector.name} split {number}") >> 1


def described(network: NetworkConfig) -> str:
    """A network in a few words."""
    known = network.config
    hidden: Any = known.get("hidden") or []
    sizes = [*hidden, known.get("bottleneck", "")]
    return f"{network.architecture} {'-'.join(map(str, sizes))} {known.get('activation', 'relu')}"
