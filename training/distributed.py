"""Which worker this is, and the few collective calls the loop needs."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.compute import cores
from data_prep.errors import UserError
from training.lazy import dist, torch

if TYPE_CHECKING:
    from torch import Tensor

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


@dataclass(frozen=True)
class Worker:
    """One training process among `world`; a lone worker needs no process group."""

    rank: int = 0
    world: int = 1
    local: int = 1  # of them on this machine
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Each value summed over all workers, in double precision."""
        if self.world == 1:
            return values
        # NCCL moves device tensors only; gloo takes CPU ones.
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def add(self, tensor: Tensor) -> Tensor:
        """The tensor with those of all workers added to it, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def rows(self, tensor: Tensor, counts: list[int]) -> list[Tensor]:
        """Tensors [counts[r], …] of all workers, in order of rank, on every worker."""
        if self.world == 1:
            return [tensor]
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return [gathered_rows[:count] for gathered_rows, count in zip(gathered, counts, strict=True)]

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Small Python values of all workers, in order of rank, on every worker."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def check_device(name: str) -> None:
    """UserError where a device is of a kind that is not used, or this machine has none of it."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise UserError(f"--device {name}: is no device; name cpu or cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: PyTorch finds no GPU on this machine; use cpu.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, numbered from 0.")


def seed_torch(seed: int) -> None:
    """Seed the generators of the CPU and of CUDA devices in use, as `torch.manual_seed` does.

    Before CUDA is used, that function notes each call with its stack, for later: milliseconds and memory in every step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def set_up_cpu(threads: int | None, workers: int = 1) -> None:
    """Divide this machine's cores among its `workers`, or use `threads`, and keep freed memory for the next step.

    The number of threads changes the last digits of sums, so it does not follow what else the machine does at the
    moment: a run that is resumed gives the same result. How threads wait for each other does (`training.waiting`).

    By default glibc gives large blocks back to the kernel, which has to clear every page of them again a moment later:
    a fifth of a small network's time. torch's huge pages (`THP_MEM_ALLOC_ENABLE`) stay off: each block then begins at a
    multiple of 2 MiB, whose gaps are a sixth to a third of the memory, and they save no time that was measured.
    """
    torch.set_num_threads(threads or max(1, cores.available() // workers))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc; elsewhere allocators have habits of their own
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_TOP_PAD, 64 << 20)


def compile_in_private() -> None:
    """Compiled code goes to this user's cache, unless the environment names another.

    PyTorch's default is a folder in `/tmp` with a known name: anyone who makes it first could have us run their code.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "torchinductor"))
