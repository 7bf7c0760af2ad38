"""The bounded cache of shards that are far away; `tests/data_prep/sources/test_remote.py` reads through it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from data_prep.shards.remote import Cache


def never() -> bytes:
    raise AssertionError("what is in the cache is not fetched")


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def aged(folder: Path, *names: str, seconds: float = 0.0) -> None:
    """Last used in this order, a second apart, the last one `seconds` ago."""
    for number, name in enumerate(reversed(names)):
        used = time.time() - seconds - number
        os.utime(folder / name, (used, used))


def test_what_was_not_used_for_longest_leaves_a_full_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    for name in ("a", "b", "c"):
        assert bytes(cache.get(name, lambda name=name: name.encode() * 30)) == name.encode() * 30
    aged(tmp_path, "a", "b", "c", seconds=60)
    assert bytes(cache.get("a", never)) == b"a" * 30, "used again, and so the newest"
    cache.get("d", lambda: b"d" * 30)
    assert named(tmp_path) == ["a", "c", "d"], "120 bytes are too many: one goes, and nine tenths of 100 stay"
    cache.drop("c")
    cache.drop("c")
    assert named(tmp_path) == ["a", "d"] and bytes(cache.get("c", lambda: b"new")) == b"new"


def test_a_cache_is_tidied_when_it_is_opened(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(40))
    aged(tmp_path, "b", "c", "a")
    Cache(tmp_path, 120)
    assert named(tmp_path) == ["a", "b", "c"], "it is not too large"
    Cache(tmp_path, 119)
    assert named(tmp_path) == ["a", "c"]


@pytest.mark.parametrize(("seconds", "stays"), [(60.0, True), (7200.0, False)])
def test_a_file_that_is_being_written_stays(seconds: float, stays: bool, tmp_path: Path) -> None:
    (tmp_path / ".fetched-1").write_bytes(bytes(400))
    aged(tmp_path, ".fetched-1", seconds=seconds)
    Cache(tmp_path, 100)
    assert (tmp_path / ".fetched-1").exists() == stays
