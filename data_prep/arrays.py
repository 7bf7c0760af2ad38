"""Tables and pictures → a corpus of typed rows, split by what they hold.

    files of sources ─► units ─► read each once (workers): raw rows, rejects
                                    │ kinds of columns, size of pictures
                                    ▼
                        settle each: one kind a column, one size; 256 bits a row
                                    │
                                    ▼
                        which rows are copies, which are held out (one process, external memory)
                                    │ a verdict a row
                                    ▼
                        write each unit's rows to its files (workers)

    corpus.json                    written last: kind, columns or shape, classes; the files of each split, with digests
    train/00000.arrow …            rows: input (a struct of columns, or C·H·W uint8), label, source, position
    validation/… test/…
    rejects.arrow                  refused rows and copies: source, position, reason, excerpt

Copies go before the split: a row is one if an earlier one has the same input and label. What is held out depends on the
seed and the inputs alone, so equal inputs are never on both sides, and the order of files does not matter.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep import external, image_units, table_files, table_units
from data_prep.arrays_units import FIRST_REJECTS, THEN_REJECTS, Unit, batches_of
from data_prep.clean import allowed_rejects
from data_prep.corpus import INDEX, REJECT_SCHEMA, SPLITS, SplitConfig, shares
from data_prep.errors import UserError
from data_prep.images import ImagesConfig
from data_prep.ingest import SERIAL_BYTES, Progress
from data_prep.keyed import absorb, key
from data_prep.shards import digest, mapped, sealed
from data_prep.source_files import listed
from data_prep.sources import Accepts, SourceConfig, licence, snapshot
from data_prep.sources import digest as digest_of_sources
from data_prep.table_values import pc
from data_prep.tables import TableConfig, classes_of
from data_prep.workers import HERE, Crew, Workers

DataConfig = TableConfig | ImagesConfig
REJECTED = len(SPLITS)  # a row's verdict is the number of its split, or this
_ROWS_IN_MEMORY = 1 << 16
_COUNTED_CLASSES = 100


def accepts(config: DataConfig) -> Accepts:
    """Which files and packages are sources: for `data_prep.sources.snapshot`."""
    return table_files.accepts(config.layout) if isinstance(config, TableConfig) else image_units.accepts(config)


def ingest_arrays(
    sources: Sequence[SourceConfig],
    data_config: DataConfig,
    max_rejects: int | float,
    split: SplitConfig,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Progress = lambda message, done: None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """Read, settle, split and write a corpus into `out_dir`; returns what there is to say about it.

    `max_rejects`: how many rows may be bad, a count (int) or a share (float); no copy is bad. `progress` is called with
    a line for a person and the share that is done. Memory does not grow with the rows but for some bytes of each, and
    16 of each copy.
    Raises UserError if more rows are bad, or if nothing is left.
    """
    out_dir, downloads = Path(out_dir), Path(downloads)
    out_dir.mkdir(parents=True, exist_ok=True)
    kind = _kind(data_config)
    planned = _plan(sources, data_config, kind, downloads)
    total = max(1, sum(unit.size for unit in planned))
    if total < SERIAL_BYTES:
        workers = HERE
    with Crew(workers) as crew, tempfile.TemporaryDirectory(prefix=".ingest-", dir=out_dir) as scratch:
        folders = [Path(scratch) / f"{unit.number:05d}" for unit in planned]
        found, done, rows = [], 0, 0
        jobs = list(zip(planned, folders, strict=True))
        for unit, one in zip(planned, crew.in_order(partial(_spill, data_config), jobs), strict=True):
            found.append(one)
            done, rows = done + unit.size, rows + one["rows"]
            progress(f"{rows:,} rows read, {done / 1e6:,.1f} MB", done / total)
        settled = kind.settle_all(data_config, planned, found)
        progress("giving each column its kind" if kind is table_units else "comparing sizes", None)
        then = list(crew.in_order(partial(_settle, data_config, settled), jobs))
        progress("looking for copies", None)
        decided = _decide(folders, [one["rows"] for one in then], split, seed, Path(scratch))
        summary = _summary(sources, planned, found, then, decided, max_rejects, downloads, accepts(data_config))
        index = _index(settled, then)
        progress("writing", None)
        writing = [
            _Writing(folder, out_dir, f"{unit.number:05d}.arrow", decided.verdict[span])
            for (unit, folder), span in zip(jobs, decided.spans, strict=True)
        ]
        written = list(crew.in_order(_write, writing))
        _write_rejects(folders, decided, out_dir / "rejects.arrow")
    files = {name: [one[name] for one in written if name in one] for name in SPLITS}
    (out_dir / INDEX).write_bytes(sealed({**index, "splits": files}))
    return {**summary, **index, "splits": {name: _counts(files[name]) for name in SPLITS}}


def _kind(config: DataConfig) -> ModuleType:
    """What groups, reads and settles the files of a kind of data."""
    return table_units if isinstance(config, TableConfig) else image_units


def _plan(sources: Sequence[SourceConfig], config: DataConfig, kind: ModuleType, downloads: Path) -> list[Unit]:
    planned: list[Unit] = []
    for number, source in enumerate(sources):
        _only_text_has(source)
        for files in kind.group(listed(source, accepts(config), downloads)):
            planned.append(Unit(len(planned), number, files, source.package))
    return planned


def _only_text_has(source: SourceConfig) -> None:
    settings = (("text_field", source.text_field, "text"), ("id_field", source.id_field, None))
    for what, value, usual in (*settings, ("corpus", source.corpus, None)):
        if value != usual:
            raise UserError(f"the source {source.package or source.path} sets {what}, which is for text; leave it out")


def _spill(config: DataConfig, job: tuple[Unit, Path]) -> dict[str, Any]:
    return _kind(config).spill(job[0], config, job[1])


def _settle(config: DataConfig, settled: dict[str, Any], job: tuple[Unit, Path]) -> dict[str, Any]:
    return _kind(config).settle(job[0], settled, job[1])


# -- all rows at once -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Decided:
    """What becomes of the rows of all units, numbered through."""

    starts: np.ndarray  # [U + 1] int64: the first row of each unit
    verdict: np.ndarray  # [N] uint8
    copies: np.ndarray  # [D, 2] int64: a row, and the first one that it is a copy of

    @property
    def spans(self) -> list[slice]:
        return [slice(int(a), int(b)) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]


def _decide(folders: Sequence[Path], counts: list[int], split: SplitConfig, seed: int, scratch: Path) -> _Decided:
    starts = np.cumsum([0, *counts])
    verdict = np.full(int(starts[-1]), SPLITS.index("train"), np.uint8)
    keys = (found[:, :2] for folder in folders for found in _keys(folder))
    links = [np.empty((0, 2), np.int64), *external.first_of_equals(keys, scratch, _ROWS_IN_MEMORY)]
    decided = _Decided(starts, verdict, np.concatenate(links))
    verdict[decided.copies[:, 0]] = REJECTED
    kept = verdict != REJECTED
    validation, test = shares(int(kept.sum()), split)
    lanes = np.array([key(seed, "split", "high"), key(seed, "split", "low")], np.uint64)

    def ranks() -> Iterator[np.ndarray]:
        start = 0
        for found in (found for folder in folders for found in _keys(folder)):
            yield absorb(lanes, found[kept[start : start + len(found)], 2:])
            start += len(found)

    bounds = [external.smallest(ranks, count, _ROWS_IN_MEMORY) for count in (validation, validation + test)]
    codes = [np.empty(0, np.uint8)]
    for found in ranks():
        one = np.full(len(found), SPLITS.index("train"), np.uint8)
        one[external.below(found, bounds[1])] = SPLITS.index("test")
        one[external.below(found, bounds[0])] = SPLITS.index("validation")
        codes.append(one)
    verdict[kept] = np.concatenate(codes)
    return decided


def _keys(folder: Path) -> Iterator[np.ndarray]:
    """[n, 4] uint64 of a unit's rows, some at a time."""
    with (folder / "keys.u64").open("rb") as file:
        while len(found := np.fromfile(file, np.uint64, 4 * _ROWS_IN_MEMORY)):
            yield found.reshape(-1, 4)


