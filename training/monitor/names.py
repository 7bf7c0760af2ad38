"""Names of the numbers in a metrics log, grouped by a prefix, so that charts stand together.

train/loss  train/TERM  train/loss/SOURCE  train/grad_norm  train/lr      means since the last record
validation/loss  validation/TERM  validation/loss/SOURCE                  of held-out rows; no penalty is in the loss
validation/use/LAYER/007                                                  of each of many like things
validation/bits_per_byte/SOURCE                                           of the text that predicted tokens spell
workers/tokens_per_second  workers/mfu  workers/padding  workers/slowest_rank     how fast all of them are
progress/tokens_seen  progress/seconds_left  progress/skipped_updates     of the whole run

MLflow draws groups by the alphabet: training comes first, then held-out rows, then speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TRAIN, VALIDATION, SPEED, PROGRESS = "train/", "validation/", "workers/", "progress/"
LOSS, HELD_OUT_LOSS = f"{TRAIN}loss", f"{VALIDATION}loss"
BITS_PER_BYTE = "bits_per_byte"
GRADIENT_NORM, LEARNING_RATE = f"{TRAIN}grad_norm", f"{TRAIN}lr"
MFU, PADDING = f"{SPEED}mfu", f"{SPEED}padding"
SLOWEST_RANK, SLOWEST_SECONDS = f"{SPEED}slowest_rank", f"{SPEED}slowest_rank_seconds"
SECONDS_LEFT = f"{PROGRESS}seconds_left"
SKIPPED, SPIKES = f"{PROGRESS}skipped_updates", f"{PROGRESS}loss_spikes"
PER_SECOND = "_per_second"  # how the name of a speed ends, after the unit that the objective counts in
PASSING = {SECONDS_LEFT, SLOWEST_RANK, SLOWEST_SECONDS}  # true only while the run lasts


def held_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """The means over held-out rows, by term or metric."""
    return {n.removeprefix(VALIDATION): value for n, value in values.items() if n.startswith(VALIDATION)}


def numbered(values: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """Metrics of which there is one for each of many like things (GROUP/NAME/007), by the name without the number."""
    series: dict[str, dict[int, float]] = {}
    for name, value in values.items():
        base, _, number = name.rpartition("/")
        if number.isdecimal():
            series.setdefault(base, {})[int(number)] = value
    return series


def single(values: Mapping[str, Any]) -> dict[str, Any]:
    """The other metrics."""
    return {name: value for name, value in values.items() if not name.rpartition("/")[2].isdecimal()}


def speeds(values: Mapping[str, Any]) -> dict[str, float]:
    """Speeds in units per second, by unit."""
    return {
        name.removeprefix(SPEED).removesuffix(PER_SECOND): float(value)
        for name, value in values.items()
        if name.startswith(SPEED) and name.endswith(PER_SECOND)
    }


def padding_of(records: Iterable[Mapping[str, Any]], unit: str) -> float | None:
    """The share of padding in all positions of a run, from its records; None if it has none. unit: the objective's."""
    seen, positions = 0.0, 0.0
    for record in records:
        if PADDING in record:
            now = record[f"{PROGRESS}{unit}_seen"]
            seen, positions = now, positions + (now - seen) / (1.0 - record[PADDING])
    return 1.0 - seen / positions if positions else None


def speed_of(record: Mapping[str, Any]) -> str:
    """The speed of a record as text, e.g. 9,500 tokens/s; empty where a record has none."""
    return next((f"{value:,.0f} {unit}/s" for unit, value in speeds(record).items()), "")
