"""How well unusual rows are told from normal ones, by auto-encoders and by methods without a network of ours.

For every seed: rows are drawn (`anomaly_rows`), scaled by those that are learned from, and every method is fitted and
scored on the same test rows, so that differences are paired. Nothing is chosen here by an anomaly: settings are the
recipe's for all seeds (how they came about is for its `note` to say), candidates are told apart by held-out normal
rows, thresholds are drawn by those. Plain classifiers, which are given a few marked anomalies, show what these are
worth.

Baselines learn from all rows that are given as normal; our networks leave out `threshold_share` of them, by which
thresholds are drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifact import Artifact
from pipeline.downstream.anomaly import baselines
from pipeline.downstream.anomaly.export import export
from pipeline.downstream.anomaly.measures import Measured
from pipeline.downstream.anomaly.networks import Detector, choose, detectors, seed_of
from pipeline.downstream.anomaly.report import Shown, report
from pipeline.downstream.anomaly.rows import Draw, Pool, Scaled
from pipeline.downstream.anomaly.trimming import least
from pipeline.recipe.jobs.autoencoders import AnomalyConfig
from pipeline.scoring import thresholds
from pipeline.scoring.champion import DETECTOR
from pipeline.stage import Context
from training.inference.anomaly import Scorer

Scores = dict[str, np.ndarray]


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    job = AnomalyConfig.model_validate(config["job"])
    context.progress("reading rows")
    pool = Pool(inputs["corpus"].path, job, config["seed"])
    taken = [choose(detectors(config, asked, context), pool, config, context) for asked in job.detectors]
    measured, shown = Measured(job.false_alarms), None
    for number in range(job.seeds):
        draw = pool.draw(number)
        rows = pool.scaled(draw.learn, config["transform"])
        for detector, _ in taken:
            context.progress(f"split {number + 1} of {job.seeds}: {detector.name}", number / job.seeds)
            seed = seed_of(config, detector, number)
            scorer = detector.scorer(rows.inputs[draw.learn], seed, job.contamination)
            found, lines = _judged(detector, scorer, rows, draw, job, pool, measured)
            shown = shown or Shown(rows, draw, detector, scorer, found, lines)
        context.progress(f"split {number + 1} of {job.seeds}: baselines", (number + 0.5) / job.seeds)
        _measure(measured, _others(job, rows, draw, number), pool, draw)
        measured.base_rates.append(float(draw.truth.mean()))
    assert shown is not None
    context.progress("training the detector that stays")
    caveat = export(taken[0][0], config, job, inputs, out_dir / DETECTOR)
    if caveat:
        context.progress("the detector that stays", warning=caveat)
    made = report(job, pool, taken, measured, shown, out_dir)
    return {**made, "verdict": f"{made['verdict']} {caveat}".rstrip()}


def _judged(
    detector: Detector, scorer: Scorer, rows: Scaled, draw: Draw, job: AnomalyConfig, pool: Pool, measured: Measured
) -> tuple[np.ndarray, dict[str, float]]:
    """Measure one of ours on a split; returns the test rows' scores that it is judged by, and thresholds of them."""
    found = scorer.scores(rows.inputs[draw.test], job.importance_samples)
    _measure(measured, {f"{detector.name}: {name}": scores for name, scores in found.items()}, pool, draw)

    def judged(which: np.ndarray) -> np.ndarray:
        return scorer.scores(rows.inputs[which], job.importance_samples)[detector.score]

    normal = judged(draw.held_out)
    lines = {
        "by quantile": thresholds.by_quantile(normal, job.false_alarms).value,
        "by tail": thresholds.by_tail(normal, job.false_alarms).value,
    }
    if detector.trim and job.contamination:  # as if the anomalies among these rows had the highest scores of all
        trimmed = normal[least(normal, job.contamination)]
        lines["by quantile, trimmed"] = thresholds.by_quantile(trimmed, job.false_alarms).value
    if len(draw.marked):
        labels = np.repeat([False, True], [len(normal), len(draw.marked)])
        lines["by labels"] = thresholds.by_labels(np.concatenate([normal, judged(draw.marked)]), labels).value
    for how, line in lines.items():
        measured.flag(detector.judged_by, how, line, found[detector.score], draw.truth)
    return found[detector.score], lines


def _measure(measured: Measured, scores: Scores, pool: Pool, draw: Draw) -> None:
    measured.add(scores, draw.truth)
    if len(pool.kinds) > 1:
        measured.add_kinds(scores, draw.truth, pool.labels[draw.test], draw.known)


def _others(job: AnomalyConfig, rows: Scaled, draw: Draw, number: int) -> Scores:
    """Scores of the test rows by methods without a network of ours."""
    train, marked, test = (rows.flat[which] for which in (draw.train, draw.marked, draw.test))
    found: Scores = {}
    for name in job.baselines:
        for called, score in baselines.fit(name, train, number).items():
            found[called] = score(test)
    for count in job.marked:
        for name, score in baselines.classifiers(train, marked[:count], number).items():
            found[f"{name}, {count} marked"] = score(test)
    return found
