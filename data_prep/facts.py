"""Facts about the data that networks, objectives and jobs can use before they see a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.shards.rows import Specials


@dataclass(frozen=True)
class DataFacts:
    """Facts about one set of shards. A fact that does not apply to a kind of data is None or empty.

    shape: of one example's `input` if all are equal ([F] for tables, [C, H, W] for images), else of one item of a
    sequence ([] for tokens, [80] for frames). length: maximum items of a sequence. rate: items per second. classes:
    names of labels. preprocessor: folder of what was fitted on training rows (a tokenizer, `transform.json`, a scale).
    """

    kind: str
    columns: tuple[str, ...]
    shape: tuple[int, ...] = ()
    length: int | None = None
    rate: float | None = None
    classes: tuple[str, ...] = ()
    specials: Specials | None = None
    preprocessor: Path | None = None
