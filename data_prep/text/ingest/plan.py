"""Groups the parts of sources into the units of a corpus of text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import unit_cache
from data_prep.sources import named_splits
from data_prep.sources.archives import listed
from data_prep.sources.compressed import is_archive, of_tar
from data_prep.sources.config import TARGET, Part, SourceConfig, parts
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT
from data_prep.text.ingest.units import VERSION, Unit
from data_prep.text.rules.rules import digest as digest_of_rules

UNIT_BYTES = TARGET


def plan(sources: Sequence[SourceConfig], clean_config: CleanConfig, downloads: Path) -> list[Unit]:
    """The units of the sources. Adding a file changes only the units next to it."""
    units = []
    config = clean_config.model_dump(mode="json", exclude={"max_rejects", "drop_duplicates"})
    files = digest_of_rules(clean_config.rules, downloads)
    config["files"] = files
    of_sources = [parts(source, TEXT, downloads, UNIT_BYTES) for source in sources]
    named_splits.check(
        [(source, _named(source, of_source, downloads)) for source, of_source in zip(sources, of_sources, strict=True)]
    )
    for number, (source, of_source) in enumerate(zip(sources, of_sources, strict=True)):
        for split, of_split in named_splits.by_split(source, of_source):
            for group in _groups(of_split):
                stretches = [(part.name, part.digest, part.start, part.stop, part.first) for part in group]
                asked = [source.text_field, source.id_field, source.encoding, *filter(None, [source.delimiter])]
                key = unit_cache.key_of("documents", VERSION, stretches, *asked, config)
                units.append(Unit(key, number, source, tuple(group), files, split))
    return named_splits.held_out_first(units)


def _named(source: SourceConfig, of_source: list[Part], downloads: Path) -> Sequence[named_splits.Named]:
    """The files of a source, with the members of archives that can be listed without being decompressed."""
    archives = [part.name for part in of_source if is_archive(part.name)]
    if source.path is None or source.split is not None or not archives or any(map(of_tar, archives)):
        return of_source
    return listed(source, TEXT, downloads)


def _groups(all_parts: list[Part]) -> Iterator[list[Part]]:
    """Runs of parts of about UNIT_BYTES / 2, rarely more than twice UNIT_BYTES.

    A run ends after a file with a probability that grows with its size, drawn from a hash of its name, so that adding a
    file changes only the run that it falls into.
    """
    group: list[Part] = []
    size = 0
    for part in all_parts:
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
