"""Cores that this process may use."""

from __future__ import annotations


def available() -> int:
    """Cores of this machine, of the process's affinity or of its container's quota: the fewest."""
    from joblib import cpu_count  # lazily: its import takes longer than a command that shows something

    return cpu_count()
