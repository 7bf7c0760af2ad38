"""Metrics of detectors on test rows, over several splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np

GRID = np.linspace(0, 1, 201)  # where curves of several splits are averaged
AUROC, AVERAGE_PRECISION, RECALL = "auroc", "average_precision", "recall_at_false_alarms"
KNOWN, NEW = "auroc_known_kinds", "auroc_new_kinds"


def recall_at(scores: np.ndarray, anomalous: np.ndarray, false_alarms: float) -> float:
    """Highest recall of a threshold that flags at most `false_alarms` of the normal rows; scores and labels [n]."""
    from sklearn.metrics import roc_curve

    wrong, right, _ = roc_curve(anomalous, scores, drop_intermediate=False)
    return float(right[wrong <= false_alarms].max())


class Measurements:
    """Metrics of every method over the same splits."""

    def __init__(self, false_alarms: float) -> None:
        self.false_alarms = false_alarms
        self.base_rates: list[float] = []
        self.values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.flagged: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        """Shares of normal rows and of anomalies above a threshold, by method and kind of threshold."""
        self.by_kind: dict[str, dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
        """By method and kind of anomaly: AUROC against normal rows, and whether the kind was known."""
        self._curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def add(self, scores: Mapping[str, np.ndarray], anomalous: np.ndarray) -> None:
        """Add a split: scores [n] of test rows by method, and which of them are anomalies."""
        from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

        for method, values in scores.items():
            figures = self.values[method]
            figures[AUROC].append(float(roc_auc_score(anomalous, values)))
            figures[AVERAGE_PRECISION].append(float(average_precision_score(anomalous, values)))
            figures[RECALL].append(recall_at(values, anomalous, self.false_alarms))
            wrong, right, _ = roc_curve(anomalous, values)
            precision, recall, _ = precision_recall_curve(anomalous, values)
            # A curve of steps, as average precision counts it: by the highest threshold that finds as many, and any.
            reached = np.searchsorted(recall[::-1], np.maximum(GRID, np.finfo(float).tiny))
            self._curves[method].append((np.interp(GRID, wrong, right), precision[::-1][reached]))

    def flag(self, method: str, how: str, threshold: float, scores: np.ndarray, anomalous: np.ndarray) -> None:
        """Add what a threshold flags among test rows with scores [n]; of no anomalies NaN."""
        above = scores > threshold
        caught = float(above[anomalous].mean()) if anomalous.any() else float("nan")
        self.flagged[method, how].append((float(above[~anomalous].mean()), caught))

    def add_kinds(
        self, scores: Mapping[str, np.ndarray], anomalous: np.ndarray, kinds: np.ndarray, known_kinds: Collection[str]
    ) -> None:
        """Add the AUROC of each kind of anomaly against all normal rows, and of all known and all new kinds.

        kinds [n]: labels of the test rows; known_kinds: kinds of the labelled anomalies, if not all.
        """
        is_known = np.isin(kinds, list(known_kinds))
        for method, values in scores.items():
            for kind in np.unique(kinds[anomalous]).tolist():
                area = _area(values, anomalous, kinds == kind)
                self.by_kind[method][kind].append((area, kind in known_kinds))
            if known_kinds:
                self.values[method][KNOWN].append(_area(values, anomalous, is_known))
                self.values[method][NEW].append(_area(values, anomalous, ~is_known))

    def mean(self, method: str, metric: str = AUROC) -> float:
        return float(np.mean(self.values[method][metric]))

    def spread(self, method: str, metric: str = AUROC) -> float:
        """Standard deviation over the splits."""
        values = self.values[method][metric]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def mean_and_spread(self, method: str, metric: str = AUROC) -> str:
        """Mean ± standard deviation over the splits, in per cent."""
        return f"{100 * self.mean(method, metric):.2f} ± {100 * self.spread(method, metric):.2f}"

    def roc(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """False alarms and recall, the latter averaged over the splits."""
        return GRID, np.mean([curve[0] for curve in self._curves[method]], 0)

    def precision_recall(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision, the latter averaged over the splits."""
        return GRID, np.mean([curve[1] for curve in self._curves[method]], 0)


def _area(scores: np.ndarray, anomalous: np.ndarray, chosen: np.ndarray) -> float:
    """AUROC of all normal rows against the chosen anomalies."""
    from sklearn.metrics import roc_auc_score

    rows = ~anomalous | chosen
    return float(roc_auc_score(anomalous[rows], scores[rows]))
