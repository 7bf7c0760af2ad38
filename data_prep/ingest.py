"""Sources → a corpus, on any number of processes, in flat memory, and again only for what is new.

    parts of sources ─► units ─► read and clean each (workers, kept in a cache)
                                    │ fingerprints, names, MinHash signatures
                                    ▼
                        which rows are copies, which are held out (one process, external memory)
                                    │ a verdict a row
                                    ▼
                        write each unit's rows to its files (workers) ─► corpus

A unit is a run of small files or a stretch of a large one. What it gives depends on its bytes and the rules alone, so
it does not matter who reads it, or when. Which document goes where depends on the seed and the documents' names, not on
the order of files. Every row that was read is kept or rejected, and counted.

`ingest_unit` reads, `ingest_rows` decides, `ingest_files` writes.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corpus import unit_cache
from data_prep.corpus.documents import INDEX, SPLITS, SplitConfig
from data_prep.errors import UserError
from data_prep.shards.format import sealed
from data_prep.sources.config import TARGET, Part, SourceConfig, licence, parts
from data_prep.text.clean import CleanConfig, allowed_rejects
from data_prep.text.decide import REJECTED, Decided, Table, decide, hold_out
from data_prep.text.rules.rules import digest as digest_of_rules
from data_prep.text.rules.spans import SENTENCE, TOO_LITTLE
from data_prep.text.units import VERSION, Unit, read
from data_prep.text.write import Writing, taken_by, write, write_rejects
from data_prep.workers import HERE, SERIAL_BYTES, Crew, Workers

UNIT_BYTES = TARGET

Progress = Callable[[str, float | None], None]


def ingest(
    sources: Sequence[SourceConfig],
    clean_config: CleanConfig,
    split: SplitConfig,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Progress = lambda message, done: None,
    workers: Workers = HERE,
) -> dict[str, Any]:
    """Read, clean, split and write a corpus into `out_dir`; returns what there is to say about it.

    Units are kept in `downloads/units`; what processes that died left there half-made is removed. `progress` is called
    with a line for a person and the share that is done.
    Raises UserError if more rows are bad than `clean_config.max_rejects` allows, or if nothing is left.
    """
    out_dir, cache = Path(out_dir), Path(downloads) / unit_cache.FOLDER
    out_dir.mkdir(parents=True, exist_ok=True)
    unit_cache.sweep(cache)
    planned = plan(sources, clean_config, downloads)
    total = sum(unit.size for unit in planned)
    if total < SERIAL_BYTES:
        workers = HERE
    reading = partial(read, config=clean_config, cache=cache, downloads=Path(downloads))
    clock, found = _Clock(total, progress), []
    with Crew(workers) as crew, tempfile.TemporaryDirectory(prefix=".ingest-", dir=out_dir) as scratch:
        for unit, summary in zip(planned, crew.in_order(reading, planned), strict=True):
            found.append(summary)
            clock.tick(unit.size, summary["rows"])
        progress("looking for duplicates", None)
        folders = [cache / unit.key for unit in planned]
        table = Table(folders, [one["kept"] for one in found])
        decided = decide(table, clean_config, Path(scratch))
        summary = _summary(sources, planned, found, decided, clean_config, table)
        progress("splitting", None)
        hold_out(table, decided, split, seed, Path(scratch), crew)
        progress("writing", None)
        jobs = [
            Writing(folder, out_dir, f"{number:05d}.arrow", decided.verdict[table.span(number)], decided.marks(number))
            for number, folder in enumerate(folders)
        ]
        written = list(crew.in_order(write, jobs))
        write_rejects(table, decided, out_dir)
    summary["splits"] = {
        name: {what: sum(one[name][what] for one in written) for what in ("documents", "sentences", "characters")}
        for name in SPLITS
    }
    files: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for unit, job, one in zip(planned, jobs, written, strict=True):
        for name in SPLITS:
            if one[name]["documents"]:
                file = f"{name}/{job.file}"
                entry = {"file": file, "documents": one[name]["documents"], "digest": one[name]["digest"]}
                files[name].append({**entry, "corpus": unit.source.corpus or ""})
    (out_dir / INDEX).write_bytes(sealed({"splits": files}))
    return summary


# -- what is to be read -----------------------------------------------------------------------------------------------


def plan(sources: Sequence[SourceConfig], clean_config: CleanConfig, downloads: Path) -> list[Unit]:
    """The units of the sources. A file that is added changes no unit but those beside it."""
    planned = []
    config = clean_config.model_dump(mode="json", exclude={"max_rejects", "drop_duplicates"})
    files = digest_of_rules(clean_config.rules, downloads)
    config["files"] = files
    for number, source in enumerate(sources):
        for group in _groups(parts(source, downloads, UNIT_BYTES)):
            stretches = [(part.name, part.digest, part.start, part.stop, part.first) for part in group]
            key = unit_cache.key_of("documents", VERSION, stretches, source.text_field, source.id_field, config)
            planned.append(Unit(key, source, number, tuple(group), files))
    return planned


def _groups(found: list[Part]) -> Iterator[list[Part]]:
    """Runs of parts of about UNIT_BYTES / 2, few more than twice UNIT_BYTES.

    A run ends where the name of a file says so, the likelier the larger the file is. So a file that comes between
    others changes the run that it falls into, and no other.
    """
    group: list[Part] = []
    size = 0
    for part in found:
        if group and size + part.size > 2 * UNIT_BYTES:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.size
        chance = int.from_bytes(hashlib.blake2b(part.name.encode(), digest_size=8).digest()) / 2**64
        if chance < part.size / (UNIT_BYTES / 2):
            yield group
            group, size = [], 0
    if group:
        yield group


# -- what there is to say of it ---------------------------------------------------------------------------------------


def _summary(
    sources: Sequence[SourceConfig],
    planned: Sequence[Unit],
    found: Sequence[dict[str, Any]],
    decided: Decided,
    config: CleanConfig,
    table: Table,
) -> dict[str, Any]:
    """What there is to say of the corpus. UserError if the rows read are none."""
    counts = decided.reasons()
    reasons = sum((Counter(one["reasons"]) for one in found), counts)
    rules = sum((Counter(one["rules"]) for one in found), Counter[str]())
    if decided.repeats is not None:
        rules += Counter({SENTENCE: decided.repeats.sentences})
    read, kept = sum(one["rows"] for one in found), int((decided.verdict != REJECTED).sum())
    bad = sum(one["rejected"] - one["filtered"] for one in found) + counts["name taken"]
    first = [reject for one in found for reject in one["first"]][:3]
    told = [f"{source} line {position}: {reason}" for source, position, reason in first]
    some = np.flatnonzero(decided.name_of >= 0)[: 3 - len(told)]
    pairs = zip(table.names(some), table.names(decided.name_of[some]), strict=True)
    examples = "; ".join([*told, *(f"{source}: {taken_by(name, other)}" for (name, source), (_, other) in pairs)])
    if bad > allowed_rejects(config.max_rejects, read):
        raise UserError(
            f"{bad} of {read} rows cannot be used, more than max_rejects:"
            f" {config.max_rejects} allows ({examples}); mend them or raise max_rejects"
        )
    if not kept:
        named = ", ".join(str(source.package or source.path) for source in sources) or "no source"
        raise UserError(f"no document is left of {named} ({examples or 'nothing was there'}); add sources")
    lineage = []
    for number, source in enumerate(sources):
        mine = [i for i, unit in enumerate(planned) if unit.number == number]
        verdicts = [decided.verdict[table.span(i)] for i in mine]
        why = (Counter(found[i]["reasons"]) + decided.reasons(table.span(i)) for i in mine)
        lineage.append(
            {
                "source": source.package or source.path,
                "licence": licence(source),
                "files": len({part.name for i in mine for part in planned[i].parts}),
                "bytes": sum(planned[i].size for i in mine),
                "digest": unit_cache.key_of([[part.name, part.digest] for i in mine for part in planned[i].parts]),
                "rows": sum(found[i]["rows"] for i in mine),
                "kept": int(sum((verdict != REJECTED).sum() for verdict in verdicts)),
                "reasons": dict(sum(why, Counter[str]()).most_common(10)),
            }
        )
    return {
        "rows": read,
        "kept": kept,
        "rejected": read - kept,
        "duplicates": counts["duplicate"],
        "near_duplicates": counts["near duplicate"],
        "filtered": sum(one["filtered"] for one in found) + counts[TOO_LITTLE],
        "reasons": dict(reasons.most_common(10)),
        "rules": dict(rules),
        "sources": lineage,
        "licences": [licence(source) for source in sources],
    }


class _Clock:
    """Says how far reading is, how fast, and when it will be done."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.progress = max(total, 1), progress
        self.done, self.rows, self.began = 0, 0, time.monotonic()

    def tick(self, size: int, rows: int) -> None:
        self.done += size
        self.rows += rows
        seconds = max(time.monotonic() - self.began, 1e-3)
        left = round((self.total - self.done) * seconds / max(self.done, 1))
        speed = f"{self.done / seconds / 1e6:,.1f} MB/s, {left // 60}:{left % 60:02d} left"
        self.progress(f"{self.rows:,} documents read, {self.done / 1e6:,.1f} MB, {speed}", self.done / self.total)
