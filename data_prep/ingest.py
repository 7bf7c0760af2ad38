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
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep import external, near_duplicates, units
from data_prep import sentences as splitting
from data_prep.clean import CleanConfig, allowed_rejects, clean, fingerprint
from data_prep.corpus import DOCUMENT_SCHEMA, INDEX, REJECT_SCHEMA, SPLITS, SplitConfig, shares, split_key
from data_prep.errors import UserError
from data_prep.keyed import absorb
from data_prep.readers import printable
from data_prep.rules import Rules
from data_prep.rules import digest as digest_of_rules
from data_prep.shards import digest, mapped, sealed
from data_prep.sources import TARGET, Document, Part, Reject, SourceConfig, licence, parts, rows
from data_prep.workers import HERE, Crew, Workers

VERSION = 1  # of what a unit holds; raised when reading or cleaning gives something else
UNIT_BYTES = TARGET
SERIAL_BYTES = 8 << 20  # sources smaller than this are not worth starting processes for
_ROWS_IN_MEMORY = 1 << 16
_OPEN_NAMES = 256
_LOOKED_AT = 4096  # characters
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_BATCH_ROWS, _BATCH_CHARACTERS = 1024, 2 << 20
_REJECTED = len(SPLITS)  # a row's verdict is the number of its split, or this

