"""The job that shows what a variational auto-encoder knows; its bounds against likelihoods that are known exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from data_prep.corruptions.noise import scaled
from data_prep.shards.reader import Shards
from pipeline.artifact import Artifact
from pipeline.downstream.autoencoders.generation import bits, bounds, sampled
from pipeline.downstream.train_in_memory import trained
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import whole_report
from training.inference.networks.arrays import open_model

JOB = "{name: generation, task: generation, importance_samples: 20}"
SECTIONS = {
    "objective": "{name: vae}",
    "train": "{global_batch: 32, steps: 150, lr: 1e-2, log_every: 20, precision: fp32}",
    "downstream": f"[{JOB}]",
    "placement": "{threads: 1}",
}


@pytest.fixture(scope="module", params=("images", "table"))
def artifacts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    home = tmp_path_factory.mktemp(request.param)
    return tiny_arrays.make(tiny_arrays.recipe(home, request.param, **SECTIONS), home)


def test_bounds_are_in_order_and_the_report_is_whole(artifacts: dict[str, Artifact]) -> None:
    report = whole_report(artifacts["generation"])
    reported, notes = report.notes["bounds"], report.notes
    assert reported["ELBO"]["nats"] < reported["importance-weighted, k = 20"]["nats"]
    assert reported["ELBO"]["bits"] > reported["importance-weighted, k = 20"]["bits"]
    assert 0 < notes["dimensions_in_use"] <= len(notes["variances"])
    table = Shards(artifacts["shards"].path / "test")
    rows = scaled(np.asarray(table.read(np.arange(table.rows))["input"]))
    one_by_one = [
        float(open_model(artifacts["pretrain"].path / MODEL).elbo(torch.from_numpy(row[None]))) for row in rows
    ]
    assert reported["ELBO"]["nats"] == pytest.approx(np.mean(one_by_one), abs=1e-3), "a bound is a row's own"
    size = 3 if artifacts["ingest"].summary["kind"] == "images" else 1
    assert len(report.figures) == size


def test_a_rerun_finds_the_same(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    assert tiny_arrays.rerun(artifacts, "generation", tmp_path / "again") == artifacts["generation"].summary


def _learned(rows: np.ndarray, network: dict[str, Any], steps: int) -> Any:
    config = {
        "kind": "table",
        "corruption": {"kind": "none"},
        "network": {"architecture": "mlp", "config": network},
        "objective": {"name": "vae"},
        "train": {"global_batch": 128, "steps": steps, "lr": 1e-2, "schedule": "cosine", "precision": "fp32"},
    }
    return trained(config, {"input": rows.astype(np.float32)}, 1, Context(placement={"threads": 1})).model


def test_the_bound_of_a_linear_gaussian_model_reaches_the_truth_from_below() -> None:
    random = np.random.default_rng(0)
    mixing, noise = random.normal(size=(2, 6)), 0.5
    covariance = mixing.T @ mixing + noise**2 * np.eye(6)
    truth: Any = multivariate_normal(np.zeros(6), covariance)  # type: ignore[arg-type]
    rows, unseen = (truth.rvs(count, random_state=random) for count in (4000, 1000))
    model = _learned(rows, {"bottleneck": 2}, 1000)
    known = float(truth.logpdf(unseen).mean())
    elbo, tighter = bounds(model, unseen.astype(np.float32), 50, Context()).values()
    assert known - 0.03 < tighter < known + 0.01
    assert elbo == pytest.approx(tighter, abs=0.1)  # the posterior is exact here; one draw a row is what is left
    samples = sampled(model, 4000, 0) + noise * random.normal(size=(4000, 6))
    assert np.allclose(np.cov(samples.T), covariance, atol=0.2)


def test_the_bound_of_a_mixture_is_below_the_truth_and_near() -> None:
    random = np.random.default_rng(1)
    middles = np.array([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]])

    def draw(count: int) -> np.ndarray:
        return middles[random.integers(4, size=count)] + 0.5 * random.normal(size=(count, 2))

    unseen = draw(1000)
    away = np.square(unseen[:, None] - middles).sum(2)  # of the squared standard deviation ¼
    each = -2 * away - math.log(2 * math.pi * 0.25)
    known = float(np.mean(logsumexp(each, axis=1)) - math.log(4))
    model = _learned(draw(6000), {"hidden": [48, 48], "bottleneck": 2, "activation": "tanh"}, 1200)
    elbo, tighter = bounds(model, unseen.astype(np.float32), 50, Context()).values()
    assert elbo < tighter < known
    assert tighter > known - 0.35
    near = np.linalg.norm(sampled(model, 500, 0)[:, None] - middles, axis=2)
    assert len(set(near.argmin(1))) == 4, "every part of the mixture is sampled"


def test_bits_are_of_bytes_where_pictures_have_a_density() -> None:
    assert bits(-784 * math.log(2), 784, False) == pytest.approx(1)
    assert bits(784 * math.log(255), 784, True) == pytest.approx(0)  # all of the density within one step of a byte
