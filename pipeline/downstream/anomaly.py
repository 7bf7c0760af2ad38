"""How well unusual rows are told from normal ones, by auto-encoders and by methods without a network of ours.

For every seed: rows are drawn (`anomaly_rows`), scaled by what is learned from, and every method is fitted and scored
on the same test rows, so differences are paired. Nothing is chosen by an anomaly: settings are the recipe's for all
seeds, candidates are told apart by held-out normal rows, thresholds are drawn by those. Plain classifiers, which are
given a few marked anomalies, show what these are worth.

Baselines learn from all rows that are given as normal; our networks leave out `threshold_share` of them, by which errors
are standardised and thresholds drawn.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.array_jobs import AnomalyConfig
from pipeline.artifact import Artifact
from pipeline.downstream import anomaly_baselines, thresholds
from pipeline.downstream.anomaly_networks import Detector, choose, detectors, seed_of
from pipeline.downstream.anomaly_report import Shown, report
from pipeline.downstream.anomaly_rows import Draw, Pool, Scaled
from pipeline.stage import Context

GRID = np.linspace(0, 1, 201)  # where the curves of several splits are averaged
Scores = dict[str, np.ndarray]


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    job = AnomalyConfig.model_validate(config["job"])
    context.progress("reading rows")
    pool = Pool(inputs["corpus"].path, job, config["seed"])
    chosen, tried = [], {}
    for asked in job.detectors:
        detector, tried[asked.name] = choose(detectors(config, asked, context), pool, config, context)
        chosen.append(detector)
    measured = Measured()
    shown = None
    for number in range(job.seeds):
        draw = pool.draw(number)
        rows = pool.scaled(draw.learn, config["transform"])
        for place, detector in enumerate(chosen):
            context.progress(f"split {number + 1}: {detector.name}", number / job.seeds)
            scorer = detector.scorer(rows.inputs[draw.learn], rows.inputs[draw.held_out], seed_of(config, detector, number))
            test = _ours(detector, scorer.scores(rows.inputs[draw.test], job.importance_samples))
            held_out = _ours(detector, scorer.scores(rows.inputs[draw.held_out], job.importance_samples))
            marked = _ours(detector, scorer.scores(rows.inputs[draw.marked], job.importance_samples)) if job.marked else {}
            measured.add(test, draw.truth)
            lines = _thresholds(job, held_out, marked, f"{detector.name}: {detector.score}")
            measured.flag(test, draw.truth, lines)
            if not number and not place:
                shown = Shown(pool, rows, draw, scorer, test, lines)
        context.progress(f"split {number + 1}: baselines", (number + 0.5) / job.seeds)
        measured.add(_baselines(job, rows, draw, number), draw.truth)
    assert shown is not None
    return report(config, job, pool, chosen, tried, measured, shown, out_dir)


def _ours(detector: Detector, scores: Scores) -> Scores:
    return {f"{detector.name}: {name}": values for name, values in scores.items()}
