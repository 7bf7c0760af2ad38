"""The job that tells what discrete codes mean, and learns a prior of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream import train_in_memory
from pipeline.downstream.autoencoders import discrete
from pipeline.downstream.autoencoders import discrete_measures as measures
from pipeline.downstream.train_in_memory import train_objective
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import whole_report
from training.inference.networks.arrays import open_model
from training.inference.sampling import open_sampler
from training.models.autoencoders.code_prior import CodePrior, PriorConfig, open_prior, save_prior
from training.objectives.arrays.code_prior import PriorObjective

KINDS = {
    "binary": ("{hidden: [32], bottleneck: 6, output: sigmoid}", "{codes: binary, loss: cross-entropy}"),
    "one-hot": (
        "{hidden: [32], bottleneck: 1, output: sigmoid}",
        "{codes: one-hot, size: 4, uniform: 0.01, loss: cross-entropy}",
    ),
    "vq": (
        "{hidden: [16, 16], bottleneck: 1, activation: silu, output: sigmoid, latent: grid}",
        "{codes: vq, size: 8, dimension: 4, loss: cross-entropy}",
    ),
}


def _make(kind: str, home: Path, data: str = "images", **sections: str) -> dict[str, Artifact]:
    network, options = KINDS[kind]
    given = {
        "network": f"{{architecture: {'conv' if kind == 'vq' else 'mlp'}, config: {network}}}",
        "objective": f"{{name: discrete, options: {options}}}",
        "train": "{global_batch: 32, steps: 300, lr: 5e-3, log_every: 20, precision: fp32}",
        "downstream": "[{name: meaning, task: discrete, prior_steps: 60, prior_hidden: 16}]",
        "placement": "{threads: 1}",
        **sections,
    }
    return tiny_arrays.make(tiny_arrays.recipe(home, data, **given), home)


@pytest.fixture(scope="module", params=KINDS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Artifact]]:
    return request.param, _make(request.param, tmp_path_factory.mktemp(request.param))


def test_codes_are_used_and_the_report_is_whole(job: tuple[str, dict[str, Artifact]]) -> None:
    kind, artifacts = job
    summary = whole_report(artifacts["meaning"]).numbers
    assert 1 < summary["codes/perplexity"] <= {"binary": 2, "one-hot": 4, "vq": 8}[kind]
    assert summary["bits/entropy"] <= summary["bits/stored"]
    assert summary["bits/prior"] < summary["bits/stored"] + 0.5
    if kind == "binary":
        assert 0 <= summary["information/attribute"] <= 1
        assert summary["codes/constant"] < 6
    if kind == "one-hot":
        assert 0.25 < summary["classes/hungarian_accuracy"] <= 1 and summary["classes/nmi"] >= 0
        assert 0.25 < summary["classes/kmeans_hungarian_accuracy"] <= 1 and summary["classes/kmeans_nmi"] > 0


def test_codes_are_measured_on_test_rows_and_their_prior_learned_on_training_rows(
    job: tuple[str, dict[str, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, artifacts = job
    model: Any = open_model(artifacts["pretrain"].path / MODEL)
    codes, labels = {}, {}
    for split in ("train", "test"):
        rows, labels[split] = tiny_arrays.rows_of(artifacts, split)
        with torch.no_grad():
            codes[split] = model.indices(torch.from_numpy(rows)).flatten(1).numpy()
            if split == "test":
                rebuilt = model(torch.from_numpy(rows)).numpy()
                error = float(np.square(rebuilt - rows).reshape(len(rows), -1).sum(1).mean())
    learned: list[np.ndarray] = []
    given: list[np.ndarray] = []

    def train_objective(objective: Any, rows: Any, *arguments: Any, **options: Any) -> list[Any]:
        learned.append(rows["codes"])
        return []

    def classes(of_codes: np.ndarray, clusters: np.ndarray, truth: np.ndarray, *more: Any) -> Any:
        given.extend([of_codes[:, None], truth])
        return discrete._Meaning([], {}, "told")

    def bits(of_codes: np.ndarray, truth: np.ndarray, *more: Any) -> Any:
        given.extend([of_codes, truth])
        return discrete._Meaning([], {}, "told")

    monkeypatch.setattr(train_in_memory, "train_objective", train_objective)
    monkeypatch.setattr(discrete, "_classes", classes)
    monkeypatch.setattr(discrete, "_bits", bits)
    summary = tiny_arrays.rerun(artifacts, "meaning", tmp_path / "again")
    assert len(learned) == 1 and np.array_equal(learned[0], codes["train"])
    assert summary["squared_error"] == pytest.approx(error)
    counts = measures.counts_of(codes["test"], model.size)
    used = counts.sum(0, keepdims=True) if kind == "vq" else counts
    assert summary["codes/perplexity"] == pytest.approx(float(measures.perplexity(used).mean()))
    assert summary["bits/entropy"] == pytest.approx(float(measures.entropy(counts).sum()))
    prior = open_prior(tmp_path / "again" / MODEL)
    assert prior is not None
    with torch.no_grad():
        nats = float(prior.nats(torch.from_numpy(codes["test"])).mean())
    assert summary["bits/prior"] == pytest.approx(nats / math.log(2))
    split = {"binary": "train", "one-hot": "test"}.get(kind)  # what bits mean is counted where there are more rows
    assert [len(values) for values in given] == ([len(codes[split])] * 2 if split else [])
    if split:
        assert np.array_equal(given[0], codes[split]) and np.array_equal(given[1], labels[split])


def test_clusters_are_those_of_training_rows() -> None:
    train = np.repeat(np.array([[0.0, 0.0], [10.0, 10.0]]), 20, 0)
    test = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [10.0, 10.0]])
    clusters = discrete._clusters(train, test, 2, 0)
    assert clusters[0] == clusters[1] == clusters[2] != clusters[3]
    far = np.array([[0.0, 0.0], [0.1, 0.1], [4.0, 4.0], [4.1, 4.1]])  # clusters of these alone would be others
    assert len(set(discrete._clusters(train, far, 2, 0).tolist())) == 1


def test_the_model_is_kept_with_its_prior(job: tuple[str, dict[str, Artifact]]) -> None:
    draw = open_sampler(job[1]["meaning"].path / MODEL)
    made_of = (draw.sample(9, torch.Generator().manual_seed(seed))["input"] for seed in (1, 1, 2))
    first, same, other = (np.asarray(column) for column in made_of)
    assert first.shape == (9, 1, 8, 8)
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert len({row.tobytes() for row in first}) > 1
    with pytest.raises(UserError, match="has no prior of its codes"):
        open_sampler(job[1]["pretrain"].path / MODEL)


def test_a_rerun_finds_the_same(job: tuple[str, dict[str, Artifact]], tmp_path: Path) -> None:
    assert tiny_arrays.same_twice(job[1], "meaning", tmp_path)


def _chain(rows: int, seed: int) -> np.ndarray:
    """[rows, 6] of 3 values: each is the one before it, or, one time in five, another drawn at random."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, (rows, 6))
    for place in range(1, 6):
        stays = random.random(rows) < 0.8
        codes[stays, place] = codes[stays, place - 1]
    return codes


