"""Checkpoints: whole or absent.

    work/checkpoints/step-00000100-1f3c/     every rank's files
    work/checkpoints/step-00000100-1f3c/checkpoint.json     written last: without it the folder is not a checkpoint

The marker holds the digest of every file, the position in the data, and the identity of the run, so a checkpoint that
is damaged or belongs to another recipe is refused by name before a byte of it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_prep.errors import UserError
from training.distributed import Worker
from training.engine import Engine

MARKER = "checkpoint.json"
FORMAT = 1


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps done, samples consumed, and the phase it is in."""

    step: int = 0
    samples: int = 0
    phase: str = "train"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint."""

    folder: Path
    position: Position
    marker: dict[str, Any]


def save(
    root: Path,
    position: Position,
    engines: dict[str, Engine],
    objective_state: dict[str, Tensor],
    identity: dict[str, Any],
    worker: Worker,
    keep: int,
) -> Checkpoint:
    """Write a checkpoint from all ranks and commit it. Older ones beyond `keep` are removed afterwards."""
    attempt = worker.gather(uuid.uuid4().hex[:8])[0]
    folder = root / f"step-{position.step:08d}-{attempt}"
    for name, engine in engines.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        engine.save(folder / name)
    if worker.leads:
        torch.save(objective_state, folder / "objective.pt")
    worker.barrier()
    digests = _digests(folder, worker)
    marker = {
        "format": FORMAT,
        **position.__dict__,
        **identity,
        "world": worker.world,
        "files": digests,
    }
    if worker.leads:
        write_whole(folder / MARKER, json.dumps(marker, indent=1))
        for old in committed(root)[:-keep]:
            remove(old.folder)
    worker.barrier()
    return Checkpoint(folder, position, marker)


def load(
    checkpoint: Checkpoint,
    engines: dict[str, Engine],
    identity: dict[str, Any],
    worker: Worker,
) -> dict[str, Tensor]:
    """Verify a checkpoint, load it into the engines and return the objective's state.

    Raises UserError if it belongs to another recipe, another ZeRO stage or number of workers, or is damaged.
    """
    for name, wanted in {**identity, "world": worker.world}.items():
        found = checkpoint.marker.get(name)
        if found != wanted:
            raise UserError(
                f"{checkpoint.folder}: this checkpoint was made with {name} {found}, the run asks for "
                f"{wanted}; restore that setting, or delete the checkpoint to train from the start."
            )
    damage = worker.gather(damaged(checkpoint, worker))
    for path in [path for paths in damage for path in paths]:
        raise UserError(
            f"{checkpoint.folder / path}: damaged (its digest is not the one committed); delete this "
            "checkpoint to go on from the one before it."
        )
    for name, engine in engines.items():
        engine.load(checkpoint.folder / name)
    return torch.load(checkpoint.folder / "objective.pt", weights_only=True)


def committed(root: Path) -> list[Checkpoint]:
    """All committed checkpoints under `root`, oldest first; one per step."""
    by_step: dict[int, Checkpoint] = {}
    for path in sorted(root.glob(f"step-*/{MARKER}")):
        marker = json.loads(path.read_text())
        position = Position(marker["step"], marker["samples"], marker["phase"])
        by_step[position.step] = Checkpoint(path.parent, position, marker)
    return [by_step[step] for step in sorted(by_step)]


def damaged(checkpoint: Checkpoint, worker: Worker) -> list[str]:
    """Files of the checkpoint that are not what was committed; each rank looks at its share."""
    files = checkpoint.marker["files"]
    mine = sorted(files)[worker.rank :: worker.world]
    return [name for name in mine if _digest(checkpoint.folder / name) != files[name]]


def remove(folder: Path) -> None:
    """Take the marker away first, so that a half-removed checkpoint is no checkpoint."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that readers see all of it or none."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _digests(folder: Path, worker: Worker) -> dict[str, str]:
    """Digest of every file in the folder; the ranks share the reading."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    mine = {name: _digest(folder / name) for name in names[worker.rank :: worker.world]}
    return {name: digest for part in worker.gather(mine) for name, digest in part.items()}


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
