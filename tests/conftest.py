"""Settings for all tests: quiet libraries, no home but the test's own, and one thread, which tiny tensors prefer."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from flows.machine.environment import QUIET

for name, value in QUIET.items():
    os.environ.setdefault(name, value)
os.environ["OMP_NUM_THREADS"] = "1"

# What runs in a test's own process has one core, as if the machine had no more: tests run side by side, and threads
# that share a core wait for each other by spinning. Processes that a test starts have all cores.
if hasattr(os, "sched_getaffinity"):
    _cores = os.sched_getaffinity(0)
    os.sched_getaffinity = lambda pid: {min(_cores)}  # type: ignore[assignment]

# `make test` tries the same examples every time; `make test-all` looks for new ones. None is timed: machines are busy.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """What a test changes in PyTorch is undone: threads are one, which tiny tensors prefer, and ZeRO-3, which puts a
    linear layer of its own in place of PyTorch's for the rest of a process's life, leaves it."""
    functional = sys.modules.get("torch.nn.functional")
    linear = functional.linear if functional else None
    yield
    if functional:
        functional.linear = linear
    if "torch" in sys.modules and sys.modules["torch"].get_num_threads() != 1:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that a test does ends up in the developer's own home."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SESAME_HOME", str(folder))
    return folder


def pytest_collection_finish() -> None:
    """What was imported by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named after their parameter: those of gzip hold the time, and two processes must agree on the names."""
    return argname if isinstance(val, bytes) else None
