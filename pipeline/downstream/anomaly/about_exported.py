"""What the report of an anomaly job says of the detector that stays: figures of that one, and of no other."""

from __future__ import annotations

from pipeline.downstream.anomaly.export import Exported
from pipeline.reports.report import Table
from pipeline.scoring import thresholds

TITLE = "The detector that stays"
ALL = "anomalies"


def caveat(exported: Exported | str) -> str:
    """Why there is none, or that its threshold guarantees less than asked for; may be empty."""
    if isinstance(exported, str):
        return exported
    if exported.promised is None or exported.promised <= exported.asked:
        return ""
    return (
        f"The detector that is left for new rows may flag {exported.promised:.1%} of normal ones, not "
        f"{exported.asked:.1%}: {exported.held_out} held out promise no more; raise data.split.validation."
    )


def sentence(exported: Exported) -> str:
    """Its promise, and what it flags of rows that it has not seen."""
    low, high = exported.interval
    flagged, normal = exported.normal
    seen = "there are no normal test rows to try it on"
    if normal:
        seen = f"of {normal:,} normal test rows it flags {_share(flagged, normal)}"
    caught, anomalies = exported.caught
    of_anomalies = f", and of {anomalies:,} anomalies {_share(caught, anomalies)}" if anomalies else ""
    learned = (
        f" Left out: {exported.learned:,} test rows equal to ones it has learned from." if exported.learned else ""
    )
    return (
        f"The detector that stays was asked for {exported.asked:.2%} false alarms; drawn by {exported.held_out:,} "
        f"normal rows held out, its threshold flags {low:.2%} to {high:.2%} of rows like them (95 %): "
        f"{seen}{of_anomalies}.{learned}"
    )


def table(exported: Exported) -> Table:
    """What it flags of the test rows, by label, with 95 % intervals."""
    groups = {"normal rows": exported.normal}
    if len(exported.anomalies) > 1:
        groups |= {"all anomalies": exported.caught}
    groups |= exported.anomalies
    rows = []
    for name, (flagged, count) in groups.items():
        if count:
            low, high = thresholds.of_share(flagged, count)
            rows.append([name, f"{count:,}", f"{flagged:,}", f"{flagged / count:.2%}", f"{low:.2%} to {high:.2%}"])
    return Table(TITLE, ["test rows", "rows", "flagged", "share", "95 % interval"], rows)


def numbers(exported: Exported) -> dict[str, float]:
    """Shares of normal rows and of anomalies that it flags, and the interval of the former that its threshold has."""
    low, high = exported.interval
    rates = {"detector/false_alarms_low": low, "detector/false_alarms_high": high}
    for name, (flagged, count) in (("false_alarms", exported.normal), ("recall", exported.caught)):
        if count:
            rates[f"detector/{name}"] = flagged / count
    return rates


def _share(flagged: int, count: int) -> str:
    low, high = thresholds.of_share(flagged, count)
    return f"{flagged / count:.2%} ({low:.2%} to {high:.2%})"
