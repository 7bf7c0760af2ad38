"""Cores and memory that this process may use."""

from __future__ import annotations

from pathlib import Path


def available() -> int:
    """Cores of this machine, of the process's affinity or of its container's quota: the fewest."""
    from joblib import cpu_count  # lazily: its import takes longer than a command that shows something

    return cpu_count()


def free_memory() -> int:
    """Bytes of memory that processes may still take, of this machine or of its container: the fewest."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
