"""Prefect's decorators, for flows and tasks whose exceptions are safe to keep and show.

Prefect writes what a flow or task raises into the message of its state and into logs. So nothing else takes the
decorators from Prefect (a test reads all of the code for it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import prefect
from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE

from data_prep.legible import safe_errors

P = ParamSpec("P")
R = TypeVar("R")


def flow(name: str, **options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """`prefect.flow`, which keeps no results."""
    return lambda function: prefect.flow(name=name, persist_result=False, **options)(safe_errors(function))


def task(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """`prefect.task`, which keeps no results."""
    return lambda function: prefect.task(name=name, persist_result=False, cache_policy=NO_CACHE, **options)(
        safe_errors(function)
    )
