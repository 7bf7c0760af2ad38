"""What every corruption answers: a pure function of whole batches of rows and of keyed draws.

    x = `input` ──► x′ = `seen`, what the network is given  +  x″ = `target…`, what it must predict

Splitting, reordering or joining batches changes nothing. Facts that a recipe is checked by (`targets`, `needs`) are
told by the settings alone, before there is a tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data_prep.rng import Draws
from data_prep.shards.rows import Rows, Specials

Targets = Literal["sparse", "sequence", "clean", "views"]


@dataclass(frozen=True)
class Needs:
    """What rows and tokenizer must offer.

    specials: roles of `Specials` that must be filled. sentinels: how many of them. columns: of rows, beside `input`.
    """

    specials: tuple[str, ...] = ()
    sentinels: int = 0
    columns: tuple[str, ...] = ()


class Counts(NamedTuple):
    """Expected numbers for a row of n items: what the network sees, and what it must predict."""

    seen: float
    targets: float


class Piece(NamedTuple):
    """Part of an example as it is printed: x, x′ or x″.

    values: items of the part. places: where it stands out; of a sparse x″, where its values belong in x. Of a sequence,
    these are its sentinels.
    """

    name: str
    values: np.ndarray
    places: np.ndarray


class CorruptionConfig(BaseModel):
    """Settings that all corruptions share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    at: Literal["load", "shards"] = Field(
        default="load", description="Corrupt rows anew as they are read, or once and for all when shards are written."
    )

    VERSION: ClassVar[int] = 1
    """Part of the keys of what it changes: raised when the same settings come to mean another corruption."""
    targets: ClassVar[Targets]
    """What x″ is: sparse positions and ids, a sequence, the clean example, or other views of it."""
    items: ClassVar[Literal["any", "ids", "values"]] = "any"
    """What x must consist of: ids of a vocabulary, or numbers."""

    @property
    def needs(self) -> Needs:
        return Needs()

    def raw_length(self, n: int) -> int:
        """The longest x of which no more than `n` items are seen (T5: 568 for 512): how long rows are composed."""
        return n

    def sentinels(self, n: int) -> int:
        """The most sentinels that a row of `n` items takes."""
        return 0


class Corruption(ABC):
    """A corruption with its settings and the special ids of a vocabulary.

    reads: columns that the result depends on. writes: columns that it adds. Sparse targets may replace `input`: it can
    be restored. All other columns are passed on as they are.
    """

    reads: tuple[str, ...] = ("input",)
    writes: tuple[str, ...] = ()

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

    def raw_length(self, n: int) -> int:
        """The longest x of which no more than `n` items are seen."""
        return self.config.raw_length(n)

    @abstractmethod
    def counts(self, n: int) -> Counts:
        """Expected numbers of seen items and of targets of a row of `n` items."""

    @abstractmethod
    def restore(self, rows: Rows) -> Rows:
        """The rows before they were corrupted."""

    @abstractmethod
    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        """What is printed of one corrupted row: x, x′ and x″, without x″ where it is x."""

    @abstractmethod
    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        """Corrupt a batch. draws: one sample per row. Nothing changes in place.

        Raises ValueError where rows are corrupted already or the draws are not as many as they.
        """
