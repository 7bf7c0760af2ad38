"""What is safe to show: text of data, users and libraries on a terminal, on a page, in a log.

plain       control characters, which a terminal would obey, become visible: ␛ for escape, and � for those that change
            the direction of writing
masked      passwords and other secrets in addresses become ***, and so do the values of variables that hold secrets
safe        both; whatever is printed, logged, tracked or reported passes here once
escaped     text inside of a Markdown page: it is read there as it is, and is neither HTML nor Markdown
safe_errors a function that no exception leaves with text that is not safe, however deep in its chain of causes
"""

from __future__ import annotations

import html
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote

P = ParamSpec("P")
R = TypeVar("R")

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
_NOT_YET = r"(?!\*\*\*(?:[^\w*]|$))"  # what is masked stays as it is, also inside of other text
_PARAMETER = re.compile(rf"([?&;](?:amp;)?(?:{SECRETS})=){_NOT_YET}[^&;#\s'\"<>`]+", re.IGNORECASE)
_ENCODED = re.compile(rf"([?&;](?:amp;)?)([\w.%-]{{1,120}})=({_NOT_YET}[^&;#\s'\"<>`]+)")
_CONNECTION = re.compile(
    r"\b((?:AccountKey|SharedAccessKey|SharedAccessSignature|(?:aws_)?secret_access_key|aws_session_token|passw(?:or)?d"
    r"|pwd)(?:['\"]\s{0,8}:|\s{0,8}=)\s{0,8}['\"]?)" + _NOT_YET + r"[^;&\s'\"]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(authorization\W{1,8}(?:basic|bearer|token) {1,8})" + _NOT_YET + r"[^\s'\"]+", re.IGNORECASE)
_PORT = r"\d{1,5}(?=[/?#\s'\"`,;)\]]|$)"
_USER = re.compile(rf"([A-Za-z0-9+.-]{{1,30}}://[^\s:/?#@'\"<>]{{0,200}}):(?!{_PORT})[^\s'\"<>]{{0,1000}}@")
_LONE = re.compile(r"((?:https?|git|ssh|ftps?)(?:\+[a-z]{1,8})?://)[^\s:/?#@'\"<>]{1,1000}@", re.IGNORECASE)
_VARIABLE = re.compile(rf"(?!(?:old)?pwd$)(?:{SECRETS})(?<!_path)(?<!_file)(?<!_dir)(?<!_url)(?<!_mode)", re.IGNORECASE)
_FEWEST = 8  # characters of a secret; shorter ones are words such as "token" and "false"
MASK = "***"


def plain(text: str, keep: str = "") -> str:
    """Text that is safe for a terminal: control and direction characters, except those in `keep`, become visible."""
    return text.translate(_pictures_but(keep))


@cache
def _pictures_but(keep: str) -> dict[int, int]:
    return {code: to for code, to in _PICTURES.items() if chr(code) not in keep}


def masked(text: str) -> str:
    """Text without the passwords of addresses (`user:password@`, `token@`), the secrets among their parameters, and the
    values of secret variables of this process (AWS_SECRET_ACCESS_KEY and the like)."""
    for secret in _own_secrets():
        if secret in text:
            text = text.replace(secret, MASK)
    if "@" in text:
        text = _LONE.sub(rf"\1{MASK}@", _USER.sub(rf"\1:{MASK}@", text))
    if "=" in text or ":" in text:
        text = _CONNECTION.sub(rf"\1{MASK}", _PARAMETER.sub(rf"\1{MASK}", text))
        text = _ENCODED.sub(_mask_encoded, text) if "%" in text else text
    return _HEADER.sub(rf"\1{MASK}", text) if " " in text else text


def _mask_encoded(parameter: re.Match[str]) -> str:
    """A parameter whose name is percent-encoded, masked if it is that of a secret."""
    before, name, _ = parameter.groups()
    is_secret = "%" in name and re.fullmatch(SECRETS, unquote(name), re.IGNORECASE)
    return f"{before}{name}={MASK}" if is_secret else parameter[0]


def _own_secrets() -> list[str]:
    """The values of the variables of this process whose names say that they are secret, the longest first."""
    named = {name: value for name, value in os.environ.items() if len(value) >= _FEWEST and _names_secret(name)}
    values = {value for name, value in named.items() if value[0] != "/" or "SECRET" in name.upper()}  # no paths
    return sorted(values, key=len, reverse=True)


@cache
def _names_secret(variable: str) -> bool:
    return _VARIABLE.fullmatch(variable) is not None


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
    """From now on all that this process logs or warns of is safe to show, and the traceback of a bug that ends it."""
    logging.setLogRecordFactory(LegibleRecord)
    sys.excepthook = _print_bug
    threading.excepthook = _print_bug_of_thread
    if warnings.formatwarning is not _format_warning:
        warnings.formatwarning = _format_warning


