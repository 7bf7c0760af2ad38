"""Cuts large files into stretches that are read independently: text at line ends, Parquet between row groups.

The cuts depend only on the file and the target size.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources import compressed

_CHUNK = 1 << 20
_CUT_BY = {".jsonl": "lines", ".parquet": "groups"}
_BOM = b"\xef\xbb\xbf"


class Stretch(NamedTuple):
    """Bytes [start, stop) of lines, or row groups [start, stop) of a table."""

    start: int
    stop: int
    first: int
    """Number of lines or rows before it."""
    size: int
    """Size in bytes."""


def file_digest(stream: BinaryIO) -> str:
    return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def cut_lines(stream: BinaryIO, target: int) -> tuple[str, list[Stretch]]:
    """Digest and stretches of a file of lines, read once.

    A cut is made at the first line end after each multiple of `target` bytes, unless that would leave only white space
    on one side, so that every stretch has a row unless the file has none.
    """
    digest, stretches = hashlib.sha256(), []
    start = first = 0  # start of the stretch in bytes and in lines
    filled = False  # whether the stretch contains more than white space
    position = lines = 0  # read so far
    goal = target
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        begin = 0
        while goal < position + len(chunk):
            line_end = chunk.find(b"\n", max(goal - position, begin))
            if line_end < 0:
                break
            end = line_end + 1
            filled = filled or _holds_text(chunk[begin:end], position + begin)
            lines += chunk.count(b"\n", begin, end)
            begin, cut = end, position + end
            if filled:
                stretches.append(Stretch(start, cut, first, cut - start))
                start, first, filled = cut, lines, False
            goal = -(-cut // target) * target
        filled = filled or _holds_text(chunk[begin:], position + begin)
        lines += chunk.count(b"\n", begin)
        position += len(chunk)
    if stretches and not filled:
        start, first = stretches[-1].start, stretches.pop().first
    stretches.append(Stretch(start, position, first, position - start))
    return f"sha256:{digest.hexdigest()}", stretches


def _holds_text(piece: bytes, offset: int) -> bool:
    return bool((piece.removeprefix(_BOM) if offset == 0 else piece).strip())


def group_rows(meta: pq.FileMetaData) -> list[int]:
    """Number of rows of each row group, clipped to plausible values."""
    counts = (meta.row_group(number).num_rows for number in range(meta.num_row_groups))
    return [min(max(0, count), 1 << 40) for count in counts]


def cut_groups(file: BinaryIO, target: int) -> list[Stretch]:
    """Stretches of a Parquet file's row groups; empty if it cannot be read, which its reader reports later."""
    try:
        meta = pq.read_metadata(file)
        groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
        rows = group_rows(meta)
        sizes = [sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups]
    except (pa.ArrowException, OSError, ValueError):
        return []
    stretches: list[Stretch] = []
    start = first = before = size = read = 0
    goal = target
    for number, (count, group_size) in enumerate(zip(rows, sizes, strict=True)):
        size += group_size
        read += count
        if size >= goal and read > first and any(rows[number + 1 :]):
            stretches.append(Stretch(start, number + 1, first, size - before))
            start, first, before = number + 1, read, size
            goal = (size // target + 1) * target
    stretches.append(Stretch(start, len(groups), first, size - before))
    return stretches


def cut_by(name: str) -> str | None:
    """How a file of this name can be cut: by "lines", by "groups" (Parquet row groups), or None."""
    if compressed.split(name)[1] is not None:
        return None
    return next((unit for suffix, unit in _CUT_BY.items() if name.lower().endswith(suffix)), None)
