"""Forming a group of workers: what was started is given back where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from data_prep.errors import UserError
from training.cluster.failures import LostError, UnreachableError
from training.cluster.group import Door, GroupConfig, _Group, _open, _reach


class Workers:
    """Stands for Ray's group of two workers, on which one function does something else."""

    def __init__(self, function: Callable[..., Any], outcome: Any) -> None:
        self.function, self.outcome = function, outcome
        self.aborted = 0

    def execute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        if function is not self.function:
            return [[Door("10.0.0.1", 4000, "10.0.0.1 (a)")]] * 2 if function is _open else [None, None]
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [self.outcome, None]

    def abort(self) -> None:
        self.aborted += 1


@pytest.mark.parametrize(
    ("function", "outcome", "error"),
    [
        (_open, RayTaskError("execute", "traceback", UserError("a folder is missing")), RayTaskError),
        (_open, ActorDiedError(), LostError),
        (_reach, "host 10.0.0.1 cannot reach 10.0.0.2", UnreachableError),
        (_reach, ActorDiedError(), LostError),
    ],
)
def test_a_group_that_does_not_form_gives_its_place_back(
    function: Callable[..., Any], outcome: Any, error: type[Exception]
) -> None:
    workers = Workers(function, outcome)
    with pytest.raises(error):
        _Group().on_start(workers, GroupConfig(backend="gloo"))
    assert workers.aborted == 1
