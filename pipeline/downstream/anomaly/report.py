"""The report of an anomaly job: its tables, figures and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.downstream.anomaly import about_exported, images, kinds
from pipeline.downstream.anomaly import reasons as anomaly_reasons
from pipeline.downstream.anomaly.baselines import BATCHED
from pipeline.downstream.anomaly.export import Exported
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, RECALL, Measurements
from pipeline.downstream.anomaly.networks import Detector
from pipeline.downstream.anomaly.rows import Draw, Pool, ScaledRows
from pipeline.gate import DETECTOR as KIND
from pipeline.gate import Candidate
from pipeline.reports import detection
from pipeline.reports.report import Figure, Report, Table
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.row_reasons import RowInputs
from training.inference.anomaly import Scorer, Usual

ChosenDetectors = list[tuple[Detector, list[tuple[str, float]]]]
METRICS = (AUROC, AVERAGE_PRECISION, RECALL)


@dataclass(frozen=True)
class FirstSplit:
    """The first split of the first detector: what figures show."""

    rows: ScaledRows
    draw: Draw
    detector: Detector
    scorer: Scorer
    scores: np.ndarray  # of the test rows
    thresholds: dict[str, float]
    usual: Usual


def build(
    job: Config,
    pool: Pool,
    chosen: ChosenDetectors,
    measured: Measurements,
    shown: FirstSplit,
    exported: Exported | str,
    out_dir: Path,
) -> Report:
    """Draws into `out_dir/figures`. exported: the detector that stays, or why there is none."""
    folder = out_dir / "figures"
    reasons, why = _reasons(job, pool, shown, folder)
    tables, verdict, numbers = [], [], dict[str, float]()
    if pool.anomalous.any():
        judged = [detector.judged_by for detector, _ in chosen]
        others = [name for name in measured.values if ": " not in name and "marked" not in name and BATCHED not in name]
        best = max(others, key=measured.mean, default=None)
        columns = ["method", "AUROC", "average precision", f"recall at {100 * job.false_alarms:.3g} % false alarms"]
        tables += [Table("Methods", columns, [_row(name, measured, name in judged) for name in measured.values])]
        verdict += [_verdict(judged, best, measured) + kinds.verdict(judged, best, measured)]
        numbers |= _numbers(judged, best, measured) | kinds.numbers(judged[0], measured)
        figures = _figures(job, judged, measured, shown, folder)
        last = kinds.tables(pool.kinds, judged, measured)
    else:
        verdict += ["No row is an anomaly by its label, so there is no AUROC, and no method is compared with another."]
        figures, last = [_histogram(shown, chosen[0][0].judged_by, folder)], []
    if isinstance(exported, Exported):
        tables.append(about_exported.table(exported))
        verdict.append(about_exported.sentence(exported))
        numbers |= about_exported.numbers(exported)
    verdict.append(about_exported.caveat(exported))
    return Report(
        title=job.name,
        about=_about(job, pool, shown.draw, measured),
        tables=[*tables, *_tables(job, chosen, measured, reasons), *last],
        figures=[*figures, Figure(why, f"{why}.png")],
        verdict=" ".join(filter(None, verdict)),
        numbers=numbers,
        candidates=[] if isinstance(exported, str) else [Candidate(KIND, "", DETECTOR, AUROC, {"normal": job.normal})],
        notes={
            "task": job.task,
            "methods": {name: dict(values) for name, values in measured.values.items()},
            "reasons": reasons,
        },
    )


def _about(job: Config, pool: Pool, draw: Draw, measured: Measurements) -> str:
    anomalies = int(pool.anomalous.sum())
    if not anomalies:
        return (
            f"{len(pool.anomalous):,} rows without duplicates, all of them taken as normal; {job.seeds} splits. In "
            f"each, {len(draw.learn):,} rows to learn from, {len(draw.held_out):,} held out for thresholds, and "
            f"{len(draw.test):,} to test on." + (f" {job.note}" if job.note else "")
        )
    mixed = "no anomaly among them"
    if job.contamination:
        mixed = f"{job.contamination:.1%} of them all anomalies that nobody marked"
        trimming = [f"{rival.name} {rival.trim * job.contamination:.1%}" for rival in job.detectors if rival.trim]
        if trimming:
            mixed += (
                "; given that share and no more, some leave rows out before they learn, those most unusual to a "
                f"network that learned from the more usual half: {', '.join(trimming)}"
            )
    scaled = "" if isinstance(pool.rows, np.ndarray) else "Columns are scaled by the rows learned from. "
    torn = f" and {pool.torn:,} rows whose input is there as normal and as an anomaly" if pool.torn else ""
    return (
        f"{len(pool.anomalous) - anomalies:,} normal rows and {anomalies:,} anomalies, without duplicates{torn}; mean "
        f"± standard deviation over {job.seeds} splits. In each, {len(draw.learn):,} rows to learn from and "
        f"{len(draw.held_out):,} held out for thresholds ({mixed}), "
        f"and {len(draw.test):,} to test on, {np.mean(measured.base_rates):.1%} of them anomalies: what average "
        f"precision is by chance. {scaled}Settings are the same for all splits; "
        f"where there are candidates, held-out normal rows alone chose.{by_time(pool, draw)} "
        "Methods other than ours have their libraries' "
        f"settings and learn from the held-out rows too. {_marked(job, pool)} No score depends on other test rows, "
        f"but for those marked{BATCHED}, which published figures are of." + (f" {job.note}" if job.note else "")
    )


def by_time(pool: Pool, draw: Draw) -> str:
    """How many of the anomalies tested are of a time before that of the normal rows tested, in words."""
    if pool.times is None:
        return ""
    times, truth = pool.times[draw.test], draw.truth
    earlier = int((times[truth] < times[~truth].min()).sum())
    return (
        f" Splits are by time: {earlier:,} of the {int(truth.sum()):,} anomalies tested are earlier than the first "
        "normal row tested; our detectors and the other methods learned from none of them."
    )


def _marked(job: Config, pool: Pool) -> str:
    """What binary classifiers were given, in words."""
    few = [count for count in job.marked if count not in pool.marked]
    if few:
        too_few = f"There are too few anomalies to mark {' or '.join(map(str, few))} of them."
        if not pool.marked:
            return too_few
        return f"{too_few} {_marked(job.model_copy(update={'marked': pool.marked}), pool)}"
    if job.known_kinds:
        return (
            f"Plain classifiers were given a few anomalies of {job.known_kinds} of the {len(pool.kinds)} kinds "
            f"({', '.join(pool.kinds)}), others in each split; the rest is new to them."
        )
    return (
        "Plain classifiers were given a few anomalies of the kinds that they are tested on, which new kinds would not "
        "be."
    )


def _row(name: str, measured: Measurements, judged: bool) -> list[str]:
    cells = [measured.mean_and_spread(name, metric) for metric in METRICS]
    return [f"**{name}**" if judged else name, *cells]


def _tables(job: Config, chosen: ChosenDetectors, measured: Measurements, reasons: list[dict[str, Any]]) -> list[Table]:
    """All tables but the first."""
    rows = []
    for (name, how), shares in measured.flagged.items():
        (normal, anomalies), (normal_std, anomalies_std) = np.mean(shares, 0), np.std(shares, 0)
        caught = "–" if np.isnan(anomalies) else f"{anomalies:.1%} ± {anomalies_std:.1%}"
        rows.append([name, how, f"{normal:.2%} ± {normal_std:.2%}", caught])
    columns = ["score", "threshold", "normal rows flagged", "anomalies flagged"]
    tables = [Table(f"Thresholds for {100 * job.false_alarms:.3g} % false alarms", columns, rows)]
    for detector, tried in chosen:
        if tried:
            rows = [[f"**{name}**" if name == detector.network else name, f"{loss:.4g}"] for name, loss in tried]
            columns = ["network", "loss on held-out normal rows"]
            tables.append(Table(f"Candidates of {detector.name}", columns, rows))
    if reasons and "columns" in reasons[0]:
        rows = [
            [row["row"], row["label"], f"{row['score']:.4g}", anomaly_reasons.sentence(row["columns"])]
            for row in reasons
        ]
        tables.append(Table("The most unusual rows of the first split", ["row", "label", "score", "why"], rows))
    return tables


def _reasons(job: Config, pool: Pool, shown: FirstSplit, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Reasons for the test rows with the highest scores, and the name of the figure, for images reconstructions."""
    top = np.argsort(-shown.scores, kind="stable")[: job.shown]
    rows = shown.draw.test[top]
    values = shown.rows.within[rows]
    shown_rows: list[dict[str, Any]] = [
        dict(zip(("row", "label"), pool.named(int(row)), strict=True)) | {"score": float(score)}
        for row, score in zip(rows, shown.scores[top], strict=True)
    ]
    if shown.rows.transform is None or not isinstance(pool.rows, pa.RecordBatch):
        test, threshold = shown.rows.inputs[shown.draw.test], next(iter(shown.thresholds.values()))
        score = shown.detector.score
        groups = images.groups(test, shown.draw.truth, shown.scores, threshold, shown.scorer, score, job.shown)
        images.draw(groups, score, folder / "reconstructions.png")
        return shown_rows, "reconstructions"
    inputs = RowInputs(values, shown.rows.outside[rows], pool.rows.take(pa.array(rows)))
    plain = shown.scorer.scores(values, job.importance_samples)[shown.detector.score]
    explained = anomaly_reasons.explain(inputs, plain, shown.scorer, shown.rows.transform, shown.usual)
    for row, columns in zip(shown_rows, explained, strict=True):
        row["columns"] = columns
    bars = [
        (f"{row['row'].rpartition('/')[2]} ({row['label']})", [(c["column"], c["share"]) for c in row["columns"]])
        for row in shown_rows
    ]
    detection.reasons(bars, folder / "reasons.png")
    return shown_rows, "reasons"


