"""`sesame plan` of recipes beside what happens: `python -m tests.benchmarks.plan_recipes [RECIPE[:SCALE] …]`.

Each recipe's shards are made by `sesame run`, in a home of its own, since a plan reads them. Then it is planned, and
run for a few steps without its jobs: the most anonymous memory of the process that trains and the seconds of training
as predicted, as measured, and their ratio. Memory is looked at until the last step and its evaluation: what writes a
model may need more. On a busy machine only memory tells something.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline import dag
from pipeline.estimate import calibration
from pipeline.estimate.estimate import estimate
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.runs import all_runs
from training.job import METRICS

STEPS = {"autoencoder": 300, "anomaly": 2000, "compression": 100, "rbm-pretraining": 400}
OTHERS = 40  # steps of other recipes
MIB = 1 << 20


def anonymous(pid: int) -> int:
    """Bytes; 0 where there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def over(home: Home, steps: int) -> bool:
    """Whether the training that goes on has made its last step."""
    logs = home.path.glob(f"store/.work/pretrain-*/{METRICS}")
    return any(f'"step": {steps},' in path.read_text() for path in logs)


def ran(home: Home, asked: str, settings: list[str], steps: int) -> tuple[int, float]:
    """Bytes and seconds of a run's training."""
    words = [word for setting in settings for word in ("--set", setting)]
    name, _, scale = asked.partition(":")
    words += ["--scale", scale] if scale else []
    command = [sys.executable, "-m", "flows.cli", "run", name, *words, "--json"]
    environment = {**os.environ, "SESAME_HOME": str(home.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        peak, ended = 0, False
        while run.poll() is None:
            ended = ended or over(home, steps)
            peak = peak if ended else max(peak, anonymous(run.pid))
            time.sleep(0.05)
    assert run.returncode == 0, f"the run failed; see {' '.join(command[1:])}"
    newest = max(all_runs(home.runs), key=lambda record: record.started)
    return peak, newest.metrics["pretrain.train_seconds"]


def main(names: list[str]) -> None:
    print(calibration.hardware())
    heads = ("memory, MiB", "measured", "ratio", "training, s", "measured", "ratio")
    print(f"{'':20}" + "".join(f"{head:>13}" for head in heads))
    for asked in names:
        name, _, scale = asked.partition(":")
        steps = STEPS.get(name, OTHERS)
        common = ["train.warmup_steps=1", "train.warmup=null", "downstream=[]"]
        settings = [f"train.steps={steps}", *common]
        with tempfile.TemporaryDirectory() as folder:
            home, recipe = Home(Path(folder)), load(name, scale or None, settings)
            ran(home, asked, ["train.steps=1", *common], 1)
            planned = dag.plan(dag.nodes(recipe, home.downloads), home.store())
            estimated = estimate(recipe, planned, home.path, 1e15)
            assert estimated is not None
            bytes_, seconds = ran(home, asked, settings, steps)
        cells = (
            f"{estimated.memory.total / MIB:,.0f}",
            f"{bytes_ / MIB:,.0f}",
            f"{estimated.memory.total / bytes_:.2f}",
            f"{estimated.seconds[0]:.1f}",
            f"{seconds:.1f}",
            f"{estimated.seconds[0] / seconds:.2f}",
        )
        print(f"{asked:20}" + "".join(f"{cell:>13}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(STEPS))
