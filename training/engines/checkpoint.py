"""Checkpoints: complete or absent, and readable by any number of workers.

    work/checkpoints/step-00000100-1f3c/                    every rank's files; see `checkpoint_state`
    work/checkpoints/step-00000100-1f3c/checkpoint.json     written last: without it the folder is not a checkpoint
    work/checkpoints/damaged-step-00000200-…/               found damaged; removed once a newer one is whole

The marker holds the digest of every file and of itself, the position in the data, and the identity of the run. What is
damaged is named and skipped, and the checkpoint before it is used. What belongs to another recipe is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from data_prep.errors import UserError
from data_prep.opening import tensors
from data_prep.opening.files import UnfitError, clause, inside, read_json
from training.distributed import Worker
from training.engines import checkpoint_state
from training.engines.plain import Engine

log = logging.getLogger("sesame.training")

MARKER = "checkpoint.json"
FORMAT = 2
OBJECTIVE = f"objective{checkpoint_state.SUFFIX}"
UNFINISHED, DAMAGED = "step-*", "damaged-*"


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
    zero: int | None = None,
) -> Checkpoint:
    """Write a checkpoint from all ranks and commit it. Older ones beyond `keep` are removed afterwards.

    `zero` is noted for readers of the marker.
    """
    attempt = worker.gather(uuid.uuid4().hex[:8])[0]
    folder = root / f"step-{position.step:08d}-{attempt}"
    for name, engine in engines.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        checkpoint_state.write(engine, folder / name, worker.rank)
    if worker.leads:
        checkpoint_state.write_tensors(folder / OBJECTIVE, objective_state)
    worker.barrier()
    marker = {
        "format": FORMAT,
        **position.__dict__,
        **identity,
        "world": worker.world,
        "zero": zero,
        "files": _digests(folder, worker),
    }
    if worker.leads:
        write_whole(folder / MARKER, json.dumps({**marker, "digest": _digest_of(marker)}, indent=1))
        for old in committed(root)[:-keep]:
            remove(old.folder)
        for old in root.glob(DAMAGED):
            remove(old)
    worker.barrier()
    return Checkpoint(folder, position, marker)


def newest(root: Path, identity: dict[str, Any], worker: Worker) -> Checkpoint | None:
    """The newest checkpoint that is what was committed, the same one on every rank; None if there is none.

    Damaged ones are named in a warning and set aside. What unfinished attempts left is removed.
    Raises UserError if the newest belongs to another recipe.
    """
    checkpoints: list[Checkpoint] = []
    torn: dict[Path, str] = {}
    if worker.leads:
        checkpoints, torn = _survey(root)
        for folder, reason in torn.items():
            _set_aside(folder, [f"{MARKER}: {reason}"])
    checkpoints = worker.gather(checkpoints)[0]
    chosen = None
    for checkpoint in reversed(checkpoints):
        _check_identity(checkpoint, identity)
        damage = [problem for problems in worker.gather(damaged(checkpoint, worker)) for problem in problems]
        if not damage:
            chosen = checkpoint
            break
        if worker.leads:
            _set_aside(checkpoint.folder, damage)
    if worker.leads:
        if chosen is None and (checkpoints or torn):
            log.warning("%s: no checkpoint is whole; training starts from step 0", root)
        for folder in root.glob(UNFINISHED):
            if not (folder / MARKER).exists():
                remove(folder)
    worker.barrier()
    return chosen


def at(root: Path, step: int, worker: Worker) -> Checkpoint:
    """The checkpoint of a step, of whatever experiment; the folder is left as it is.

    Raises UserError if there is none or it is damaged.
    """
    checkpoints = committed(root)
    chosen = [checkpoint for checkpoint in checkpoints if checkpoint.position.step == step]
    if not chosen:
        steps = ", ".join(str(checkpoint.position.step) for checkpoint in checkpoints) or "none"
        raise UserError(
            f"{root}: no checkpoint of step {step}; there are {steps} "
            "(placement.checkpoint_every and keep_checkpoints say which are kept)."
        )
    damage = [problem for problems in worker.gather(damaged(chosen[-1], worker)) for problem in problems]
    if damage:
        others = ", ".join(str(other.position.step) for other in checkpoints if other.position.step != step) or "none"
        raise UserError(f"{chosen[-1].folder}: damaged: {damage[0]}; choose another step, there are {others}.")
    return chosen[-1]


def load(checkpoint: Checkpoint, engines: dict[str, Engine]) -> dict[str, Tensor]:
    """Load a checkpoint that `newest` found into the engines and return the objective's state."""
    try:
        for name, engine in engines.items():
            checkpoint_state.restore(engine, checkpoint.folder / name)
        return tensors.load(inside(checkpoint.folder, OBJECTIVE))
    except UnfitError as error:
        raise UserError(
            f"{checkpoint.folder}: holds the state of another network ({clause(error)}); choose another checkpoint, or "
            "delete it to train from the one before."
        ) from error


