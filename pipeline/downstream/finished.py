"""Finished parts of a job, kept in its work folder: an interrupted run continues with the part that it was at.

A part is found by everything that its result depends on within the job; the work folder belongs to the job's key, which
stands for the rest. torch's generator is as the part left it, so that what follows draws the same numbers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_prep.corpus import unit_cache
from data_prep.opening.files import read_array
from data_prep.shards.rows import Ragged, Rows
from pipeline.stage import Context

FOLDER = "finished"
_GENERATOR = "generator.npy"
T = TypeVar("T")


def once(
    context: Context,
    identity: Mapping[str, Any],
    make: Callable[[], T],
    save: Callable[[T, Path], None],
    read: Callable[[Path], T],
) -> T:
    """`make()`, or its result from an earlier attempt at the job. identity: plain values."""
    import torch

    if not context.has_work:
        return make()
    made: list[T] = []

    def write(folder: Path) -> dict[str, Any]:
        made.append(make())
        save(made[0], folder)
        np.save(folder / _GENERATOR, torch.get_rng_state().numpy())
        return {}

    folder, key = context.work / FOLDER, unit_cache.key_of(identity)
    unit_cache.make(folder, key, write)
    if made:
        return made[0]
    torch.set_rng_state(torch.from_numpy(read_array(folder / key / _GENERATOR, np.uint8)))
    return read(folder / key)


def forget(context: Context) -> None:
    """Remove the parts of a job that is finished as a whole."""
    if context.has_work:
        shutil.rmtree(context.work / FOLDER, ignore_errors=True)


def digest_of(rows: Rows | None) -> str | None:
    """Digest of columns and their values; None for None."""
    if rows is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name, column in sorted(rows.items()):
        for part in (column.values, column.offsets) if isinstance(column, Ragged) else (column,):
            array = np.ascontiguousarray(part)
            digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
