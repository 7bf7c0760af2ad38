"""Folders of tiny networks that write, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.inference import writers


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """architecture ↦ folder."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = writers.write(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder
