"""Cache of finished work by key: a unit is complete or absent, made once, and then reused.

    folder/KEY/           output of `make`
    folder/KEY/unit.json  its summary and the digests of its files, written before the folder is renamed to KEY
    folder/.draft-…/      work in progress; locked by its process, so that leftovers of dead processes can be recognised

A corpus is prepared as a sequence of units, one per stretch of its sources. An interrupted run resumes from the
finished units, and a corpus with added files makes only their units. Units may be deleted at any time.
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

from data_prep import private
from data_prep.sealed import digest, mapped, sealed, unsealed

FOLDER = "units"  # among the downloads
_INDEX = "unit.json"
_DRAFT = ".draft-"


def key_of(*parts: Any) -> str:
    """32 hex digits: the digest of plain values that determine a unit's contents."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def find(folder: Path, key: str) -> dict[str, Any] | None:
    """A unit's summary; None if it is absent or damaged."""
    path = folder / key
    with suppress(OSError, ValueError, KeyError):
        index = unsealed((path / _INDEX).read_bytes())
        if all(digest(mapped(path / name)) == expected for name, expected in index["files"].items()):
            os.utime(path)  # `collect` removes units by age since their last use
            return index["summary"]
    return None


def make(folder: Path, key: str, write: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The summary of the cached unit; if there is none, calls `write(path)` to make it."""
    cached = find(folder, key)
    if cached is not None:
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    with _draft(folder) as draft:
        summary = write(draft)
        paths = sorted(path for path in draft.rglob("*") if path.is_file())
        files = {path.relative_to(draft).as_posix(): digest(mapped(path)) for path in paths}
        (draft / _INDEX).write_bytes(sealed({"summary": summary, "files": files}))
        _put(draft, folder / key)
    return summary


def _put(draft: Path, final: Path) -> None:
    """Rename a finished draft to its key, unless another process made the same unit first."""
    if final.exists() and find(final.parent, final.name) is None:
        with (
            _draft(final.parent) as trash,
            suppress(FileNotFoundError),
        ):  # another process may be removing the damaged unit, too
            final.rename(trash / "damaged")
    private.open_to_sharers(draft)
    try:
        draft.rename(final)
    except OSError:
        if find(final.parent, final.name) is None:
            raise


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A new folder, locked inside the block, and removed at its end unless it has been renamed."""
    with ExitStack() as stack:
        while True:
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder))
            stack.callback(shutil.rmtree, draft, ignore_errors=True)
            with suppress(FileNotFoundError):  # `sweep` removed it before it was locked: try again
                if stack.enter_context(_lock(draft)) is not False and draft.is_dir():
                    break
        yield draft


@contextmanager
def _lock(path: Path) -> Iterator[bool | None]:
    """Whether this process holds a folder's lock inside the block; None if the file system does not support locks.

    The system releases the lock when the process ends, however it ends.
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
    """Remove units unused for `older_than` seconds, and drafts of dead processes; returns (path, bytes) of each.

    On file systems without locks, drafts are also removed by age.
    """
    deadline, removed = time.time() - older_than, []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with suppress(FileNotFoundError), _lock(path) as free:  # the draft may have been finished meanwhile
            dead = free if path.name.startswith(_DRAFT) else None
            if path.stat().st_mtime < deadline if dead is None else dead:
                removed.append((path, sum(file.stat().st_size for file in path.rglob("*") if file.is_file())))
                if not dry_run:
                    shutil.rmtree(path, ignore_errors=True)
    return removed
