"""One unit of a corpus of text: parts of a source that are read one after another, cleaned, and written to files.

documents.arrow   rows kept so far: name, sentences, paragraphs, source, meta, their number and position; meta is stored
                  as in the source, including control characters, which must be escaped for display
names.arrow       names and sources again, for random access
rejects.arrow     rejected rows
keys.u64          128-bit hashes of each row's text and name
signatures.u32    MinHash signatures, if near duplicates are to be found
spans.u64 …       the files of `data_prep.text.rules.spans`, if repeated spans are to be found
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, pairwise
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.corpus.documents import DOCUMENT_SCHEMA, REJECT_SCHEMA
from data_prep.corpus.row_writer import Writer
from data_prep.corpus.unit import Losses
from data_prep.sources.config import Part, SourceConfig
from data_prep.sources.records import Document, Reject, Remarks, Row, printable
from data_prep.text import bounded, near_duplicates
from data_prep.text import sentences as splitting
from data_prep.text.bounded import TooMuchError
from data_prep.text.clean import CleanConfig, fingerprint
from data_prep.text.documents import rows
from data_prep.text.formats.formats import is_one_document
from data_prep.text.rules.rules import Rules
from data_prep.text.rules.spans import SpanFiles
from data_prep.text.words import words

VERSION = 7  # of the contents of units; incremented when the output of reading or cleaning changes
_LOOKED_AT = 4096  # characters
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_UNIT_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("row", pa.int64())).append(pa.field("position", pa.int64()))
_UNIT_REJECTS = REJECT_SCHEMA.append(pa.field("row", pa.int64()))
_NAMES = pa.schema([("name", pa.string()), ("source", pa.string())])


@dataclass(frozen=True)
class Unit:
    """Parts of one source, to be read one after another."""

    key: str
    source: int  # index of the source
    config: SourceConfig
    parts: tuple[Part, ...]
    files: str  # digest of the files that the rules read
    split: str | None = None  # of all its rows, if its source says so

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def contents(self) -> list[tuple[str, str]]:
        return [(part.name, part.digest) for part in self.parts]


def read(unit: Unit, config: CleanConfig, downloads: Path, folder: Path) -> dict[str, Any]:
    """Read and clean a unit into a folder; returns the counts of its rows."""
    cleaner, num_kept, number = Cleaner(config, _rules(config.model_dump_json(), unit.files, downloads)), 0, 0
    reasons: Counter[str] = Counter()
    first: list[list[Any]] = []
    filtered = num_more = 0
    remarks, losses, useless = Remarks(), Losses(), _Useless()
    parts = (rows(part, unit.config, downloads, config.max_seconds, remarks) for part in unit.parts)
    with ExitStack() as stack:
        documents = stack.enter_context(Writer(folder / "documents.arrow", _UNIT_SCHEMA, compression="zstd"))
        names = stack.enter_context(Writer(folder / "names.arrow", _NAMES))
        rejects = stack.enter_context(Writer(folder / "rejects.arrow", _UNIT_REJECTS, compression="zstd"))
        keys = stack.enter_context((folder / "keys.u64").open("wb"))
        signatures = stack.enter_context(_Signatures(folder / "signatures.u32", config))
        spans = stack.enter_context(SpanFiles(folder, config.rules.span_sentences))
        for number, row in enumerate(chain.from_iterable(parts), 1):
            useless.add(row)
            result = row if isinstance(row, Reject) else cleaner(row)
            if isinstance(result, Reject):
                reasons[result.reason] += 1
                if result.lost:
                    losses.add(result)
                if isinstance(result, _Filtered):
                    filtered += 1
                elif len(first) < 3:
                    first.append([result.source, result.position, result.reason])
                line = [result.source, result.position, result.reason, result.excerpt, number]
                rejects.write(line, len(result.reason))
                continue
            passages = _passages(result, config)
            num_kept, num_more = num_kept + len(passages), num_more + len(passages) - 1
            meta = _as_json(result.document.meta)
            for passage in passages:
                name, source, position = printable(passage.name), result.document.source, result.document.position
                documents.write(
                    [name, passage.sentences, passage.paragraphs, source, meta, number, position], len(passage.text)
                )
                names.write([name, source], 0)
                keys.write(passage.fingerprint + _name_key(name))
                signatures.write(passage.text)
                spans.write(passage.sentences)
    return {
        "rows": number + num_more,
        "kept": num_kept,
        "rejected": sum(reasons.values()),
        "filtered": filtered,
        "reasons": dict(reasons.most_common(100)),
        "first": first,
        **losses.to_json(),
        "useless": useless.files,
        "left_out": dict(remarks.left_out),
        "notes": remarks.notes,
        "rules": dict(cleaner.counts),
    }


class _Useless:
    """Files, or stretches of them, of which every row is rejected as it is read, one by one."""

    def __init__(self) -> None:
        self.files: dict[str, list[Any]] = {}
        """Number of rows, and position and reason of the first, by name."""
        self._source = ""

    def add(self, row: Row) -> None:
        """Take the next row; those of a file come one after another."""
        is_new, self._source = row.source != self._source, row.source
        if isinstance(row, Document) or row.lost:
            if not is_new:
                self.files.pop(row.source, None)
        elif row.source in self.files:
            self.files[row.source][0] += 1
        elif is_new and not is_one_document(row.source):
            self.files[row.source] = [1, row.position, row.reason]


class Cleaned(NamedTuple):
    """A document that is kept, its cleaned text, and the sentences of that."""

    document: Document
    text: str
    sentences: list[str]
    paragraphs: list[int]
    fingerprint: bytes


class _Passage(NamedTuple):
    """A document of the corpus: a cleaned one, or consecutive sentences of it."""

    name: str
    text: str
    sentences: list[str]
    paragraphs: list[int]
    fingerprint: bytes


def _passages(cleaned: Cleaned, config: CleanConfig) -> list[_Passage]:
    """The document, or its passages of at least `passage_words` words; what is left at the end joins the last one."""
    name, text, sentences, paragraphs, mark = cleaned.document.name, *cleaned[1:]
    if config.passage_words is None:
        return [_Passage(name, text, sentences, paragraphs, mark)]
    bounds, count = [0], 0
    for place, sentence in enumerate(sentences, 1):
        count += len(words(sentence))
        if count >= config.passage_words:
            bounds, count = [*bounds, place], 0
    bounds = [*bounds[: max(1, len(bounds) - (bounds[-1] < len(sentences)))], len(sentences)]
    passages = []
    for number, (start, stop) in enumerate(pairwise(dict.fromkeys(bounds)), 1):
        own, numbers = sentences[start:stop], paragraphs[start:stop]
        of_paragraph = [[s for s, of in zip(own, numbers, strict=True) if of == n] for n in dict.fromkeys(numbers)]
        joined = "\n\n".join(("\n" if config.keep_lines else " ").join(part) for part in of_paragraph)
        first = numbers[0]
        passages.append(
            _Passage(f"{name}, passage {number}", joined, own, [n - first for n in numbers], fingerprint(joined))
        )
    return passages


class _Filtered(Reject):
    """A valid row that a rule rejected: it is counted, but not as bad."""


class Cleaner:
    """Cleans a document, or rejects it with a reason."""

    def __init__(self, config: CleanConfig, rules: Rules) -> None:
        self.config = config
        self.rules = rules
        self.short = f"shorter than {config.min_characters} characters"
        self.counts: Counter[str] = Counter()

    def __call__(self, document: Document) -> Cleaned | Reject:
        config = self.config
        excerpt = document.text.lstrip()[:80].rstrip()
        text = config.cleaning(document.text)
        if len(text) < config.min_characters:
            return Reject(document.source, document.position, self.short, excerpt)
        if len(text) < 0.9 * len(document.text) and _mostly_controls(document.text[:_LOOKED_AT]):
            return Reject(
                document.source,
                document.position,
                "a third are control characters; if it is UTF-16, set the encoding of its source: utf-16-le",
                excerpt,
            )
        try:
            outcome = self.rules(text)
            if outcome.text is None or len(outcome.text) < config.min_characters:
                return _Filtered(document.source, document.position, outcome.reason or self.short, excerpt)
            tidy = outcome.text is text and not config.keep_lines  # rules that change a text may leave white space
            arguments = (outcome.text, config.language, tidy, config.keep_lines)
            seconds = config.max_seconds if len(outcome.text) > bounded.LONG else None
            sentences, paragraphs = bounded.call(
                _sentences, *arguments, seconds=seconds, what="splitting into sentences"
            )
        except TooMuchError as error:
            return Reject(document.source, document.position, str(error), excerpt)
        self.counts.update(outcome.counts)
        return Cleaned(document, outcome.text, sentences, paragraphs, fingerprint(outcome.text, tidy))


def _sentences(text: str, language: str, tidy: bool, keep_lines: bool) -> tuple[list[str], list[int]]:
    split = partial(splitting.split, language=language, tidy=tidy)
    return splitting.by_paragraph(text, splitting.split_lines if keep_lines else split)


def _as_json(meta: dict[str, Any]) -> str:
    """`meta` as JSON, without infinite values and NaN, as when JSON is read."""
    encode = partial(json.dumps, ensure_ascii=False, sort_keys=True, allow_nan=False)
    try:
        return encode(meta)
    except ValueError:
        return encode({key: value for key, value in meta.items() if not isinstance(value, float) or isfinite(value)})


@lru_cache(1)
def _rules(config: str, files: str, downloads: Path) -> Rules:
    """The rules of a config, loaded once per process; `files`: the digest of the files they read."""
    return Rules(CleanConfig.model_validate_json(config), downloads)


def _mostly_controls(text: str) -> bool:
    """Whether more than a third are control characters: probably another encoding that is also valid UTF-8."""
    return len(_CONTROLS.findall(text)) > len(text) / 3


class _Signatures:
    """Writes the MinHash signatures of texts to a file, if near duplicates are to be found."""

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
