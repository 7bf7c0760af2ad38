"""What an anomaly job tells: its tables, figures and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.downstream.anomaly import kinds, pictures
from pipeline.downstream.anomaly import reasons as anomaly_reasons
from pipeline.downstream.anomaly.baselines import BATCHED
from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, RECALL, Measured
from pipeline.downstream.anomaly.networks import Detector
from pipeline.downstream.anomaly.rows import Draw, Pool, Scaled
from pipeline.recipe.jobs.autoencoders import AnomalyConfig
from pipeline.reports import detection
from training.inference.anomaly import Scorer

Taken = list[tuple[Detector, list[tuple[str, float]]]]
METRICS = (AUROC, AVERAGE_PRECISION, RECALL)


@dataclass(frozen=True)
class Shown:
    """The first split of the first detector: what figures show."""

    rows: Scaled
    draw: Draw
    detector: Detector
    scorer: Scorer
    scores: np.ndarray  # of the test rows
    thresholds: dict[str, float]


def report(
    job: AnomalyConfig, pool: Pool, taken: Taken, measured: Measured, shown: Shown, out_dir: Path
) -> dict[str, Any]:
    """See `pipeline.downstream.job.run`."""
    judged = [detector.judged_by for detector, _ in taken]
    alone = [name for name in measured.values if ": " not in name and "marked" not in name and BATCHED not in name]
    best = max(alone, key=measured.mean, default=None)
    reasons, why = _reasons(job, pool, shown, out_dir / "figures")
    figures = _figures(job, judged, measured, shown, out_dir / "figures") | {why: f"{why}.png"}
    return {
        "title": job.name,
        "task": job.task,
        "about": _about(job, pool, shown.draw, measured),
        "heads": ["method", "AUROC", "average precision", f"recall at {100 * job.false_alarms:.3g} % false alarms"],
        "rows": [_row(name, measured, name in judged) for name in measured.values],
        "tables": _tables(job, taken, measured, reasons) | kinds.tables(pool.kinds, judged, measured),
        "figures": figures,
        "verdict": _verdict(judged, best, measured) + kinds.verdict(judged, best, measured),
        "found": {name: dict(of) for name, of in measured.values.items()},
        "reasons": reasons,
        "summary": _summary(judged, best, measured) | kinds.summary(judged[0], measured),
    }


def _about(job: AnomalyConfig, pool: Pool, draw: Draw, measured: Measured) -> str:
    anomalies = int(pool.anomalous.sum())
    mixed = "no anomaly among them"
    if job.contamination:
        mixed = f"{job.contamination:.1%} of them all anomalies that nobody marked"
        trimming = [f"{one.name} {one.trim * job.contamination:.1%}" for one in job.detectors if one.trim]
        if trimming:
            mixed += (
                "; told that share and no more, some leave rows out before they learn, those most unusual to a network "
                f"that learned from the more usual half: {', '.join(trimming)}"
            )
    scaled = "" if isinstance(pool.rows, np.ndarray) else "Columns are scaled by the rows learned from. "
    torn = f" and {pool.torn:,} rows whose input is there as normal and as an anomaly" if pool.torn else ""
    return (
        f"{len(pool.anomalous) - anomalies:,} normal rows and {anomalies:,} anomalies, without duplicates{torn}; mean "
        f"± standard deviation over {job.seeds} splits. In each, {len(draw.learn):,} rows to learn from and "
        f"{len(draw.held_out):,} held out for thresholds ({mixed}), "
        f"and {len(draw.test):,} to test on, {np.mean(measured.base_rates):.1%} of them anomalies: what average "
        f"precision is by chance. {scaled}Settings are the same for all splits; "
        "where there are candidates, held-out normal rows alone chose. Methods other than ours have their libraries' "
        f"settings and learn from the held-out rows too. {_marked(job, pool)} No score depends on other test rows, "
        f"but for those marked{BATCHED}, which published figures are of." + (f" {job.note}" if job.note else "")
    )


def _marked(job: AnomalyConfig, pool: Pool) -> str:
    """What plain classifiers were given."""
    if job.known_kinds:
        return (
            f"Plain classifiers were given a few anomalies of {job.known_kinds} of the {len(pool.kinds)} kinds "
            f"({', '.join(pool.kinds)}), others in each split; the rest is new to them."
        )
    return (
        "Plain classifiers were given a few anomalies of the kinds that they are tested on, which new kinds would not "
        "be."
    )


def _row(name: str, measured: Measured, judged: bool) -> list[str]:
    cells = [f"{100 * measured.mean(name, what):.2f} ± {100 * measured.spread(name, what):.2f}" for what in METRICS]
    return [f"**{name}**" if judged else name, *cells]


def _tables(
    job: AnomalyConfig, taken: Taken, measured: Measured, reasons: list[dict[str, Any]]
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Those beside the first, by title."""
    lines = []
    for (name, how), shares in measured.flagged.items():
        (wrong, right), (wrong_spread, right_spread) = np.mean(shares, 0), np.std(shares, 0)
        lines.append([name, how, f"{wrong:.2%} ± {wrong_spread:.2%}", f"{right:.1%} ± {right_spread:.1%}"])
    heads = ["score", "threshold", "normal rows flagged", "anomalies flagged"]
    tables = {f"Thresholds for {100 * job.false_alarms:.3g} % false alarms": (heads, lines)}
    for detector, tried in taken:
        if tried:
            rows = [[f"**{name}**" if name == detector.network else name, f"{loss:.4g}"] for name, loss in tried]
            tables[f"Candidates of {detector.name}"] = (["network", "loss on held-out normal rows"], rows)
    if reasons and "columns" in reasons[0]:
        rows = [
            [one["row"], one["label"], f"{one['score']:.4g}", anomaly_reasons.sentence(one["columns"])]
            for one in reasons
        ]
        tables["The most unusual rows of the first split"] = (["row", "label", "score", "why"], rows)
    return tables


