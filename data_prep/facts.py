"""What a network, an objective or a job may know of the data before it sees a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.shards.rows import Specials


@dataclass(frozen=True)
class DataFacts:
    """Facts of one set of shards. What a kind of data does not have is None or empty.

    shape: of one example's `input` if all are alike ([F] of a table, [C, H, W] of images), else of one item of a run
    ([] of tokens, [80] of frames). length: most items of a run. rate: items per second. classes: names of labels.
    preprocessor: folder with what was fitted on training rows (a tokenizer, `transform.json`, a scale).
    """

    kind: str
    columns: tuple[str, ...]
    shape: tuple[int, ...] = ()
    length: int | None = None
    rate: float | None = None
    classes: tuple[str, ...] = ()
    specials: Specials | None = None
    preprocessor: Path | None = None
