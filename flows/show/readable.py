"""Untrusted text, numbers and sizes in readable form for a terminal.

Text that comes from data is never printed as it is: control characters, which a terminal would obey, are replaced by
their symbols (␛ for escape), and those that change the direction of writing by �.
"""

from __future__ import annotations

_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys([*range(0x80, 0xA0), 0x2028, 0x2029], 0xFFFD)
_PICTURES |= dict.fromkeys([0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)


def plain(text: str, keep: str = "") -> str:
    """Text that is safe for a terminal: control and direction characters, except those in `keep`, become visible."""
    return text.translate({code: to for code, to in _PICTURES.items() if chr(code) not in keep})


def number(value: float) -> str:
    """A readable number: thousands separated, fractions rounded to four significant digits or, from 10,000 on, to 1."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def size(count: int) -> str:
    """A number of bytes in a suitable unit: 999 B, 1.2 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
