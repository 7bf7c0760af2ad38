"""A detector that gives every row the number in its first column as score, so that a ledger says which rows it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from data_prep.corpus.schema import TableSchema
from data_prep.sources.archives import SourceFile
from data_prep.sources.records import Reject
from data_prep.tables import files as tables
from data_prep.tables.typed import Typed
from pipeline.scoring import ledger, score_files
from pipeline.scoring.detector import Batch, Detector, Header, Scores
from pipeline.scoring.drift import Baseline
from pipeline.scoring.ledger import Ledger, ScoringPass
from tests.pipeline import detectors

HEADER = "a,b\n"
SCHEMA = TableSchema({"a": "numeric", "b": "numeric"})


class Recorder:
    """See the module."""

    KIND = "recorder"
    baseline = Baseline.of({})

    def readable(self, name: str) -> bool:
        return detectors.detector().readable(name)

    def files(self, path: str, downloads: Path) -> list[SourceFile]:
        return detectors.detector().files(path, downloads)

    def header(self) -> Header:
        return Header()

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        for part in tables.typed_batches(file, SCHEMA):
            if isinstance(part, Typed):
                yield Batch([file.name] * len(part.positions), part.positions, np.asarray(part.columns["a"]))
            else:
                yield part

    def score(self, inputs: Any) -> Scores:
        return Scores(inputs, np.zeros(len(inputs), bool), [[] for _ in inputs])

    def drift_columns(self, inputs: Any, scores: Scores) -> dict[str, np.ndarray]:
        return {}


def line(number: int) -> str:
    """A row, which says enough for four of them not to be another file's by chance."""
    return f"{number},{number * 0.7390851332151607}\n"


def text(*numbers: int) -> str:
    """A file with these rows."""
    return HEADER + "".join(map(line, numbers))


def score(folder: Path, *inboxes: Path, settled: float = 60.0) -> ScoringPass:
    """A pass over the files of inboxes, some of which may be empty."""
    recorder = cast(Detector, Recorder())
    paths = [str(path) for path in inboxes if path.is_file() or any(path.iterdir())]
    with Ledger.held(folder) as held:
        return held.score(recorder, "name", score_files.files_of(recorder, paths, folder), settled)


def scored(folder: Path) -> Counter[int]:
    """How often each number was scored."""
    tables_ = [pa.ipc.open_file(str(path)).read_all() for path in folder.glob(ledger.PATTERN)]
    return Counter(int(row["score"]) for table in tables_ for row in table.to_pylist() if row["score"] is not None)
