"""Time and memory of a training step on this machine's cores: measured with few layers, extrapolated to all.

    seconds(layers) = seconds(1) + (layers - 1) · (seconds(3) - seconds(1)) / 2, and bytes likewise

All layers cost the same, and so do their updates; the rest is embeddings, loss and the loop itself. Nothing is assumed
about kernels, caches, threads, DeepSpeed or the sums over workers: both measurements include them. Networks without
uniform layers, those of experts among them, are timed and watched as a whole. Rows are those of the objective's
`example`. Of a corruption its kind counts, when it happens, and what it makes: one that chooses other tokens, but as
many, takes no other time.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from data_prep.compute import cores
from pipeline.fingerprint import digest
from training.config import PlacementConfig
from training.cost.counted import Cost
from training.cost.memory import Trial
from training.cost.step_benchmark import WARM_UP, StepBenchmark, StepMeasurement, measure

FILE = "calibration.json"  # in the home
SHALLOW, DEEP = 1, 3  # layers
TIMED = 8  # steps
ROUNDS = 2  # of which the fastest counts: disturbances only slow steps down
SPEED = (
    "workers",
    "zero",
    "threads",
    "offload_optimizer",
    "offload_parameters",
    "offload",
    "zero_settings",
    "expert_parallel",
    "activation_checkpointing",
    "compile",
)
Measured = dict[str, list[StepMeasurement]]  # by a digest of what was measured
TOKENS = 4096  # most per timed worker: more take proportionally longer
VALUES = 1 << 20  # the same for networks that are timed as a whole
# Steps of whole networks: as many as take about so long at a guessed speed, since short timings vary.
WHOLE_SECONDS, GUESS, LEAST, MOST = 1.5, 2e10, 10, 200


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step of the complete network, and how they were measured."""

    compute: float  # of one micro-batch
    update: float  # after the last of them
    fresh: bool  # measured just now, not cached
    busy: bool = False  # with other work on the machine: too long, and so not cached
    trial: Trial | None = None  # memory of a timed worker; None: this system does not tell

    def step(self, micro_batches: int) -> float:
        return micro_batches * self.compute + self.update


def step_time(home: Path, benchmark: StepBenchmark, cost: Cost, measured: Measured | None = None) -> StepTime:
    """Time of `benchmark`, whose batch is one micro-batch, for a network of that cost. Measured once per machine.

    measured: what was measured for this purpose, which is added to: on a busy machine nothing else is kept.
    """
    made = {"units": cost.row_units, "targets": cost.row_targets}
    if cost.shape is None or cost.shape.sparse_depth:
        return whole_step_time(home, benchmark, cost.row_flops, made, measured)
    layers = cost.shape.layers
    if cost.shape.decoder_layers:  # both stacks have few layers at once
        layers = (layers + cost.shape.decoder_layers) / 2
    return layered_step_time(home, benchmark, layers, made, measured)


