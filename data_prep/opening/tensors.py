"""Weights in safetensors: what a file holds, by its header, and its values.

The library refuses headers that do not fit their file, so a header never claims more than there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from data_prep.opening.files import UnfitError, inside, plain, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # of one file; of several


class Entry(NamedTuple):
    """A tensor of a file, by its header."""

    dtype: str
    """As safetensors call it: F32, BF16, I64 …"""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@contextmanager
def opened(path: Path, framework: str = "pt") -> Iterator[Any]:
    """A file mapped by the library. UnfitError if it is invalid, also during use."""
    plain(path)
    try:
        opened_file = safe_open(path, framework)  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise UnfitError(f"{path.name} holds no weights that can be read ({error})") from error
    try:
        with opened_file as file:
            yield file
    except SafetensorError as error:
        raise UnfitError(f"{path.name} holds weights that cannot be read ({error})") from error


def header(path: Path) -> dict[str, Entry]:
    """Names and shapes of a file's tensors, without reading them. UnfitError if it is not such a file."""
    with opened(path, "numpy") as file:
        pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return {name: Entry(piece.get_dtype(), tuple(piece.get_shape())) for name, piece in pieces.items()}


def header_of_folder(folder: Path) -> dict[str, Entry]:
    """What the weights of a folder hold: of the file, or of several that its index names. UnfitError as above."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return header(inside(folder, WEIGHTS))
    files = read_json(folder / INDEX).get("weight_map")
    if not isinstance(files, Mapping):
        raise UnfitError(f"{INDEX} names no files")
    return {
        key: entry
        for part in sorted(set(map(str, files.values())))
        for key, entry in header(inside(folder, part)).items()
    }


def load(path: Path, framework: str = "pt") -> dict[str, Any]:
    """All tensors of a file by name, torch's or NumPy's ("numpy"). UnfitError if it is invalid."""
    with opened(path, framework) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def misfit(wanted: Mapping[str, Any], held: Mapping[str, Entry]) -> str:
    """The first difference between tensors (with `shape`) that are wanted and those of a file; empty if none."""
    if names := sorted(set(wanted) ^ set(held)):
        return f"{names[0]} is {'not there' if names[0] in wanted else 'not asked for'}"
    for name, tensor in wanted.items():
        shape, stored = list(tensor.shape), held[name]
        if shape != list(stored.shape):
            return f"{name} has the shape {list(stored.shape)}, asked for is {shape}"
        is_float = str(tensor.dtype).removeprefix("torch.").startswith(("float", "bfloat"))
        if is_float != ("F" in stored.dtype):
            return f"{name} is {stored.dtype}, asked for is {tensor.dtype}"
    return ""
