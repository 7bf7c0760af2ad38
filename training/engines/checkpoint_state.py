"""The state of a network and its optimizer as pieces that any number of workers can read.

A piece is a run of consecutive elements of one parameter with the optimizer's state of the same elements. The rank that
holds a piece writes it; a rank that needs some elements reads just those, whoever wrote them. So files do not depend
on ZeRO stages or numbers of workers, and a run can be resumed with different ones:

    before, 2 workers:   [ worker 0: a₀ … a₄ ][ worker 1: a₅ … a₉ ]
    after, 3 workers:    [ worker 0: a₀ … a₃ ][ worker 1: a₄ … a₇ ][ worker 2: a₈ a₉ ]

Nothing is converted and nothing assembled: beyond its own share of the state, a worker needs no memory to read and a
copy of one tensor at most to write. The files are safetensors, so that reading them runs no code.
"""

from __future__ import annotations

import copy
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from data_prep.opening import tensors as safetensors
from data_prep.opening.files import UnfitError

WEIGHT = "weight"
SUFFIX = ".safetensors"
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Elements [start, start + n) of the flattened parameter (or buffer) `name`.

    `tensors` are views into the live state by kind: the weight and the optimizer's moments, each of n elements, and
    what it counts (`step`), without dimensions.
    """

    name: str
    start: int
    tensors: dict[str, Tensor]


class HasPieces(Protocol):
    """What can be saved and restored; see `training.engines.plain.Engine`."""

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]: ...


@torch.no_grad()
def write(state: HasPieces, folder: Path, rank: int) -> None:
    """Write this rank's pieces, one file for each group of them."""
    for number, pieces in enumerate(state.pieces()):
        tensors = {
            f"{piece.name}/{kind}@{piece.start}": tensor.reshape(-1) if tensor.ndim else tensor
            for piece in pieces
            for kind, tensor in piece.tensors.items()
        }
        if tensors:
            write_tensors(folder / f"rank-{rank:05d}-{number:03d}{SUFFIX}", tensors)


@torch.no_grad()
def restore(state: HasPieces, folder: Path) -> None:
    """Fill this rank's pieces from what any ranks wrote into `folder`."""
    with SavedPieces(folder) as saved:
        for pieces in state.pieces(changing=True):
            for piece in pieces:
                for kind, tensor in piece.tensors.items():
                    saved.read(piece.name, kind, piece.start, tensor)


class SavedPieces:
    """What all ranks wrote into a folder, by parameter and kind. Files are mapped; only what is used is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open = ExitStack()

    def __enter__(self) -> SavedPieces:
        self.runs: dict[tuple[str, str], list[tuple[int, Any, str]]] = {}  # where each starts, its file and key
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            file: Any = self.open.enter_context(safetensors.opened(path))
            for key in file.keys():  # noqa: SIM118 - no mapping
                name, _, rest = key.rpartition("/")
                kind, _, start = rest.rpartition("@")
                if not start.isdecimal():
                    raise UnfitError(f"{path.name} holds {key!r}, which is no part of a parameter")
                self.runs.setdefault((name, kind), []).append((int(start), file, key))
        return self

    def __exit__(self, *error: Any) -> None:
        self.runs.clear()
        self.open.__exit__(*error)

    def read(self, name: str, kind: str, start: int, out: Tensor) -> None:
        """Fill `out` with the elements from `start` on; leave it as it is if that kind was never written.

        An optimizer has no moments for a parameter that it has not updated yet.
        """
        runs = self.runs.get((name, kind), [])
        if out.ndim == 0:
            for _, file, key in runs:
                saved = file.get_tensor(key)
                if saved.ndim:
                    raise UnfitError(f"{name}'s {kind} is {list(saved.shape)} numbers, not one")
                out.copy_(torch.maximum(out, saved.to(out.device)))
            return
        flat = out.view(-1) if out.is_contiguous() else torch.empty(out.numel(), dtype=out.dtype, device=out.device)
        end, filled = start + out.numel(), 0
        for begins, file, key in runs:
            run = file.get_slice(key)
            if len(run.get_shape()) != 1:
                raise UnfitError(f"{name}'s {kind} has the shape {run.get_shape()}, and is kept flat")
            low, high = max(start, begins), min(end, begins + run.get_shape()[0])
            if low < high:
                flat[low - start : high - start].copy_(run[low - begins : high - begins])
                filled += high - low
        if filled != out.numel() and (runs or kind == WEIGHT):
            raise UnfitError(f"there are {filled} of {out.numel()} elements of {name}'s {kind} from {start} on")
        if not out.is_contiguous() and runs:
            out.copy_(flat.view(out.shape))


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file, on the disk when this returns; the library's own writer would copy all tensors first."""
    header: dict[str, Any] = {}
    offset = 0
    for key, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        place = [offset, offset + size]
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def optimizer_state(optimizer: torch.optim.Optimizer, parameter: Tensor, changing: bool) -> dict[str, Tensor]:
    """The optimizer's state of a parameter; with `changing`, a fresh one to be filled, as it would begin it itself.

    Of any optimizer whose state has for every parameter a value per element, one in all, or one for each row or column:
    Adam's moments and count, a momentum, Adafactor's factors. Plain gradient descent has none.
    """
    if changing:
        begun = _begun(optimizer, parameter)
        optimizer.state[parameter] = {kind: _room(kind, value, parameter) for kind, value in begun.items()}
    return {kind: value for kind, value in optimizer.state.get(parameter, {}).items() if isinstance(value, Tensor)}


def _begun(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The state that the optimizer begins for a parameter of this one's type and dimensions, but of sizes 2, 3, …, seen
    by letting it take a step."""
    sizes = tuple(range(2, 2 + parameter.ndim))
    probe = torch.zeros(sizes, dtype=parameter.dtype, device=parameter.device, requires_grad=True)
    probe.grad = torch.zeros_like(probe)
    probe_optimizer = copy.copy(optimizer)
    probe_optimizer.state = defaultdict(dict)
    probe_optimizer.param_groups = [{**optimizer.param_groups[0], "params": [probe]}]
    with torch.enable_grad():
        probe_optimizer.step()
    return {kind: value for kind, value in probe_optimizer.state[probe].items() if isinstance(value, Tensor)}


def _room(kind: str, begun: Tensor, parameter: Tensor) -> Tensor:
    """Zeros for a state of a parameter: one in all, one for each element, or one for each row or column."""
    if begun.ndim == 0:
        return torch.zeros_like(begun)
    sizes = list(range(2, 2 + parameter.ndim))
    if list(begun.shape) == sizes:
        return torch.zeros_like(parameter, dtype=begun.dtype, memory_format=torch.preserve_format)
    if begun.ndim != parameter.ndim or any(n not in (1, size) for n, size in zip(begun.shape, sizes, strict=True)):
        raise TypeError(f"the optimizer keeps {kind} of another shape than its parameter's")
    shape = [1 if n == 1 else size for n, size in zip(begun.shape, parameter.shape, strict=True)]
    return torch.zeros(shape, dtype=begun.dtype, device=begun.device)


def buffers(module: torch.nn.Module) -> list[Piece]:
    """What a module keeps besides its parameters; the same on every rank."""
    saved_names = set(module.state_dict(keep_vars=True))
    return [Piece(name, 0, {WEIGHT: buffer}) for name, buffer in module.named_buffers() if name in saved_names]
