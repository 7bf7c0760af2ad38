"""Garbage collection of a store: attempts that lost or died, work that was not resumed, leftovers of crashes.

A live attempt is never touched. Liveness is checked *before* the manifest is read: a process commits before its
heartbeat ends, so an attempt that is no longer live has committed already or never will.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import ATTEMPT, KEY, read_manifest
from pipeline.store.live import GRACE_SECONDS, LIVE_SUFFIX, LOCK_SUFFIX, WORK, is_live, locked
from pipeline.store.local import LocalFiles, usage

if TYPE_CHECKING:
    from pipeline.store.remote import RemoteFiles

    Files = LocalFiles | RemoteFiles


@dataclass(frozen=True)
class Garbage:
    """Something removed, or with `dry_run` something that would be."""

    where: str
    reason: str
    size: int
    """Bytes."""


def collect(
    files: Files, manifest: str, older_than: float, only: str | None = None, dry_run: bool = False
) -> list[Garbage]:
    """Remove what is not live, not committed, and unchanged for `older_than` seconds; in one key if `only` names it."""
    deadline = time.time() - older_than
    garbage: list[Garbage] = []
    for key in [only] if only else [key for key in files.folders() if KEY.fullmatch(key)]:
        garbage += _attempts(files, key, manifest, deadline, dry_run)
        garbage += _leftovers(files, key, dry_run)
        if not dry_run:
            files.tidy(key)
    garbage += _work(files, only, deadline, dry_run)
    return garbage


def _attempts(files: Files, key: str, manifest: str, deadline: float, dry_run: bool) -> Iterator[Garbage]:
    names = files.names(key)
    stems = {name.removesuffix(LIVE_SUFFIX) for name in names}
    for attempt in sorted(stem for stem in stems if ATTEMPT.fullmatch(stem)):
        live = attempt + LIVE_SUFFIX
        if is_live(files.read(key, live)):
            continue
        data = files.read(key, manifest)
        committed = data is not None and (read_manifest(data, key, files.where(key, manifest))["attempt"] == attempt)
        if not committed:
            size, newest = files.usage(key, attempt)
            if max(newest, files.usage(key, live)[1]) > deadline:
                continue
            if not dry_run:
                files.discard(key, attempt)
            reason = "another attempt was committed" if data is not None else "never committed"
            yield Garbage(files.where(key, attempt), reason, size)
        if not dry_run:
            files.drop(key, live)


def _leftovers(files: Files, key: str, dry_run: bool) -> Iterator[Garbage]:
    """Temporary files of a crash during a write, which takes far less than the grace period."""
    for name in files.names(key):
        if not (name.startswith(".") and name.endswith(".tmp")):
            continue
        size, newest = files.usage(key, name)
        if newest < time.time() - GRACE_SECONDS:
            if not dry_run:
                files.drop(key, name)
            yield Garbage(files.where(key, name), "left by a crash", size)


def _work(files: Files, only: str | None, deadline: float, dry_run: bool) -> Iterator[Garbage]:
    home: Path = files.home / WORK
    names = {path.name.removesuffix(LOCK_SUFFIX) for path in home.iterdir()} if home.is_dir() else set()
    for name in sorted(names):
        key = name.partition(".")[0]
        if not KEY.fullmatch(key) or only not in (None, key):
            continue
        folder = home / name
        with locked(folder) as held:  # also removes the lock of a killed process
            size, newest = usage(folder)
            if not held or newest > deadline or not folder.exists():
                continue
            if not dry_run:
                shutil.rmtree(folder)
            yield Garbage(str(folder), "work of earlier attempts", size)
