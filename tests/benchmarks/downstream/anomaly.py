"""Anomalies in a large table, ours beside PyOD's auto-encoder with its defaults: how long, and how good.

`python -m tests.benchmarks.downstream.anomaly [ROWS]`. Rows are made up: normal ones lie near a curved surface of 4
dimensions in 40 columns, 1 % do not. Half of them are normal in every column and belong to no place of the surface;
the others have three columns of another row. Both detectors learn from all rows without labels, which are
contaminated by that 1 %, and score the same rows, as PyOD's `fit` does. Standardising is in both times. One thread
each, so that seconds of the processor can be told beside those of the clock: on a machine with other work they alone
are comparable.
"""

from __future__ import annotations

import platform
import sys
import time

import numpy as np
import pyod
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from data_prep.facts import DataFacts
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import set_up_cpu
from training.inference.anomaly import STANDARDISED, Scorer
from training.loop import Training
from training.objectives import build

ROWS, COLUMNS, DIMENSIONS, ANOMALIES = 300_000, 40, 4, 0.01
NETWORK = NetworkConfig(architecture="mlp", config={"hidden": [64, 32], "bottleneck": 6, "activation": "gelu"})
TRAIN = TrainConfig(
    global_batch=1024, steps=1500, lr=4e-3, warmup_steps=50, schedule="cosine", precision="fp32", log_every=500
)


def table(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows [R, COLUMNS] and which of them are anomalies."""
    random = np.random.default_rng(seed)
    inner, outer = random.normal(size=(DIMENSIONS, 24)), random.normal(size=(24, COLUMNS)) / np.sqrt(24)
    values = np.tanh(random.normal(size=(rows, DIMENSIONS)) @ inner) @ outer
    values += 0.1 * random.normal(size=values.shape)
    anomalous = np.zeros(rows, bool)
    anomalous[random.choice(rows, round(rows * ANOMALIES), replace=False)] = True
    scattered, swapped = np.array_split(np.flatnonzero(anomalous), 2)
    normal = np.flatnonzero(~anomalous)
    for column in range(COLUMNS):
        values[scattered, column] = values[random.choice(normal, len(scattered)), column]
    for row in swapped:
        columns = random.choice(COLUMNS, 3, replace=False)
        values[row, columns] = values[random.choice(normal), columns]
    return values, anomalous


def ours(values: np.ndarray) -> np.ndarray:
    torch.manual_seed(0)
    inputs = ((values - values.mean(0)) / values.std(0)).astype(np.float32)
    objective = build(
        ObjectiveConfig(name="autoencoder"),
        {"model": NETWORK},
        DataFacts("table", ("input",), inputs.shape[1:]),
        "cpu",
    )
    stream = Stream([Corpus("table", MemoryTable({"input": inputs}, len(inputs)))], 0, OrderConfig())
    Training(objective, stream, TRAIN).run()
    return Scorer.fit([objective.model], inputs).scores(inputs)[STANDARDISED]


def pyods(values: np.ndarray) -> np.ndarray:
    from pyod.models.auto_encoder import AutoEncoder

    return AutoEncoder(contamination=ANOMALIES, verbose=0).fit(values).decision_scores_


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    set_up_cpu(1)
    values, anomalous = table(rows)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}")
    print(f"PyOD {pyod.__version__}; {rows:,} rows of {COLUMNS} columns, {anomalous.mean():.1%} anomalies")
    times = []
    for name, detector in {"ours": ours, "PyOD AutoEncoder": pyods}.items():
        began, worked = time.perf_counter(), time.process_time()
        scores = detector(values)
        times.append((time.perf_counter() - began, time.process_time() - worked))
        auroc, precision = roc_auc_score(anomalous, scores), average_precision_score(anomalous, scores)
        print(
            f"{name:<20}{times[-1][0]:>9.1f} s, {times[-1][1]:.1f} s of the processor   "
            f"AUROC {auroc:.4f}   average precision {precision:.4f}",
            flush=True,
        )
    clock, processor = np.divide(times[1], times[0])
    print(f"{clock:.1f} times as fast by the clock, {processor:.1f} by the processor")


if __name__ == "__main__":
    main()
