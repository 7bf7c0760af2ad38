"""Settings for all tests: quiet libraries, no home but the test's own, and one thread, which tiny tensors prefer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.environment import QUIET

for name, value in QUIET.items():
    os.environ.setdefault(name, value)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that a test does ends up in the developer's own home."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SESAME_HOME", str(folder))
    return folder
