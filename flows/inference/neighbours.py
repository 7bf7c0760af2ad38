"""The nearest neighbours of vectors by cosine, among those of a file or from another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from flows.inference.values import Value, Window

SCHEMA = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("neighbour", pa.string()),
        pa.field("similarity", pa.float32()),
        pa.field("query_text", pa.string()),
        pa.field("text", pa.string()),
    ]
)
SHOWN = 5  # queries on the terminal
AT_ONCE = 1024  # queries
LONGEST = 80  # characters of a text that is shown


class Index:
    """Rows and their vectors, all in memory."""

    def __init__(self) -> None:
        self.rows: list[Value] = []
        self._vectors: list[np.ndarray] = []

    def add(self, window: Window) -> None:
        """Keep the rows that have a vector."""
        self.rows += [row for row, has_one in zip(window.rows, window.has, strict=True) if has_one]
        self._vectors.append(window.vectors[window.has])

    @property
    def vectors(self) -> np.ndarray:
        """[R, D]."""
        return np.concatenate(self._vectors)

    def nearest(self, count: int, queries: Index | None) -> pa.Table:
        """The `count` nearest rows of each query, the nearest first, fewer if there are no more; see `SCHEMA`.

        queries: None: all rows are, and none is a neighbour of itself.
        """
        from sklearn.neighbors import NearestNeighbors

        own = queries is None
        asked = self if queries is None else queries
        count = min(count, len(self.rows) - own)
        if count < 1 or not asked.rows:
            return SCHEMA.empty_table()
        library = NearestNeighbors(n_neighbors=count + own, metric="cosine", algorithm="brute").fit(self.vectors)
        vectors, batches = asked.vectors, []
        for start in range(0, len(vectors), AT_ONCE):
            distances, places = library.kneighbors(vectors[start : start + AT_ONCE])
            if own:
                is_kept = _others(places, np.arange(start, start + len(places)))
                distances, places = (array[is_kept].reshape(len(places), count) for array in (distances, places))
            batches.append(self._batch(asked.rows[start : start + AT_ONCE], places, 1 - distances))
        return pa.Table.from_batches(batches, SCHEMA)

    def _batch(self, queries: Sequence[Value], places: np.ndarray, similarities: np.ndarray) -> pa.RecordBatch:
        count = places.shape[1]
        rows = [self.rows[place] for place in places.ravel().tolist()]
        asked = [query for query in queries for _ in range(count)]
        columns = [
            [query.id for query in asked],
            np.tile(np.arange(1, count + 1), len(queries)),
            [row.id for row in rows],
            similarities.ravel(),
            [query.text for query in asked],
            [row.text for row in rows],
        ]
        return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _others(places: np.ndarray, own: np.ndarray) -> np.ndarray:
    """bool [Q, K + 1]: all but the query itself; where it is not among its equals, all but the last."""
    is_kept = places != own[:, None]
    is_kept[is_kept.all(1), -1] = False
    return is_kept


def show(found: pa.Table, console: Console) -> None:
    """Print the neighbours of the first few queries."""
    rows = found.to_pylist()
    queries = list(dict.fromkeys(row["query"] for row in rows))[:SHOWN]
    for query in queries:
        own = [row for row in rows if row["query"] == query]
        console.print(Text(f"{query}  {_short(own[0]['query_text'])}".rstrip(), "bold"), soft_wrap=True)
        for row in own:
            line = f"  {row['similarity']:.3f}  {row['neighbour']}  {_short(row['text'])}".rstrip()
            console.print(Text(line), soft_wrap=True)


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
