"""Batches of rows as columns, which are passed between composing, corrupting, storing and loading.

A batch is a dict from column name to column. A column is either `Ragged` (a sequence of items per
row: token ids, segments, frames) or a plain array whose first axis is the row (labels, document
numbers). This module is independent of the meaning of values, except for `Specials`, the token ids
that are not text.

    input           Ragged or [R, …]       x, the example (and x″ where that is the clean example): ids (uint16 or
                                           uint32), values, frames
    seen            like input             x′, what the network sees; without it, the network sees `input`
    target_positions, target_ids           x″, sparse: Ragged uint16, ascending, and dtype of `input`. `input` may
                                           be absent then: it is `seen` with the targets put back
    target_tokens   Ragged                 x″, a separate sequence
    segment         Ragged uint8           0 in [CLS] A [SEP], 1 in B [SEP]
    word_start      Ragged uint8           1 at a word's first piece and at specials, else 0
    sequence        Ragged, any integers   if a row has several sequences: which one
    sentence        Ragged uint16          which sentence of its text a token belongs to
    unit            Ragged, any integers   which phrase or word of its sequence a token belongs to
    boundary        Ragged uint8           1 at the first token of a paragraph
    label           ndarray uint8          NSP: 1 = random; SOP: 1 = swapped
    document        ndarray uint32         number of the document that the row comes from
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from data_prep.errors import UserError


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one flat array: row r is `values[offsets[r]:offsets[r + 1]]`.

    values: [N, *item], any dtype; items are scalars, frames, vectors, patches. offsets: [R + 1] int64, ascending from
    0 to N.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        offsets = np.asarray(self.offsets, np.int64)
        object.__setattr__(self, "offsets", offsets)
        if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(self.values):
            raise ValueError(f"offsets must rise from 0 to {len(self.values)}, the number of values")

    @staticmethod
    def from_rows(rows: Iterable[ArrayLike], dtype: DTypeLike | None = None, item: Sequence[int] = ()) -> Ragged:
        """From rows [length, *item]; `dtype` and `item` are needed if they do not follow from the rows."""
        arrays = [np.asarray(row, dtype) for row in rows]
        arrays = [array.reshape(0, *item) if not array.size else array for array in arrays] if item else arrays
        values = np.concatenate(arrays) if arrays else np.empty((0, *item), dtype)
        return Ragged.from_lengths(values, [len(array) for array in arrays])

    @staticmethod
    def from_lengths(values: np.ndarray, lengths: ArrayLike) -> Ragged:
        """Cut `values` [N, *item] into consecutive rows of `lengths` [R], which sum to N."""
        return Ragged(values, offsets_of(lengths))

    @staticmethod
    def concat(parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, one after another. At least one part."""
        if len(parts) == 1:
            return parts[0]
        values = np.concatenate([part.values for part in parts])
        return Ragged.from_lengths(values, np.concatenate([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of an item: () for scalars."""
        return self.values.shape[1:]

    @property
    def lengths(self) -> np.ndarray:
        """[R] int64."""
        return np.diff(self.offsets)

    def row(self, index: int) -> np.ndarray:
        """The values of one row, not copied."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def slice(self, start: int, stop: int) -> Ragged:
        """Rows start … stop-1; the values are not copied."""
        first, last = self.offsets[start], self.offsets[stop]
        return Ragged(self.values[first:last], self.offsets[start : stop + 1] - first)

    def take(self, rows: ArrayLike) -> Ragged:
        """The rows with these indices, in the given order; repeats are allowed. Consecutive rows are not copied."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and rows[0] >= 0 and bool((np.diff(rows) == 1).all()):
            return self.slice(int(rows[0]), int(rows[-1]) + 1)
        starts, lengths = self.offsets[:-1][rows], self.lengths[rows]
        offsets = offsets_of(lengths)
        index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(self.values[index], offsets)

    def row_index(self) -> np.ndarray:
        """[N] int64: the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def positions(self) -> np.ndarray:
        """[N] int64: the position of each value within its row."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    def pad(self, width: int, fill: int | float) -> np.ndarray:
        """[R, width, *item], padded with `fill` on the right; a view if every row has that width.

        Raises ValueError if a row is longer: truncation is left to the caller.
        """
        lengths = self.lengths
        if (lengths == width).all():
            return self.values.reshape(len(self), width, *self.item)
        if lengths.max() > width:
            raise ValueError(f"a row of {lengths.max()} items does not fit into a width of {width}")
        padded = np.full((len(self), width, *self.item), fill, self.values.dtype)
        padded[np.arange(width) < lengths[:, None]] = self.values
        return padded


Rows: TypeAlias = dict[str, Ragged | np.ndarray]


def offsets_of(lengths: ArrayLike) -> np.ndarray:
    """[R + 1] int64: the start of each of R consecutive runs of `lengths`, and the end of the last."""
    lengths = np.asarray(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[Σ lengths] int64: the numbers start … start + length − 1 of each run, one after another."""
    return np.repeat(starts - offsets_of(lengths)[:-1], lengths) + np.arange(lengths.sum())


def pieces(values: np.ndarray, length: int) -> list[np.ndarray]:
    """An array [N, …] cut into runs of nearly equal length, at most `length`."""
    return np.array_split(values, -(-len(values) // length))


def ragged(rows: Rows, name: str) -> Ragged:
    """The column `name`, which must be Ragged."""
    column = rows[name]
    if not isinstance(column, Ragged):
        raise TypeError(f"the column {name} holds one value per row, not a run of values")
    return column


def num_rows(rows: Rows) -> int:
    """Number of rows of the batch; ValueError if its columns disagree."""
    counts = {name: len(column) for name, column in rows.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"columns of one batch differ in their number of rows: {counts}")
    return next(iter(counts.values()), 0)


def network_input(rows: Rows) -> Ragged | np.ndarray:
    """The input of the network: x′ if the rows are corrupted, else x."""
    return rows["seen"] if "seen" in rows else rows["input"]


def take(rows: Rows, index: ArrayLike) -> Rows:
    """The rows with these indices, in the given order."""
    index = np.asarray(index, np.int64)
    return {name: column.take(index) if isinstance(column, Ragged) else column[index] for name, column in rows.items()}


def concat(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, one after another; ValueError if their columns differ."""
    names = {tuple(sorted(part)) for part in parts}
    if len(names) > 1:
        raise ValueError(f"batches with different columns cannot be joined: {sorted(names)}")
    joined: Rows = {}
    for name in parts[0] if parts else ():
        if isinstance(parts[0][name], Ragged):
            joined[name] = Ragged.concat([ragged(part, name) for part in parts])
        else:
            joined[name] = np.concatenate([np.asarray(part[name]) for part in parts])
    return joined


ROLES = ("cls", "sep", "pad", "mask", "unk", "bos", "eos", "decoder_start")


@dataclass(frozen=True, init=False)
class Specials:
    """The token ids of a vocabulary that are not text, by role.

    A tokenizer has some of the `ROLES`; accessing one that it lacks (`specials.mask`) raises UserError, `get` returns
    None. An id may have several roles. `vocabulary` is the number of ids; `all` contains every special id, with or
    without a role; `sentinels` stand for spans, in the order of use. `spell` gives the text of every id.
    """

    vocabulary: int
    all: frozenset[int]
    sentinels: tuple[int, ...]
    roles: tuple[tuple[str, int], ...]
    """(role, id) of the available roles, in the order of `ROLES`."""

    def __init__(
        self,
        vocabulary: int,
        all: Iterable[int] = (),
        sentinels: Iterable[int] = (),
        cls: int | None = None,
        sep: int | None = None,
        pad: int | None = None,
        mask: int | None = None,
        unk: int | None = None,
        bos: int | None = None,
        eos: int | None = None,
        decoder_start: int | None = None,
        spell: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        number_of_role = zip(ROLES, (cls, sep, pad, mask, unk, bos, eos, decoder_start), strict=True)
        roles = tuple((role, int(number)) for role, number in number_of_role if number is not None)
        spans = tuple(map(int, sentinels))
        ids = frozenset(map(int, all)) | {number for _, number in roles} | set(spans)
        if ids and (min(ids) < 0 or max(ids) >= vocabulary):
            raise ValueError(f"special ids {sorted(ids)} do not lie in a vocabulary of {vocabulary}")
        for name, value in (("vocabulary", vocabulary), ("all", ids), ("sentinels", spans), ("roles", roles)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_spell", spell)  # not a field: equal ids make equal specials

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each id of the vocabulary spells, read from the tokenizer when first asked for.

        A space before a word is part of its text where the tokenizer keeps spaces. Made-up ids without a tokenizer,
        by which `sesame plan` prices a recipe, are spelt <0>, <1>, …
        """
        spell: Callable[[], Sequence[str]] | None = self.__dict__["_spell"]
        return tuple(spell()) if spell else tuple(f"<{number}>" for number in range(self.vocabulary))

    def get(self, role: str) -> int | None:
        """The id of a role; None if the tokenizer lacks it."""
        if role not in ROLES:
            raise KeyError(f"{role!r} is no role of a special token: {', '.join(ROLES)}")
        return dict(self.roles).get(role)

    def need(self, role: str, what: str = "this recipe") -> int:
        """The id of a role. If the tokenizer lacks it, a UserError that `what` needs it."""
        number = self.get(role)
        if number is None:
            raise UserError(
                f"{what} needs a special token for {role}, and this tokenizer has none (it has "
                f"{', '.join(role for role, _ in self.roles) or 'no roles'}): add {role} to tokenizer.roles, or use "
                "another tokenizer"
            )
        return number

    def need_sentinels(self, count: int, what: str) -> tuple[int, ...]:
        """The first `count` sentinels. If there are fewer, a UserError that `what` needs them."""
        if len(self.sentinels) < count:
            raise UserError(
                f"{what} needs {count} sentinels, and this tokenizer has {len(self.sentinels)}: "
                f"set tokenizer.sentinels to {count}, or use another tokenizer"
            )
        return self.sentinels[:count]

    @property
    def cls(self) -> int:
        return self.need("cls")

    @property
    def sep(self) -> int:
        return self.need("sep")

    @property
    def pad(self) -> int:
        return self.need("pad")

    @property
    def mask(self) -> int:
        return self.need("mask")

    @property
    def unk(self) -> int:
        return self.need("unk")

    @property
    def bos(self) -> int:
        return self.need("bos")

    @property
    def eos(self) -> int:
        return self.need("eos")

    @property
    def decoder_start(self) -> int:
        return self.need("decoder_start")

    @cached_property
    def is_special(self) -> np.ndarray:
        """[vocabulary] bool, indexed by token id."""
        table = np.zeros(self.vocabulary, bool)
        table[sorted(self.all)] = True
        return table

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids that are text, in ascending order; random tokens are drawn from these."""
        return np.flatnonzero(~self.is_special)

    @property
    def dtype(self) -> np.dtype:
        """The type for storing token ids: uint16, or uint32 for vocabularies over 65,535."""
        return np.dtype(np.uint16 if self.vocabulary <= 65_535 else np.uint32)