_UNIT_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("row", pa.int64())).append(pa.field("position", pa.int64()))
_UNIT_REJECTS = REJECT_SCHEMA.append(pa.field("row", pa.int64()))
_NAMES = pa.schema([("name", pa.string()), ("source", pa.string())])

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class _Unit:
    """Parts of one source, to be read one after another."""

    key: str
    source: SourceConfig
    number: int  # of the source
    parts: tuple[Part, ...]
    files: str  # digest of those that the rules read

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


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

    Units are kept in `downloads/units`. `progress` is called with a line for a person and the share that is done.
    Raises UserError if more rows are bad than `clean_config.max_rejects` allows, or if nothing is left.
    """
    out_dir, cache = Path(out_dir), Path(downloads) / units.FOLDER
    out_dir.mkdir(parents=True, exist_ok=True)
    planned = plan(sources, clean_config, downloads)
    total = sum(unit.size for unit in planned)
    if total < SERIAL_BYTES:
        workers = HERE
    read = partial(_read, config=clean_config, cache=cache, downloads=Path(downloads))
    clock, found = _Clock(total, progress), []
    with Crew(workers) as crew, tempfile.TemporaryDirectory(prefix=".ingest-", dir=out_dir) as scratch:
        for unit, summary in zip(planned, crew.in_order(read, planned), strict=True):
            found.append(summary)
            clock.tick(unit.size, summary["rows"])
        progress("looking for duplicates", None)
        folders = [cache / unit.key for unit in planned]
        table = _Table(folders, [one["kept"] for one in found])
        decided = _decide(table, clean_config, Path(scratch))
        summary = _summary(sources, planned, found, decided, clean_config, table)
        progress("splitting", None)
        _hold_out(table, decided, split, seed, Path(scratch), crew)
        progress("writing", None)
        jobs = [
            _Writing(folder, out_dir, f"{number:05d}.arrow", decided.verdict[table.span(number)])
            for number, folder in enumerate(folders)
        ]
        written = list(crew.in_order(_write, jobs))
        _write_rejects(table, decided, out_dir)
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


def plan(sources: Sequence[SourceConfig], clean_config: CleanConfig, downloads: Path) -> list[_Unit]:
    """The units of the sources. A file that is added changes no unit but those beside it."""
    planned = []
    config = clean_config.model_dump(mode="json", exclude={"max_rejects", "drop_duplicates"})
    files = digest_of_rules(clean_config.rules, downloads)
    config["files"] = files
    for number, source in enumerate(sources):
        for group in _groups(parts(source, downloads, UNIT_BYTES)):
            stretches = [(part.name, part.digest, part.start, part.stop, part.first) for part in group]
            key = units.key_of("documents", VERSION, stretches, source.text_field, source.id_field, config)
            planned.append(_Unit(key, source, number, tuple(group), files))
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


# -- one unit ---------------------------------------------------------------------------------------------------------


def _read(unit: _Unit, config: CleanConfig, cache: Path, downloads: Path) -> dict[str, Any]:
    """Read and clean a unit, if that was not done before; says what came of it."""
    return units.make(cache, unit.key, partial(_read_into, unit, config, downloads))


def _read_into(unit: _Unit, config: CleanConfig, downloads: Path, folder: Path) -> dict[str, Any]:
    cleaner, kept, number = _Cleaner(config, _rules(config.model_dump_json(), unit.files, downloads)), 0, 0
    reasons: Counter[str] = Counter()
    first: list[list[Any]] = []
    filtered = 0
    with ExitStack() as stack:
        documents = stack.enter_context(_Writer(folder / "documents.arrow", _UNIT_SCHEMA, compression="zstd"))
        names = stack.enter_context(_Writer(folder / "names.arrow", _NAMES))
        rejects = stack.enter_context(_Writer(folder / "rejects.arrow", _UNIT_REJECTS, compression="zstd"))
        keys = stack.enter_context((folder / "keys.u64").open("wb"))
        signatures = stack.enter_context(_Signatures(folder / "signatures.u32", config))
        for number, row in enumerate((row for part in unit.parts for row in rows(part, unit.source, downloads)), 1):
            result = row if isinstance(row, Reject) else cleaner(row)
            if isinstance(result, Reject):
                reasons[result.reason] += 1
                if isinstance(result, _Filtered):
                    filtered += 1
                elif len(first) < 3:
                    first.append([result.source, result.position, result.reason])
                line = [result.source, result.position, result.reason, result.excerpt, number]
                rejects.write(line, len(result.reason))
                continue
            kept += 1
            name, source, position = printable(result.document.name), result.document.source, result.document.position
            meta = json.dumps(result.document.meta, ensure_ascii=False, sort_keys=True)
            documents.write([name, result.sentences, source, meta, number, position], len(result.text))
            names.write([name, source], 0)
            keys.write(fingerprint(result.text) + _name_key(name))
            signatures.write(result.text)
    return {
        "rows": number,
        "kept": kept,
        "rejected": sum(reasons.values()),
        "filtered": filtered,
        "reasons": dict(reasons.most_common(100)),
        "first": first,
        "rules": dict(cleaner.counts),
    }


class _Cleaned(NamedTuple):
    document: Document
    text: str
    sentences: list[str]


class _Filtered(Reject):
    """A sound row that a rule was asked to leave out: it is counted, and not bad."""


class _Cleaner:
    """Cleans a document, or says why it may not stay."""

    def __init__(self, config: CleanConfig, rules: Rules) -> None:
        self.config = config
        self.rules = rules
        self.short = f"shorter than {config.min_characters} characters"
        self.counts: Counter[str] = Counter()

    def __call__(self, document: Document) -> _Cleaned | Reject:
        config = self.config
        excerpt = document.text.lstrip()[:80].rstrip()
        text = clean(document.text, config.normalisation)
        if len(text) < config.min_characters:
            return Reject(document.source, document.position, self.short, excerpt)
        if len(text) < 0.9 * len(document.text) and _mostly_controls(document.text[:_LOOKED_AT]):
            return Reject(
                document.source,
                document.position,
                "a third are control characters; if it is UTF-16, save it as UTF-8",
                excerpt,
            )
        outcome = self.rules(text)
        if outcome.text is None or len(outcome.text) < config.min_characters:
            return _Filtered(document.source, document.position, outcome.reason or self.short, excerpt)
        self.counts.update(outcome.counts)
        return _Cleaned(document, outcome.text, splitting.split(outcome.text, config.language))


@lru_cache(1)
def _rules(config: str, files: str, downloads: Path) -> Rules:
    """The rules of a config, loaded once for all units of a process; `files`: the digest of what they read."""
    return Rules(CleanConfig.model_validate_json(config), downloads)


def _mostly_controls(text: str) -> bool:
    """Whether more than a third are control characters: another encoding that happens to be read as UTF-8."""
    return len(_CONTROLS.findall(text)) > len(text) / 3


class _Signatures:
    """Writes the MinHash signatures of texts to a file, if near duplicates are looked for."""

    def __init__(self, path: Path, config: CleanConfig) -> None:
        self.path, self.config, self.waiting = path, config.near_duplicates, list[str]()

    def __enter__(self) -> _Signatures:
        if self.config:
            self.file = self.path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        if self.config:
            self._flush()
            self.file.close()

    def write(self, text: str) -> None:
        if self.config:
            self.waiting.append(text)
            if len(self.waiting) >= 256:
                self._flush()

    def _flush(self) -> None:
        if self.config and self.waiting:
            self.file.write(near_duplicates.signatures(self.waiting, self.config).tobytes())
            self.waiting.clear()


def _name_key(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


# -- all rows ---------------------------------------------------------------------------------------------------------


class _Table:
    """The kept rows of all units, numbered through, mapped and not read."""

    def __init__(self, folders: Sequence[Path], counts: Sequence[int]) -> None:
        self.folders = list(folders)
        self.starts = np.cumsum([0, *counts])
        self._names: dict[int, pa.Table] = {}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def span(self, unit: int) -> slice:
        """Numbers of a unit's rows."""
        return slice(int(self.starts[unit]), int(self.starts[unit + 1]))

    def keys(self, column: int, without: np.ndarray) -> Iterator[np.ndarray]:
        """128-bit keys [n, 2] of each unit: column 0 of texts, 1 of names. Rows `without` equal no other row."""
        for unit, folder in enumerate(self.folders):
            found = np.fromfile(folder / "keys.u64", ">u8").reshape(-1, 2, 2)[:, column].astype(np.uint64)
            out = np.flatnonzero(without[self.span(unit)])
            found[out] = np.stack([absorb(1, out + self.starts[unit]), absorb(2, out + self.starts[unit])], 1)
            yield found

    def signatures(self, width: int, without: np.ndarray, path: Path) -> np.ndarray:
        """MinHash signatures [N, width] in a file at `path`. Rows `without` are like no other row."""
        with path.open("wb") as file:
            for unit, folder in enumerate(self.folders):
                found = np.fromfile(folder / "signatures.u32", np.uint32).reshape(-1, width)
                out = np.flatnonzero(without[self.span(unit)])
                noise = absorb(absorb(3, out + self.starts[unit])[:, None], np.arange(width))
                found[out] = (noise >> np.uint64(32)).astype(np.uint32)
                file.write(found.tobytes())
        return np.memmap(path, np.uint32, "r").reshape(-1, width)

    def names(self, wanted: np.ndarray) -> list[tuple[str, str]]:
        """(name, source) of rows, in the order asked."""
        unit = np.searchsorted(self.starts, wanted, side="right") - 1
        found = []
        for number, row in zip(unit.tolist(), (wanted - self.starts[unit]).tolist(), strict=True):
            if number not in self._names:
                if len(self._names) >= _OPEN_NAMES:
                    self._names.clear()
                self._names[number] = _names(self.folders[number])
            names = self._names[number]
            found.append((names["name"][row].as_py(), names["source"][row].as_py()))
        return found


