"""Span corruption (T5: Raffel et al. 2019, arXiv:1910.10683, section 3.1.4, and `random_spans_noise_mask` of its code).

    x    thank you for inviting me to your party last week
    x′   thank you <extra_id_0> me to your party <extra_id_1> </s>
    x″   <extra_id_0> for inviting <extra_id_1> last week </s>

Of L tokens, noise = clip(round(rate · L), 1, L − 1) are removed, in max(1, round(noise / mean_length)) spans; halves
are rounded to even. Text and noise alternate, text first and noise last; all ways to cut the noise into that number of
spans, and the text into the same number of parts, are equally likely. Sentinels are used in the order of
`Specials.sentinels`, and there is none at the end of x″. A row of one token is unchanged. All tokens of a row are text,
so it must have no special ones around it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Needs, Piece, Targets, check_rows
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, offsets_of, ragged, runs, take

NOISE, TEXT = range(2)  # draws


class SpansConfig(CorruptionConfig):
    """The share of tokens to remove, and the length of spans."""

    kind: Literal["spans"]
    """Span corruption, as in T5."""
    rate: float = Field(default=0.15, gt=0, lt=1)
    """Share of the tokens that are removed."""
    mean_length: float = Field(default=3.0, ge=1)
    """Average length of a span, in tokens."""

    targets: ClassVar[Targets] = "sequence"
    items = "ids"
    writes = ("seen", "target_tokens")

    @property
    def needs(self) -> Needs:
        return Needs(specials=("eos",), sentinels=1, bare=True, single=True)

    def sizes(self, length: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of noise tokens and of spans in rows of `length` tokens; int64, in the shape of `length`."""
        length = np.asarray(length, np.int64)
        noise = np.minimum(np.maximum(np.rint(self.rate * length), 1), length - 1).clip(0)
        spans = np.minimum(np.maximum(1, np.rint(noise / self.mean_length)), np.minimum(noise, length - noise))
        return noise.astype(np.int64), spans.astype(np.int64)

    def counts(self, n: int) -> Counts:
        """For a row of `n` tokens; x′ and x″ both end with [EOS]."""
        noise, spans = (int(size) for size in self.sizes(n))
        return Counts(n - noise + spans + 1, noise + spans + 1)

    def raw_length(self, n: int) -> int:
        raw = n
        while raw > 1 and self.counts(raw).seen > n:
            raw -= 1
        while self.counts(raw + 1).seen <= n:
            raw += 1
        return raw

    def sentinels(self, n: int) -> int:
        return int(self.sizes(n)[1])


