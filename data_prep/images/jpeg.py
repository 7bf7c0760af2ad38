"""What libjpeg leaves to its callers: how often a file goes over its pixels.

FF, marker, length uint16, data; after a scan's header its bits follow, in which FF is written as FF 00, and FF D0 to
FF D7 are restarts (ITU-T T.81, annex B).
"""

from __future__ import annotations

import re
import struct

SIGNATURE = b"\xff\xd8"
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_LONE = (0x01, 0xD8)  # have no length
_SCAN, _END = 0xDA, 0xD9


def scans(raw: bytes) -> int:
    """Number of scans of a JPEG file; 0 for other files. Each costs work for all pixels, in however few bytes."""
    count, place = 0, 0
    while raw.startswith(SIGNATURE) and (marker_match := _MARKER.search(raw, place)):
        marker, place = marker_match[1][0], marker_match.end()
        if marker == _END:
            break
        count += marker == _SCAN
        if marker not in _LONE and place + 2 <= len(raw):
            place += struct.unpack_from(">H", raw, place)[0]
    return count
