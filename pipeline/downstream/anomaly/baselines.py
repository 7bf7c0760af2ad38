"""Baseline detectors from PyOD and scikit-learn, on the same rows.

Each is fitted on scaled training rows and gives a function from rows to scores, higher for more unusual rows. Their
settings are the libraries' defaults, fixed before any anomaly was seen: most have no counterpart to the held-out normal
rows by which our networks are chosen.

PyOD's ECOD and COPOD rank a row among the training rows *and the other rows of its batch*, so that a batch with many
anomalies looks normal. A score must not depend on its batch: here a row is ranked among the training rows and itself,
which is what PyOD gives for a batch of one. Scores of whole batches are reported, too, under `BATCHED`, to compare with
published figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ScoreFunction = Callable[[np.ndarray], np.ndarray]
BATCHED = " (whole batch)"
PYOD_EPOCHS = 50
EXPLAINED = 0.9  # of the variance: components of PCA's reconstruction


def fit(name: str, train: np.ndarray, seed: int) -> dict[str, ScoreFunction]:
    """A detector by its name in `pipeline.downstream.anomaly.job.Baseline`, fitted on float [R, D].

    For detectors whose scores depend on their batch, the unchanged version is returned, too.
    """
    detector = DETECTORS[name](train, seed)
    if name in ("ecod", "copod"):
        return {name: ranked_alone(name, train), name + BATCHED: detector}
    return {name: detector}


def ranked_alone(name: str, train: np.ndarray) -> ScoreFunction:
    """ECOD's (Li et al. 2022) or COPOD's (Li et al. 2020) score of each row among the training rows [R, D]."""
    train = train.astype(np.float64)
    ranked = np.sort(train, 0)
    count, mean = len(train) + 1, train.mean(0)
    sums = [((train - mean) ** power).sum(0) for power in (2, 3)]

    def score(rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64)
        left, right = np.empty_like(rows), np.empty_like(rows)
        for column in range(rows.shape[1]):  # ranks from both sides, the row itself included
            left[:, column] = 1 + np.searchsorted(ranked[:, column], rows[:, column], side="right")
            right[:, column] = count - np.searchsorted(ranked[:, column], rows[:, column], side="left")
        left, right = -np.log(left / count), -np.log(right / count)
        distance = rows - mean
        shift = distance / count  # of the mean, by the row itself
        third = sums[1] + distance**3 - 3 * shift * (sums[0] + distance**2) + 3 * shift**2 * distance - count * shift**3
        skew = np.sign(np.where(np.abs(third) > 1e-12, third, 0))
        by_skew = -left * np.sign(skew - 1) + right * np.sign(skew + 1)
        without_skew = np.maximum(left, right) if name == "ecod" else (left + right) / 2
        return np.maximum(by_skew, without_skew).sum(1)

    return score


def classifiers(train: np.ndarray, marked: np.ndarray, seed: int) -> dict[str, ScoreFunction]:
    """Binary classifiers fitted on the training rows as normal and a few labelled anomalies [M, D]."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([train, marked])
    labels = np.repeat([0, 1], [len(train), len(marked)])
    models: dict[str, Any] = {
        "logistic regression": LogisticRegression(class_weight="balanced", max_iter=2000),
        "gradient boosting": HistGradientBoostingClassifier(
            class_weight="balanced", min_samples_leaf=max(1, min(20, len(marked) // 2)), random_state=seed
        ),
    }
    return {name: _probability(model.fit(rows, labels)) for name, model in models.items()}


def _probability(model: Any) -> ScoreFunction:
    return lambda rows: model.predict_proba(rows)[:, 1]


def _pyod(module: str, kind: str, seeded: bool = False, **settings: Any) -> Callable[[np.ndarray, int], ScoreFunction]:
    def made(train: np.ndarray, seed: int) -> ScoreFunction:
        from importlib import import_module

        import torch

        extra = {"random_state": seed} if seeded else {}
        if "n_features" in settings:
            extra["n_features"] = train.shape[1]
        detector = getattr(import_module(f"pyod.models.{module}"), kind)(**{**settings, **extra})
        with torch.random.fork_rng(devices=[]):  # some seed the global generator
            detector.fit(train)
        return detector.decision_function

    return made


def _pca(train: np.ndarray, seed: int) -> ScoreFunction:
    """PyOD's PCA with all components of non-zero variance, by which it divides: one-hot columns sum to a constant."""
    spread = train.std(0)
    rank = int(np.linalg.matrix_rank((train - train.mean(0)) / np.where(spread > 0, spread, 1)))
    return _pyod("pca", "PCA", n_components=min(max(rank, 1), *train.shape))(train, seed)


def _rebuilt(train: np.ndarray, seed: int) -> ScoreFunction:
    from sklearn.decomposition import PCA

    model = PCA(EXPLAINED, svd_solver="full").fit(train)
    return lambda rows: np.square(rows - model.inverse_transform(model.transform(rows))).sum(1)


DETECTORS: dict[str, Callable[[np.ndarray, int], ScoreFunction]] = {
    "pca": _pca,
    "pca-reconstruction": _rebuilt,
    "iforest": _pyod("iforest", "IForest", seeded=True),
    "ecod": _pyod("ecod", "ECOD"),
    "copod": _pyod("copod", "COPOD"),
    "ocsvm": _pyod("ocsvm", "OCSVM"),
    "knn": _pyod("knn", "KNN"),
    "deepsvdd": _pyod("deep_svdd", "DeepSVDD", seeded=True, n_features=None, verbose=0),
    "pyod-autoencoder": _pyod("auto_encoder", "AutoEncoder", seeded=True, epoch_num=PYOD_EPOCHS, verbose=0),
    "pyod-vae": _pyod("vae", "VAE", seeded=True, epoch_num=PYOD_EPOCHS, verbose=0),
}
