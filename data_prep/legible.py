"""What is safe to show: text of data, users and libraries on a terminal, on a page, in a log.

plain       control characters, which a terminal would obey, become visible: ␛ for escape, and � for those that change
            the direction of writing
masked      passwords and other secrets in addresses become ***
safe        both; whatever is printed, logged, tracked or reported passes here once
escaped     text inside of a Markdown page: it is read there as it is, and is neither HTML nor Markdown
"""

from __future__ import annotations

import html
import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any

_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_PICTURES |= dict.fromkeys([*range(0x80, 0xA0), 0x2028, 0x2029], 0xFFFD)
_PICTURES |= dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], 0xFFFD)
_PICTURES |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # halves of characters, which cannot be written
_PICTURES |= dict.fromkeys(range(0xE0000, 0xE0080), 0xFFFD)  # tags: invisible letters
_LINES = {code: to for code, to in _PICTURES.items() if chr(code) not in "\n\t"}

# Repetitions have limits, so that no text takes more than linear time.
SECRETS = (
    r"[\w.-]{0,40}(?:secret|passw(?:or)?d|passphrase|pwd|token|credential|signature|api[-_]?key|access[-_]?key"
    r"|account[-_]?key|private[-_]?key|shared[-_]?key|sharedaccess|auth[-_]?string|authorization)[\w.-]{0,40}"
    r"|sig|sas|key|auth|jwt|bearer"
)
"""Names of parameters that hold secrets, of all object stores and servers that we know."""
SECRET_PARAMETER = re.compile(rf"(?:^|[?&;])(?:amp;)?(?:{SECRETS})=", re.IGNORECASE)
_PARAMETER = re.compile(rf"([?&;](?:amp;)?(?:{SECRETS})=)[^&;#\s'\"<>`]+", re.IGNORECASE)
_CONNECTION = re.compile(
    r"\b((?:AccountKey|SharedAccessKey|SharedAccessSignature|(?:aws_)?secret_access_key|aws_session_token)\s*=\s*)[^;\s'\"]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(authorization\W{1,8}(?:basic|bearer|token) {1,8})[^\s'\"]+", re.IGNORECASE)
_PORT = r"\d{1,5}(?=[/?#\s'\"`,;)\]]|$)"
_USER = re.compile(rf"([A-Za-z0-9+.-]{{1,30}}://[^\s:/?#@'\"<>]{{0,200}}):(?!{_PORT})[^\s'\"<>]{{0,1000}}@")
_LONE = re.compile(r"((?:https?|git|ssh|ftps?)(?:\+[a-z]{1,8})?://)[^\s:/?#@'\"<>]{1,1000}@", re.IGNORECASE)
MASK = "***"


def plain(text: str, keep: str = "") -> str:
    """Text that is safe for a terminal: control and direction characters, except those in `keep`, become visible."""
    return text.translate({code: to for code, to in _PICTURES.items() if chr(code) not in keep} if keep else _PICTURES)


def masked(text: str) -> str:
    """Text without the passwords of addresses (`user:password@`, `token@`) and the secrets among their parameters."""
    if "@" in text:
        text = _LONE.sub(rf"\1{MASK}@", _USER.sub(rf"\1:{MASK}@", text))
    if "=" in text:
        text = _CONNECTION.sub(rf"\1{MASK}", _PARAMETER.sub(rf"\1{MASK}", text))
    return _HEADER.sub(rf"\1{MASK}", text) if " " in text else text


def safe(text: str) -> str:
    """Text to be printed, on one or several lines."""
    return masked(text.translate(_LINES))


def safe_values(value: Any) -> Any:
    """JSON-like values, all of whose texts are without secrets; names in mappings, too."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked(name) if isinstance(name, str) else name: safe_values(inner) for name, inner in value.items()}
    return [safe_values(inner) for inner in value] if isinstance(value, list | tuple) else value


def escaped(text: str) -> str:
    """Text for a Markdown page, on one line."""
    text = html.escape(masked(plain(text)), quote=False)
    return re.sub(r"([\\|*_`\[\]#~$])", r"\\\1", text)


def prose(text: str) -> str:
    """Paragraphs, with an empty line between two, for a Markdown page."""
    return "\n\n".join(escaped(" ".join(paragraph.split("\n"))) for paragraph in text.split("\n\n"))


class LegibleRecord(logging.LogRecord):
    """A log record whose message and traceback are safe to show, wherever they are written."""

    _traceback: str | None = None

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return safe(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """Set by the first handler that formats an exception."""
        return self._traceback

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._traceback = safe(text) if text else text


def log_legibly() -> None:
    """From now on all that this process logs is safe to show, and the traceback of a bug that ends it."""
    logging.setLogRecordFactory(LegibleRecord)
    sys.excepthook = _print_bug


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(safe("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
