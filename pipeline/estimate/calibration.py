"""How long a training step takes on this machine's cores: measured on few layers, computed for all.

    seconds(layers) = seconds(1) + (layers - 1) · (seconds(3) - seconds(1)) / 2

A layer costs the same wherever it stands, and so does its update; what is left at one layer is embeddings, loss and
the loop itself. Nothing is assumed of kernels, caches, threads, DeepSpeed or the sums over workers: they are in both.
Networks that have no layers of one kind are timed whole. Rows are those of the objective's `example`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.fingerprint import digest
from training.config import PlacementConfig
from training.cost.counted import Cost
from training.cost.step_benchmark import WARM_UP, StepBenchmark, StepMeasurement, measure

FILE = "calibration.json"  # in the home
FEW, MORE = 1, 3  # layers
TIMED = 8  # steps
ROUNDS = 2  # of which the faster counts: what disturbs a step makes it slower
SPEED = (
    "workers",
    "zero",
    "threads",
    "offload_optimizer",
    "offload_parameters",
    "offload",
    "zero_settings",
    "activation_checkpointing",
    "compile",
)
TOKENS = 4096  # most that a worker takes at once: more of them take proportionally longer
VALUES = 1 << 20  # the same where the network is timed whole
# Steps of whole networks: as many as take about so long at a guess of how fast they are computed, for short ones vary.
WHOLE_SECONDS, GUESS, LEAST, MOST = 1.5, 2e10, 10, 200


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step of a whole network, and where they come from."""

    compute: float  # of one micro-batch
    update: float  # after the last of them
    fresh: bool  # measured just now, not remembered
    busy: bool = False  # beside other work: too long, and so not kept
    peak_bytes: int = 0  # of a worker that was timed; 0: of few layers, which tell nothing
    share: float = 1.0  # of the micro-batch's rows that it took

    def step(self, micro_batches: int) -> float:
        return micro_batches * self.compute + self.update


def step_time(home: Path, benchmark: StepBenchmark, cost: Cost) -> StepTime:
    """Of `benchmark`, whose batch is one micro-batch, for a network of that cost. Measured once per machine."""
    if cost.shape is None:
        return whole_step_time(home, benchmark, cost.row_flops)
    layers = cost.shape.layers
    if cost.shape.decoder_layers:  # both stacks have few layers at once
        layers = (layers + cost.shape.decoder_layers) / 2
    return layered_step_time(home, benchmark, layers)


def layered_step_time(home: Path, benchmark: StepBenchmark, layers: float) -> StepTime:
    """With a transformer of that many layers."""
    rows = max(1, benchmark.batch // benchmark.placement.workers)
    tried = max(1, min(rows, TOKENS // benchmark.facts.row_values))
    small, crowd = _here(benchmark, tried, WARM_UP + TIMED)
    names = layers_settings(benchmark)
    asked = small.model_dump(mode="json", exclude={"network": {"config": set(names)}})
    depths = [_with_layers(small, names, number) for number in (FEW, MORE)]
    measured, fresh, beside = _remembered(home / FILE, asked, ROUNDS * depths)
    few, more = (min(measured[which :: len(depths)], key=lambda m: m.step_seconds) for which in range(len(depths)))
    compute = _whole(few.step_seconds - few.update_seconds, more.step_seconds - more.update_seconds, layers)
    update = _whole(few.update_seconds, more.update_seconds, layers)
    return StepTime(compute * rows / tried * crowd, update * crowd, fresh, beside)


def whole_step_time(home: Path, benchmark: StepBenchmark, row_flops: float) -> StepTime:
    """With the network as it is, of which a row takes so many operations (0: not known)."""
    rows = max(1, benchmark.batch // benchmark.placement.workers)
    tried = max(1, min(rows, VALUES // benchmark.facts.row_values))
    guess = tried * row_flops / GUESS
    steps = min(MOST, max(LEAST, int(WHOLE_SECONDS / guess))) if guess else MOST
    small, crowd = _here(benchmark, tried, WARM_UP + steps)
    measured, fresh, beside = _remembered(home / FILE, small.model_dump(mode="json"), ROUNDS * [small])
    best = min(measured, key=lambda m: m.mean_seconds)
    compute = max(best.mean_seconds - best.update_seconds, 0.0)
    update, share = best.update_seconds * crowd, tried / rows
    peak_bytes = measured[0].peak_bytes  # of the first round: memory is never had back
    return StepTime(compute * crowd / share, update, fresh, beside, peak_bytes, share)


def _here(benchmark: StepBenchmark, rows: int, steps: int) -> tuple[StepBenchmark, float]:
    """With so many rows a worker, on as many workers as there are cores, and how many share each of those."""
    here = min(benchmark.placement.workers, cores())
    placement = benchmark.placement.model_copy(update={"workers": here, "min_workers": None, "micro_batch": None})
    changes = {"batch": rows * here, "steps": steps, "placement": _only_speed(placement)}
    return benchmark.model_copy(update=changes), benchmark.placement.workers / here  # on one core they take turns


def _whole(few: float, more: float, layers: float) -> float:
    return few + max(0.0, more - few) / (MORE - FEW) * (layers - FEW)


def _only_speed(placement: PlacementConfig) -> PlacementConfig:
    """Without what has no part in a step's speed, so that it does not ask for another measurement."""
    return PlacementConfig.model_validate({"device": "cpu", **{name: getattr(placement, name) for name in SPEED}})


def _remembered(
    file: Path, asked: dict[str, Any], benchmarks: list[StepBenchmark]
) -> tuple[list[StepMeasurement], bool, bool]:
    """What came of benchmarks that `asked` stands for, whether just now, and if so, whether beside other work."""
    key = digest([hardware(), asked])
    known = _read(file)
    fresh = key not in known
    if fresh:
        beside = busy()
        measured = measure(*benchmarks)
        if beside:
            return measured, True, True
        known = _read(file) | {key: [m.model_dump() for m in measured]}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known, indent=1))
        part.replace(file)
    return [StepMeasurement.model_validate(values) for values in known[key]], fresh, False


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):  # none yet, or damaged: measured again
        return {}
    return known if isinstance(known, dict) else {}


def layers_settings(benchmark: StepBenchmark) -> list[str]:
    """What the architecture calls its numbers of layers: of an encoder and a decoder, both."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[benchmark.network.architecture]
    usual = kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    known = inspect.signature(kind).parameters
    return [usual, *(name for name in ("num_decoder_layers", "decoder_layers") if name in known)]


def _with_layers(benchmark: StepBenchmark, names: list[str], layers: int) -> StepBenchmark:
    config = {**benchmark.network.config, **dict.fromkeys(names, layers)}
    return benchmark.model_copy(update={"network": benchmark.network.model_copy(update={"config": config})})


def busy() -> bool:
    """Whether more wants to run on this machine than it has cores."""
    return os.getloadavg()[0] > cores()


@functools.cache
def hardware() -> str:
    """This machine, as far as speed depends on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "deepspeed"))
    return f"{name}, {cores()} cores, {libraries}"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