def test_a_prior_learns_a_chain_to_its_entropy_and_draws_from_it() -> None:
    torch.manual_seed(0)
    objective = PriorObjective(CodePrior(PriorConfig(size=3, places=6, hidden=24)))
    train = {"global_batch": 128, "steps": 500, "lr": 1e-2, "schedule": "cosine", "precision": "fp32"}
    records = train_objective(objective, {"codes": _chain(6000, 0)}, train, 1, Context(placement={"threads": 1}))
    assert records[-1]["train/loss"] < 0.8 * records[0]["train/loss"]
    prior = objective.prior.eval()
    stays = 0.8 + 0.2 / 3
    entropy = math.log(3) - 5 * (stays * math.log(stays) + (1 - stays) * math.log((1 - stays) / 2))
    with torch.no_grad():
        nats = float(prior.nats(torch.from_numpy(_chain(4000, 1))).mean())
        drawn = prior.sample(4000, torch.Generator().manual_seed(0)).numpy()
    assert nats == pytest.approx(entropy, abs=0.06)
    assert (drawn[:, 1:] == drawn[:, :-1]).mean() == pytest.approx(stays, abs=0.02)
    assert np.bincount(drawn[:, 0], minlength=3) / 4000 == pytest.approx(np.full(3, 1 / 3), abs=0.05)


@pytest.mark.parametrize("across", [0, 3])
def test_a_prior_never_sees_what_it_is_to_tell(across: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    prior = CodePrior(PriorConfig(size=5, places=9, across=across, hidden=8)).eval()
    codes = torch.randint(5, (4, 9))
    logits = prior(codes)
    for place in range(9):
        changed = codes.clone()
        changed[:, place:] = (codes[:, place:] + 1) % 5
        assert torch.allclose(prior(changed)[:, : place + 1], logits[:, : place + 1], atol=1e-6)
    assert not torch.allclose(prior((codes + 1) % 5)[:, 4:], logits[:, 4:], atol=1e-3)
    save_prior(tmp_path, prior)
    again = open_prior(tmp_path)
    assert again is not None and torch.allclose(again(codes), logits, atol=1e-6)
    (tmp_path / "prior.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="not the weights"):
        open_prior(tmp_path)


def test_mutual_information_is_a_whole_bit_or_none() -> None:
    random = np.random.default_rng(0)
    attribute = random.integers(0, 2, 4000)
    codes = np.stack([attribute, 1 - attribute, random.integers(0, 2, 4000)], 1)
    assert measures.mutual_information(codes, attribute) == pytest.approx([1, 1, 0], abs=2e-3)
    few = np.mean(
        [measures.mutual_information(random.integers(0, 2, (40, 1)), random.integers(0, 4, 40)) for _ in range(300)]
    )
    assert few < 0.03, "what chance makes of few rows is taken off"


def test_matching_names_each_code_once() -> None:
    labels = np.repeat([0, 1, 2], 10)
    assert measures.matched((labels + 1) % 3, labels, 3)[0] == 1
    assert measures.matched(np.zeros(30, int), labels, 3)[0] == pytest.approx(1 / 3)
    assert measures.unchanging(np.array([[1, 0, 2], [1, 1, 2], [1, 0, 2]])) == 2
    assert measures.perplexity(np.array([[5, 5, 0, 0], [1, 0, 0, 0]])) == pytest.approx([2, 1])


def test_attributes_say_what_a_picture_is() -> None:
    y, x = np.mgrid[:12, :12]
    slash = (np.abs(x + y - 11) <= 1).astype(np.float32)  # from the lower left to the upper right
    thin = (x == 2).astype(np.float32)
    images = np.stack([slash, slash[:, ::-1], thin, thin[:, ::-1]])[:, None]
    attributes = measures.attributes(images, np.array([0, 0, 1, 1]), ["cross", "bar"])
    assert attributes["is cross"].tolist() == [True, True, False, False]
    assert attributes["leaning right"].tolist()[:2] == [True, False]
    assert attributes["far right"].tolist()[2:] == [False, True]
    assert attributes["much ink"].tolist() == attributes["wide"].tolist() == [True, True, False, False]
