"""How long a training step takes on this machine's cores: measured on few layers, computed for all.

    seconds(layers) = seconds(1) + (layers - 1) · (seconds(3) - seconds(1)) / 2

A layer costs the same wherever it stands, and so does its update; what is left at one layer is embeddings, loss and
the loop itself. Nothing is assumed of kernels, caches, threads, DeepSpeed or the sums over workers: they are in both.
Networks of tables and pictures are tried whole, on rows of nothing that are read as theirs are.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pipeline.fingerprint import digest
from training.config import PlacementConfig
from training.cost.step_benchmark import WARM_UP, AnyTrial, ArrayTrial, Measured, Trial, measure

FILE = "calibration.json"  # in the home
FEW, MORE = 1, 3  # layers
TIMED = 8  # steps
ROUNDS = 2  # of which the faster counts: what disturbs a trial makes it slower
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
TOKENS = 4096  # most that a worker takes in a trial: more of them take proportionally longer
VALUES = 1 << 20  # the same of arrays
# Steps of arrays: as many as take about so long at a guess of how fast they are computed, for short ones vary.
TRIAL_SECONDS, GUESS, LEAST, MOST = 1.5, 2e10, 10, 200


@dataclass(frozen=True)
class Rhythm:
    """Seconds of one step of a whole network, and where they come from."""

    compute: float  # of one micro-batch
    update: float  # after the last of them
    fresh: bool  # measured just now, not remembered
    busy: bool = False  # beside other work: too long, and so not kept
    peak_bytes: int = 0  # of a worker in the trial
    share: float = 1.0  # of the micro-batch's rows that it took

    def step(self, micro_batches: int) -> float:
        return micro_batches * self.compute + self.update


def rhythm(home: Path, trial: Trial, layers: int) -> Rhythm:
    """Of `trial`, whose batch is one micro-batch, with a network of that many layers. Measured once per machine."""
    rows = max(1, trial.batch // trial.placement.workers)
    tried = max(1, min(rows, TOKENS // trial.length))
    small, crowd = _here(trial, tried, WARM_UP + TIMED)
    asked = small.model_dump(mode="json", exclude={"network": {"config": {layers_setting(trial)}}})
    trials = [_with_layers(small, number) for number in (FEW, MORE)]
    found, fresh, beside = _remembered(home / FILE, asked, ROUNDS * trials)
    few, more = (min(found[which :: len(trials)], key=lambda one: one.step_seconds) for which in range(len(trials)))
    compute = _whole(few.step_seconds - few.update_seconds, more.step_seconds - more.update_seconds, layers)
    update = _whole(few.update_seconds, more.update_seconds, layers)
    return Rhythm(compute * rows / tried * crowd, update * crowd, fresh, beside)


def array_rhythm(home: Path, trial: ArrayTrial, row_flops: float) -> Rhythm:
    """Of `trial`, whose batch is one micro-batch and whose rows take so many operations. Measured once per machine."""
    rows = max(1, trial.batch // trial.placement.workers)
    tried = max(1, min(rows, VALUES // math.prod(trial.shape)))
    guess = tried * row_flops / GUESS
    steps = min(MOST, max(LEAST, int(TRIAL_SECONDS / guess))) if guess else MOST
    small, crowd = _here(trial, tried, WARM_UP + steps)
    found, fresh, beside = _remembered(home / FILE, small.model_dump(mode="json"), ROUNDS * [small])
    best = min(found, key=lambda one: one.mean_seconds)
    compute = max(best.mean_seconds - best.update_seconds, 0.0)
    update, share = best.update_seconds * crowd, tried / rows
    return Rhythm(
        compute * crowd / share, update, fresh, beside, found[0].peak_bytes, share
    )  # memory is never had back


T = TypeVar("T", bound=AnyTrial)


def _here(trial: T, rows: int, steps: int) -> tuple[T, float]:
    """A trial of so many rows a worker, on as many workers as there are cores, and how many share each of those."""
    here = min(trial.placement.workers, cores())
    placement = trial.placement.model_copy(update={"workers": here, "min_workers": None, "micro_batch": None})
    changes = {"batch": rows * here, "steps": steps, "placement": _only_speed(placement)}
    return trial.model_copy(update=changes), trial.placement.workers / here  # those that share a core take turns


def _whole(few: float, more: float, layers: int) -> float:
    return few + max(0.0, more - few) / (MORE - FEW) * (layers - FEW)


def _only_speed(placement: PlacementConfig) -> PlacementConfig:
    """Without what has no part in a step's speed, so that it does not ask for another measurement."""
    return PlacementConfig.model_validate({"device": "cpu", **{name: getattr(placement, name) for name in SPEED}})


def _remembered(file: Path, asked: dict[str, Any], trials: list[Any]) -> tuple[list[Measured], bool, bool]:
    """What came of trials that `asked` stands for, whether just now, and if so, whether beside other work."""
    key = digest([hardware(), asked])
    known = _read(file)
    fresh = key not in known
    if fresh:
        beside = busy()
        found = measure(*trials)
        if beside:
            return found, True, True
        known = _read(file) | {key: [one.model_dump() for one in found]}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known, indent=1))
        part.replace(file)
    return [Measured.model_validate(one) for one in known[key]], fresh, False


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):  # none yet, or damaged: measured again
        return {}
    return found if isinstance(found, dict) else {}


def layers_setting(trial: Trial) -> str:
    """What the architecture calls its number of layers."""
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[trial.network.architecture].attribute_map.get("num_hidden_layers", "num_hidden_layers")


def _with_layers(trial: Trial, layers: int) -> Trial:
    config = {**trial.network.config, layers_setting(trial): layers}
    return trial.model_copy(update={"network": trial.network.model_copy(update={"config": config})})


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
