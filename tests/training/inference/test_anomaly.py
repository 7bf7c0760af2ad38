"""Scores of a row: of itself alone, whatever its batch, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from tests.training.tiny_arrays import images, training, vectors
from training.inference.anomaly import BOTH, DISTANCE, ERROR, FILE, LIKELIHOOD, STANDARDISED, Reference, Scorer

CASES = ["autoencoder", "vae", "binary", "conv"]


def rows_of(case: str) -> np.ndarray:
    return images(300).astype(np.float32) / 255 if case == "conv" else vectors(300)


def scorer_of(case: str, **train: Any) -> Scorer:
    run = training(case, steps=60, **train)
    run.run()
    return Scorer.fit([run.objective.model], rows_of(case))  # type: ignore[attr-defined]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Scorer, np.ndarray]:
    return scorer_of(request.param), rows_of(request.param)[:60]


def test_a_score_depends_on_its_row_alone(case: tuple[Scorer, np.ndarray]) -> None:
    scorer, rows = case
    together = scorer.scores(rows)
    backwards = scorer.scores(rows[::-1])
    alone = [scorer.scores(rows[number : number + 1]) for number in range(len(rows))]
    for name, scores in together.items():
        assert np.isfinite(scores).all() and scores.std() > 0
        assert np.array_equal(backwards[name][::-1], scores)
        assert np.array_equal(np.concatenate([row_scores[name] for row_scores in alone]), scores)


def test_terms_add_up(case: tuple[Scorer, np.ndarray]) -> None:
    scorer, rows = case
    scores = scorer.scores(rows)
    by_feature = scorer.by_feature(rows)
    assert by_feature.shape == (len(rows), rows[0].size)
    np.testing.assert_allclose(by_feature.sum(1), scores[STANDARDISED], rtol=1e-6)
    np.testing.assert_allclose(scores[STANDARDISED] + scores[DISTANCE], scores[BOTH])
    squared = np.square(scorer.rebuilt(rows).astype(float) - rows).reshape(len(rows), -1).sum(1)
    np.testing.assert_allclose(squared, scores[ERROR], rtol=1e-4)


def test_what_is_normal_is_measured_on_training_rows() -> None:
    scorer = scorer_of("autoencoder")
    model, reference = scorer.members[0]
    rows = rows_of("autoencoder")
    with torch.no_grad():
        codes = model.encode(torch.from_numpy(rows)).double().numpy()
    errors = np.square(scorer.rebuilt(rows).astype(float) - rows)
    np.testing.assert_allclose(reference.spread, errors.mean(0), rtol=1e-4)
    wanted = np.linalg.inv(np.cov(codes.T))
    np.testing.assert_allclose(reference.precision, wanted, rtol=1e-3, atol=1e-3 * abs(wanted).max())
    # Of the rows it was fitted on, the mean squared Mahalanobis distance is the number of dimensions.
    assert scorer.scores(rows)[DISTANCE].mean() == pytest.approx(codes.shape[1], rel=0.01)


def test_a_likelihood_is_the_bound_with_its_sign_changed() -> None:
    scorer = scorer_of("vae")
    rows = rows_of("vae")[:20]
    model: Any = scorer.members[0][0]
    bound = model.importance_bound(torch.from_numpy(rows), 7).detach().numpy()
    np.testing.assert_allclose(scorer.scores(rows, 7)[LIKELIHOOD], -bound, rtol=1e-6)
    assert LIKELIHOOD not in scorer_of("autoencoder").names


def test_members_are_averaged() -> None:
    first, second = (scorer_of("autoencoder", lr=rate) for rate in (5e-3, 1e-2))
    rows = rows_of("autoencoder")[:30]
    both = Scorer([*first.members, *second.members])
    for name, scores in both.scores(rows).items():
        np.testing.assert_allclose(scores, (first.scores(rows)[name] + second.scores(rows)[name]) / 2)
    assert np.abs(first.scores(rows)[ERROR] - second.scores(rows)[ERROR]).max() > 0


def test_strange_rows_score_higher() -> None:
    rows = rows_of("autoencoder")
    random = np.random.default_rng(0)
    strange = np.stack([random.permutation(rows[:, column]) for column in range(rows.shape[1])], 1)
    run = training("autoencoder", steps=400, lr=1e-2)
    run.run()
    scorer = Scorer.fit([run.objective.model], rows)  # type: ignore[attr-defined]
    for name in (ERROR, STANDARDISED, BOTH):
        assert np.median(scorer.scores(strange)[name]) > 2 * np.median(scorer.scores(rows)[name]), name


def test_reasons_name_the_column_that_does_not_fit() -> None:
    run = training("autoencoder", steps=400, lr=1e-2)
    run.run()
    rows = rows_of("autoencoder")[:50]
    scorer = Scorer.fit([run.objective.model], rows_of("autoencoder"))  # type: ignore[attr-defined]
    spoilt = rows.copy()
    spoilt[:, 4] = 1 - spoilt[:, 4]
    shares, instead = scorer.reasons(spoilt, [np.arange(4), np.array([4]), np.arange(5, 12)])
    assert shares.shape == (50, 3) and (shares >= 0).all() and (shares <= 1).all()
    far = np.abs(spoilt[:, 4] - rows[:, 4]) > 0.3
    assert far.sum() > 10
    assert (shares[far, 1] > shares[far, 0]).mean() > 0.8
    assert np.abs(instead - rows)[far, 4].mean() < 0.5 * np.abs(spoilt - rows)[far, 4].mean()


def test_what_never_varies_breaks_nothing() -> None:
    model = training("autoencoder", steps=1).objective.model  # type: ignore[attr-defined]
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    zeros = np.zeros((8, 12), np.float32)
    scorer = Scorer.fit([model], zeros)
    assert all(np.isfinite(scores).all() for scores in scorer.scores(zeros + 1e-3).values())


def test_a_reference_comes_back(tmp_path: Path) -> None:
    scorer = scorer_of("autoencoder")
    model, reference = scorer.members[0]
    reference.save(tmp_path)
    rows = rows_of("autoencoder")[:10]
    again = Scorer([(model, Reference.load(tmp_path))]).scores(rows)
    for name, scores in scorer.scores(rows).items():
        np.testing.assert_array_equal(again[name], scores)
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(UserError, match="train again"):
        Reference.load(tmp_path)
