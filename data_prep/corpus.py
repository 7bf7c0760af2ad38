"""A corpus: cleaned documents, each a list of sentences, split by document.

`ingest` streams the sources once into a folder:

    train.arrow validation.arrow test.arrow   documents: name, sentences, source, meta (JSON)
    rejects.arrow                             refused rows: source, position, reason, excerpt

Which document goes where depends on the seed and the documents' names alone, not on the order of
files. Every row that was read is kept or rejected, and counted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_prep import sentences as splitting
from data_prep.clean import CleanConfig, allowed_rejects, clean, fingerprint
from data_prep.errors import UserError
from data_prep.sources import Document, Reject, SourceConfig, documents, licence

SPLITS = ("train", "validation", "test")
DOCUMENT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("sentences", pa.list_(pa.string())),
        ("source", pa.string()),
        ("meta", pa.string()),
    ]
)
REJECT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
    ]
)
_BATCH_ROWS = 1024
_BATCH_CHARACTERS = 8 << 20
_Fraction = Annotated[float, Field(ge=0, lt=1)]


class SplitConfig(BaseModel):
    """Shares of the documents that are kept from training."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    validation: _Fraction = 0.05
    """For choices made while training."""
    test: _Fraction = 0.05
    """For the numbers that are reported."""

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError("'validation' and 'test' together must be less than 1")
        return self


def assign_splits(names: Sequence[str], split: SplitConfig, seed: int) -> dict[str, str]:
    """Which split each of these (distinct) names belongs to.

    The `round(fraction · n)` names with the smallest keyed hashes are the validation split, the
    next ones the test split; a fraction above 0 gets at least one of three or more names, and
    training keeps at least one.
    """
    count = len(names)

    def share(fraction: float) -> int:
        return 0 if fraction == 0 or count < 3 else max(1, round(fraction * count))

    validation, test = share(split.validation), share(split.test)
    while validation + test >= count > 0 and validation + test > 0:
        validation, test = (validation - 1, test) if validation >= test else (validation, test - 1)
    ranked = sorted(names, key=lambda name: (_hash(seed, name), name))
    splits = ["validation"] * validation + ["test"] * test + ["train"] * (count - validation - test)
    return dict(zip(ranked, splits, strict=True))


def _hash(seed: int, name: str) -> bytes:
    return hashlib.blake2b(json.dumps([seed, "split", name]).encode(), digest_size=16).digest()