def _figures(job: Config, judged: list[str], measured: Measurements, shown: FirstSplit, folder: Path) -> list[Figure]:
    methods = [name for name in measured.values if name in judged or (": " not in name and BATCHED not in name)]
    rate = float(np.mean(measured.base_rates))
    detection.areas(
        {name: measured.mean(name) for name in methods},
        {name: measured.spread(name) for name in methods},
        judged,
        folder / "auroc.png",
    )
    methods = [name for name in methods if "marked" not in name]
    over = f"(test, mean of {job.seeds} splits)"
    detection.curves(
        {name: measured.roc(name) for name in methods},
        judged, f"ROC {over}", "share of normal rows flagged", "share of anomalies flagged", folder / "roc.png",
    )  # fmt: skip
    detection.curves(
        {name: measured.precision_recall(name) for name in methods},
        judged, f"Precision and recall {over}", "recall", "precision", folder / "precision-recall.png", rate,
    )  # fmt: skip
    files = {"AUROC": "auroc.png", "ROC": "roc.png", "precision": "precision-recall.png"}
    figures = [*(Figure(title, file) for title, file in files.items()), _histogram(shown, judged[0], folder)]
    if job.known_kinds:
        detection.known_and_new(kinds.areas(measured, judged), judged, folder / "kinds.png")
        figures.append(Figure("kinds", "kinds.png"))
    return figures


