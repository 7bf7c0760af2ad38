"""Tables and pictures → a corpus of typed rows, split by what they hold.

    files of sources ─► units ─► read each once (workers, kept in a cache): raw rows, rejects
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

What reading a unit gives depends on the bytes of its files and on what is asked of them, so one that was read is not
read again: by a run that goes on after one that was ended, or of a folder to which files were added.

`arrays_units` reads and settles, `arrays_rows` decides, `arrays_files` writes.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from data_prep.corpus import unit_cache
from data_prep.corpus.decide import REJECTED, Decided, decide
from data_prep.corpus.documents import INDEX, SPLITS, SplitConfig
from data_prep.corpus.unit import VERSION, Unit
from data_prep.corpus.write import Writing, write, write_rejects
from data_prep.errors import UserError
from data_prep.images import units as image_units
from data_prep.images.pixels import ImagesConfig
from data_prep.ingest import Progress
from data_prep.shards.format import sealed
from data_prep.sources.archives import listed
from data_prep.sources.config import Accepts, SourceConfig, licence, snapshot
from data_prep.sources.config import digest as digest_of_sources
from data_prep.tables import files as table_files
from data_prep.tables import units as table_units
from data_prep.tables.schema import TableConfig, classes_of
from data_prep.text.clean import allowed_rejects
from data_prep.workers import HERE, SERIAL_BYTES, Crew, Workers

DataConfig = TableConfig | ImagesConfig
_COUNTED_CLASSES = 100


def accepts(config: DataConfig) -> Accepts:
    """Which files and packages are sources: for `data_prep.sources.config.snapshot`."""
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
    a line for a person and the share that is done. Units are kept in `downloads/units`; what processes that died left
    there half-made is removed. Memory does not grow with the rows but for some bytes of each, and 16 of each copy.
    Raises UserError if more rows are bad, or if nothing is left.
    """
    out_dir, downloads = Path(out_dir), Path(downloads)
    cache = downloads / unit_cache.FOLDER
    out_dir.mkdir(parents=True, exist_ok=True)
    unit_cache.sweep(cache)
    kind = _kind(data_config)
    planned = _plan(sources, data_config, kind, downloads)
    total = max(1, sum(unit.size for unit in planned))
    if total < SERIAL_BYTES:
        workers = HERE
    with Crew(workers) as crew, tempfile.TemporaryDirectory(prefix=".ingest-", dir=out_dir) as scratch:
        spilled = [cache / unit.key for unit in planned]
        folders = [Path(scratch) / f"{unit.number:05d}" for unit in planned]
        found, done, rows = [], 0, 0
        for unit, one in zip(planned, crew.in_order(partial(_spill, data_config, cache), planned), strict=True):
            found.append(one)
            done, rows = done + unit.size, rows + one["rows"]
            progress(f"{rows:,} rows read, {done / 1e6:,.1f} MB", done / total)
        settled = kind.settle_all(data_config, planned, found)
        progress("giving each column its kind" if kind is table_units else "comparing sizes", None)
        jobs = list(zip(planned, spilled, folders, strict=True))
        then = list(crew.in_order(partial(_settle, data_config, settled), jobs))
        progress("looking for copies", None)
        decided = decide(folders, [one["rows"] for one in then], split, seed, Path(scratch))
        summary = _summary(sources, planned, found, then, decided, max_rejects, downloads, accepts(data_config))
        index = _index(settled, then)
        progress("writing", None)
        writing = [
            Writing(folder, out_dir, f"{unit.number:05d}.arrow", decided.verdict[span])
            for unit, folder, span in zip(planned, folders, decided.spans, strict=True)
        ]
        written = list(crew.in_order(write, writing))
        write_rejects(spilled, folders, decided, out_dir / "rejects.arrow")
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
        asked = kind.asks(config, source.package)
        for files in kind.group(listed(source, accepts(config), downloads, digests=True)):
            both = ([one for one in (file, file.beside) if one] for file in files)
            held = [[(one.name, one.member, one.groups, one.digest) for one in parts] for parts in both]
            key = unit_cache.key_of("arrays", VERSION, source.package, asked, held)
            planned.append(Unit(len(planned), number, files, key, source.package))
    return planned


def _only_text_has(source: SourceConfig) -> None:
    settings = (("text_field", source.text_field, "text"), ("id_field", source.id_field, None))
    for what, value, usual in (*settings, ("corpus", source.corpus, None)):
        if value != usual:
            raise UserError(f"the source {source.package or source.path} sets {what}, which is for text; leave it out")


def _spill(config: DataConfig, cache: Path, unit: Unit) -> dict[str, Any]:
    return unit_cache.make(cache, unit.key, partial(_kind(config).spill, unit, config))


def _settle(config: DataConfig, settled: dict[str, Any], job: tuple[Unit, Path, Path]) -> dict[str, Any]:
    unit, spilled, folder = job
    folder.mkdir()
    return _kind(config).settle(unit, settled, spilled, folder)


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
    decided: Decided,
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
                "files": len({file.name for unit in mine for file in planned[unit].files}),
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
