"""Drift of new rows from normal ones: PSI and Kolmogorov–Smirnov statistics, column by column.

    PSI = Σ_b (p_b − q_b) · ln(p_b / q_b),  p and q the shares of new and of normal rows in bin b
    KS  = max_x |F_new(x) − F_normal(x)|, here at the edges of the bins

Bins lie between quantiles of the normal rows, so that each holds an equal share of them; a frequent value has its own
bin. Half a row is added to every bin (Jeffreys), since empty bins have no logarithm. PSI below 0.1 counts as no change,
above 0.25 as a large one (Siddiqi 2006, Credit Risk Scorecards, chapter 5).

For few rows PSI is large by chance: without a change it is distributed approximately as (1/n + 1/m) · χ² with
B − 1 degrees of freedom, n and m the new and the normal rows (Yurdakul & Naranjo 2020). `chance` is what it exceeds in
one pass of a hundred in any column (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

BINS = 10
ATOM = 0.5 / BINS  # share of the normal rows from which on a value is a bin of its own
FALSE = 0.01  # passes without a change in which a column is beyond chance
SCORE = "score"  # the name under which scores are kept with columns


class Drift(NamedTuple):
    """Drift of one column."""

    psi: float
    ks: float
    chance: float
    """PSI that rows without a change rarely exceed."""

    def beyond(self, limit: float) -> bool:
        """Whether it drifted: by more than the limit, and more than chance explains."""
        return self.psi > max(limit, self.chance)


@dataclass(frozen=True)
class Baseline:
    """Histograms of normal rows: edges and counts of the bins of each column."""

    edges: dict[str, list[float]]
    counts: dict[str, list[int]]

    @staticmethod
    def of(columns: dict[str, np.ndarray]) -> Baseline:
        """Histograms of columns: values [R] by name, of the score and of features."""
        edges = {name: _edges(values) for name, values in columns.items()}
        return Baseline(edges, {name: _counts(columns[name], edges[name]).tolist() for name in columns})

    def count(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Counts in each bin, to be added up over batches."""
        return {name: _counts(columns[name], edges) for name, edges in self.edges.items()}

    def drift(self, counts: dict[str, np.ndarray]) -> dict[str, Drift]:
        """Drift by column, from sums of `count`."""

        def of(new: np.ndarray, normal: list[int]) -> Drift:
            return Drift(psi(new, normal), ks(new, normal), chance(new, normal, len(self.edges)))

        return {name: of(counts[name], self.counts[name]) for name in self.edges}

    def to_json(self) -> dict[str, Any]:
        return {"edges": self.edges, "counts": self.counts}

    @staticmethod
    def of_json(value: dict[str, Any]) -> Baseline:
        return Baseline(value["edges"], value["counts"])


def psi(new: np.ndarray | Sequence[int], normal: np.ndarray | Sequence[int]) -> float:
    """Population stability index of counts [B] in the same bins."""
    p, q = _shares(new), _shares(normal)
    return float(((p - q) * np.log(p / q)).sum())


def ks(new: np.ndarray | Sequence[int], normal: np.ndarray | Sequence[int]) -> float:
    """Largest difference of the two distribution functions at the bins' edges; 0 without rows."""
    a, b = (np.cumsum(np.asarray(counts, float)) for counts in (new, normal))
    return float(np.abs(a / max(a[-1], 1) - b / max(b[-1], 1)).max()) if a[-1] and b[-1] else 0.0


def chance(new: np.ndarray | Sequence[int], normal: np.ndarray | Sequence[int], columns: int) -> float:
    """PSI of counts [B] that is exceeded in one of `columns` by chance, with probability FALSE; 0 without rows."""
    from scipy.stats import chi2

    counts = np.asarray([new, normal], float)
    rows, bins = counts.sum(1), int(counts.any(0).sum())
    return float(chi2.isf(FALSE / columns, bins - 1) * (1 / rows).sum()) if rows.all() and bins > 1 else 0.0


def _shares(counts: np.ndarray | Sequence[int]) -> np.ndarray:
    smoothed = np.asarray(counts, float) + 0.5
    return smoothed / smoothed.sum()


def _edges(values: np.ndarray) -> list[float]:
    """Between bins of equal shares; on both sides of a value that many rows have."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    atoms = edges[(values[:, None] == edges).mean(0) >= ATOM]
    return np.union1d(edges, np.nextafter(atoms, -np.inf)).tolist()


def _counts(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """[len(edges) + 1]: a value on an edge is in the bin below it."""
    return np.bincount(np.searchsorted(np.asarray(edges), values, side="left"), minlength=len(edges) + 1)
