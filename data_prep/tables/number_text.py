"""Numbers as people and programs write them, and one text for equal numbers.

plain("1,234.50") = plain("$1 234.50") = "1234.50"     a point for decimals, no signs other than + and −
plain("1.234,50", comma=True) = "1234.50"              decimal commas
plain("12.5 %") = "0.125"                              as spreadsheets store it
plain("(1,234.50)") = "-1234.50"                       as accountants write debts
plain("1:02:03.5") = plain("PT1H2M3.5S") = "3723.5"    durations and times of day, in seconds
canonical("+12.50") = canonical("1.25e1") = "12.5"     whatever wrote it
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

_CURRENCY = r"(?:[$€£¥₹₽₩₺₴฿]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|CZK|BRL)\b)"
_CASE = re.IGNORECASE | re.ASCII
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", _CASE)
_CANONICAL = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?(e[+-]?\d+)?", _CASE)  # 007 is a code
_FAR = 25  # decimal places beyond which a number is written with an exponent


def _decorated(point: str, groups: str) -> re.Pattern[str]:
    indian = r"\d{1,2}(?:,\d\d)+,\d{3}|" if "," in groups else ""
    whole = rf"\d{{1,3}}(?:(?P<group>[{groups}])\d{{3}})(?:(?P=group)\d{{3}})*|{indian}\d*"
    return re.compile(
        rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*(?P<currency>{_CURRENCY})?\s*(?P<inner>[+-])?\s*(?P<whole>{whole})"
        rf"(?:{point}(?P<part>\d*))?(?P<power>e[+-]?\d+)?\s*(?P<after>{_CURRENCY})?\s*(?P<percent>%)?\s*(?P<close>\))?",
        _CASE,
    )


_UNITS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_CLOCK = re.compile(
    r"(?:(?P<days>-?\d+) days?,? )?(?P<sign>[+-])?(?P<hours>\d+):(?P<minutes>[0-5]\d)"
    r"(?::(?P<seconds>[0-5]\d(?:[.,]\d*)?))?",
    _CASE,
)
_DURATION = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d*)?)S)?)?",
    _CASE,
)
_SPACES = " '’\u00a0\u2009\u202f"
_POINT, _COMMA = _decorated(r"\.", rf",{_SPACES}"), _decorated(",", rf".{_SPACES}")


def plain(text: str, comma: bool = False) -> str | None:
    """The number that a text writes, as Python reads it; None if it writes none. comma: decimals follow a comma."""
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    if not comma and _PLAIN.fullmatch(text):
        return text
    if (seconds := _seconds(text)) is not None:
        return seconds
    match = (_COMMA if comma else _POINT).fullmatch(text.replace("\u2212", "-"))
    if match is None or not (match["whole"] or match["part"]) or (match["sign"] and match["inner"]):
        return None
    owed, money = bool(match["open"]), match["currency"] or match["after"]
    if owed != bool(match["close"]) or (owed and (match["sign"] or match["inner"])):
        return None
    if owed and not (money or match["group"] or match["part"]):  # (1) numbers a note
        return None
    digits = re.sub(r"\D", "", match["whole"]) or "0"
    number = f"{match['sign'] or match['inner'] or ''}{digits}.{match['part'] or '0'}{match['power'] or ''}"
    number = f"-{number}" if owed else number
    return str(Decimal(number).scaleb(-2)) if match["percent"] else number


def _seconds(text: str) -> str | None:
    """The seconds of a duration (as ISO 8601, clocks and pandas write it) or of a time of day; None for other texts."""
    match = _CLOCK.fullmatch(text) or _DURATION.fullmatch(text)
    if match is None or not any(match[unit] for unit in _UNITS):
        return None
    total = sum(Decimal((match[unit] or "0").replace(",", ".")) * seconds for unit, seconds in _UNITS.items())
    return format(-total if match["sign"] == "-" else total, "f")


def canonical(number: str) -> str:
    """The one text of a number's value, without superfluous digits; anything else, also 007, stays as it is."""
    if not _CANONICAL.fullmatch(number):
        return number
    try:
        value = Decimal(number)
    except InvalidOperation:  # an exponent beyond all measure
        return number
    if not value:
        return "0"
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return number
    text = "".join(map(str, digits))
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    if exponent > _FAR or exponent + len(stripped) < -_FAR:
        first, rest = stripped[0], stripped[1:]
        written = f"{first}.{rest}" if rest else first
        body = f"{written}e{exponent + len(stripped) - 1:+03d}"
    else:
        body = format(Decimal((0, tuple(map(int, stripped)), exponent)), "f")
    return f"-{body}" if sign else body
