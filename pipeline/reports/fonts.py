"""Fonts for texts of any script in figures: an installed one for what a figure's own fonts lack."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_NO_TEXT = ("Last Resort", "cm", "STIXNonUnicode", "STIXSize")
"""Fonts that matplotlib brings for formulas, and one that has a box for every character."""


def give_fonts(texts: Iterable[Any]) -> set[str]:
    """Give matplotlib texts further fonts for the characters that theirs lack; returns those of no installed font."""
    from matplotlib.font_manager import FontProperties, findfont

    without: set[str] = set()
    for text in texts:
        lacking = frozenset(filter(str.isprintable, text.get_text())) - {" "}
        families = [str(name) for name in text.get_fontfamily()]
        for name in families:
            lacking -= _characters(findfont(FontProperties(family=[name])))
        further: list[str] = []
        while lacking and (best := _best(lacking)) is not None:
            further.append(best)
            lacking -= _characters(_files()[best])
        if further:
            text.set_fontfamily([*families, *further])
        without |= lacking
    return without


@lru_cache(maxsize=64)
def _best(lacking: frozenset[str]) -> str | None:
    """The installed font with most of the characters; None where none has any."""
    counts = {name: len(lacking & _characters(path)) for name, path in _files().items()}
    most = max(counts, key=lambda name: counts[name], default=None)
    return most if most is not None and counts[most] else None


@lru_cache(maxsize=1)
def _files() -> dict[str, str]:
    """Upright fonts of normal weight, and their files."""
    from matplotlib.font_manager import fontManager

    files: dict[str, str] = {}
    for font in fontManager.ttflist:
        if font.style == "normal" and font.weight in (400, "normal", "regular") and not font.name.startswith(_NO_TEXT):
            files.setdefault(font.name, font.fname)
    return files


@lru_cache(maxsize=1024)
def _characters(path: str) -> frozenset[str]:
    """What a font's file has glyphs for."""
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