def _reasons(job: AnomalyConfig, pool: Pool, shown: Shown, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Of the test rows with the highest scores, and the name of the figure: of pictures, what they are rebuilt as."""
    top = np.argsort(-shown.scores, kind="stable")[: job.shown]
    rows = shown.draw.test[top]
    values = shown.rows.inputs[rows]
    found: list[dict[str, Any]] = [
        dict(zip(("row", "label"), pool.named(int(row)), strict=True)) | {"score": float(score)}
        for row, score in zip(rows, shown.scores[top], strict=True)
    ]
    if shown.rows.transform is None:
        test, line, score = (
            shown.rows.inputs[shown.draw.test],
            next(iter(shown.thresholds.values())),
            shown.detector.score,
        )
        drawn = pictures.groups(test, shown.draw.truth, shown.scores, line, shown.scorer, score, job.shown)
        pictures.draw(drawn, score, folder / "reconstructions.png")
        return found, "reconstructions"
    raw = pool.rows
    assert isinstance(raw, pa.RecordBatch)
    told = anomaly_reasons.told(raw.take(pa.array(rows)), values, shown.scorer, shown.rows.transform)
    for one, columns in zip(found, told, strict=True):
        one["columns"] = columns
    bars = [
        (f"{one['row'].rpartition('/')[2]} ({one['label']})", [(c["column"], c["share"]) for c in one["columns"]])
        for one in found
    ]
    detection.reasons(bars, folder / "reasons.png")
    return found, "reasons"


def _figures(job: AnomalyConfig, judged: list[str], measured: Measured, shown: Shown, folder: Path) -> dict[str, str]:
    drawn = [name for name in measured.values if name in judged or (": " not in name and BATCHED not in name)]
    rate = float(np.mean(measured.base_rates))
    detection.areas(
        {name: measured.mean(name) for name in drawn},
        {name: measured.spread(name) for name in drawn},
        judged,
        folder / "auroc.png",
    )
    drawn = [name for name in drawn if "marked" not in name]
    over = f"(test, mean of {job.seeds} splits)"
    detection.curves(
        {name: measured.roc(name) for name in drawn},
        judged, f"ROC {over}", "share of normal rows flagged", "share of anomalies flagged", folder / "roc.png",
    )  # fmt: skip
    detection.curves(
        {name: measured.precision_recall(name) for name in drawn},
        judged, f"Precision and recall {over}", "recall", "precision", folder / "precision-recall.png", rate,
    )  # fmt: skip
    detection.histogram(
        shown.scores, shown.draw.truth, shown.thresholds, "Scores of test rows (first split)", judged[0],
        folder / "scores.png",
    )  # fmt: skip
    figures = {"AUROC": "auroc.png", "ROC": "roc.png", "precision": "precision-recall.png", "scores": "scores.png"}
    if job.known_kinds:
        detection.known_and_new(kinds.areas(measured, judged), judged, folder / "kinds.png")
        figures["kinds"] = "kinds.png"
    return figures


def _verdict(judged: list[str], best: str | None, measured: Measured) -> str:
    def told(name: str) -> str:
        return f"{name} has an AUROC of {100 * measured.mean(name):.2f} ± {100 * measured.spread(name):.2f}"

    if best is None:
        return "; ".join(map(told, judged)) + "."
    beside = []
    for ours in judged:
        paired = _paired(ours, best, measured)
        higher = f"higher on {int((paired > 0).sum())} of {len(paired)}"
        beside.append(
            f"{told(ours)} ({100 * paired.mean():+.2f} ± {100 * paired.std():.2f} on the same splits, {higher})"
        )
    return (
        f"Beside {best}, the best method without our networks ({100 * measured.mean(best):.2f} ± "
        f"{100 * measured.spread(best):.2f}), {'; '.join(beside)}."
    )


def _paired(ours: str, other: str, measured: Measured) -> np.ndarray:
    return np.subtract(measured.values[ours][AUROC], measured.values[other][AUROC])


def _summary(judged: list[str], best: str | None, measured: Measured) -> dict[str, float]:
    ours = judged[0]
    found = {what: measured.mean(ours, what) for what in METRICS}
    found |= {"auroc_std": measured.spread(ours), "base_rate": float(np.mean(measured.base_rates))}
    for other in judged[1:]:
        found[f"{other.partition(':')[0]}_auroc"] = measured.mean(other)
    for (name, how), shares in measured.flagged.items():
        if name == ours:
            slug = how.replace(",", "").replace(" ", "_")
            found[f"false_alarms_{slug}"], found[f"recall_{slug}"] = np.mean(shares, 0).tolist()
    if best is not None:
        paired = _paired(ours, best, measured)
        found |= {"best_baseline_auroc": measured.mean(best), "auroc_over_best_baseline": float(paired.mean())}
    return found
