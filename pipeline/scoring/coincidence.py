"""Whether two files with the same rows can be so by chance.

Tables of few columns with few values have files that begin alike though nobody copied them: a list of hosts that are
all well is the same every night. Rows are taken to be of one origin only if at least ENOUGH of them differ, or at least
SOME do that say much: beyond the first, they take MUCH when compressed.
"""

from __future__ import annotations

import zlib

from data_prep.sources.archives import SourceFile
from pipeline.scoring.tail import LineFormat, head_end, stretch

ENOUGH = 10  # different rows
SOME = 4
MUCH = 24  # bytes


def may_be_chance(file: SourceFile, line_format: LineFormat, start: int, stop: int) -> bool:
    """Whether bytes [start, stop) of a content hold too few different rows to tell where they are from."""
    rest, lines = b"", dict[bytes, None]()
    for chunk in stretch(file, start or head_end(file, line_format, stop), stop):
        *whole, rest = (rest + chunk).split(b"\n")
        lines |= dict.fromkeys(filter(None, (line.strip(line_format.blank) for line in whole)))
        if len(lines) >= ENOUGH:
            return False
    different = list(lines | dict.fromkeys(filter(None, [rest.strip(line_format.blank)])))
    return len(different) < ENOUGH and (len(different) < SOME or _beyond_first(different) < MUCH)


def _beyond_first(lines: list[bytes]) -> int:
    """Bytes that lines take beyond the first when compressed."""
    return len(zlib.compress(b"\n".join(lines))) - len(zlib.compress(lines[0]))