class Spans(Corruption):
    """Span corruption with a vocabulary's sentinels and its [EOS]."""

    config: SpansConfig

    def __init__(self, config: SpansConfig, specials: Specials | None = None) -> None:
        super().__init__(config, specials)
        if specials is None:
            raise ValueError("span corruption needs the sentinels of a vocabulary")
        self.specials, self.eos = specials, specials.eos

    def counts(self, n: int) -> Counts:
        return self.config.counts(n)

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """See `Corruption`; `input` is removed. UserError if a row has more spans than there are sentinels."""
        check_rows(rows, self.config, draws)
        tokens = ragged(rows, "input")
        noise, spans = self.config.sizes(tokens.lengths)
        ids = self._sentinels(int(spans.max(initial=0)))
        text_lengths = _segments(tokens.lengths - noise, spans, draws, TEXT)
        noise_lengths = _segments(noise, spans, draws, NOISE)
        row = np.repeat(np.arange(len(tokens)), spans)
        sentinel = ids[np.arange(len(row)) - offsets_of(spans)[row]].astype(tokens.values.dtype)
        before = offsets_of(text_lengths)[1:] + offsets_of(noise_lengths)[:-1]  # tokens before a span, in all rows
        before -= (offsets_of(text_lengths) + offsets_of(noise_lengths))[offsets_of(spans)[row]]  # … in its own
        begins = tokens.offsets[row] + before
        is_noise = np.zeros(len(tokens.values), bool)
        is_noise[runs(begins, noise_lengths)] = True

        values, is_seen = tokens.values.copy(), ~is_noise
        values[begins], is_seen[begins] = sentinel, True
        seen = Ragged(values[is_seen], offsets_of(tokens.lengths - noise + spans))
        target_values = np.insert(tokens.values[is_noise], offsets_of(noise_lengths)[:-1], sentinel)
        targets = Ragged(target_values, offsets_of(noise + spans))
        others = {name: column for name, column in rows.items() if name != "input"}
        return others | {"seen": _ended(seen, self.eos), "target_tokens": _ended(targets, self.eos)}

    def restore(self, rows: Rows) -> Rows:
        """The rows with x, which must not contain sentinels."""
        seen, targets = (_without_end(ragged(rows, name)) for name in self.writes)
        hidden, opens = self._is_sentinel(seen.values), self._is_sentinel(targets.values)
        lengths = np.bincount((np.cumsum(opens) - 1)[~opens], minlength=int(opens.sum()))  # of spans
        counts = np.ones(len(seen.values), np.int64)
        counts[hidden] = lengths
        bounds = offsets_of(counts)
        values = np.repeat(seen.values, counts)
        values[runs(bounds[:-1][hidden], lengths)] = targets.values[~opens]
        clean = {name: column for name, column in rows.items() if name not in self.writes}
        return clean | {"input": Ragged(values, bounds[seen.offsets])}

    def filled(self, rows: Rows, written: Ragged) -> Ragged:
        """See `Corruption`: text written after a sentinel takes its place in x′; without any, it is removed."""
        seen, sentinels = _without_end(ragged(rows, "seen")), set(self.specials.sentinels)
        texts = []
        for row in range(len(seen)):
            spans: dict[int, list[int]] = {}
            now: list[int] = []  # what comes before the first sentinel belongs nowhere
            for token in written.row(row).tolist():
                if token in sentinels:
                    now = spans.setdefault(token, [])
                elif token != self.eos:
                    now.append(token)
            tokens = seen.row(row).tolist()
            texts.append(
                [item for token in tokens for item in (spans.get(token, []) if token in sentinels else [token])]
            )
        return Ragged.from_rows(texts, seen.values.dtype)

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        example = take({name: rows[name] for name in self.writes}, [row])
        seen, targets = (ragged(example, name).values for name in self.writes)
        x = ragged(self.restore(example), "input").values
        hidden, opens = np.flatnonzero(self._is_sentinel(seen)), np.flatnonzero(self._is_sentinel(targets))
        lengths = np.diff(opens, append=len(targets) - 1) - 1
        begins = hidden + offsets_of(lengths - 1)[:-1]
        return [Piece("x", x, runs(begins, lengths)), Piece("x′", seen, hidden), Piece("x″", targets, opens)]

    def _sentinels(self, count: int) -> np.ndarray:
        return np.array(self.specials.need_sentinels(count, "a row of span corruption"), np.int64)

    def _is_sentinel(self, values: np.ndarray) -> np.ndarray:
        return np.isin(values, self.specials.sentinels)


Config = SpansConfig


def build(config: SpansConfig, specials: Specials | None = None) -> Spans:
    return Spans(config, specials)


def _segments(total: np.ndarray, parts: np.ndarray, draws: Draws, draw: int) -> np.ndarray:
    """Lengths ≥ 1 of `parts` [R] runs that sum to `total` [R] tokens, flat [Σ parts]; all ways are equally likely.

    Of the total − 1 possible cuts, the parts − 1 with the smallest random bits are chosen.
    """
    places = Ragged.from_lengths(np.empty(np.maximum(total - 1, 0).sum(), bool), np.maximum(total - 1, 0))
    row, position = places.row_index(), places.positions()
    order = np.lexsort((draws.bits(draw, position, row), row))
    cut = np.zeros(len(row), bool)
    cut[order[position < (parts - 1)[row]]] = True  # in each row, positions count the ranks, too
    bounds = offsets_of(parts)
    has_parts = parts > 0
    starts, later = np.zeros(bounds[-1], np.int64), np.ones(bounds[-1], bool)
    later[bounds[:-1][has_parts]] = False
    starts[later] = position[cut] + 1
    stops = np.append(starts[1:], 0)[: len(starts)]
    stops[bounds[1:][has_parts] - 1] = total[has_parts]
    return stops - starts


def _ended(rows: Ragged, token: int) -> Ragged:
    return Ragged(np.insert(rows.values, rows.offsets[1:], token), rows.offsets + np.arange(len(rows) + 1))


def _without_end(rows: Ragged) -> Ragged:
    return Ragged(np.delete(rows.values, rows.offsets[1:] - 1), rows.offsets - np.arange(len(rows) + 1))
