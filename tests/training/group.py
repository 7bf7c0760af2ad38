"""Runs a function in several processes that share a gloo group, and brings back what each returned."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import start_processes

from training.distributed import Worker


def _member(rank: int, world: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    try:
        result: Any = function(Worker(rank, world), *arguments)
    except BaseException as error:
        traceback.print_exc()
        result = error
    torch.save(result, Path(folder) / f"result-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def in_group(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(worker, *arguments)` on `world` processes; results by rank.

    They are forked from a process that has imported the libraries once: a launch costs a tenth of a second.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.training.group_preload"])
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_member, (world, folder, function, arguments), nprocs=world, start_method="forkserver")
        results = [torch.load(Path(folder) / f"result-{rank}.pt", weights_only=False) for rank in range(world)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
