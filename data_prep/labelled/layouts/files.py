"""Files that are an example each, such as recordings: a row each, with its `file` and the name of its `folder`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.labelled.rows import Asked, Reading, Row

FILE, FOLDER = "file", "folder"


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[Row]:
    """The row of a file, which whoever makes an example of it opens."""
    folder = path.absolute().parent
    yield Row(str(path), path.name, {FILE: f"{folder.name}/{path.name}", FOLDER: folder.name}, folder.parent)
