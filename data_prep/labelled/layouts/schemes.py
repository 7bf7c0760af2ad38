"""How tags mark chunks of words, such as names: which of three schemes they keep to, and where they do not.

BIO    B-X begins every chunk, I-X goes on (IOB2)
IOB1   I-X begins and goes on; B-X only where a chunk of the same type ends right before it
IOBES  as BIO; E-X ends a chunk, S-X is one of a single word (BIOES; with L and U: BILOU)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

OUTSIDE = "O"
_TAG = re.compile(r"([BIESLU])-(.+)")
_SAME = {"L": "E", "U": "S"}  # BILOU


def scheme_of(labels: Sequence[str]) -> str:
    """BIO (or IOB1: only tags in their order can tell), IOBES, or "" for tags that mark no chunks."""
    chunks = [label for label in labels if label != OUTSIDE]
    if not chunks or not all(map(_TAG.fullmatch, chunks)):
        return ""
    marks = {label[0] for label in chunks}
    return "IOBES" if marks & {"E", "S", "L", "U"} else "BIO" if marks <= {"B", "I"} else ""


def misfits(tags: Sequence[str], scheme: str) -> Iterator[int]:
    """Places of the tags of a sentence that break a scheme; of IOBES the place after it, where a chunk does not end."""
    before, type_before = OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, kind = _parts(tag)
        goes_on = before in ("B", "I") and type_before == kind
        if scheme == "IOB1":
            if mark == "B" and not goes_on:
                yield place
        elif scheme == "BIO":
            if mark == "I" and not goes_on:
                yield place
        elif (mark in ("I", "E") and not goes_on) or (before in ("B", "I") and mark in ("B", "S", OUTSIDE)):
            yield place
        before, type_before = mark, kind


@lru_cache(4096)
def _parts(tag: str) -> tuple[str, str]:
    """The mark and the type of a tag, with marks of BILOU as those of IOBES."""
    match = _TAG.fullmatch(tag)
    return (_SAME.get(match[1], match[1]), match[2]) if match else (OUTSIDE, "")


def scheme_in(sentences: Sequence[Sequence[str]], labels: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The scheme of some sentences' tags, and sentence and place of each tag that breaks it."""
    scheme = scheme_of(labels)
    if not scheme:
        return "", []
    candidates = ["BIO", "IOB1"] if scheme == "BIO" else [scheme]
    broken = {
        name: [(number, place) for number, tags in enumerate(sentences) for place in misfits(tags, name)]
        for name in candidates
    }
    scheme = min(candidates, key=lambda name: len(broken[name]))
    return scheme, broken[scheme]
