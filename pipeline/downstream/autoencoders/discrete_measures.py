"""Measures of discrete codes: usage, information about attributes, agreement with classes."""

from __future__ import annotations

import numpy as np

PIXEL = 1e-6  # of brightness: an empty image has no place


def counts_of(codes: np.ndarray, size: int) -> np.ndarray:
    """[P, K]: counts of each value at each place; codes [N, P] in 0 … K − 1."""
    return np.stack([np.bincount(column, minlength=size) for column in codes.T])


def unchanging(codes: np.ndarray) -> int:
    """Columns of codes [N, P] that are the same in every row."""
    return int((codes == codes[0]).all(0).sum())


def perplexity(counts: np.ndarray) -> np.ndarray:
    """exp(−Σ p log p) of counts [..., K]: how many equally frequent values would be as varied."""
    return np.exp2(entropy(counts))


def entropy(counts: np.ndarray) -> np.ndarray:
    """In bits, of counts [..., K]."""
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return -(shares * np.log2(np.maximum(shares, 1e-300))).sum(-1)


def mutual_information(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """In bits, between each column of codes [N, P] and an attribute [N]; both whole numbers from 0.

    The estimate from a sample is (K − 1)(V − 1) / (2 N ln 2) bits too large on average (Miller 1955); this bias is
    subtracted, and the result is at least 0.
    """
    attribute = np.unique(values, return_inverse=True)[1]
    information = []
    for column in codes.T:
        code = np.unique(column, return_inverse=True)[1]
        joint = np.zeros((code.max() + 1, attribute.max() + 1))
        np.add.at(joint, (code, attribute), 1)
        chance = (joint.shape[0] - 1) * (joint.shape[1] - 1) / (2 * len(values) * np.log(2))
        bits = entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint.ravel())
        information.append(max(0.0, float(bits - chance)))
    return np.array(information)


def attributes(images: np.ndarray | None, labels: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """What a bit could mean, yes or no for each row [N]: each class, and of images [N, C, H, W] more than the median
    of ink, width, height, lean (of the bright part's second moments) and of how high and how far right it lies."""
    classes = {f"is {names[label]}": labels == label for label in np.unique(labels) if label >= 0}
    if images is None:
        return classes
    light = images.mean(1).astype(np.float64)
    ink = light.sum((1, 2))
    y, x = np.mgrid[: light.shape[1], : light.shape[2]]
    weights = light / np.maximum(ink, PIXEL)[:, None, None]

    def mean(of: np.ndarray) -> np.ndarray:
        return (weights * of).sum((1, 2))

    from_left, from_top = mean(x), mean(y)
    across, down = x - from_left[:, None, None], y - from_top[:, None, None]
    measured = {
        "much ink": ink,
        "wide": mean(across**2),
        "tall": mean(down**2),
        "leaning right": -mean(across * down),
        "low": from_top,
        "far right": from_left,
    }
    return classes | {name: values > np.median(values) for name, values in measured.items()}


def matched(codes: np.ndarray, labels: np.ndarray, size: int) -> tuple[float, np.ndarray]:
    """Share of rows right if every code is the class it is best matched with, one to one (Hungarian method), and the
    table of counts [K, classes]; codes and labels [N]."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((size, int(labels.max()) + 1))
    np.add.at(table, (codes, labels), 1)
    return float(table[linear_sum_assignment(-table)].sum() / len(codes)), table
