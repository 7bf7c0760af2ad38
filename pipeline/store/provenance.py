"""Provenance of artifacts, stored outside of every digest."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib import metadata
from typing import Any

LIBRARIES = (
    "sesame-ssl",
    "deepspeed",
    "mlflow",
    "numpy",
    "pyarrow",
    "pydantic",
    "ray",
    "tokenizers",
    "torch",
    "transformers",
)


def provenance() -> dict[str, Any]:
    """Git commit of the current folder, library versions, host and time (UTC)."""
    return {
        "git": git_state(),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of installed libraries, read without importing them."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_state() -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the current folder, or None outside a repository (or before its first commit)."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git, or it hangs
        return None
    return done.stdout.strip() if done.returncode == 0 else None