def layered_step_time(
    home: Path,
    benchmark: StepBenchmark,
    layers: float,
    made: Mapping[str, float] | None = None,
    measured: Measured | None = None,
) -> StepTime:
    """Time with a transformer of that many layers. made: what the corruption makes of a row; None: not known."""
    rows = max(1, benchmark.batch // benchmark.placement.workers)
    num_rows = max(1, min(rows, TOKENS // benchmark.facts.row_values))
    small, sharing = _fitted_to_cores(benchmark, num_rows, WARM_UP + TIMED)
    names = layers_settings(benchmark)
    depths = [_with_layers(small, names, number) for number in (SHALLOW, DEEP)]
    trials, fresh, was_busy = _cached_measurements(
        home / FILE, _identity(small, made, names), ROUNDS * depths, measured
    )
    shallow, deep = (min(trials[depth :: len(depths)], key=lambda m: m.step_seconds) for depth in range(len(depths)))
    compute = _extrapolated(
        shallow.step_seconds - shallow.update_seconds, deep.step_seconds - deep.update_seconds, layers
    )
    update = _extrapolated(shallow.update_seconds, deep.update_seconds, layers)
    # Of the first round, and on top of the first process: memory is not released later.
    process = trials[0].process_bytes
    working = _extrapolated(trials[0].peak_bytes - process, trials[1].peak_bytes - process, layers)
    growth = max(trials[0].growth_bytes, trials[1].growth_bytes)
    trial = Trial(process, working, small.placement, num_rows / rows, growth) if trials[0].peak_bytes else None
    return StepTime(compute * rows / num_rows * sharing, update * sharing, fresh, was_busy, trial)


def whole_step_time(
    home: Path,
    benchmark: StepBenchmark,
    row_flops: float,
    made: Mapping[str, float] | None = None,
    measured: Measured | None = None,
) -> StepTime:
    """Time with the network as it is; row_flops: operations per row (0: unknown)."""
    rows = max(1, benchmark.batch // benchmark.placement.workers)
    num_rows = max(1, min(rows, VALUES // benchmark.facts.row_values))
    guess = num_rows * row_flops / GUESS
    steps = min(MOST, max(LEAST, int(WHOLE_SECONDS / guess))) if guess else MOST
    small, sharing = _fitted_to_cores(benchmark, num_rows, WARM_UP + steps)
    trials, fresh, was_busy = _cached_measurements(home / FILE, _identity(small, made), ROUNDS * [small], measured)
    best = min(trials, key=lambda m: m.mean_seconds)
    compute = max(best.mean_seconds - best.update_seconds, 0.0)
    update, share = best.update_seconds * sharing, num_rows / rows
    first = trials[0]
    working = first.peak_bytes - first.process_bytes
    trial = (
        Trial(first.process_bytes, working, small.placement, share, first.growth_bytes) if first.peak_bytes else None
    )
    return StepTime(compute * sharing / share, update, fresh, was_busy, trial)


def _identity(benchmark: StepBenchmark, made: Mapping[str, float] | None, left_out: Sequence[str] = ()) -> Any:
    """What time and memory of a benchmark depend on. left_out: settings of the network that they follow."""
    values = benchmark.model_dump(mode="json", exclude={"network": {"config": set(left_out)}})
    if made is not None:
        values["corruption"] = {"kind": benchmark.corruption.kind, "at": benchmark.corruption.at, **made}
    return values


def _fitted_to_cores(benchmark: StepBenchmark, rows: int, steps: int) -> tuple[StepBenchmark, float]:
    """`benchmark` with so many rows a worker, on at most as many workers as cores; how many workers share a core."""
    num_workers = min(benchmark.placement.workers, cores.available())
    placement = benchmark.placement.model_copy(
        update={"workers": num_workers, "min_workers": None, "micro_batch": None}
    )
    changes = {"batch": rows * num_workers, "steps": steps, "placement": _only_speed(placement)}
    sharing = benchmark.placement.workers / num_workers  # on one core they take turns
    return benchmark.model_copy(update=changes), sharing


def _extrapolated(shallow: float, deep: float, layers: float) -> float:
    return shallow + max(0.0, deep - shallow) / (DEEP - SHALLOW) * (layers - SHALLOW)


def _only_speed(placement: PlacementConfig) -> PlacementConfig:
    """Without settings that do not affect a step's speed, which must not cause another measurement."""
    return PlacementConfig.model_validate({"device": "cpu", **{name: getattr(placement, name) for name in SPEED}})


def _cached_measurements(
    file: Path, identity: Any, benchmarks: list[StepBenchmark], measured: Measured | None
) -> tuple[list[StepMeasurement], bool, bool]:
    """Measurements cached under `identity`, or new ones; whether they are new, and whether the machine was busy."""
    key = digest([hardware(), identity, sorted(StepMeasurement.model_fields)])
    if measured is not None and key in measured:
        return measured[key], True, True
    remembered = _read(file)
    fresh = key not in remembered
    if fresh:
        was_busy = busy()
        trials = measure(*benchmarks)
        if was_busy:
            if measured is not None:
                measured[key] = trials
            return trials, True, True
        remembered = _read(file) | {key: [m.model_dump() for m in trials]}
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(remembered, indent=1))
        draft.replace(file)
    return [StepMeasurement.model_validate(values) for values in remembered[key]], fresh, False


def _read(file: Path) -> dict[str, Any]:
    try:
        remembered = json.loads(file.read_text())
    except (OSError, ValueError):  # missing or damaged: measured again
        return {}
    return remembered if isinstance(remembered, dict) else {}


def layers_settings(benchmark: StepBenchmark) -> list[str]:
    """Names of the architecture's settings for the number of layers, of encoder and decoder."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[benchmark.network.architecture]
    usual = kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    parameters = inspect.signature(kind).parameters
    return [usual, *(name for name in ("num_decoder_layers", "decoder_layers") if name in parameters)]


def _with_layers(benchmark: StepBenchmark, names: list[str], layers: int) -> StepBenchmark:
    config = {**benchmark.network.config, **dict.fromkeys(names, layers)}
    return benchmark.model_copy(update={"network": benchmark.network.model_copy(update={"config": config})})


def busy() -> bool:
    """Whether the load of this machine exceeds its cores."""
    return os.getloadavg()[0] > cores.available()


@functools.cache
def hardware() -> str:
    """This machine, as far as speed depends on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "deepspeed"))
    return f"{name}, {cores.available()} cores, {libraries}"
