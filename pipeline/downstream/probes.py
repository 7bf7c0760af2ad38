"""Probes of frozen features: nearest neighbours and a linear classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

BATCH = 1024
TEMPERATURE = 0.1  # of the votes of nearest neighbours


def knn_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray, k: int = 200) -> float:
    """Accuracy of a vote of the k most similar training rows, each with weight exp(cosine / TEMPERATURE).

    train [N, D] and test [M, D] features, labels [N] and truth [M] from 0 (Wu et al. 2018, section 3.4).
    """
    train, test = _unit(train), _unit(test)
    votes_of, right, k = int(labels.max()) + 1, 0, min(k, len(train))
    for start in range(0, len(test), BATCH):
        cosine = test[start : start + BATCH] @ train.T
        near = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        weights = np.exp((np.take_along_axis(cosine, near, 1) - 1) / TEMPERATURE)
        votes = np.zeros((len(near), votes_of))
        np.add.at(votes, (np.arange(len(near))[:, None], labels[near]), weights)
        right += int((votes.argmax(1) == truth[start : start + BATCH]).sum())
    return right / len(test)


def linear_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of logistic regression on standardised features."""
    return float(fitted_linear(train, labels).score(test, truth))


def fitted_linear(train: np.ndarray, labels: np.ndarray, C: float = 1.0, max_iter: int = 2000) -> Any:  # noqa: N803
    """Logistic regression on standardised features, as a fitted pipeline of scikit-learn, whose names these are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=max_iter)).fit(train, labels)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
