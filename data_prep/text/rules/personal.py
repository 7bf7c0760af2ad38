"""Masking of personal data: e-mail addresses, phone numbers, payment cards, IP addresses.

Masking is repeated until nothing more is found, so masking a text again changes nothing. A card number must be written
in one group or in the groups of cards, begin like an issuer's numbers and have a valid check digit; so dates, years,
ISBNs and most other numbers stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from data_prep.errors import UserError
from data_prep.text import bounded
from data_prep.text.rules.config import Outcome, PersonalDataConfig

_LETTERS = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_EMAIL = re.compile(rf"(?<![{_LETTERS}0-9._%+-])[{_LETTERS}0-9._%+-]+@(?:[{_LETTERS}0-9-]+\.)+[{_LETTERS}]{{2,}}")

_MANY_DIGITS = re.compile(r"\d(?:[ -]?\d){12}")
_CARD_SHAPES = [
    re.compile(rf"(?<!\w)(?<!\d[.,]){shape}(?!\w|[.,]\d)")
    for shape in (
        r"\d{13,19}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}",
        r"\d{4}([ -])\d{6}\1\d{5}",
        r"\d{4}([ -])\d{6}\1\d{4}",
        r"\d{4}([ -])\d{3}\1\d{3}\1\d{3}",
        r"\d{6}([ -])\d{13}",
    )
]
_ISSUER = re.compile(
    r"""(?:
      4(?:\d{12}|\d{15}|\d{18})                                                   # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}            # Mastercard
    | 3[47]\d{13}                                                                 # American Express
    | (?:30[0-5]|3[689]\d)\d{11,16}                                               # Diners Club
    | (?:35(?:2[89]|[3-8]\d)|6011|64[4-9]\d|65\d\d|62\d\d|220[0-4])\d{12,15}      # JCB, Discover, UnionPay, Mir
    | (?:50|5[6-9]|6\d)\d{14,17}                                                  # Maestro
    )\Z""",
    re.VERBOSE,
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_PHONE_HINT = re.compile(r"\d(?:(?:[^\w\n]|x){0,4}\d){5}")

_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,44}[0-9A-Fa-f](?!\w|:\w|\.\d)")


class PersonalData:
    """Masks the personal data in a text: a function from a text to an `Outcome` with the number of masks of each kind.

    seconds: the most for a long text, since the library of phone numbers takes minutes for some; beyond them
    TooMuchError is raised. Raises UserError for an unknown `config.region`.
    """

    def __init__(self, config: PersonalDataConfig, seconds: int | None = None) -> None:
        self._config, self._seconds = config.model_dump_json(), seconds
        _masks(self._config)

    def __call__(self, text: str) -> Outcome:
        seconds = self._seconds if len(text) > bounded.LONG else None
        return bounded.call(_masked, text, self._config, seconds=seconds, what="masking personal data")


def _masked(text: str, config: str) -> Outcome:
    return _masks(config)(text)


@lru_cache(1)
def _masks(config: str) -> _Masks:
    return _Masks(PersonalDataConfig.model_validate_json(config))


class _Masks:
    def __init__(self, config: PersonalDataConfig) -> None:
        self._masks: list[tuple[str, Callable[[str], tuple[str, int]]]] = []
        if config.emails:
            self._masks.append(("masked e-mail", _mask_emails))
        if config.ips:
            self._masks.append(("masked IP address", _mask_ips))
        if config.cards:
            self._masks.append(("masked card", _mask_cards))
        if config.phones:
            self._masks.append(("masked phone", _Phones(config.region)))

    def __call__(self, text: str) -> Outcome:
        counts: Counter[str] = Counter()
        has_changed = True
        while has_changed:  # a mask may free what stood beside it, so until nothing is found
            has_changed = False
            for name, mask in self._masks:
                text, number = mask(text)
                if number:
                    counts[name] += number
                    has_changed = True
        return Outcome(text, counts=dict(counts))


def _mask_emails(text: str) -> tuple[str, int]:
    return _EMAIL.subn("<email>", text) if "@" in text else (text, 0)


def _mask_cards(text: str) -> tuple[str, int]:
    number = 0
    if _MANY_DIGITS.search(text):
        for shape in _CARD_SHAPES:
            text, num_masked = _replaced(shape, text, "<card>", _is_card)
            number += num_masked
    return text, number


def _is_card(text: str) -> bool:
    digits = "".join(str(int(character)) for character in text if character not in " -")
    return _ISSUER.match(digits) is not None and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last of the digits is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def _mask_ips(text: str) -> tuple[str, int]:
    text, fours = _replaced(_IPV4, text, "<ip>", _is_ip) if "." in text else (text, 0)
    text, sixes = _replaced(_IPV6, text, "<ip>", _is_ipv6) if ":" in text else (text, 0)
    return text, fours + sixes


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    """Whether it is an address, not a time (12:30:45) or a program (ab::cd): with a digit and at least three groups."""
    groups = [group for group in text.split(":") if group]
    return len(groups) > 2 and any(map(str.isdigit, text)) and _is_ip(text)


def _replaced(pattern: re.Pattern[str], text: str, mask: str, accept: Callable[[str], bool]) -> tuple[str, int]:
    """The text with each accepted match replaced, and their number. The search continues inside rejected matches."""
    pieces: list[str] = []
    done = position = 0
    while match := pattern.search(text, position):
        if accept(match[0]):
            pieces += (text[done : match.start()], mask)
            done = position = match.end()
        else:
            position = match.start() + 1
    return "".join([*pieces, text[done:]]), len(pieces) // 2


class _Phones:
    """Masks phone numbers. Only lines that may contain one are given to the library, which is slow."""

    def __init__(self, region: str | None) -> None:
        import phonenumbers

        if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
            raise UserError(f"{region!r} is not a region that has phone numbers; give a code of ISO 3166, such as US")
        self._matcher = phonenumbers.PhoneNumberMatcher
        self._region = region

    def __call__(self, text: str) -> tuple[str, int]:
        if not _PHONE_HINT.search(text):
            return text, 0
        number = 0
        lines = text.split("\n")
        for place, line in enumerate(lines):
            if _PHONE_HINT.search(line):
                pieces, done = [], 0
                for match in self._matcher(line, self._region):
                    pieces += (line[done : match.start], "<phone>")
                    done = match.end
                lines[place] = "".join([*pieces, line[done:]])
                number += len(pieces) // 2
        return "\n".join(lines), number