def _histogram(shown: FirstSplit, judged_by: str, folder: Path) -> Figure:
    title = "Scores of test rows (first split)"
    detection.histogram(shown.scores, shown.draw.truth, shown.thresholds, title, judged_by, folder / "scores.png")
    return Figure("scores", "scores.png")


def _verdict(judged: list[str], best: str | None, measured: Measurements) -> str:
    def result(name: str) -> str:
        return f"{name} has an AUROC of {measured.mean_and_spread(name)}"

    if best is None:
        return "; ".join(map(result, judged)) + "."
    beside = []
    for ours in judged:
        paired = _paired(ours, best, measured)
        higher = f"higher on {int((paired > 0).sum())} of {len(paired)}"
        beside.append(
            f"{result(ours)} ({100 * paired.mean():+.2f} ± {100 * paired.std():.2f} on the same splits, {higher})"
        )
    return (
        f"Beside {best}, the best method without our networks ({measured.mean_and_spread(best)}), {'; '.join(beside)}."
    )


def _paired(ours: str, other: str, measured: Measurements) -> np.ndarray:
    return np.subtract(measured.values[ours][AUROC], measured.values[other][AUROC])


def _numbers(judged: list[str], best: str | None, measured: Measurements) -> dict[str, float]:
    ours = judged[0]
    numbers = {f"{metric}/ours": measured.mean(ours, metric) for metric in METRICS}
    numbers |= {f"{AUROC}/ours_std": measured.spread(ours), "base_rate": float(np.mean(measured.base_rates))}
    for other in judged[1:]:
        numbers[f"{AUROC}/{other.partition(':')[0]}"] = measured.mean(other)
    for (name, how), shares in measured.flagged.items():
        if name == ours:
            slug = how.replace(",", "").replace(" ", "_")
            numbers[f"false_alarms/{slug}"], numbers[f"recall/{slug}"] = np.mean(shares, 0).tolist()
    if best is not None:
        paired = _paired(ours, best, measured)
        numbers[f"{AUROC}/best_baseline"] = measured.mean(best)
        numbers[f"{AUROC}/over_best_baseline"] = float(paired.mean())
    return numbers
