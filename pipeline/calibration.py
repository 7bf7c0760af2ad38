"""How long a training step takes on this machine's cores: measured on few layers, computed for all.

    seconds(layers) = seconds(1) + (layers - 1) · (seconds(3) - seconds(1)) / 2

A layer costs the same wherever it stands, and so does its update; what is left at one layer is embeddings, loss and
the loop itself. Nothing is assumed of kernels, caches, threads, DeepSpeed or the sums over workers: they are in both.
"""

from __future__ import annotations

import functools
import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.canonical import digest
from training.config import PlacementConfig
from training.trial import WARM_UP, Measured, Trial, measure

FILE = "calibration.json"  # in the home
FEW, MORE = 1, 3  # layers
TIMED = 8  # steps
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


@dataclass(frozen=True)
class Rhythm:
    """Seconds of one step of a whole network, and where they come from."""

    compute: float  # of one micro-batch
    update: float  # after the last of them
    fresh: bool  # measured just now, not remembered
    busy: bool = False  # beside other work: too long, and so not kept

    def step(self, micro_batches: int) -> float:
        return micro_batches * self.compute + self.update


def rhythm(home: Path, trial: Trial, layers: int) -> Rhythm:
    """Of `trial`, whose batch is one micro-batch, with a network of that many layers. Measured once per machine."""
    workers = trial.placement.workers
    here = min(workers, cores())
    rows = max(1, trial.batch // workers)
    tried = max(1, min(rows, TOKENS // trial.length))
    placement = trial.placement.model_copy(update={"workers": here, "min_workers": None, "micro_batch": None})
    small = trial.model_copy(
        update={"batch": tried * here, "steps": WARM_UP + TIMED, "placement": _only_speed(placement)}
    )
    few, more, fresh, beside = _few_and_more(home / FILE, small)
    compute = _whole(few.step_seconds - few.update_seconds, more.step_seconds - more.update_seconds, layers)
    update = _whole(few.update_seconds, more.update_seconds, layers)
    crowd = workers / here  # workers that share a core take turns
    return Rhythm(compute * rows / tried * crowd, update * crowd, fresh, beside)


def _whole(few: float, more: float, layers: int) -> float:
    return few + max(0.0, more - few) / (MORE - FEW) * (layers - FEW)


def _only_speed(placement: PlacementConfig) -> PlacementConfig:
    """Without what has no part in a step's speed, so that it does not ask for another measurement."""
    return PlacementConfig.model_validate({"device": "cpu", **{name: getattr(placement, name) for name in SPEED}})


def _few_and_more(file: Path, trial: Trial) -> tuple[Measured, Measured, bool, bool]:
    key = digest([hardware(), trial.model_dump(mode="json", exclude={"network": {"config": {layers_setting(trial)}}})])
    known = _read(file)
    fresh = key not in known
    if fresh:
        beside = busy()
        found = measure(*(_with_layers(trial, layers) for layers in (FEW, MORE)))
        if beside:
            return found[0], found[1], True, True
        known = _read(file) | {key: [one.model_dump() for one in found]}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(known, indent=1))
        part.replace(file)
    few, more = (Measured.model_validate(one) for one in known[key])
    return few, more, fresh, False


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
