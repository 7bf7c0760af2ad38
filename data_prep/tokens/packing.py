"""Packs several sequences into each row to reduce padding.

    composed    a a a a a a a · ·      packed    a a a a a a a c c      sequence  0 0 0 0 0 0 0 1 1
                b b b b b · · · ·                b b b b b d d d ·                0 0 0 0 0 1 1 1
                c c · · · · · · ·
                d d d · · · · · ·

Best fit decreasing: the longest sequence first, each into the row with the least remaining room. It never needs more
than 11/9 of the minimum number of rows plus one (Johnson 1973), and is nearly optimal on texts, which have many short
sequences.
"""

from __future__ import annotations

import numpy as np

from data_prep.shards.rows import Ragged, Rows, num_rows, offsets_of, ragged, take

SHORTEST = 3  # tokens of a sequence: [CLS], one of text, [SEP]


def pack(rows: Rows, length: int, shortest: int = SHORTEST) -> Rows:
    """Put the given rows, here called sequences, into rows of at most `length` tokens without cutting them.

    The sequences in a row, and rows by their first sequence, stay in order. Columns with one value per token are
    concatenated; those with one value per sequence become Ragged. Adds `sequence` (Ragged): the index of each token's
    sequence in its row. ValueError if a sequence is longer than `length` or shorter than `shortest`.
    """
    lengths = ragged(rows, "input").lengths
    if len(lengths) and lengths.min() < shortest:
        raise ValueError(f"a sequence of {lengths.min()} tokens is shorter than {shortest}")
    row = best_fit(lengths, length)
    order = np.argsort(row, kind="stable")
    bounds = offsets_of(np.bincount(row))  # where rows begin in the sequences
    packed: Rows = {}
    for name, column in take(rows, order).items():
        if isinstance(column, Ragged):
            packed[name] = Ragged(column.values, column.offsets[bounds])
        else:
            packed[name] = Ragged(column, bounds)
    number = np.arange(num_rows(rows)) - np.repeat(bounds[:-1], np.diff(bounds))
    sequence = np.repeat(number.astype(sequence_dtype(length, shortest)), lengths[order])
    return packed | {"sequence": Ragged(sequence, ragged(packed, "input").offsets)}


def sequence_dtype(length: int, shortest: int = SHORTEST) -> np.dtype:
    """The type of sequence indices in rows of up to `length` tokens; independent of their contents."""
    return np.min_scalar_type(max(length // shortest - 1, 0))


def best_fit(lengths: np.ndarray, room: int) -> np.ndarray:
    """The row [S] of each of S sequences, by best fit decreasing; rows are numbered by their first sequence.

    Among rows with equal room left, the latest is chosen. Sequences of equal length are placed in order. ValueError if
    one is longer than `room`.
    """
    if len(lengths) and lengths.max() > room:
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit into a row of {room}")
    order = np.argsort(-lengths, kind="stable")
    row = np.empty(len(lengths), np.int64)
    left: list[list[int]] = [[] for _ in range(room + 1)]  # rows by remaining room
    rooms, rows = 0, 0  # bit r of `rooms`: there are rows with room r
    for place, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = rooms >> length
        if fitting:
            smallest_room = length + (fitting & -fitting).bit_length() - 1
            chosen = left[smallest_room].pop()
            if not left[smallest_room]:
                rooms ^= 1 << smallest_room
        else:
            chosen, smallest_room, rows = rows, room, rows + 1
        row[place] = chosen
        left[smallest_room - length].append(chosen)
        rooms |= 1 << (smallest_room - length)
    first = np.full(rows, len(lengths))
    np.minimum.at(first, row, np.arange(len(lengths)))
    return np.argsort(np.argsort(first))[row]
