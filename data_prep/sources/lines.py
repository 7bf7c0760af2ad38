"""Text files of which each line is read by itself: prompts, phrases, words.

A line ends in a line feed, or in a carriage return and a line feed. Whatever else Unicode breaks lines at, such as a
form feed or U+2028, is part of a text.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from data_prep.opening.files import UnfitError
from data_prep.sources.records import HEAD, MAX_BYTES, Lines, joined, marked_encoding


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file, which may be packed as .gz; see `text_lines`. UnfitError, too, if it cannot be read."""
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as stream:
            yield from text_lines(cast(BinaryIO, stream))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnfitError(f"is a damaged gzip file ({error})") from error
    except OSError as error:
        raise UnfitError(f"cannot be read ({error.strerror})") from error


def text_lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbers from 1 and texts of the lines of a stream in UTF-8, without their ends.

    UnfitError for other encodings, for a line that is too long, and where carriage returns alone end lines.
    """
    head = stream.read(HEAD)
    if problem := marked_encoding(head):
        raise UnfitError(problem.partition(";")[0])
    lines = Lines(joined(head, stream))
    for raw in lines:
        if raw is None:
            raise UnfitError(f"line {lines.number} is longer than {MAX_BYTES:,} bytes")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise UnfitError(f"line {lines.number} holds the byte 0x{raw[error.start]:02x}, not UTF-8") from error
        if lines.number == 1 and not text.endswith("\n") and "\r" in text.rstrip("\r"):
            raise UnfitError("its lines end in carriage returns alone, not in line feeds")
        yield lines.number, text.removesuffix("\n").removesuffix("\r")
