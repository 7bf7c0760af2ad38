"""Sources → a corpus: for any kind of data, in parallel, in bounded memory, and incrementally.

    files of sources ─► units ─► read each (workers, kept in a cache)
                                    │ if units must agree (columns, sizes): cast each (workers)
                                    ▼
                        which rows are copies, which are held out (one process, external memory)
                                    │ a split or a rejection for each row
                                    ▼
                        write each unit's rows to its files (workers) ─► corpus

A unit is a run of small files or a stretch of a large one. The result of reading it depends only on its bytes and the
settings, not on the process or the time. The split of a row depends on the seed and on the contents or names of rows,
not on the order of files. Every row that was read is either kept or rejected, and counted.

Each step is implemented by the kind of data (`data_prep.kinds.Kind`); this module runs the steps and summarises.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.compute.workers import HERE, SERIAL_BYTES, WorkerPool, Workers
from data_prep.corpus import unit_cache
from data_prep.corpus.documents import INDEX, SPLITS
from data_prep.corpus.draft import Decision, Draft, Progress, Unit, Writing
from data_prep.corpus.summary import lost_files_in_words, summary_of
from data_prep.kinds import Kind
from data_prep.sealed import sealed
from data_prep.sources.config import describe_left_out


def ingest(
    kind: Kind,
    data: Any,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Progress = lambda *_, **__: None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """Read, decide and write a corpus into `out_dir`; returns its summary.

    data: `kind.Data`, the recipe's section. Units are cached in `downloads/units`; unfinished units of dead processes
    are removed from there. `progress` is called with a message for the user and the fraction done (0 to 1).
    Raises UserError if more rows are bad than `data.max_rejects` allows or more files are lost than
    `data.max_lost_files`, or if nothing is left.
    """
    out_dir, downloads = Path(out_dir), Path(downloads)
    cache = downloads / unit_cache.FOLDER
    out_dir.mkdir(parents=True, exist_ok=True)
    unit_cache.sweep(cache)
    left_out: Counter[str] = Counter()
    units = kind.units(data, downloads, left_out)
    if sum(unit.size for unit in units) < SERIAL_BYTES:
        workers = HERE
    read_folders = [cache / unit.key for unit in units]
    with WorkerPool(workers) as pool, tempfile.TemporaryDirectory(prefix=".ingest-", dir=out_dir) as scratch:
        draft = Draft(
            data, units, seed, out_dir, downloads, Path(scratch), pool, progress, read_folders, list(read_folders)
        )
        _read_all(kind, draft, cache)
        for unit_summary in draft.read:
            left_out.update(unit_summary.get("left_out", {}))
        if left_out:
            progress("files were left out", None, warning=describe_left_out(left_out))
        _cast_all(kind, draft)
        progress("looking for duplicates", None)
        decided = kind.decide(draft)
        summary = {**summary_of(draft, decided, kind), "left_out": dict(left_out)}
        if summary["lost_files"]:
            progress("files are lost", None, warning=lost_files_in_words(summary))
        progress("writing", None)
        written = list(pool.in_order(kind.write, _jobs(draft, decided)))
        kind.write_rejects(draft, decided)
    files = {
        split: [(unit, files_of[split]) for unit, files_of in zip(units, written, strict=True) if split in files_of]
        for split in SPLITS
    }
    (out_dir / INDEX).write_bytes(sealed(kind.index(draft, files)))
    return {**summary, **kind.summary(draft, decided, files)}


def _read_all(kind: Kind, draft: Draft, cache: Path) -> None:
    """Read the units that are not in the cache."""
    began, num_bytes, num_rows = time.monotonic(), 0, 0
    total = max(1, sum(unit.size for unit in draft.units))
    reading = partial(_read, kind, draft.data, draft.downloads, cache)
    for unit, summary in zip(draft.units, draft.pool.in_order(reading, draft.units), strict=True):
        draft.read.append(summary)
        num_bytes, num_rows = num_bytes + unit.size, num_rows + summary["rows"]
        seconds = max(time.monotonic() - began, 1e-3)
        left = round((total - num_bytes) * seconds / max(num_bytes, 1))
        speed = f"{num_bytes / seconds / 1e6:,.1f} MB/s, {left // 60}:{left % 60:02d} left"
        draft.progress(f"{num_rows:,} {kind.unit} read, {num_bytes / 1e6:,.1f} MB, {speed}", num_bytes / total)


def _read(kind: Kind, data: Any, downloads: Path, cache: Path, unit: Unit) -> dict[str, Any]:
    return unit_cache.make(cache, unit.key, partial(kind.read, unit, data, downloads))


def _cast_all(kind: Kind, draft: Draft) -> None:
    """Convert the rows of all units to a common schema, if the kind needs that."""
    draft.agreed = kind.agree(draft.data, draft.units, draft.read)
    if not kind.casts:
        return
    draft.progress("comparing files", None)
    draft.folders = [draft.scratch / f"{number:05d}" for number in range(len(draft.units))]
    jobs = list(zip(draft.units, draft.read_folders, draft.folders, strict=True))
    draft.cast = list(draft.pool.in_order(partial(_cast, kind, draft.agreed), jobs))


def _cast(kind: Kind, agreed: Any, job: tuple[Unit, Path, Path]) -> dict[str, Any]:
    unit, read_folder, folder = job
    folder.mkdir()
    return kind.cast(unit, agreed, read_folder, folder)


def _jobs(draft: Draft, decided: Decision) -> list[Writing]:
    rows = [decided.split_of[decided.span(number)] for number in range(len(draft.units))]
    marks = [decided.marks(number) for number in range(len(draft.units))]
    return [
        Writing(folder, draft.out_dir, f"{number:05d}.arrow", rows[number], marks[number])
        for number, folder in enumerate(draft.folders)
    ]
