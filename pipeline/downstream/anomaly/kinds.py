"""Results by kind of anomaly: kinds that classifiers were trained on, and new ones.

A classifier learns to tell normal rows from the anomalies it was given, and may miss anomalies that differ in other
ways. A method that only learned from normal rows does not depend on the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.downstream.anomaly.baselines import BATCHED
from pipeline.downstream.anomaly.measures import KNOWN, NEW, Measurements
from pipeline.reports.report import Table

MARKED = " marked"  # ends the names of classifiers
MOST_KINDS = 12  # columns of a table


def classifiers(measured: Measurements) -> list[str]:
    """Methods that were given labelled anomalies."""
    return [name for name in measured.values if name.endswith(MARKED)]


def areas(measured: Measurements, judged: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Mean AUROC on (known, new) kinds of our `judged` scores and of every baseline."""
    chosen = [name for name in measured.values if name in judged or (": " not in name and BATCHED not in name)]
    return {name: (measured.mean(name, KNOWN), measured.mean(name, NEW)) for name in chosen}


def tables(kinds: Sequence[str], judged: Sequence[str], measured: Measurements) -> list[Table]:
    """A table of known and new kinds, if some were new, and one of each kind, if there are several."""
    kind_tables: list[Table] = []

    def called(name: str) -> str:
        return f"**{name}**" if name in judged else name

    if any(KNOWN in values for values in measured.values.values()):
        rows = [
            [
                called(name),
                *(measured.mean_and_spread(name, metric) for metric in (KNOWN, NEW)),
            ]
            for name in areas(measured, judged)
        ]
        columns = ["method", "AUROC, kinds that were marked", "AUROC, new kinds"]
        kind_tables.append(Table("Kinds of anomalies that classifiers were given, and new ones", columns, rows))
    if 1 < len(kinds) <= MOST_KINDS:
        rows = [
            [called(name), *(_of_kind(name, kind, measured) for kind in kinds)]
            for name in measured.by_kind
            if name in judged or (": " not in name and BATCHED not in name)
        ]
        title = "AUROC of each kind (of classifiers: where it is new, if kinds are)"
        kind_tables.append(Table(title, ["method", *kinds], rows))
    return kind_tables


def _of_kind(method: str, kind: str, measured: Measurements) -> str:
    """Mean AUROC over the splits; for a classifier over those where the kind is new, if there are any."""
    by_split = measured.by_kind[method].get(kind, [])
    if method in classifiers(measured):
        by_split = [(area, is_known) for area, is_known in by_split if not is_known] or by_split
    return f"{100 * np.mean([area for area, _ in by_split]):.1f}" if by_split else "–"


def verdict(judged: Sequence[str], best: str | None, measured: Measurements) -> str:
    """A sentence about new kinds; empty where none were new."""
    methods = classifiers(measured)
    if not methods or KNOWN not in measured.values[methods[0]]:
        return ""
    best_classifier = max(methods, key=lambda name: measured.mean(name, KNOWN))
    others = [name for name in (*judged, best) if name is not None]
    beside = ", ".join(f"{name} {100 * measured.mean(name, NEW):.2f}" for name in others)
    return (
        f" Of the classifiers, {best_classifier} is best on kinds of anomalies that it was given, with "
        f"{100 * measured.mean(best_classifier, KNOWN):.2f}; on new kinds it has "
        f"{100 * measured.mean(best_classifier, NEW):.2f}, where "
        f"methods that were given none have: {beside}."
    )


def numbers(ours: str, measured: Measurements) -> dict[str, float]:
    """Metrics of known and new kinds; empty where none were new."""
    methods = classifiers(measured)
    if not methods or KNOWN not in measured.values[methods[0]]:
        return {}
    best_classifier = max(methods, key=lambda name: measured.mean(name, KNOWN))
    logged = {}
    for name, slug in ((ours, "ours"), (best_classifier, "classifier")):
        logged[f"auroc/{slug}_known_kinds"] = measured.mean(name, KNOWN)
        logged[f"auroc/{slug}_new_kinds"] = measured.mean(name, NEW)
    return logged