# -- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Writing:
    """Where a unit's rows go."""

    folder: Path
    out: Path
    file: str
    verdict: np.ndarray


def _write(job: _Writing) -> dict[str, dict[str, Any]]:
    """Copy a unit's rows into one file per split, in their order; says what each holds."""
    found: dict[str, dict[str, Any]] = {}
    labels: dict[str, Counter[str | None]] = {}
    start = 0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchFileWriter] = {}
        for batch in batches_of(job.folder / "rows.arrow"):
            verdict = job.verdict[start : start + batch.num_rows]
            start += batch.num_rows
            for code, split in enumerate(SPLITS):
                chosen = batch.filter(pa.array(verdict == code))
                if not chosen.num_rows:
                    continue
                if split not in writers:
                    (job.out / split).mkdir(exist_ok=True)
                    sink = pa.ipc.new_file(str(job.out / split / job.file), chosen.schema)
                    writers[split] = stack.enter_context(sink)
                    found[split], labels[split] = {"file": f"{split}/{job.file}", "rows": 0}, Counter()
                writers[split].write_batch(chosen)
                found[split]["rows"] += chosen.num_rows
                for one in pc.value_counts(chosen["label"]).to_pylist():
                    labels[split][one["values"]] += one["counts"]
    for split, one in found.items():
        one["digest"] = digest(mapped(job.out / one["file"]))
        one["labels"] = {label: labels[split][label] for label in sorted(filter(None, labels[split]))}
    return found


