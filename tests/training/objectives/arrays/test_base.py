"""Every auto-encoder learns through the loop, goes on bit by bit, and learns the same on two workers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_prep.corruptions.noise import NoiseConfig
from data_prep.errors import UserError
from tests.training import tiny_arrays as tiny
from tests.training.group import in_group
from training.config import NetworkConfig, PlacementConfig
from training.distributed import Worker
from training.inference.networks.arrays import open_model
from training.models.autoencoders import compression, rbm, vae
from training.models.autoencoders.row_noise import normals

CASES = list(tiny.CASES)
ENOUGH: dict[str, dict[str, Any]] = {"rbm": {"steps": 900, "lr": 3e-2}}  # three machines need time of their own
UNSAMPLED = {"binary": {"sample": False}, "one-hot": {"sample": False}}


@pytest.mark.parametrize("case", CASES)
def test_errors_fall_weights_move_and_what_is_rebuilt_varies(case: str, tmp_path: Path) -> None:
    training = tiny.training(case, **{"steps": 150, "log_every": 50, **ENOUGH.get(case, {})})
    networks = training.objective.networks()
    before = {(n, name): p.detach().clone() for n, net in networks.items() for name, p in net.named_parameters()}
    start = training.evaluate()
    summary = training.run()
    after = training.evaluate()
    error = "validation/cross-entropy" if case == "conv" else "validation/squared-error"
    assert after[error] < 0.75 * start[error]
    assert summary[error] == after[error]
    if "validation/elbo" in after:
        assert after["validation/elbo"] > start["validation/elbo"]
    still = [key for key, old in before.items() if torch.equal(dict(networks[key[0]].named_parameters())[key[1]], old)]
    assert still == []

    training.export(tmp_path)
    model = open_model(tmp_path)
    rows = training.objective.collate(training.held_out.read(np.arange(20)))  # type: ignore[union-attr]
    rebuilt = model(rows["input"])
    assert rebuilt.shape == rows["input"].shape
    assert rebuilt.std(0).mean() > 0.02  # not the mean of all examples
    assert (rebuilt - rows["input"]).square().mean() < rows["input"].var(0).mean()


@pytest.mark.parametrize("case", CASES)
def test_resume_is_bit_equal(case: str, tmp_path: Path) -> None:
    placement = PlacementConfig(checkpoint_every=5)
    uninterrupted = tiny.losses(case, placement=placement)
    stopped: list[float] = []
    stop = tiny.training(
        case, placement=placement, checkpoints=tmp_path, log=lambda r: stopped.append(r.get("train/loss"))
    )
    stop.stop = lambda: len(stopped) >= 6  # after step 7; its checkpoint is removed below
    assert stop.run()["stopped"]
    records: list[dict[str, Any]] = []
    summary = tiny.training(case, placement=placement, checkpoints=tmp_path, log=records.append).run()
    assert summary["resumed_from"] == 7
    assert [r["train/loss"] for r in records if "train/loss" in r] == uninterrupted[7:]
    assert len(set(uninterrupted)) == len(uninterrupted)


def _without_noise(case: str) -> None:
    """Draw what training draws as evaluation does, or not at all: workers then have nothing of their own."""
    vae.VariationalAutoencoder.noise = lambda self, x, like: normals(x, like[0].numel()).view_as(like)  # type: ignore[method-assign]
    compression.CompressiveAutoencoder.noise = lambda self, y: torch.zeros_like(y)  # type: ignore[method-assign]
    rbm._draw = lambda mean, units: (mean > 0.5).to(mean.dtype) if units == "bernoulli" else mean


def _run(worker: Worker, case: str, zero: int | None) -> dict[str, Any]:
    _without_noise(case)
    records: list[dict[str, Any]] = []
    placement = PlacementConfig(workers=worker.world, zero=zero, micro_batch=8)  # type: ignore[arg-type]
    options = UNSAMPLED.get(case)
    training = tiny.training(case, worker, options=options, placement=placement, log=records.append)
    training.run()
    networks = training.objective.networks().values()
    buffers = [b.double().flatten() for net in networks for b in net.buffers() if b.is_floating_point()]
    with tempfile.TemporaryDirectory() as folder:
        training.export(Path(folder))
        kept = load_file(Path(folder) / "model.safetensors") if worker.leads else {}
    return {
        "losses": [r["train/loss"] for r in records if "train/loss" in r],
        "weights": [w.double().sum().item() for w in kept.values()] + [w.double().norm().item() for w in kept.values()],
        "evaluation": training.evaluate(),
        "buffers": torch.cat([*buffers, torch.zeros(1)]).tolist(),
    }


def _run_all(worker: Worker) -> dict[str, dict[str, Any]]:
    return {case: _run(worker, case, None) for case in CASES}


def _run_some(worker: Worker, zero: int) -> dict[str, dict[str, Any]]:
    return {case: _run(worker, case, zero) for case in ("autoencoder", "conv", "vae", "binary", "vq")}


@pytest.fixture(scope="module")
def runs() -> dict[int, list[dict[str, dict[str, Any]]]]:
    """By number of workers, what each of them found."""
    return {world: in_group(world, _run_all) for world in (1, 2)}


@pytest.mark.parametrize("case", CASES)
def test_two_workers_learn_what_one_does(case: str, runs: dict[int, list[dict[str, dict[str, Any]]]]) -> None:
    alone, (first, second) = runs[1][0][case], [result[case] for result in runs[2]]
    assert len(alone["losses"]) == 12
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-3, abs=1e-5)
    assert first["buffers"] == second["buffers"]  # a codebook is the same on every worker, to the bit
    assert first["buffers"] == pytest.approx(alone["buffers"], rel=1e-3, abs=1e-4)
    assert first["weights"] == pytest.approx(alone["weights"], rel=2e-3, abs=2e-3)
    assert first["evaluation"] == second["evaluation"]
    assert first["evaluation"] == pytest.approx(alone["evaluation"], rel=1e-3, abs=1e-5)


def _evaluate(worker: Worker) -> dict[str, dict[str, float]]:
    placement = PlacementConfig(workers=worker.world)
    return {case: tiny.training(case, worker, placement=placement).evaluate() for case in CASES}


def test_evaluation_draws_alike_on_any_number_of_workers() -> None:
    alone, together = _evaluate(Worker()), in_group(3, _evaluate)
    for case in CASES:
        for evaluation in together:
            assert evaluation[case] == pytest.approx(alone[case], rel=1e-5, abs=1e-6), case


def _resume_on_two(worker: Worker, case: str, folder: Path) -> tuple[list[float], list[float]]:
    """With noise: losses of steps 6 … 12, without a stop and with one."""
    curves = []
    for stop in (False, True):
        placement = PlacementConfig(workers=2, checkpoint_every=5)
        if stop:
            half = tiny.training(case, worker, placement=placement, checkpoints=folder)
            steps: list[int] = []
            half.stop = lambda steps=steps: steps.append(1) or len(steps) >= 5  # type: ignore[misc]
            half.run()
        records: list[dict[str, Any]] = []
        checkpoints = folder if stop else None
        tiny.training(case, worker, placement=placement, checkpoints=checkpoints, log=records.append).run()
        curves.append(worker.gather([r["train/loss"] for r in records if r["step"] > 5 and "train/loss" in r])[0])
    return curves[0], curves[1]


@pytest.mark.parametrize("case", ["vae", "vq", "rbm"])
def test_two_workers_resume_bit_equal(case: str, tmp_path: Path) -> None:
    uninterrupted, resumed = in_group(2, _resume_on_two, case, tmp_path)[0]
    assert len(resumed) == 7
    assert resumed == uninterrupted


@pytest.mark.parametrize("zero", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_zero_learns_what_plain_pytorch_does(zero: int, runs: dict[int, list[dict[str, dict[str, Any]]]]) -> None:
    for case, result in in_group(2, _run_some, zero)[0].items():
        assert result["losses"] == pytest.approx(runs[1][0][case]["losses"], rel=1e-3, abs=1e-5), case
        assert result["evaluation"] == pytest.approx(runs[1][0][case]["evaluation"], rel=1e-3, abs=1e-5), case
        assert result["weights"] == pytest.approx(runs[1][0][case]["weights"], rel=2e-3, abs=2e-3), case


@pytest.mark.parametrize("micro_batch", [5, 24])
def test_the_mean_does_not_depend_on_micro_batches(micro_batch: int) -> None:
    for case in ("autoencoder", "conv", "vq"):
        cut = tiny.losses(case, placement=PlacementConfig(micro_batch=micro_batch))
        assert cut == pytest.approx(tiny.losses(case), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_evaluation_changes_nothing(case: str) -> None:
    training = tiny.training(case, steps=4)
    training.run()
    networks = training.objective.networks()
    before = {n: {k: v.clone() for k, v in net.state_dict().items()} for n, net in networks.items()}
    first = training.evaluate()
    assert training.evaluate() == first
    for name, net in networks.items():
        assert all(torch.equal(value, before[name][key]) for key, value in net.state_dict().items())


def test_a_skipped_step_leaves_no_codes_behind() -> None:
    training = tiny.training("vq")
    objective: Any = training.objective
    batch = objective.collate({"input": tiny.vectors(4)})
    for step in range(2):
        objective.before_step(step, 12)
        objective.turns("train", step)[0].loss(training.forwards, batch)  # and no `after_step`
        objective.turns("train", step)  # asking has no effect
    assert len(objective.step_usage["indices"]) == 1
    training.evaluate()
    assert len(objective.step_usage["indices"]) == 1


@pytest.mark.parametrize("case", CASES)
def test_bf16_follows_fp32(case: str) -> None:
    losses = tiny.losses(case, steps=6, precision="bf16", options=UNSAMPLED.get(case))
    expected = tiny.losses(case, steps=6, options=UNSAMPLED.get(case))
    scale = max(abs(loss) for loss in expected)
    assert losses == pytest.approx(expected, abs=0.05 * scale)
    assert losses != expected


def test_denoising_restores() -> None:
    """What comes out is nearer to the clean example than what went in; the plain one only copies."""
    noise = NoiseConfig(kind="gaussian", level=0.2)
    network = NetworkConfig(architecture="mlp", config={"hidden": [48], "bottleneck": 3})
    training = tiny.training("autoencoder", network=network, noise=noise, steps=500, lr=1e-2)
    training.run()
    batch = training.objective.collate(training.held_out.read(np.arange(70)))  # type: ignore[union-attr]
    with torch.no_grad():
        restored = training.objective.model(batch["seen"])  # type: ignore[attr-defined]
    error = float((restored - batch["input"]).square().mean())
    assert error < 0.5 * float((batch["seen"] - batch["input"]).square().mean())
    assert training.evaluate()["validation/squared-error"] == pytest.approx(error, rel=1e-3)


def test_batches_of_bytes_are_scaled_and_labels_travel_beside() -> None:
    objective = tiny.training("conv").objective
    rows = {"input": tiny.images(3), "label": np.array([1, -1, 2]), "row": np.arange(3)}
    batch = objective.collate(rows)
    assert batch["input"].dtype == torch.float32 and float(batch["input"].max()) == np.float32(220) / np.float32(255)
    assert batch["seen"] is batch["input"]
    assert batch["label"].tolist() == [1, -1, 2]
    assert objective.num_units(batch) == objective.num_positions(batch) == 3


def test_work_is_counted() -> None:
    objective = tiny.training("autoencoder").objective
    batch = objective.collate({"input": tiny.vectors(5)})
    multiplied = 2 * (12 * 24 + 24 * 3)
    assert objective.flops(batch) == 5 * 3 * 2 * multiplied


def test_losses_are_told_by_source() -> None:
    training = tiny.training("vae")
    training.objective.networks()["model"].eval()
    batch = {**training.objective.collate({"input": tiny.vectors(4)}), "source": torch.tensor([0, 1, 0, 1])}
    turn: Any = training.objective.turns("train", 0)[0]
    with torch.no_grad():
        loss = turn.loss(training.forwards, batch)
    for name, weight in turn.weights(batch).items():
        sums, weights = loss.by_row[name]
        assert float(sums.sum()) == pytest.approx(float(loss.sums[name]), rel=1e-5)
        assert float(weights.sum()) == weight


@pytest.mark.parametrize(
    ("case", "options", "network", "message"),
    [
        ("vae", {"betta": 2}, None, r"objective\.options\.betta: unknown key; allowed: beta, binarise"),
        ("vae", {"beta": -1}, None, r"objective\.options\.beta: found -1; input should be greater than or equal to 0"),
        (
            "vae",
            {"variance": "x"},
            None,
            r"options\.variance: found 'x'; input should be a valid number, or .*'learned'",
        ),
        ("autoencoder", {}, {"hidden": [4, 2.5], "bottleneck": 3}, r"network\.config\.hidden\.1: found 2\.5"),
        ("vae", {"variance": 0.0}, None, r"objective\.options\.variance: found 0; it is more than 0"),
        ("vae", {"likelihood": "bernoulli"}, None, "bernoulli needs network.config.output: sigmoid"),
        ("autoencoder", {"loss": "cross-entropy"}, None, "cross-entropy needs network.config.output: sigmoid"),
        ("autoencoder", {}, {"hidden": [4]}, r"network\.config\.bottleneck: missing"),
        ("autoencoder", {}, {"hidden": [4], "bottleneck": "3"}, r"network\.config\.bottleneck: found '3'"),
        ("autoencoder", {}, {"hidden": [0], "bottleneck": 3}, r"network\.config\.hidden: sizes are at least 1"),
        ("autoencoder", {}, {"bottleneck": 3, "latent": "grid"}, "a grid of codes needs architecture conv"),
        ("vae", {}, {"bottleneck": 3, "tied": True}, "only plain auto-encoders can be tied"),
        ("rbm", {}, {"hidden": [5], "bottleneck": 3}, r"network\.config\.activation: rbm unrolls into 'sigmoid'"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(
    case: str, options: dict[str, Any], network: dict[str, Any] | None, message: str
) -> None:
    chosen = NetworkConfig(architecture="mlp", config=network) if network else None
    with pytest.raises(UserError, match=message):
        tiny.training(case, options=options, network=chosen)


def test_what_zero_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"objective\.name: rbm copies weights"):
        tiny.training("rbm", placement=PlacementConfig(zero=2))
    with pytest.raises(UserError, match=r"network\.config\.tied: tied layers are not whole"):
        tiny.training("tied", placement=PlacementConfig(zero=3))
    with pytest.raises(UserError, match=r"objective\.options\.codebook: ZeRO keeps copies"):
        tiny.training("vq-gradient", placement=PlacementConfig(zero=1))
    with pytest.raises(UserError, match=r"train\.steps: 3 are too few for 3 machines"):
        tiny.training("rbm", steps=3)


def test_conv_on_a_table_and_text_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"network\.architecture: conv takes images"):
        tiny.training("autoencoder", network=tiny.CONV)
    with pytest.raises(UserError, match=r"network\.architecture: 'bert' is no auto-encoder"):
        tiny.training("autoencoder", network=NetworkConfig())
