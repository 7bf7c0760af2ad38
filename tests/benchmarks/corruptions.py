"""The speed of every corruption of the table, on one core.

    python -m tests.benchmarks.corruptions [KIND …]

Rows, and settings beside the default, are those of the tests of the table. Processor time, the best of several tries:
other work on the machine makes the clock slow, not a core. Of text, tokens are counted; of sound, frames; of tables and
images, rows.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from data_prep.corruptions import CORRUPTIONS, build, config_of
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Specials, num_rows
from tests.data_prep.corruptions.test_table import CASES, TEXT, example

ITEMS = 1 << 17  # tokens or frames of a batch
LENGTHS = (128, 512)
TRIES = 15
SPECIALS = Specials(8192, pad=0, unk=1, cls=2, sep=3, mask=4, eos=5, sentinels=range(8191, 7191, -1))


def seconds(kind: str, options: dict[str, Any], count: int, length: int | None) -> tuple[float, int]:
    """(processor time for a batch, items in it)."""
    corruption, rows = build(config_of({"kind": kind, **options}), SPECIALS), example(kind, count, length)
    tries = []
    for number in range(TRIES):
        draws = Draws(key(number, "corrupt", "benchmark"), 0, np.arange(count))
        began = time.process_time()
        corruption(rows, draws)
        tries.append(time.process_time() - began)
    column = rows["input"]
    return min(tries), len(column.values) if isinstance(column, Ragged) else num_rows(rows)


def main(kinds: list[str]) -> None:
    print(f"| corruption | settings | {' | '.join(f'rows of {length}, M items/s' for length in LENGTHS)} |")
    print(f"|---|---|{'---|' * len(LENGTHS)}")
    for kind in filter("none".__ne__, kinds):  # which does nothing
        data, all_options = CASES[kind]
        for options in all_options:
            cells = []
            for length in LENGTHS:
                count = ITEMS // length
                took, items = seconds(kind, options, count, length)
                cells.append(f"{items / took / 1e6:.2f}")
            shown = ", ".join(f"{name} {value}" for name, value in options.items()) or "default"
            print(f"| {kind} ({'tokens' if data == TEXT else data}) | {shown} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CORRUPTIONS))