def _names(folder: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(folder / "names.arrow"))).read_all()


class _Decided(NamedTuple):
    """What becomes of each row, and which row is the reason. -1: none."""

    verdict: np.ndarray  # [N] uint8
    copy_of: np.ndarray  # [N] int64
    near: np.ndarray  # [N] bool: a near copy
    name_of: np.ndarray  # [N] int64: the row that has its name


def _decide(table: _Table, config: CleanConfig, scratch: Path) -> _Decided:
    """Which rows are copies of earlier ones, or have the name of one.

    A copy of a row whose name is taken is no copy, for that row is not kept: then copies are looked for again.
    """
    count = len(table)
    decided = _Decided(
        np.zeros(count, np.uint8),
        _disk_array(scratch / "copy_of", count, np.int64, -1),
        np.zeros(count, bool),
        _disk_array(scratch / "name_of", count, np.int64, -1),
    )
    taken = np.zeros(count, bool)
    while True:
        decided.copy_of[:] = -1
        if config.drop_duplicates:
            for links in external.first_of_equals(table.keys(0, taken), scratch, _ROWS_IN_MEMORY):
                decided.copy_of[links[:, 0]] = links[:, 1]
        again = False
        for links in external.first_of_equals(table.keys(1, taken | (decided.copy_of >= 0)), scratch, _ROWS_IN_MEMORY):
            decided.name_of[links[:, 0]] = links[:, 1]
            taken[links[:, 0]] = True
            again = config.drop_duplicates
        if not again or not taken[decided.copy_of[decided.copy_of >= 0]].any():
            break
    if config.near_duplicates and count:
        gone, near = taken | (decided.copy_of >= 0), config.near_duplicates
        found = table.signatures(near.permutations, gone, scratch / "signatures")
        for links in near_duplicates.near_duplicates(found, near, scratch, _ROWS_IN_MEMORY):
            decided.copy_of[links[:, 0]] = links[:, 1]
            decided.near[links[:, 0]] = True
    decided.verdict[taken | (decided.copy_of >= 0)] = _REJECTED
    return decided


