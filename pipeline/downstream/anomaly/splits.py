"""Trains and tests every method on the splits of an anomaly job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifact import Artifact
from pipeline.downstream.anomaly import about_exported, baselines
from pipeline.downstream.anomaly.export import export
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.measures import Measurements
from pipeline.downstream.anomaly.networks import Detector, choose, detectors, seed_of
from pipeline.downstream.anomaly.report import FirstSplit, build
from pipeline.downstream.anomaly.rows import Draw, Pool, ScaledRows
from pipeline.downstream.anomaly.trimming import without_highest
from pipeline.reports.report import Report
from pipeline.scoring import thresholds
from pipeline.scoring.champion import DETECTOR
from pipeline.stage import Context
from training.inference.anomaly import Scorer, Usual

Scores = dict[str, np.ndarray]


def evaluate(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """See `pipeline.downstream.anomaly.job.run`."""
    context.progress("reading rows")
    pool = Pool(inputs["corpus"].path, job, settings["seed"])
    chosen = [choose(detectors(settings, config, context), pool, settings, context) for config in job.detectors]
    measured, shown = Measurements(job.false_alarms), list[FirstSplit]()
    for number in range(job.seeds):
        draw = pool.draw(number)
        rows = pool.scaled(draw.learn, settings["transform"])
        for detector, _ in chosen:
            context.progress(f"split {number + 1} of {job.seeds}: {detector.name}", number / job.seeds)
            seed = seed_of(settings, detector, number)
            scorer = detector.scorer(rows.inputs[draw.learn], seed, job.contamination)
            scores, limits, usual = _judged(detector, scorer, rows, draw, job, pool, measured)
            if not shown:
                shown.append(FirstSplit(rows, draw, detector, scorer, scores, limits, usual))
        if draw.truth.any():
            context.progress(f"split {number + 1} of {job.seeds}: baselines", (number + 0.5) / job.seeds)
            _measure(measured, _others(pool, rows, draw, number), pool, draw)
        measured.base_rates.append(float(draw.truth.mean()))
    context.progress("training the detector that stays")
    exported = export(chosen[0][0], settings, job, inputs, out_dir / DETECTOR)
    if caveat := about_exported.caveat(exported):
        context.progress("the detector that stays", warning=caveat)
    return build(job, pool, chosen, measured, shown[0], exported, out_dir)


def _judged(
    detector: Detector, scorer: Scorer, rows: ScaledRows, draw: Draw, job: Config, pool: Pool, measured: Measurements
) -> tuple[np.ndarray, dict[str, float], Usual]:
    """Measure one of our detectors on a split; returns its scores of the test rows, thresholds, and the range of the
    scores of normal rows before they are raised for what lies outside."""

    def plain(which: np.ndarray) -> Scores:
        return scorer.scores(rows.within[which], job.importance_samples)

    of_learned, of_held_out = plain(draw.learn), plain(draw.held_out)
    outside = [rows.outside[which] for which in (draw.learn, draw.held_out)]
    usual = {name: Usual.of(*zip((of_learned[name], of_held_out[name]), outside, strict=True)) for name in of_learned}

    def raised(scores: Scores, which: np.ndarray) -> Scores:
        return {name: usual[name].raised(values, rows.outside[which]) for name, values in scores.items()}

    scores = raised(plain(draw.test), draw.test)
    if draw.truth.any():
        _measure(measured, {f"{detector.name}: {name}": values for name, values in scores.items()}, pool, draw)
    normal = raised(of_held_out, draw.held_out)[detector.score]
    limits = {
        "by quantile": thresholds.by_quantile(normal, job.false_alarms).value,
        "by tail": thresholds.by_tail(normal, job.false_alarms).value,
    }
    if detector.trim and job.contamination:  # assuming that the anomalies among these rows have the highest scores
        trimmed = normal[without_highest(normal, job.contamination)]
        limits["by quantile, trimmed"] = thresholds.by_quantile(trimmed, job.false_alarms).value
    if len(draw.marked):
        marked = raised(plain(draw.marked), draw.marked)[detector.score]
        labels = np.repeat([False, True], [len(normal), len(draw.marked)])
        limits["by labels"] = thresholds.by_labels(np.concatenate([normal, marked]), labels).value
    for how, threshold in limits.items():
        measured.flag(detector.judged_by, how, threshold, scores[detector.score], draw.truth)
    return scores[detector.score], limits, usual[detector.score]


def _measure(measured: Measurements, scores: Scores, pool: Pool, draw: Draw) -> None:
    measured.add(scores, draw.truth)
    if len(pool.kinds) > 1:
        measured.add_kinds(scores, draw.truth, pool.labels[draw.test], draw.known_kinds)


def _others(pool: Pool, rows: ScaledRows, draw: Draw, number: int) -> Scores:
    """Scores of the test rows by the baselines and classifiers."""
    train, marked, test = (rows.flat[which] for which in (draw.train, draw.marked, draw.test))
    scores: Scores = {}
    for name in pool.job.baselines:
        for label, score in baselines.fit(name, train, number).items():
            scores[label] = score(test)
    for count in pool.marked:
        for name, score in baselines.classifiers(train, marked[:count], number).items():
            scores[f"{name}, {count} marked"] = score(test)
    return scores
