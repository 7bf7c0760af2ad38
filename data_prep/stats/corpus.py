"""Statistics of a corpus: numbers, lengths and sources of documents; rejected rows by reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.corpus.documents import INDEX, SPLITS
from data_prep.errors import UserError
from data_prep.sealed import unsealed
from data_prep.stats.counts import Binned, by_count, evenly, share_of
from data_prep.stats.types import FORMAT, CorpusCounts, DocumentCounts, RejectCounts

MOST_BYTES = 1 << 28  # of a split to read
MOST_FILES = 1024  # of a split to open
MOST_REJECTS = 1 << 20  # rows to read
MOST_REASONS, MOST_SOURCES = 100, 100  # to list individually
OTHERS = "(others)"

_PLACES = re.compile(r"\b(byte|line|column|char|character|row|position) [\d,]+")


def of_corpus(folder: Path) -> CorpusCounts:
    """Statistics of a corpus's splits and rejects. UserError if the folder has no corpus."""
    path = Path(folder) / INDEX
    try:
        files = unsealed(path.read_bytes())["splits"]
        return {
            "format": FORMAT,
            "splits": {
                split: of_documents(
                    [path.parent / file["file"] for file in files[split]],
                    sum(file["documents"] for file in files[split]),
                )
                for split in SPLITS
                if files[split]
            },
            "rejects": of_rejects(path.parent / "rejects.arrow"),
        }
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is not a corpus ({error}); ingest it again") from error


class _Documents:
    """Documents of one source, or of all."""

    def __init__(self) -> None:
        self.characters, self.sentences = Binned(), Binned()

    def add(self, characters: np.ndarray, sentences: np.ndarray) -> None:
        self.characters.add(characters)
        self.sentences.add(sentences)


def of_documents(files: Sequence[Path], documents: int, max_bytes: int = MOST_BYTES) -> DocumentCounts:
    """Statistics of one split from its files. documents: their total number."""
    everything, sentences = _Documents(), Binned()
    sources: dict[str, _Documents] = {}
    for batch in _batches(files, max_bytes, "documents"):
        column = batch["sentences"]
        characters_of = pc.utf8_length(column.flatten())  # type: ignore[attr-defined]
        long = characters_of.to_numpy(zero_copy_only=False).astype(np.int64)
        count = np.diff(column.offsets.to_numpy())
        ends = np.cumsum(count)
        running = np.concatenate([[0], np.cumsum(long)])
        characters = running[ends] - running[ends - count]
        sentences.add(long)
        everything.add(characters, count)
        for label, rows in _by_source(batch["source"]):
            if label not in sources and len(sources) >= MOST_SOURCES:
                label = OTHERS
            sources.setdefault(label, _Documents()).add(characters[rows], count[rows])
    ordered = sorted(sources.items(), key=lambda item: (item[0] == OTHERS, -item[1].characters.total, item[0]))
    return {
        "documents": documents,
        "read": {"share": share_of(everything.characters.count, documents), "items": everything.characters.count},
        "sentences": sentences.count,
        "characters": sentences.total,
        "document_lengths": everything.characters.lengths(),
        "document_sentences": everything.sentences.lengths(),
        "sentence_lengths": sentences.lengths(),
        "sources": [
            {
                "source": label,
                "documents": counts_of_label.characters.count,
                "sentences": counts_of_label.sentences.total,
                "characters": counts_of_label.characters.total,
                "lengths": counts_of_label.characters.lengths(),
            }
            for label, counts_of_label in ordered
        ],
    }


def of_rejects(path: Path) -> RejectCounts:
    """Statistics of the rejected rows of a corpus, from its `rejects.arrow`."""
    counts: Counter[tuple[str, str]] = Counter()
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    read = 0
    # Batches have up to 1024 rows; choose as many as needed, evenly spaced.
    chosen = evenly(reader.num_record_batches, max(1, MOST_REJECTS >> 10), "rejects")
    for number in chosen:
        batch = reader.get_batch(number)
        read += batch.num_rows
        for label, places in _by_source(batch["source"]):
            for reason in _kinds(batch["reason"].take(pa.array(places))).value_counts().to_pylist():
                pair = label, _PLACES.sub(r"\1 …", reason["values"])
                counts[pair if pair in counts or len(counts) < MOST_REASONS * 10 else (OTHERS, OTHERS)] += reason[
                    "counts"
                ]
    rows = (
        read
        if len(chosen) == reader.num_record_batches
        else sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
    )
    reasons, sources = Counter[str](), Counter[str]()
    for (label, reason), count in counts.items():
        reasons[reason] += count
        sources[label] += count
    shown_reasons = [reason for reason, _ in by_count(reasons)[:MOST_REASONS]]
    shown_sources = [label for label, _ in by_count(sources)[:MOST_SOURCES]]
    return {
        "rows": rows,
        "read": {"share": share_of(read, rows), "items": read},
        "reasons": {reason: reasons[reason] for reason in shown_reasons},
        "sources": {label: {r: counts[label, r] for r in shown_reasons if counts[label, r]} for label in shown_sources},
    }


def _kinds(reasons: pa.Array) -> pa.Array:
    """Reasons, without the names of other rows."""
    for begin, kind in (("duplicate of ", "duplicate"), ("near duplicate of ", "near duplicate")):
        reasons = pc.if_else(pc.starts_with(reasons, begin), kind, reasons)  # type: ignore[attr-defined]
    return pc.if_else(pc.match_substring(reasons, " is taken by a document of "), "name taken", reasons)  # type: ignore[attr-defined]


def _by_source(column: pa.Array) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of each source in a batch; the source is the first part of a document's name."""
    encoded = column.dictionary_encode()
    labels = [(name or "").partition("/")[0] for name in encoded.dictionary.to_pylist()]
    distinct = {label: place for place, label in enumerate(sorted(set(labels)))}
    number = np.array([distinct[label] for label in labels], np.int64)[encoded.indices.to_numpy()]
    for label, place in distinct.items():
        yield label, np.flatnonzero(number == place)


def _batches(files: Sequence[Path], max_bytes: int, purpose: str) -> Iterator[pa.RecordBatch]:
    """Record batches of Arrow files, evenly spaced ones if the files are larger than `max_bytes`."""
    chosen = [files[number] for number in evenly(len(files), MOST_FILES, purpose)]
    readers = [pa.ipc.open_file(pa.memory_map(str(file))) for file in chosen]
    size = sum(file.stat().st_size for file in chosen)
    starts = np.cumsum([0, *(reader.num_record_batches for reader in readers)])
    count = int(starts[-1])
    for number in evenly(count, count if size <= max_bytes else max(1, count * max_bytes // size), purpose):
        file = int(np.searchsorted(starts, number, side="right")) - 1
        yield readers[file].get_batch(number - int(starts[file]))
