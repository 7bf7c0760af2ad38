"""`sesame embed`: a vector for each text of a file, or for each of its arrays of numbers.

MODEL, file ─► a window of rows ─► batches of like lengths ─► vectors, in the order of the file ─► Arrow or Parquet
                                                                 └► all of them ─► nearest neighbours
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.text import Text

from data_prep.errors import UserError
from data_prep.labelled.rows import Reading
from flows.inference import neighbours
from flows.inference.embedder import Options, Window, open_network
from flows.inference.neighbours import Index
from flows.show.console import new_console
from flows.show.outputs import check_output, written_whole

ARROW, PARQUET = ".arrow", ".parquet"


def embed(model: str, file: str, out: str | None, options: Options, as_json: bool) -> None:
    """Write the vectors of a file's rows, and their neighbours. UserError for what cannot be read, and nothing of the
    output is written then."""
    outputs = _outputs(file, out, options)
    network, reading, console = open_network(model, options), Reading(), new_console()
    queries = _queries(network, options, reading)
    index = Index() if options.nearest else None
    began, count = time.perf_counter(), 0
    with ExitStack() as stack:
        partial = stack.enter_context(written_whole(outputs[0])) if out is not None else None
        write = stack.enter_context(_writing(partial, str(out), options)) if partial is not None else None
        for window in network.windows(Path(file).expanduser(), reading):
            count += len(window.rows)
            if write is not None:
                write(window)
            if index is not None:
                index.add(window)
        if not count:
            raise UserError(f"{file}: has no rows; name another file.")
    rate = count / (time.perf_counter() - began)
    nearest = None if index is None else index.nearest(options.nearest, queries)
    if nearest is not None and options.neighbours:
        with written_whole(outputs[-1]) as partial:
            _write_table(nearest, partial, options.neighbours)
    remarks = [*network.remarks, *reading.remarks()]
    if as_json:
        shown = {} if nearest is None or options.neighbours else {"neighbours": nearest.to_pylist()}
        about = {"rows": count, **network.about, "rows_per_second": round(rate, 1), "out": out}
        print(json.dumps({**about, **shown, "remarks": remarks}))
        return
    if nearest is not None:
        neighbours.show(nearest, console)
    for remark in remarks:
        console.print(Text(f"warning: {remark}", "yellow"), soft_wrap=True)
    line = f"{count:,} vectors of {network.embedder.width:,} numbers, {network.described}; {rate:,.0f} a second"
    console.print(Text(f"{out or file}: {line}", "dim"), soft_wrap=True)


def _outputs(file: str, out: str | None, options: Options) -> list[Path]:
    """The files to write, which can be. UserError for options that do not go together."""
    if out is None and not options.nearest:
        raise UserError("name a file for the vectors (--out), or ask for nearest neighbours (--nearest).")
    for name, value in (("--queries", options.queries), ("--neighbours", options.neighbours)):
        if value and not options.nearest:
            raise UserError(f"{name} goes with --nearest, the number of neighbours; give both.")
    outputs = []
    for name, given in (("--out", out), ("--neighbours", options.neighbours)):
        if given is not None:
            path = check_output(Path(given).expanduser(), [file, *filter(None, [options.queries])])
            if path.suffix not in (ARROW, PARQUET):
                ends = path.suffix or "nothing"
                raise UserError(f"{name} {given}: ends in {ends}; name a file that ends in .arrow or .parquet.")
            outputs.append(path)
    if len({path.absolute() for path in outputs}) < len(outputs):
        raise UserError(f"--neighbours {options.neighbours}: is where --out goes; name another file.")
    return outputs


def _queries(network: Any, options: Options, reading: Reading) -> Index | None:
    """The queries with their vectors; None where there is no file of them."""
    if options.queries is None:
        return None
    index = Index()
    for window in network.windows(Path(options.queries).expanduser(), reading):
        index.add(window)
    if not index.rows:
        raise UserError(f"--queries {options.queries}: has no row with a vector; name another file.")
    return index


Write = Callable[[Window], None]


@contextmanager
def _writing(path: Path, out: str, options: Options) -> Iterator[Write]:
    """What writes windows as they come: `id`, or `row` from 1; `text` if asked; `vector`, null where there is none."""
    with ExitStack() as stack:
        writers: list[Any] = []

        def write(window: Window) -> None:
            batch = _batch(window, options, out.endswith(PARQUET))
            if not writers:
                if out.endswith(PARQUET):
                    writers.append(stack.enter_context(pq.ParquetWriter(path, batch.schema)))
                else:
                    sink = stack.enter_context(pa.OSFile(str(path), "wb"))
                    writers.append(stack.enter_context(pa.ipc.new_file(sink, batch.schema)))
            writers[0].write_batch(batch)

        yield write


def _batch(window: Window, options: Options, is_parquet: bool) -> pa.RecordBatch:
    own = pa.array([row.id for row in window.rows], pa.string())
    columns = {"id": own} if options.id else {"row": own.cast(pa.int64())}
    if options.text:
        columns["text"] = pa.array([row.text for row in window.rows], pa.string())
    flat = pa.array(np.ascontiguousarray(window.vectors, np.float32).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, window.vectors.shape[1], mask=pa.array(~window.has))
    # Parquet's reader takes no null among lists of a fixed size
    columns["vector"] = vectors.cast(pa.list_(pa.float32())) if is_parquet else vectors
    return pa.RecordBatch.from_pydict(columns)


def _write_table(table: pa.Table, path: Path, out: str) -> None:
    if out.endswith(PARQUET):
        pq.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
