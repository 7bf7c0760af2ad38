"""The auto-encoders of an anomaly job: choosing a candidate, and training it again for every split.

A candidate is chosen without anomalies, by the loss on held-out normal rows, on splits that are never reported. For a
denoising auto-encoder that loss measures how well it tells normal rows from noise around them, which its score rests
on; for a variational one it is the bound on their likelihood. Without noise, a plain auto-encoder wins by copying its
input. No such loss tells how a network behaves far from normal rows: that is up to the choice of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.rng import key
from data_prep.shards.rows import Rows
from pipeline.downstream import train_in_memory
from pipeline.downstream.anomaly import trimming
from pipeline.downstream.anomaly.job import DetectorConfig
from pipeline.downstream.anomaly.rows import Pool
from pipeline.stage import Context
from training.config import NetworkConfig
from training.inference.anomaly import Scorer
from training.models.autoencoders.autoencoder import Autoencoder
from training.monitor.names import HELD_OUT_LOSS

SELECTION = (-1, -2, -3)  # splits that choose
TRIMMING_SAMPLES = 50  # k of the bound on the likelihood, where that is the score


@dataclass(frozen=True)
class Detector:
    """An auto-encoder ready to be trained on any rows."""

    name: str
    training: dict[str, Any]
    """Settings for `train_in_memory`."""
    members: int
    score: str
    context: Context
    trim: float = 0.0

    @property
    def judged_by(self) -> str:
        """The name of its method: that of its score."""
        return f"{self.name}: {self.score}"

    @property
    def network(self) -> str:
        """A short description of the network."""
        network = NetworkConfig.model_validate(self.training["network"])
        hidden: Any = network.config.get("hidden") or []
        sizes = [*hidden, network.config.get("bottleneck", "")]
        return f"{network.architecture} {'-'.join(map(str, sizes))} {network.config.get('activation', 'relu')}"

    def trained(self, rows: np.ndarray, seed: int, held_out: np.ndarray | None = None) -> tuple[Autoencoder, float]:
        """A network that learned from float32 [R, *shape], and its loss on held-out rows (NaN without)."""
        others: Rows | None = None if held_out is None else {"input": held_out}
        model, records = train_in_memory.trained(self.training, {"input": rows}, seed, self.context, others)
        return model, records[-1].get(HELD_OUT_LOSS, float("nan"))

    def scorer(self, rows: np.ndarray, seed: int, contamination: float = 0.0) -> Scorer:
        """Its members, trained on float32 [R, *shape], a share `contamination` of them anomalies: see `trimming`."""
        if share := self.trim * contamination:
            rows = rows[self._kept(rows, seed, share)]
        models = [self.trained(rows, key(seed, f"member {number}") >> 1)[0] for number in range(self.members)]
        return Scorer.fit(models, rows)

    def _kept(self, rows: np.ndarray, seed: int, share: float) -> np.ndarray:
        """Indices of the rows that remain when a share of them is trimmed."""

        def judge(learn: np.ndarray, others: np.ndarray, number: int) -> np.ndarray:
            scorer = self.scorer(rows[learn], key(seed, f"trimming {number}") >> 1)
            return scorer.scores(rows[others], TRIMMING_SAMPLES)[self.score]

        return trimming.remaining(len(rows), share, judge)


def detectors(config: dict[str, Any], asked: DetectorConfig, context: Context) -> list[Detector]:
    """The candidates of a detector; what it leaves out is the recipe's."""
    train = {**config["train"], "log_every": config["train"]["steps"], "evaluate_every": 0}
    own = {name: config[name] for name in ("kind", "augment", "corruption", "objective") if name in config}
    for name in ("corruption", "objective"):
        if (override := getattr(asked, name)) is not None:
            own[name] = override.model_dump(mode="json")
    networks = [network.model_dump(mode="json") for network in asked.networks] or [config["network"]]
    return [
        Detector(
            asked.name, {**own, "network": network, "train": train}, asked.members, asked.score, context, asked.trim
        )
        for network in networks
    ]


def choose(
    candidates: list[Detector], pool: Pool, config: dict[str, Any], context: Context
) -> tuple[Detector, list[tuple[str, float]]]:
    """The candidate of the lowest held-out loss, and the loss of each; a single one is not trained."""
    if len(candidates) == 1:
        return candidates[0], []
    tried: list[tuple[float, Detector]] = []
    for candidate in candidates:
        context.progress(f"trying {candidate.network}")
        losses = []
        for number in SELECTION:
            draw = pool.draw(number)
            rows = pool.scaled(draw.learn, config["transform"]).inputs
            seed = seed_of(config, candidate, number)
            losses.append(candidate.trained(rows[draw.learn], seed, rows[draw.held_out])[1])
        tried.append((float(np.mean(losses)), candidate))
    best = min(tried, key=lambda candidate: candidate[0])[1]
    return best, [(candidate.network, loss) for loss, candidate in tried]


def seed_of(config: dict[str, Any], detector: Detector, number: int) -> int:
    """The seed of a detector's training on one split."""
    return key(config["seed"], f"{detector.name} split {number}") >> 1
