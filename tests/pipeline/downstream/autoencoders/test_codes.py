"""The job that sets codes beside principal components: on rows that nothing was fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pipeline.artifact import MODEL, Artifact
from pipeline.downstream.autoencoders import codes
from pipeline.reports import images, report
from tests.pipeline import tiny_arrays
from training.inference.networks.arrays import open_model


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    home = tmp_path_factory.mktemp("codes")
    return tiny_arrays.make(tiny_arrays.recipe(home, placement="{threads: 1}"), home, "train.steps=5")


def test_errors_are_of_test_rows_and_probes_and_components_of_training_rows(
    artifacts: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: dict[str, list[tuple[Any, ...]]] = {"knn": [], "linear": []}
    mapped: list[Any] = []
    for name, given in probed.items():
        monkeypatch.setattr(
            codes, f"{name}_accuracy", lambda *arguments, given=given: (given.append(arguments[:4]), 0.5)[1]
        )
    monkeypatch.setattr(codes, "_maps", lambda job, features, neighbours, context: (mapped.append(features), {})[1])
    monkeypatch.setattr(images, "maps", lambda *_: None)
    job = {**artifacts["codes"].config["job"], "neighbours": 50}
    summary = tiny_arrays.rerun(artifacts, "codes", tmp_path / "again", job=job)
    assert "the 23 nearest neighbours" in (about := report.read(tmp_path / "again").about)
    assert about.endswith("were neighbours before, as rows are too few for 50.")
    model = open_model(artifacts["pretrain"].path / MODEL)
    (train, labels), (test, truth) = (tiny_arrays.rows_of(artifacts, split) for split in ("train", "test"))
    with torch.no_grad():
        ours = [model.encode(torch.from_numpy(rows)).numpy() for rows in (train, test)]
        rebuilt = model(torch.from_numpy(test)).numpy()
    components = PCA(ours[0].shape[1], svd_solver="full").fit(train)
    by_components = components.inverse_transform(components.transform(test))
    errors = [float(np.square(rows - test).sum(1).mean()) for rows in (rebuilt, by_components)]
    assert [summary["error/auto-encoder"], summary["error/pca"]] == pytest.approx(errors)
    assert summary["error/ratio"] == pytest.approx(errors[0] / errors[1])
    features = [ours, [components.transform(train), components.transform(test)], [train, test]]
    for given in probed.values():
        for (of_train, given_labels, of_test, given_truth), (wanted, wanted_of_test) in zip(
            given, features, strict=True
        ):
            np.testing.assert_allclose(of_train, wanted, atol=1e-4)
            np.testing.assert_allclose(of_test, wanted_of_test, atol=1e-4)
            assert np.array_equal(given_labels, labels) and np.array_equal(given_truth, truth)
    for name, (_, wanted) in zip(("auto-encoder", "PCA", "inputs"), features, strict=True):
        np.testing.assert_allclose(mapped[0][name], wanted, atol=1e-4)
