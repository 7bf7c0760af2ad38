"""The job that sets denoising auto-encoders beside plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.corruptions.noise import NoiseConfig, scaled
from data_prep.errors import UserError
from pipeline.artifact import MODEL, Artifact
from pipeline.downstream import train_in_memory
from pipeline.downstream.autoencoders import restoration
from pipeline.downstream.autoencoders.restoration import corrupted, psnr
from pipeline.downstream.train_in_memory import TrainedNetwork
from tests.pipeline import tiny_arrays
from tests.pipeline.job_checks import whole_report
from training.inference.networks.arrays import open_model

JOB = "{name: restoration, task: restoration, others: [{kind: gaussian, level: 0.4}], seeds: 2}"
SECTIONS = {
    "corruption": "{kind: salt-and-pepper, level: 0.2}",
    "objective": "{name: autoencoder, options: {loss: cross-entropy}}",
    "train": "{global_batch: 32, steps: 250, lr: 1e-2, log_every: 20, precision: fp32}",
    "network": "{architecture: mlp, config: {hidden: [64], bottleneck: 16, output: sigmoid}}",
    "placement": "{threads: 1}",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("restoration")


@pytest.fixture(scope="module")
def artifacts(home: Path) -> dict[str, Artifact]:
    return tiny_arrays.make(tiny_arrays.recipe(home, "images", downstream=f"[{JOB}]", **SECTIONS), home)


def test_noise_is_taken_off_and_the_report_is_whole(artifacts: dict[str, Artifact]) -> None:
    report = whole_report(artifacts["restoration"])
    assert [row[0] for row in report.tables[0].rows] == ["plain", "salt-and-pepper 0.2", "gaussian 0.4"]
    for kind in ("salt-and-pepper 0.2", "gaussian 0.4"):
        scores = report.notes["kinds"][kind]
        assert min(scores["restored"]) > scores["before"] + 1
        assert min(scores["restored"]) > max(scores["by_plain"])
        assert len(set(scores["restored"])) == len(scores["accuracy"]) == 2, "each seed is a network of its own"
    assert "restored" in report.verdict or "restores" in report.verdict


def test_networks_learn_from_training_rows_and_restore_test_rows(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(artifacts["pretrain"].path / MODEL)
    learned: list[np.ndarray] = []
    probed: list[tuple[Any, ...]] = []
    asked: list[tuple[str, int]] = []

    def trained(config: Any, rows: Any, seed: int, context: Any) -> TrainedNetwork:
        asked.append((config["corruption"]["kind"], seed))
        learned.append(scaled(np.asarray(rows["input"])))
        return TrainedNetwork(model, [])

    monkeypatch.setattr(train_in_memory, "trained", trained)
    monkeypatch.setattr(restoration, "linear_accuracy", lambda *given: (probed.append(given), 0.5)[1])
    summary = tiny_arrays.rerun(artifacts, "restoration", tmp_path / "again")
    (train, labels), (test, truth) = (tiny_arrays.rows_of(artifacts, split) for split in ("train", "test"))
    assert len(learned) == 2 * 3 and all(np.array_equal(rows, train) for rows in learned)
    kinds, seeds = zip(*asked, strict=True)
    assert kinds == ("none", "salt-and-pepper", "gaussian") * 2
    assert len(set(seeds[:3])) == len(set(seeds[3:])) == 1, "networks of one seed are paired"
    assert seeds[0] != seeds[3], "every seed is another"
    with torch.no_grad():
        codes = [model.encode(torch.from_numpy(rows)).flatten(1).numpy() for rows in (train, test)]
    for given in probed:
        for values, wanted in zip(given, (codes[0], labels, codes[1], truth), strict=True):
            np.testing.assert_allclose(values, wanted, atol=1e-5)
    seed = artifacts["restoration"].config["seed"]
    rows = {"input": test, "row": np.arange(len(test))}
    for noise in (NoiseConfig(kind="salt-and-pepper", level=0.2), NoiseConfig(kind="gaussian", level=0.4)):
        noisy = corrupted(rows, noise, seed)
        with torch.no_grad():
            restored = model(torch.from_numpy(noisy)).numpy()
        slug = restoration.named(noise).replace(" ", "-")
        assert summary[f"psnr_noisy/{slug}"] == pytest.approx(psnr(noisy, test), abs=1e-6)
        assert summary[f"psnr_restored/{slug}"] == pytest.approx(psnr(restored, test), abs=1e-3)


def test_a_rerun_finds_the_same(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    assert tiny_arrays.same_twice(artifacts, "restoration", tmp_path)


def test_images_are_spoilt_by_their_own_numbers() -> None:
    rows = {"input": np.full((6, 1, 8, 8), 100, np.uint8), "row": np.arange(6)}
    noise = NoiseConfig(kind="masking", level=0.5)
    images = corrupted(rows, noise, 3)
    part = corrupted({name: np.asarray(values)[[4, 1]] for name, values in rows.items()}, noise, 3)
    assert np.array_equal(part, images[[4, 1]])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(corrupted(rows, noise, 4), images)


def test_psnr_is_that_of_bytes() -> None:
    wanted = np.zeros((1, 1, 2, 2))
    assert psnr(wanted + 1, wanted) == pytest.approx(0)
    assert psnr(wanted + 0.1, wanted) == pytest.approx(20 * np.log10(255 / 26))  # 25.5 is 26 as a byte
    assert psnr(wanted - 5, wanted) > 100  # clipped


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({}, "corruption.kind: restoration needs noise"),
        ({"corruption": SECTIONS["corruption"], "objective": "{name: vae}"}, "objective.name: restoration is of"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(sections: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tiny_arrays.recipe(tmp_path, "images", downstream=f"[{JOB}]", **sections)
    with pytest.raises(UserError) as caught:
        tiny_arrays.make(path, tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