def _disk_array(path: Path, count: int, dtype: Any, fill: int) -> np.ndarray:
    """An array that lies in a file, so that the system may put it aside."""
    if not count:
        return np.empty(0, dtype)
    array = np.memmap(path, dtype, "w+", shape=(count,))
    array[:] = fill
    return array


def _hold_out(table: _Table, decided: _Decided, split: SplitConfig, seed: int, scratch: Path, crew: Crew) -> None:
    """Give each row that is kept its split.

    The `round(fraction · n)` names with the smallest keyed hashes are the validation split, the next ones the test
    split; a fraction above 0 gets at least one of three or more names, and training keeps at least one.
    """
    if split.validation == split.test == 0:
        return
    jobs = [(folder, seed, scratch / f"split-{number}") for number, folder in enumerate(table.folders)]
    for _ in crew.in_order(_split_keys, jobs):
        pass
    kept = decided.verdict != _REJECTED

    def keys() -> Iterator[np.ndarray]:
        for number, (_, _, path) in enumerate(jobs):
            yield np.fromfile(path, ">u8").reshape(-1, 2).astype(np.uint64)[kept[table.span(number)]]

    validation, test = shares(int(kept.sum()), split)
    bounds = [external.smallest(keys, count, _ROWS_IN_MEMORY) for count in (validation, validation + test)]
    for number, found in enumerate(keys()):
        span = table.span(number)
        verdict = np.where(external.below(found, bounds[1]), SPLITS.index("test"), SPLITS.index("train"))
        verdict[external.below(found, bounds[0])] = SPLITS.index("validation")
        decided.verdict[span][kept[span]] = verdict


def _split_keys(job: tuple[Path, int, Path]) -> None:
    folder, seed, out = job
    with out.open("wb") as file:
        for name in _names(folder)["name"]:
            file.write(split_key(seed, name.as_py()))


# -- what is written --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Writing:
    """Where a unit's rows go."""

    folder: Path
    out: Path
    file: str
    verdict: np.ndarray