def _print_bug(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    print(safe("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _print_bug_of_thread(bug: threading.ExceptHookArgs) -> None:
    if bug.exc_type is not SystemExit:
        print(safe(f"Exception in thread {bug.thread.name if bug.thread else '?'}:"), file=sys.stderr)
        _print_bug(bug.exc_type, bug.exc_value, bug.exc_traceback)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return safe(_formatted(message, category, filename, lineno, line))


_formatted = warnings.formatwarning


_ATTRIBUTES = ("strerror", "filename", "filename2", "reason", "text")  # of built-in exceptions, beside `args`


# -- exceptions -------------------------------------------------------------------------------------------------------


def safe_errors(function: Callable[P, R]) -> Callable[P, R]:
    """A replacement of a function, whose exceptions are safe to keep.

    For all whose exceptions others keep, show or send: Prefect, Ray. Causes, contexts, notes and members of groups are
    treated alike. An exception stays the one that it is, unless its text cannot be changed.
    """

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except BaseException as error:
            if (shown := _safe_error(error)) is error:
                raise
        raise shown  # here, as its context would be the one that it stands for

    return called


def _safe_error(error: BaseException) -> BaseException:
    """The exception with safe text in all of its chain; another one in its place if there is no other way."""
    chain: dict[int, BaseException] = {}
    todo: list[BaseException | None] = [error]
    while todo:
        if (link := todo.pop()) is not None and id(link) not in chain:
            chain[id(link)] = link
            todo += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
    safe_chain: dict[int, BaseException] = {}
    for key, link in reversed(chain.items()):  # members before their groups
        safe_chain[key] = _safe_group(link, safe_chain) if isinstance(link, BaseExceptionGroup) else _safe_alone(link)
    for key, link in chain.items():
        cause, context, suppressed = link.__cause__, link.__context__, link.__suppress_context__
        shown = safe_chain[key]
        shown.__cause__, shown.__context__ = cause and safe_chain[id(cause)], context and safe_chain[id(context)]
        shown.__suppress_context__ = suppressed
    return safe_chain[id(error)]


def _safe_group(group: BaseExceptionGroup, others: Mapping[int, BaseException]) -> BaseException:
    members = [others.get(id(member), member) for member in group.exceptions]
    if _is_safe(group) and all(new is old for new, old in zip(members, group.exceptions, strict=True)):
        return group
    return _like(BaseExceptionGroup(safe(group.message), members), group)


def _safe_alone(error: BaseException) -> BaseException:
    """The exception with safe text, whatever those that it is linked to say."""
    if _is_safe(error):
        return error
    with suppress(Exception):  # what an attribute allows is its class's affair; the text is looked at again below
        error.args = _safe_inside(error.args)
    for name in (*_ATTRIBUTES, *getattr(error, "__dict__", ())):
        with suppress(Exception):
            if (value := getattr(error, name)) is not None:
                setattr(error, name, _safe_inside(value))
    if _is_safe(error):
        return error
    try:
        error.__class__ = _quoting(type(error), str(error))
        return error
    except TypeError:  # of a built-in class
        return _like(_quoting(Exception, str(error), type(error))(), error)


def _is_safe(error: BaseException) -> bool:
    """Whether all that a traceback shows of an exception, alone, is safe."""
    text = "\n".join(map(str, (error, repr(error), getattr(error, "text", ""), *getattr(error, "__notes__", ()))))
    return safe(text) == text


def _safe_inside(value: Any) -> Any:
    """A value of an exception: safe texts, also in tuples, lists, mappings and exceptions inside of it."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, BaseException):
        return _safe_alone(value)
    if type(value) in (tuple, list):
        return type(value)(map(_safe_inside, value))
    return {_safe_inside(name): _safe_inside(inner) for name, inner in value.items()} if type(value) is dict else value


def _quoting(base: type[BaseException], text: str, named: type[BaseException] | None = None) -> type[BaseException]:
    """A class of exceptions that say this text, without what must not be shown."""
    named, text = named or base, safe(text)
    body = {
        "__module__": named.__module__,
        "__qualname__": named.__qualname__,
        "__str__": lambda self: text,
        "__repr__": lambda self: f"{named.__name__}({text!r})",
    }
    return type(named.__name__, (base,), body)


def _like(error: BaseException, before: BaseException) -> BaseException:
    """An exception with the traceback and the notes of the one that it stands for."""
    for note in getattr(before, "__notes__", ()):
        error.add_note(safe(str(note)))
    return error.with_traceback(before.__traceback__)
