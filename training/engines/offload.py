"""Offloading by ZeRO: DeepSpeed's settings for it, and a folder on the disk for each worker."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import private
from data_prep.errors import UserError
from training.config import PlacementConfig

if TYPE_CHECKING:
    from torch import nn

PREFIX, LOCK = "sesame-offload-", "lock"
EXTENSIONS = "TORCH_EXTENSIONS_DIR"


def settings(placement: PlacementConfig, module: nn.Module, world: int) -> dict[str, Any]:
    """DeepSpeed's settings of what is offloaded; for a disk, with a folder of its own.

    Raises UserError if this machine cannot offload to a disk.
    """
    offload = placement.offload
    zero: dict[str, Any] = {}
    disk: dict[str, Any] = {}
    if "nvme" in (placement.offload_optimizer, placement.offload_parameters):
        check_async_io()
        load_async_io()
        disk = {"nvme_path": str(own_folder(Path(offload.folder or "")))}
    if placement.offload_optimizer:
        zero["offload_optimizer"] = {
            "device": placement.offload_optimizer,
            "pin_memory": offload.pin_memory,
            "buffer_count": offload.optimizer_buffers,
            "pipeline_read": offload.overlap,
            "pipeline_write": offload.overlap,
            **disk,
        }
    if placement.offload_parameters:
        largest = max(-(-parameter.numel() // world) for parameter in module.parameters())
        zero["offload_param"] = {
            "device": placement.offload_parameters,
            "pin_memory": offload.pin_memory,
            "buffer_count": offload.parameter_buffers,
            "buffer_size": offload.parameter_buffer_size or largest,
            "max_in_cpu": offload.parameters_in_memory,
            **disk,
        }
    aio = {
        "block_size": offload.block_size,
        "queue_depth": offload.queue_depth,
        "intra_op_parallelism": offload.threads,
        "single_submit": offload.single_submit,
        "overlap_events": offload.overlap_events,
    }
    return {"zero_optimization": zero, **({"aio": aio} if disk else {})}


def check_async_io() -> None:
    """UserError if DeepSpeed cannot compile or load what reads and writes disks for it."""
    from deepspeed.ops.op_builder import AsyncIOBuilder  # type: ignore[attr-defined]

    lacks = [name for name in ("c++", "ninja") if shutil.which(name) is None]
    if lacks or not AsyncIOBuilder().is_compatible(verbose=False):
        raise UserError(
            f"placement.offload: nvme needs {', '.join(lacks) or 'libaio'}, which this machine lacks; install g++, "
            "ninja-build and libaio-dev on every machine of the cluster, or offload to cpu."
        )


def load_async_io() -> None:
    """Compile what reads and writes disks for DeepSpeed, which takes minutes the first time, and load it.

    Raises UserError where that cannot be written.
    PyTorch marks a build by a file that everybody else waits on; a killed process never removes it. Builds in this
    folder are begun under a lock that the kernel releases, so a mark found under it is nobody's.
    """
    import torch
    from deepspeed.ops.op_builder import AsyncIOBuilder  # type: ignore[attr-defined]

    configured = os.environ.get(EXTENSIONS)
    root = configured or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(root) / f"sesame-python{python}-torch{torch.__version__}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        building = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(
            f"placement.offload: {folder}, where what reads disks is compiled, cannot be written ({error.strerror}); "
            f"set {EXTENSIONS} to a folder that can be."
        ) from error
    with building as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale_lock in folder.glob("*/lock"):
            stale_lock.unlink()
        os.environ[EXTENSIONS] = str(folder)
        try:
            AsyncIOBuilder().load(verbose=False)
        finally:
            if configured is None:
                del os.environ[EXTENSIONS]
            else:
                os.environ[EXTENSIONS] = configured


def own_folder(root: Path) -> Path:
    """A new folder in `root`, which `own_folders` removes. Raises UserError if `root` cannot be written."""
    try:
        return _own.enter_context(private.own_folder(root, PREFIX))
    except OSError as error:
        raise UserError(f"placement.offload.folder: {root} cannot be written ({error.strerror}).") from error


@contextmanager
def own_folders() -> Iterator[None]:
    """Inside, engines may offload to disks; afterwards this process's folders are gone."""
    with _own:
        yield


_own = ExitStack()