def _write(job: _Writing) -> dict[str, dict[str, Any]]:
    """Copy a unit's rows into one file per split, in their order; count what each holds."""
    counts: dict[str, dict[str, Any]] = {s: {"documents": 0, "sentences": 0, "characters": 0} for s in SPLITS}
    start = 0
    with ExitStack() as stack:
        writers: dict[str, pa.RecordBatchFileWriter] = {}
        reader = stack.enter_context(pa.ipc.open_file(str(job.folder / "documents.arrow")))
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).select(DOCUMENT_SCHEMA.names)
            verdict = job.verdict[start : start + batch.num_rows]
            start += batch.num_rows
            for code, split in enumerate(SPLITS):
                chosen = batch.filter(pa.array(verdict == code))
                if not chosen.num_rows:
                    continue
                if split not in writers:
                    (job.out / split).mkdir(exist_ok=True)
                    sink = pa.ipc.new_file(str(job.out / split / job.file), DOCUMENT_SCHEMA)
                    writers[split] = stack.enter_context(sink)
                writers[split].write_batch(chosen)
                sentences = chosen["sentences"].flatten()
                counts[split]["documents"] += chosen.num_rows
                counts[split]["sentences"] += len(sentences)
                counts[split]["characters"] += pc.sum(pc.utf8_length(sentences)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    for split in writers:
        counts[split]["digest"] = digest(mapped(job.out / split / job.file))
    return counts


def _write_rejects(table: _Table, decided: _Decided, out_dir: Path) -> None:
    """All rejects, in the order of reading: those of the units, and the rows that repeat others."""
    with _Writer(out_dir / "rejects.arrow", REJECT_SCHEMA) as writer:
        for unit, folder in enumerate(table.folders):
            span = table.span(unit)
            own = (row for batch in _batches(folder / "rejects.arrow") for row in batch.to_pylist())
            repeats = np.flatnonzero(decided.verdict[span] == _REJECTED)
            both = heapq.merge(own, _repeats(table, decided, unit, repeats), key=lambda reject: reject["row"])
            for reject in both:
                writer.write([reject[name] for name in REJECT_SCHEMA.names], len(reject["reason"]))


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(str(path)) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _repeats(table: _Table, decided: _Decided, unit: int, repeats: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rejects of the rows `repeats` of a unit, in their order."""
    first = 0
    for batch in _batches(table.folders[unit] / "documents.arrow") if len(repeats) else ():
        inside = repeats[(repeats >= first) & (repeats < first + batch.num_rows)]
        rows = inside + table.span(unit).start
        copy_of, near = decided.copy_of[rows], decided.near[rows].tolist()
        others = table.names(np.where(copy_of >= 0, copy_of, decided.name_of[rows]))
        chosen = batch.take(pa.array(inside - first)).to_pylist()
        for row, is_copy, is_near, (name, source) in zip(chosen, (copy_of >= 0).tolist(), near, others, strict=True):
            reason = f"{'near ' * is_near}duplicate of {name}"
            if not is_copy:
                reason = _taken(row["name"], source)
            yield {**row, "reason": reason, "excerpt": " ".join(row["sentences"])[:80]}
        first += batch.num_rows


def _taken(name: str, source: str) -> str:
    return f"the name {name!r} is taken by a document of {source}"


def _summary(
    sources: Sequence[SourceConfig],
    planned: Sequence[_Unit],
    found: Sequence[dict[str, Any]],
    decided: _Decided,
    config: CleanConfig,
    table: _Table,
) -> dict[str, Any]:
    """What there is to say of the corpus. UserError if the rows read are none."""
    copies = decided.copy_of >= 0
    taken = (decided.verdict == _REJECTED) & ~copies
    counts = {"duplicate": int((copies & ~decided.near).sum()), "near duplicate": int(decided.near.sum())}
    counts["name taken"] = int(taken.sum())
    reasons = sum((Counter(one["reasons"]) for one in found), Counter({k: n for k, n in counts.items() if n}))
    read, kept = sum(one["rows"] for one in found), int((decided.verdict != _REJECTED).sum())
    bad = sum(one["rejected"] - one["filtered"] for one in found) + counts["name taken"]
    first = [reject for one in found for reject in one["first"]][:3]
    told = [f"{source} line {position}: {reason}" for source, position, reason in first]
    some = np.flatnonzero(taken)[: 3 - len(told)]
    pairs = zip(table.names(some), table.names(decided.name_of[some]), strict=True)
    examples = "; ".join([*told, *(f"{source}: {_taken(name, other)}" for (name, source), (_, other) in pairs)])
    if bad > allowed_rejects(config.max_rejects, read):
        raise UserError(
            f"{bad} of {read} rows cannot be used, more than max_rejects:"
            f" {config.max_rejects} allows ({examples}); mend them or raise max_rejects"
        )
    if not kept:
        named = ", ".join(str(source.package or source.path) for source in sources) or "no source"
        raise UserError(f"no document is left of {named} ({examples or 'nothing was there'}); add sources")
    starts = np.cumsum([0, *(one["kept"] for one in found)])
    lineage = []
    for number, source in enumerate(sources):
        mine = [i for i, unit in enumerate(planned) if unit.number == number]
        verdicts = [decided.verdict[starts[i] : starts[i + 1]] for i in mine]
        lineage.append(
            {
                "source": source.package or source.path,
                "licence": licence(source),
                "files": len({part.name for i in mine for part in planned[i].parts}),
                "bytes": sum(planned[i].size for i in mine),
                "digest": units.key_of([[part.name, part.digest] for i in mine for part in planned[i].parts]),
                "rows": sum(found[i]["rows"] for i in mine),
                "kept": int(sum((verdict != _REJECTED).sum() for verdict in verdicts)),
                "reasons": dict(sum((Counter(found[i]["reasons"]) for i in mine), Counter[str]()).most_common(10)),
            }
        )
    return {
        "rows": read,
        "kept": kept,
        "rejected": read - kept,
        "duplicates": counts["duplicate"],
        "near_duplicates": counts["near duplicate"],
        "filtered": sum(one["filtered"] for one in found),
        "reasons": dict(reasons.most_common(10)),
        "rules": dict(sum((Counter(one["rules"]) for one in found), Counter[str]())),
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


class _Writer:
    """Writes rows to an Arrow file in batches of bounded size; the rows alone decide the bytes."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str | None = None) -> None:
        self._schema = schema
        self._writer = pa.ipc.new_file(str(path), schema, options=pa.ipc.IpcWriteOptions(compression=compression))
        self._rows: list[Sequence[Any]] = []
        self._size = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, row: Sequence[Any], size: int) -> None:
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= _BATCH_ROWS or self._size >= _BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows, self._size = [], 0
