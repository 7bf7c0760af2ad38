"""Shard format: rows in memory-mapped Arrow files, read without copying, with digests of all bytes.

    folder/
      shard-00000.arrow   Arrow IPC file: head (magic, schema) · record batches · tail (footer)
      shard-00000.json    offsets and digests of its head, batches and tail
      shard-00001.arrow   …
      index.json          written last: contents of the files, digest of each shard's JSON

Opening reads only the index, one line per shard, so that it is fast even for a million shards.

The files are a pure function of the rows, independent of the calls of `write`. The digest of a
record batch is checked on first access; a flipped byte or a truncated or missing file is reported and
never trained on. (Arrow's own validation accepts about half of all single flipped bytes.)

A Ragged column is stored as LargeList (layout "ragged"), or as FixedSizeList where all rows have
one length (layout "blocks"); items with axes of their own, in a row or one to a row, as Arrow's
fixed-shape tensors, which know their shape. Booleans become uint8.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.shards.rows import Ragged

FORMAT = 3
INDEX = "index.json"
MAGIC = b"ARROW1\0\0"  # at the start of an Arrow file; the schema message follows

Layout = Literal["blocks", "ragged"]


class Part(NamedTuple):
    """A range of a shard's bytes with a digest."""

    start: int
    end: int
    digest: str


def parts_file(folder: Path, shard: str) -> Path:
    """The JSON file with the offsets and digests of the shard file named `shard`."""
    return folder / Path(shard).with_suffix(".json")


def to_arrow(column: Ragged | np.ndarray, name: str, layout: Layout) -> pa.Array:
    """A column as an Arrow array that shares its values."""
    values = column.values if isinstance(column, Ragged) else column
    if values.dtype == bool:
        values = values.view(np.uint8)
    items = _items_to_arrow(values)
    if not isinstance(column, Ragged):
        return items
    if layout == "ragged":
        return pa.LargeListArray.from_arrays(pa.array(column.offsets), items)
    lengths = column.lengths
    if (lengths != lengths[0]).any():
        lengths_shown = f"{lengths.min()} to {lengths.max()} values"
        raise ValueError(f"layout blocks needs rows of one length, but the column {name} has {lengths_shown}")
    return pa.FixedSizeListArray.from_arrays(items, int(lengths[0]))


def from_arrow(array: pa.Array) -> Ragged | np.ndarray:
    """The column of an Arrow array, as read-only views of its buffers."""
    if pa.types.is_large_list(array.type):
        offsets = array.offsets.to_numpy(zero_copy_only=True)
        return Ragged(_items_from_arrow(array.values), offsets)
    if pa.types.is_fixed_size_list(array.type):
        offsets = np.arange(len(array) + 1, dtype=np.int64) * array.type.list_size
        return Ragged(_items_from_arrow(array.values), offsets)
    return _items_from_arrow(array)


def _items_to_arrow(values: np.ndarray) -> pa.Array:
    """[N, *item] as N values, or tensors of their shape."""
    if values.ndim == 1:
        return pa.array(values)
    item = values.shape[1:]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(item))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, item), storage)


def _items_from_arrow(array: pa.Array) -> np.ndarray:
    """[N, *item], not copied."""
    if isinstance(array, pa.FixedShapeTensorArray):
        flat = array.storage.values.to_numpy(zero_copy_only=True)
        return flat.reshape(len(array), *array.type.shape)
    return array.to_numpy(zero_copy_only=True)