def _write_rejects(folders: Sequence[Path], decided: _Decided, path: Path) -> None:
    """Of each unit the rows that could not be used, then those that repeat others."""
    units = np.searchsorted(decided.starts, decided.copies, side="right") - 1
    with pa.ipc.new_file(str(path), REJECT_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for number, folder in enumerate(folders):
            for name in (FIRST_REJECTS, THEN_REJECTS):
                for batch in batches_of(folder / name):
                    writer.write_batch(batch)
            first, last = np.searchsorted(units[:, 0], [number, number + 1])
            for begin in range(first, last, _ROWS_IN_MEMORY):
                some = slice(begin, min(begin + _ROWS_IN_MEMORY, last))
                source, position = _places(folders, decided, decided.copies[some, 0], units[some, 0])
                other, where = _places(folders, decided, decided.copies[some, 1], units[some, 1])
                reason = pc.binary_join_element_wise("duplicate of ", other, ":", where.cast(pa.string()), "")
                nothing = pa.array([""] * len(source), pa.string())
                writer.write_batch(pa.record_batch([source, position, reason, nothing], schema=REJECT_SCHEMA))


def _places(
    folders: Sequence[Path], decided: _Decided, rows: np.ndarray, units: np.ndarray
) -> tuple[pa.Array, pa.Array]:
    """Source and position of rows, in the order asked."""
    sources, positions, order = [], [], np.argsort(units, kind="stable")
    for unit in np.unique(units).tolist():
        mine = rows[order[units[order] == unit]] - decided.starts[unit]
        table = pa.ipc.open_file(pa.memory_map(str(folders[unit] / "rows.arrow"))).read_all()
        chosen = table.select(["source", "position"]).take(pa.array(mine))
        sources.append(chosen["source"].cast(pa.string()).combine_chunks())
        positions.append(chosen["position"].combine_chunks())
    back = pa.array(np.argsort(order, kind="stable"))
    return pa.concat_arrays(sources).take(back), pa.concat_arrays(positions).take(back)


# -- what there is to say of it ---------------------------------------------------------------------------------------


def _index(settled: dict[str, Any], then: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a corpus says of all its rows."""
    labels = {label for one in then for label in one["labels"]}
    schema = settled.get("schema")
    if schema is None:
        return {"kind": "images", "shape": settled["shape"], "classes": classes_of(labels, None)}
    return {"kind": "table", "schema": schema, "classes": classes_of(labels, schema["normal"])}


def _counts(files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of a split, and of its labels."""
    labels = sum((Counter(file["labels"]) for file in files), Counter[str]())
    return {"rows": sum(file["rows"] for file in files), "labels": dict(labels.most_common(_COUNTED_CLASSES))}


def _summary(
    sources: Sequence[SourceConfig],
    planned: Sequence[Unit],
    found: Sequence[dict[str, Any]],
    then: Sequence[dict[str, Any]],
    decided: _Decided,
    max_rejects: int | float,
    downloads: Path,
    accepted: Accepts,
) -> dict[str, Any]:
    """What there is to say of the corpus. UserError if too many rows are bad, or none is left."""
    both = [Counter(one["reasons"]) + Counter(two["reasons"]) for one, two in zip(found, then, strict=True)]
    read, kept = sum(one["rows"] for one in found), int((decided.verdict != REJECTED).sum())
    copies = len(decided.copies)
    bad = read - kept - copies
    first = [reject for one in (*found, *then) for reject in one["first"]][:3]
    examples = "; ".join(f"{source} row {position}: {reason}" for source, position, reason in first)
    if bad > allowed_rejects(max_rejects, read):
        raise UserError(
            f"{bad} of {read} rows cannot be used, more than max_rejects: {max_rejects} allows ({examples});"
            " mend them or raise max_rejects"
        )
    if not kept:
        named = ", ".join(str(source.package or source.path) for source in sources) or "no source"
        raise UserError(f"no row is left of {named} ({examples or 'nothing was there'}); add sources")
    lineage = []
    for number, source in enumerate(sources):
        mine = [unit.number for unit in planned if unit.source == number]
        listed = snapshot([source], downloads, accepted)
        repeats = sum(int((decided.verdict[decided.spans[unit]] == REJECTED).sum()) for unit in mine)
        why = sum((both[unit] for unit in mine), Counter({"duplicate": repeats} if repeats else {}))
        lineage.append(
            {
                "source": source.package or source.path,
                "licence": licence(source),
                "files": sum(len(planned[unit].files) for unit in mine),
                "bytes": sum(planned[unit].size for unit in mine),
                "digest": digest_of_sources(listed, downloads),
                "rows": sum(found[unit]["rows"] for unit in mine),
                "kept": sum(then[unit]["rows"] for unit in mine) - repeats,
                "reasons": dict(why.most_common(10)),
            }
        )
    reasons = sum(both, Counter({"duplicate": copies} if copies else {}))
    return {
        "rows": read,
        "kept": kept,
        "rejected": read - kept,
        "duplicates": copies,
        "reasons": dict(reasons.most_common(10)),
        "sources": lineage,
        "licences": [licence(source) for source in sources],
    }
