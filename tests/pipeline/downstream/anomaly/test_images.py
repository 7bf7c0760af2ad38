"""Images with what they are rebuilt as: which are shown, in which order, and what of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.downstream.anomaly import images as anomaly_images
from pipeline.downstream.anomaly.images import by_rank
from pipeline.reports.report import read
from pipeline.scoring import champion
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.row_detector import AUROC, RowDetector
from pipeline.scoring.score_files import Tally, files_of, score_file
from tests.pipeline import tiny_arrays
from training.inference.anomaly import DISTANCE, STANDARDISED


class Halves:
    """A scorer that rebuilds half of every value."""

    def rebuilt(self, rows: np.ndarray) -> np.ndarray:
        return rows / 2

    def by_feature(self, rows: np.ndarray) -> np.ndarray:
        return 10.0 * np.square(rows / 2).reshape(len(rows), -1)


def pictures(channels: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twelve images, each with its score for pixels; every third is an anomaly."""
    scores = np.random.default_rng(0).permutation(12) / 12
    rows = np.broadcast_to(scores[:, None, None, None], (12, channels, 4, 5)).astype(np.float32)
    return rows, np.arange(12) % 3 == 0, scores


@pytest.mark.parametrize(("count", "wanted"), [(1, [0]), (2, [0, 6]), (3, [0, 3, 6]), (7, range(7)), (20, range(7))])
def test_ranks_are_spread_evenly(count: int, wanted: range | list[int]) -> None:
    scores = np.array([5.0, 0.0, 3.0, 1.0, 6.0, 2.0, 4.0])
    assert scores[by_rank(scores, count)].tolist() == list(wanted)


@pytest.mark.parametrize("score", [STANDARDISED, DISTANCE])
def test_normal_ones_come_first_each_from_the_least_unusual(score: str) -> None:
    rows, truth, scores = pictures()
    groups = anomaly_images.groups(rows, truth, scores, 0.5, Halves(), score, 3)  # type: ignore[arg-type]
    assert list(groups) == ["normal", "anomalies"]
    for group, which in zip(groups.values(), (~truth, truth), strict=True):
        assert group.inputs.shape == group.rebuilt.shape == (3, 1, 4, 5) and group.errors.shape == (3, 4, 5)
        assert np.array_equal(group.scores, np.sort(group.scores))
        assert (group.scores[0], group.scores[-1]) == (scores[which].min(), scores[which].max())
        np.testing.assert_allclose(group.inputs[:, 0, 0, 0], group.scores, rtol=1e-6)
        np.testing.assert_allclose(group.rebuilt, group.inputs / 2)
        wanted = np.square(group.inputs[:, 0] / 2) * (10 if score == STANDARDISED else 1)
        np.testing.assert_allclose(group.errors, wanted, rtol=1e-6)
        assert np.array_equal(group.flagged, group.scores > 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_figure_is_as_wide_as_what_it_shows(channels: int, tmp_path: Path) -> None:
    rows, truth, scores = pictures(channels)
    sizes = []
    for count in (2, 8):
        groups = anomaly_images.groups(rows, truth, scores, 0.5, Halves(), STANDARDISED, count)  # type: ignore[arg-type]
        path = anomaly_images.draw(groups, STANDARDISED, tmp_path / f"{count}.png")
        sizes.append(Image.open(path).size)
    assert sizes[0][0] < sizes[1][0] and sizes[0][1] == sizes[1][1]


def test_a_detector_of_standardised_images_says_so_and_scores_them_whatever_their_light(tmp_path: Path) -> None:
    job = "{name: anomaly, task: anomaly, seeds: 1, baselines: [], marked: [], shown: 2}"
    path = tiny_arrays.recipe(
        tmp_path,
        "images",
        train="{global_batch: 32, steps: 20, lr: 1e-2, precision: fp32}",
        downstream=f"[{job}]",
        placement="{threads: 1}",
    )
    light = "data.images={channels: 1, standardise: true}"
    artifacts = tiny_arrays.make(path, tmp_path, light, "data.normal=['0']")
    detector = RowDetector.open(artifacts["anomaly"].path / DETECTOR)
    assert detector.images is not None and detector.images.standardise
    plain = tiny_arrays.make(path, tmp_path, "data.normal=['0']")
    usual = RowDetector.open(plain["anomaly"].path / DETECTOR).images
    assert usual is not None and not usual.standardise
    assert plain["ingest"].output_digest != artifacts["ingest"].output_digest

    pixels = np.random.default_rng(0).integers(0, 100, (8, 8)).astype(np.uint8)
    scores = []
    for name, picture in {"dark.png": pixels, "light.png": 2 * pixels}.items():
        Image.fromarray(picture).save(tmp_path / name)
        files = files_of(detector, [str(tmp_path / name)], tmp_path)
        (batch,) = score_file(detector, files[0], Tally())
        scores.append(batch["score"][0].as_py())
    assert scores[0] == pytest.approx(scores[1], rel=0.05)

    (candidate,) = read(artifacts["anomaly"].path).candidates
    folder, corpus = artifacts["anomaly"].path / candidate.path, artifacts["ingest"].path
    verdict = champion.propose(tmp_path / "home", "images", candidate, folder, corpus)
    assert verdict is not None and verdict.measure == AUROC, "labels decide, not how few are flagged"
