"""Finished pieces of work, kept by key: a unit is whole or absent, is made once, and used by whoever asks again.

    folder/KEY/         what `make` wrote
    folder/KEY/unit.json  its summary and the digests of its files, written before KEY gets its name
    folder/.draft-…/      what is being made; locked by its process, so that what a dead one left can be told

Preparing a corpus is a row of units, one for each stretch of its sources. A run that was ended goes on from those that
are there, and a corpus to which files were added makes theirs alone. Any of them may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from data_prep.sealed import digest, mapped, sealed, unsealed

FOLDER = "units"  # among the downloads
_INDEX = "unit.json"
_DRAFT = ".draft-"


def key_of(*parts: Any) -> str:
    """32 hex digits for plain values that say all of what a unit is made of."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find(folder: Path, key: str) -> dict[str, Any] | None:
    """A unit's summary; None where it is absent or not what was written."""
    path = folder / key
    with suppress(OSError, ValueError, KeyError):
        index = unsealed((path / _INDEX).read_bytes())
        if all(digest(mapped(path / name)) == expected for name, expected in index["files"].items()):
            os.utime(path)  # so that the units of no use can be told by their age
            return index["summary"]
    return None


def make(folder: Path, key: str, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The unit's summary, of what is there or of what `write(path)` writes now."""
    cached = find(folder, key)
    if cached is not None:
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    with _draft(folder) as draft:
        summary = write(draft)
        files = {path.name: digest(mapped(path)) for path in sorted(draft.iterdir())}
        (draft / _INDEX).write_bytes(sealed({"summary": summary, "files": files}))
        _put(draft, folder / key)
    return summary


def _put(draft: Path, final: Path) -> None:
    """Give a finished draft its name, unless another process was faster and made the same."""
    if final.exists() and find(final.parent, final.name) is None:
        with _draft(final.parent) as trash, suppress(FileNotFoundError):  # somebody else saw the damage, too
            final.rename(trash / "damaged")
    try:
        draft.rename(final)
    except OSError:
        if find(final.parent, final.name) is None:
            raise


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A new folder, locked inside the block, and removed at its end unless it has another name by then."""
    with ExitStack() as stack:
        while True:
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder))
            stack.callback(shutil.rmtree, draft, ignore_errors=True)
            with suppress(FileNotFoundError):  # `sweep` was faster than the lock: then another one is made
                if stack.enter_context(_lock(draft)) is not False and draft.is_dir():
                    break
        yield draft


@contextmanager
def _lock(path: Path) -> Iterator[bool | None]:
    """Whether a folder's lock is ours inside the block; None where the file system knows no locks.

    The system takes it from a process that ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError:
            held = None
        yield held
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> list[Path]:
    """Remove the drafts of processes that died."""
    removed = []
    for draft in folder.glob(f"{_DRAFT}*"):
        with suppress(FileNotFoundError), _lock(draft) as dead:
            if dead:
                shutil.rmtree(draft, ignore_errors=True)
                removed.append(draft)
    return removed


def collect(folder: Path, older_than: float, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Remove units that nobody used for so many seconds, and drafts of processes that died; (path, bytes) of each.

    Where there are no locks, drafts are told by their age, too.
    """
    deadline, removed = time.time() - older_than, []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with suppress(FileNotFoundError), _lock(path) as free:  # a draft that was finished meanwhile
            dead = free if path.name.startswith(_DRAFT) else None
            if path.stat().st_mtime < deadline if dead is None else dead:
                removed.append((path, sum(file.stat().st_size for file in path.rglob("*") if file.is_file())))
                if not dry_run:
                    shutil.rmtree(path, ignore_errors=True)
    return removed
