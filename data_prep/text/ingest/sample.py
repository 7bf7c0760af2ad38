"""A first look at sources of text, before they are read: the characters at the beginning of some of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import UserError
from data_prep.sources.config import Part, SnapshotEntry, SourceConfig, snapshot, stamp_of
from data_prep.sources.files import is_remote
from data_prep.sources.records import Reject
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT, rows

CHARACTERS = 200_000  # of each source
FILES = 50  # of each source, evenly spaced


def characters(sources: Sequence[SourceConfig], config: CleanConfig, downloads: Path) -> Counter[str]:
    """How often each character occurs in a sample of every source on this machine, packages left out.

    What cannot be read is left to ingest, which tells.
    """
    counts: Counter[str] = Counter()
    for source in sources:
        if source.package is not None or is_remote(source.path or ""):
            continue
        entries = snapshot([source], TEXT)
        chosen = entries[:: -(-len(entries) // FILES)]
        for entry in chosen:
            counts += _of_file(entry, source, config, downloads, CHARACTERS // len(chosen))
    return counts


def _of_file(
    entry: SnapshotEntry, source: SourceConfig, config: CleanConfig, downloads: Path, most: int
) -> Counter[str]:
    counts: Counter[str] = Counter()
    part = Part(entry.uri, entry.name, "", entry.size, stamp=stamp_of(entry.size, entry.stamp))
    try:
        for number, document in enumerate(rows(part, source, downloads, config.max_seconds)):
            if number >= most or counts.total() >= most:
                break
            if not isinstance(document, Reject):
                counts.update(config.cleaning(document.text[:most]))
    except (UserError, OSError):
        return counts
    return counts
