"""Digests of the rows that a detector has learned from, so that comparisons can leave them out.

    training_rows.npy beside detector.json: sorted uint64, a 64-bit digest of each raw row

The digest covers the typed values of a table's row, the pixels of an image, or the text of a document; transforms and
the order of rows do not matter. Splits are by rank, so rows may change their split when a corpus grows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from data_prep.arrow import pc
from data_prep.corpus.content_keys import content_keys
from data_prep.corpus.documents import Documents
from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read_array

FILE = "training_rows.npy"
BATCH = 1024  # documents


def of_rows(rows: pa.RecordBatch | np.ndarray) -> np.ndarray:
    """Digests, uint64 [R], of rows of a table or of images uint8 [R, C, H, W]."""
    if isinstance(rows, np.ndarray):
        return np.array([xxhash.xxh3_64_intdigest(row.tobytes()) for row in rows], np.uint64)
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    return content_keys(columns, rows.num_rows)[:, 0]


def of_documents(corpus: Documents) -> np.ndarray:
    """Digests, uint64 [D], of the texts of documents."""
    batches = (pc.binary_join(batch["sentences"], " ") for batch in corpus.table.to_batches(BATCH))
    return np.array([xxhash.xxh3_64_intdigest(text.as_buffer()) for batch in batches for text in batch], np.uint64)


def save(folder: Path, digests: np.ndarray) -> None:
    """Write digests into a detector's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / FILE, np.unique(digests))


def load(folder: Path) -> np.ndarray:
    """Digests of a detector; empty if it has none. UserError for a damaged file."""
    path = folder / FILE
    try:
        return read_array(path, np.uint64) if path.exists() else np.empty(0, np.uint64)
    except UnfitError as error:
        raise UserError(f"{path} cannot be read ({error}); run its recipe again.") from error
