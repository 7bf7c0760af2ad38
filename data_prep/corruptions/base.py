"""Base class of corruptions: pure functions of batches of rows and keyed draws.

    x = `input` ──► x′ = `seen`, what the network is given  +  x″ = `target…`, what it must predict

Results do not depend on how rows are batched. Facts for checking a recipe (`targets`, `needs`) follow from the settings
alone, before there is a tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials

Targets = Literal["sparse", "sequence", "clean", "views"]


@dataclass(frozen=True)
class Needs:
    """Requirements on rows and tokenizer.

    specials: required roles of `Specials`. sentinels: required number. columns: required columns besides `input`.
    ends: whether a special token must follow the text of a row, so that who predicts all of it can say where it ends.
    bare: whether there must be no special tokens around it, as all tokens of a row are taken for text.
    single: whether a row must be one text, neither a pair nor several sequences.
    """

    specials: tuple[str, ...] = ()
    sentinels: int = 0
    columns: tuple[str, ...] = ()
    ends: bool = False
    bare: bool = False
    single: bool = False


class Counts(NamedTuple):
    """Expected numbers, for a row of n items, of items that the network sees and must predict."""

    seen: float
    targets: float


class Piece(NamedTuple):
    """Part of an example for display: x, x′ or x″.

    values: items of the part. places: positions to mark; for a sparse x″, the positions of its values in x; for a
    sequence, those of its sentinels.
    """

    name: str
    values: np.ndarray
    places: np.ndarray


class CorruptionConfig(BaseModel):
    """Settings that all corruptions share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    at: Literal["load", "shards"] = "load"
    """Corrupt rows each time they are read, or once and for all when shards are written."""

    VERSION: ClassVar[int] = 1
    """Part of the cache keys of results; incremented when the same settings give a different corruption."""
    targets: ClassVar[Targets]
    """The form of x″: sparse positions and ids, a sequence, the clean example, or other views of it."""
    items: ClassVar[Literal["any", "ids", "values"]] = "any"
    """What x must consist of: ids of a vocabulary, or numbers."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Columns that it adds. Sparse targets may replace `input`, which can be restored."""

    @property
    def needs(self) -> Needs:
        return Needs()

    def raw_length(self, n: int) -> int:
        """The maximum length of x for which the network sees at most `n` items (T5: 568 for 512)."""
        return n

    def sentinels(self, n: int) -> int:
        """The maximum number of sentinels that a row of `n` items needs."""
        return 0


class Corruption(ABC):
    """A corruption with its settings and the special ids of a vocabulary.

    reads: columns that the result depends on. Columns that it does not write are passed through.
    """

    reads: tuple[str, ...] = ("input",)

    def __init__(self, config: CorruptionConfig, specials: Specials | None = None) -> None:
        self.config: Any = config
        self.specials = specials
        if specials is not None:
            for role in config.needs.specials:
                specials.need(role, f"the corruption {config.kind}")
            specials.need_sentinels(config.needs.sentinels, f"the corruption {config.kind}")

    @property
    def targets(self) -> Targets:
        return self.config.targets

    @property
    def needs(self) -> Needs:
        return self.config.needs

    @property
    def writes(self) -> tuple[str, ...]:
        """Columns that it adds."""
        return self.config.writes

    def raw_length(self, n: int) -> int:
        """The maximum length of x for which the network sees at most `n` items."""
        return self.config.raw_length(n)

    @abstractmethod
    def counts(self, n: int) -> Counts:
        """Expected numbers of seen items and of targets of a row of `n` items."""

    @abstractmethod
    def restore(self, rows: Rows) -> Rows:
        """The rows before they were corrupted."""

    def filled(self, rows: Rows, written: Ragged) -> Ragged:
        """x [R, ragged] of corrupted rows, with arbitrary output of a network in the place of `target_tokens`."""
        raise ValueError(f"the corruption {self.config.kind} leaves no sequence to write")

    @abstractmethod
    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        """The parts of one corrupted row to display: x, x′ and x″, without x″ if it equals x."""

    @abstractmethod
    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """Corrupt a batch, not in place. draws: one sample per row.

        Raises what `check_rows` raises.
        """


def check_rows(rows: Rows, config: CorruptionConfig, draws: Draws) -> None:
    """Whether a corruption can be applied to rows.

    Raises ValueError if they are corrupted already, if the numbers of rows and draws differ or if rows have several
    sequences and must have one, UserError if a column that it needs is missing.
    """
    check_untouched(rows, config.writes, draws)
    if config.needs.single and "sequence" in rows:
        raise ValueError(f"the corruption {config.kind} is of rows of one sequence each")
    for name in config.needs.columns:
        if name not in rows:
            raise UserError(
                f"the corruption {config.kind} with these settings needs rows with {name}, and these have none: "
                "prepare the data again, or change the corruption"
            )


def check_untouched(rows: Rows, writes: Collection[str], draws: Draws) -> None:
    """ValueError if rows have a column of `writes`, or if the numbers of rows and draws differ."""
    if not rows.keys().isdisjoint(writes):
        raise ValueError("these rows are corrupted already")
    if len(draws) != len(rows["input"]):
        raise ValueError(f"{len(rows['input'])} rows need as many samples, not {len(draws)}")


def ends_of_text(tokens: Ragged, specials: Specials) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of special tokens, 0 or 1, that begin and end each row: two [R] int64. Between them is its text."""
    lengths, has_tokens = tokens.lengths, tokens.lengths > 0
    front, back = np.zeros((2, len(tokens)), np.int64)
    front[has_tokens] = specials.is_special[tokens.values[tokens.offsets[:-1][has_tokens]]]
    back[has_tokens] = specials.is_special[tokens.values[tokens.offsets[1:][has_tokens] - 1]]
    back[lengths == 1] = 0  # one token is at one end
    return front, back


def rounded_up(share: float, count: np.ndarray) -> np.ndarray:
    """[R] int64: ceil(share · count), of the number meant and not of its nearest float (0.07 · 100 is 7)."""
    return np.ceil(share * count - 1e-9).astype(np.int64)
