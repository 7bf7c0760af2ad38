"""Numbers and sizes in readable form."""

from __future__ import annotations


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
