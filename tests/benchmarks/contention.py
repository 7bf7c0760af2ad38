"""Two trainings side by side, of two threads each, on two cores on which others work, too: how threads wait.

`python -m tests.benchmarks.contention [BUSY] [ROUNDS] [PROCESSES]`: seconds a step of the recipe `compression`, for
each way in which OpenMP's threads wait for one another, with BUSY other busy processes. Each figure is the median over
interleaved rounds of the slowest process's mean.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.recipe.load import load
from training.cost import step_benchmark
from training.cost.step_benchmark import Moment, PlainFacts, StepBenchmark

STEPS = 14
WORKER = "worker"
OWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "1 thread": (1, {}),
    "2 threads, libgomp's default": (2, {"KMP_BLOCKTIME": "200"}),  # of another library: it only says that one is set
    "2 threads, passive": (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "2 threads, spinning 1,000": (2, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}),
    "2 threads, spinning 10,000": (2, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}),
}


def benchmark(threads: int) -> str:
    recipe = load("compression", None, [f"placement.threads={threads}"])
    return StepBenchmark(
        objective=recipe.objective,
        network=recipe.network,
        facts=PlainFacts(kind="images", columns=["input"], shape=[3, 64, 64]),
        corruption=recipe.corruption,
        rows=256,
        batch=recipe.train.global_batch,
        steps=STEPS,
        precision="fp32",
        placement=recipe.placement,
    ).model_dump_json()


def by_the_clock(steps: list[Moment], average: Callable[[list[float]], float], alone: bool) -> float:
    """As the user sees it: over all steps, however disturbed."""
    return average([step.clock for step in steps])


def worker(settings: str, folder: str) -> None:
    step_benchmark.undisturbed = by_the_clock
    print(step_benchmark.run(StepBenchmark.model_validate_json(settings), 0, Path(folder)).mean_seconds)


def seconds(way: str, processes: int) -> float:
    """Mean seconds of a step, of the slowest of some processes."""
    threads, waiting = WAYS[way]
    environment = {name: value for name, value in os.environ.items() if name not in OWN} | waiting
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.contention", WORKER, benchmark(threads), folder]
        pair = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        outputs = [process.communicate()[0] for process in pair]
    return max(float(output.splitlines()[-1]) for output in outputs)


def main(busy: int, rounds: int, processes: int) -> None:
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    measured: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for _ in range(rounds):
            for way, values in measured.items():
                values.append(seconds(way, processes))
                print(f"{way:30} {values[-1]:.3f} s", flush=True)
    finally:
        for other in others:
            other.kill()
    print(
        f"\n{processes} trainings, {busy} busy processes beside them, load {os.getloadavg()[0]:.1f}, {rounds} rounds:"
    )
    for way, values in measured.items():
        first = statistics.median(values) / statistics.median(measured["1 thread"])
        print(f"{way:30} {statistics.median(values):.3f} s a step, {first:.2f} times that of one thread")


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        worker(*sys.argv[2:])
        sys.exit()
    main(*(int(value) for value in (sys.argv[1:] + ["2", "3", "2"][len(sys.argv) - 1 :])))
