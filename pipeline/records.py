"""Reading of the metrics log that training writes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics log. A line that is damaged, or cut short by a crash, is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


def last_of_each_step(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per step: a run resumed from a checkpoint wrote some of them twice."""
    merged: dict[int, dict[str, Any]] = {}
    for record in records:
        merged[record["step"]] = {**merged.get(record["step"], {}), **record}
    return [merged[step] for step in sorted(merged)]
