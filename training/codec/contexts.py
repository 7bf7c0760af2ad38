"""Which of a channel's tables a value is coded by: its class, by the activity around it in the channels before.

    activity_c(place) = Σ_{d<c} own_d · min(|ŷ_d|, LARGE)  +  around_d · Σ_{8 neighbours} min(|ŷ_d|, LARGE)
    class             = how many of the channel's limits are at most that

Images are smooth in some places and rough in others, while the learned distribution of a channel is the same for all
places. Coded channel by channel, every value has all of the channels before, on all sides, to classify its place by
(channels by channels: Minnen & Singh 2020; classes of activity: Wu & Memon 1997, CALIC).

Weights are those of least squares, none negative, from which |ŷ_c| of training images is guessed; limits are
quantiles of the guess. Both are then whole numbers: a decoder only adds and compares whole numbers, and finds
the classes that the encoder found, on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LARGE = 8  # of |ŷ|, beyond which a place is no busier
FINEST = 1 << 10  # the largest weight of a channel
SHARE = 0.65  # of the places of a class and all above it, those above it
RIDGE = 1e-3  # of the features' mean square
SILENT = 1e-3  # mean |ŷ_c| below which a channel needs no classes, and tells nothing


@dataclass(frozen=True)
class Contexts:
    """One channel's: weights of the channels before it, and what its classes begin at."""

    own: tuple[int, ...] = ()
    around: tuple[int, ...] = ()
    limits: tuple[int, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.limits) + 1


class Activity:
    """The activity of images [N, h, w] in the channels that are coded so far."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.own: list[np.ndarray] = []  # int64 [N · h · w] each
        self.around: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Add the next channel's values, int32 in the order of the shape."""
        magnitudes = np.minimum(np.abs(values.reshape(self.shape).astype(np.int64)), LARGE)
        padded = np.pad(magnitudes, [(0, 0), (1, 1), (1, 1)])
        height, width = self.shape[1:]
        totals = sum(padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
        self.own.append(magnitudes.ravel())
        self.around.append((totals - magnitudes).ravel())

    def classes(self, contexts: Contexts) -> np.ndarray:
        """Classes of the places of the next channel, int64 [N · h · w]."""
        activity = np.zeros(int(np.prod(self.shape)), np.int64)
        for weights, features in ((contexts.own, self.own), (contexts.around, self.around)):
            for weight, feature in zip(weights, features, strict=True) if weights else ():
                if weight:
                    activity += weight * feature
        return np.searchsorted(np.array(contexts.limits, np.int64), activity, side="right")


def fitted(activity: Activity, values: np.ndarray, telling: Sequence[int], classes: int) -> Contexts:
    """The contexts of the next channel, fitted to its `values` in training images; only by the channels `telling`."""
    from scipy.optimize import nnls

    magnitudes = np.minimum(np.abs(values.ravel()), LARGE).astype(np.float64)
    if not telling or magnitudes.mean() < SILENT or classes == 1:
        return Contexts()
    stacked = [by_channel[d] for by_channel in (activity.own, activity.around) for d in telling]
    features = np.stack(stacked).astype(np.float64)
    products = features @ features.T / len(magnitudes)
    root = np.linalg.cholesky(products + RIDGE * np.trace(products) / len(products) * np.eye(len(products)))
    target = np.linalg.solve(root, features @ magnitudes / len(magnitudes))
    coefficients = nnls(root.T, target, maxiter=100 * len(products))[0]
    if not coefficients.any():
        return Contexts()
    weights = np.zeros((2, len(activity.own)), np.int64)
    weights[:, list(telling)] = np.round(FINEST * coefficients / coefficients.max()).astype(np.int64).reshape(2, -1)
    own, around = (tuple(row.tolist()) for row in weights)
    guessed = np.sort(weights[0] @ np.stack(activity.own) + weights[1] @ np.stack(activity.around))
    places = (len(guessed) * (1 - SHARE ** np.arange(1, classes))).astype(int)
    limits = np.unique(guessed[places])
    return Contexts(own, around, tuple(limits[limits > guessed[0]].tolist()))