def committed(root: Path) -> list[Checkpoint]:
    """All checkpoints under `root` whose marker is whole, oldest first."""
    return _survey(root)[0]


def damaged(checkpoint: Checkpoint, worker: Worker) -> list[str]:
    """What is wrong with the checkpoint's files, one line each; each rank reads its share."""
    files = checkpoint.marker["files"]
    mine = {name: _digest(checkpoint.folder, name) for name in sorted(files)[worker.rank :: worker.world]}
    others = sorted({*_names(checkpoint.folder)} - {*files, MARKER}) if worker.leads else []
    return [f"{name}: is none of the files committed" for name in others] + [
        f"{name}: {digest if ' ' in digest else 'its digest is not the one committed'}"
        for name, digest in mine.items()
        if digest != files[name]
    ]


def remove(folder: Path) -> None:
    """Remove a checkpoint, its marker first, so that a partly removed one does not count."""
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


def _survey(root: Path) -> tuple[list[Checkpoint], dict[Path, str]]:
    """Checkpoints by step and time, and folders whose marker is not whole, with what is wrong with it."""
    dated_checkpoints: list[tuple[int, float, Checkpoint]] = []
    torn: dict[Path, str] = {}
    for path in root.glob(f"{UNFINISHED}/{MARKER}"):
        try:
            marker = _read_marker(path)
        except (OSError, ValueError) as error:
            torn[path.parent] = str(error)
        else:
            position = Position(marker["step"], marker["samples"], marker["phase"])
            dated_checkpoints.append((position.step, path.stat().st_mtime, Checkpoint(path.parent, position, marker)))
    return [item[2] for item in sorted(dated_checkpoints, key=lambda item: item[:2])], torn


def _read_marker(path: Path) -> dict[str, Any]:
    """Raises ValueError saying what is wrong with it."""
    try:
        marker = read_json(path)
    except UnfitError as error:
        raise UnfitError(f"no JSON ({error})") from error
    if marker.pop("digest", None) != _digest_of(marker):
        raise UnfitError("not what was committed")
    if marker.get("format") != FORMAT:
        raise UnfitError(f"format {marker.get('format')} of another version; this one reads {FORMAT}")
    files, phase = marker.get("files"), marker.get("phase")
    are_whole = all(type(marker.get(name)) is int and marker[name] >= 0 for name in ("step", "samples"))
    are_named = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
    if not are_whole or not are_named or not isinstance(phase, str):
        raise UnfitError("not the marker of a checkpoint")
    return marker


def _check_identity(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    for name, expected in identity.items():
        value = checkpoint.marker.get(name)
        if value != expected:
            raise UserError(
                f"{checkpoint.folder}: this checkpoint was made with {name} {value}, the run asks for "
                f"{expected}; restore that setting, or delete the checkpoint to train from the start."
            )


def _set_aside(folder: Path, damage: list[str]) -> None:
    others = f" (and {len(damage) - 1} more files)" if len(damage) > 1 else ""
    log.warning("%s: damaged, skipped: %s%s", folder, damage[0], others)
    folder.replace(folder.with_name(f"damaged-{folder.name}"))


def _digests(folder: Path, worker: Worker) -> dict[str, str]:
    """Digest of every file in the folder; the ranks share the reading."""
    mine = {name: _digest(folder, name) for name in _names(folder)[worker.rank :: worker.world]}
    return {name: digest for digests in worker.gather(mine) for name, digest in digests.items()}


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def _digest(folder: Path, name: str) -> str:
    """Digest of a file, or a few words on why there is none."""
    if not (folder / name).is_symlink() and not (folder / name).exists():
        return "is missing"
    try:
        with inside(folder, name).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except UnfitError as error:
        return f"cannot be used: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _digest_of(marker: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(marker, sort_keys=True).encode(), digest_size=16).hexdigest()