def ingest(
    sources: Sequence[SourceConfig],
    clean_config: CleanConfig,
    split: SplitConfig,
    seed: int,
    out_dir: Path,
    downloads: Path,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Read, clean, split and write a corpus into `out_dir`; returns what there is to say about it.

    `progress` is called with the number of rows read so far. Raises `UserError` if more rows are
    bad than `clean_config.max_rejects` allows, or if nothing is left.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    rows = (row for source in sources for row in documents(source, downloads))
    reader = _Reader(clean_config)
    kept_path = out_dir / ".kept.arrow"
    try:
        with (
            _Writer(kept_path, DOCUMENT_SCHEMA) as kept,
            _Writer(out_dir / "rejects.arrow", REJECT_SCHEMA) as rejects,
        ):
            for row in reader.read(rows):
                if isinstance(row, Reject):
                    rejects.write([row.source, row.position, row.reason, row.excerpt], len(row.reason))
                else:
                    meta = json.dumps(row.meta, ensure_ascii=False, sort_keys=True)
                    kept.write([row.name, row.sentences, row.source, meta], row.characters)
                if progress is not None and reader.rows % 100 == 0:
                    progress(reader.rows)
        if progress is not None:
            progress(reader.rows)
        reader.check(sources)
        counts = _write_splits(kept_path, out_dir, assign_splits(list(reader.names), split, seed))
    finally:
        kept_path.unlink(missing_ok=True)
    return {
        "rows": reader.rows,
        "kept": len(reader.names),
        "rejected": reader.rejected,
        "duplicates": reader.duplicates,
        "reasons": dict(reader.reasons.most_common(10)),
        "splits": counts,
        "licences": [licence(source) for source in sources],
    }


class _Kept:
    """A document that was kept: its sentences, and how many characters they have."""

    __slots__ = ("characters", "meta", "name", "sentences", "source")

    def __init__(self, document: Document, sentences: list[str]) -> None:
        self.name, self.source, self.meta = document.name, document.source, document.meta
        self.sentences = sentences
        self.characters = sum(map(len, sentences))


class _Reader:
    """Cleans documents and decides which are kept, counting every one of them."""

    def __init__(self, config: CleanConfig) -> None:
        self.config = config
        self.rows = self.rejected = self.duplicates = 0
        self.names: dict[str, str] = {}  # of kept documents, with their sources
        self.reasons: Counter[str] = Counter()
        self.first: list[Reject] = []
        self._seen: dict[bytes, str] = {}

    def read(self, rows: Iterable[Document | Reject]) -> Iterator[_Kept | Reject]:
        for row in rows:
            self.rows += 1
            result = row if isinstance(row, Reject) else self._accept(row)
            if isinstance(result, Reject):
                self.rejected += 1
                is_duplicate = result.reason.startswith("duplicate of ")
                self.duplicates += is_duplicate
                self.reasons["duplicate" if is_duplicate else result.reason] += 1
                if not is_duplicate and len(self.first) < 3:
                    self.first.append(result)
            yield result

    def _accept(self, document: Document) -> _Kept | Reject:
        def reject(reason: str) -> Reject:
            return Reject(document.source, document.position, reason, document.text.strip()[:80])

        config = self.config
        text = clean(document.text, config.normalisation)
        if len(text) < config.min_characters:
            return reject(f"shorter than {config.min_characters} characters")
        if config.drop_duplicates:
            mark = fingerprint(text)
            if mark in self._seen:
                return reject(f"duplicate of {self._seen[mark]}")
        if document.name in self.names:
            return reject(f"the name {document.name!r} is taken by a document of {self.names[document.name]}")
        sentences = splitting.split(text, config.language)
        if config.drop_duplicates:
            self._seen[mark] = document.name
        self.names[document.name] = document.source
        return _Kept(document, sentences)

    def check(self, sources: Sequence[SourceConfig]) -> None:
        """Raise if the rows read are not a corpus."""
        if self.rows != len(self.names) + self.rejected:
            raise RuntimeError(f"{self.rows} rows, {len(self.names)} kept, {self.rejected} rejected")
        bad = self.rejected - self.duplicates
        examples = "; ".join(f"{row.source} line {row.position}: {row.reason}" for row in self.first)
        if bad > allowed_rejects(self.config.max_rejects, self.rows):
            raise UserError(
                f"{bad} of {self.rows} rows cannot be used, more than max_rejects:"
                f" {self.config.max_rejects} allows ({examples}); mend them or raise max_rejects"
            )
        if not self.names:
            named = ", ".join(str(source.package or source.path) for source in sources) or "no source"
            raise UserError(f"no document is left of {named} ({examples or 'nothing was there'}); add sources")


def _write_splits(kept: Path, out_dir: Path, split_of: dict[str, str]) -> dict[str, dict[str, int]]:
    """Copy the kept documents into one file per split, in their order; count what each holds."""
    counts = {split: {"documents": 0, "sentences": 0, "characters": 0} for split in SPLITS}
    with ExitStack() as stack:
        writers = {split: stack.enter_context(_Writer(out_dir / f"{split}.arrow", DOCUMENT_SCHEMA)) for split in SPLITS}
        reader = stack.enter_context(pa.ipc.open_file(stack.enter_context(pa.memory_map(str(kept)))))
        for number in range(reader.num_record_batches):
            columns = reader.get_batch(number).to_pydict()
            for name, sentences, source, meta in zip(*columns.values(), strict=True):
                split, characters = split_of[name], sum(map(len, sentences))
                writers[split].write([name, sentences, source, meta], characters)
                counts[split]["documents"] += 1
                counts[split]["sentences"] += len(sentences)
                counts[split]["characters"] += characters
    return counts


class _Writer:
    """Writes rows to an Arrow file in batches of bounded size; the rows alone decide the bytes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pa.ipc.new_file(str(path), schema)
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


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """One document of a corpus."""

    name: str
    sentences: list[str]
    source: str
    meta: dict[str, Any]


class Corpus:
    """One split of a corpus folder, memory-mapped: nothing is read before it is asked for."""

    def __init__(self, folder: Path | str, split: str = "train") -> None:
        if split not in SPLITS:
            raise UserError(f"a corpus has no split {split!r}; it has {', '.join(SPLITS)}")
        self.path = Path(folder) / f"{split}.arrow"
        self.split = split
        try:
            self.table: pa.Table = pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{self.path} is not a split of a corpus ({error}); ingest it again") from error

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def names(self) -> list[str]:
        return self.table["name"].to_pylist()

    @property
    def meta(self) -> list[dict[str, Any]]:
        return [json.loads(meta) for meta in self.table["meta"].to_pylist()]

    def __getitem__(self, index: int) -> CorpusDocument:
        row = {name: self.table[name][index].as_py() for name in DOCUMENT_SCHEMA.names}
        return _corpus_document(*row.values())

    @property
    def documents(self) -> Iterator[CorpusDocument]:
        """The documents, in order."""
        for batch in self.table.to_batches():
            for row in zip(*(batch[name] for name in DOCUMENT_SCHEMA.names), strict=True):
                yield _corpus_document(*(value.as_py() for value in row))

    def sentences(self) -> Iterator[str]:
        """Every sentence of every document, in order."""
        for batch in self.table.to_batches():
            for sentences in batch["sentences"]:
                yield from sentences.as_py()


def _corpus_document(name: str, sentences: list[str], source: str, meta: str) -> CorpusDocument:
    return CorpusDocument(name, sentences, source, json.loads(meta))
