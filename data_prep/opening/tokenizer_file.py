"""What a `tokenizer.json` asks for, before the library builds it: patterns, lengths and growth within limits.

Patterns are regular expressions of Oniguruma, which tries all ways to match: `(a+)+$` takes twice the time for each
further letter. So a group that is repeated may hold neither alternatives nor repeats of unknown number, and few
unbounded repeats are next to each other, as in all published tokenizers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.opening.files import UnfitError

MOST_BYTES = 1 << 26  # the largest published files have half of it
MOST_PIECES = 1 << 21  # the largest published vocabularies have 2¹⁸
_MOST_GROWTH = 256  # characters of a normalised text for one of the text
_MOST_ADDED = 100  # special tokens that a text is framed by, or characters put before it
_LONGEST_WORD = 1000  # characters that WordPiece looks up all parts of; usual are 100
_LONGEST_PATTERN = 20_000
_MOST_REPEATS = 3  # unbounded ones, in each alternative
_MOST_TIMES = 1000  # that something is repeated by bounded repeats of repeats

_GROUP = re.compile(r"\((?:\?(?:<?[=!]|<\w+>|[imx-]*[:)]|>))?")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_REPEAT = re.compile(r"(?:([*+?])|\{(\d*)(?:(,)(\d*))?\})[?+]?")


def problem_of(spec: Mapping[str, Any]) -> str:
    """The first unsupported request of a tokenizer, as a clause; empty if there is none."""
    try:
        model = spec.get("model") or {}
        largest = max(_ids(spec, model), default=0)
        if largest >= MOST_PIECES:
            return f"has a token with the number {largest:,}, and at most {MOST_PIECES:,} are read"
        if (model.get("max_input_chars_per_word") or 0) > _LONGEST_WORD:
            return f"looks up words of more than {_LONGEST_WORD:,} characters (max_input_chars_per_word)"
        if max(_frames(spec), default=0) > _MOST_ADDED:
            return f"puts more than {_MOST_ADDED} special tokens or characters around a text"
        if (times := _growth(spec.get("normalizer"))) > _MOST_GROWTH or _growth(spec.get("decoder")) > _MOST_GROWTH:
            return f"makes texts more than {_MOST_GROWTH} times as long ({times:,.0f})"
        for pattern in _patterns(spec):
            if problem := costly(pattern):
                return f"has the pattern {pattern[:60]!r}, which {problem}: the time for it may have no end"
    except (AttributeError, TypeError, ValueError, KeyError, RecursionError) as error:
        return f"is not what a tokenizer's file holds ({type(error).__name__}: {str(error)[:100]})"
    return ""


def _ids(spec: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[int]:
    vocabulary = model.get("vocab") or {}
    yield len(vocabulary)
    if isinstance(vocabulary, Mapping):
        yield from vocabulary.values()
    yield from (token["id"] for token in spec.get("added_tokens") or [])


def _steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object with a type in a part of the file."""
    if isinstance(value, Mapping):
        if "type" in value:
            yield value
        for item in value.values():
            yield from _steps(item)
    elif isinstance(value, list):
        for item in value:
            yield from _steps(item)


def _frames(spec: Mapping[str, Any]) -> Iterator[int]:
    for step in _steps(spec.get("post_processor")):
        yield from (len(step[name]) for name in ("single", "pair") if name in step)
        yield from (len(token["ids"]) for token in (step.get("special_tokens") or {}).values())
    for part in ("normalizer", "pre_tokenizer"):
        yield from (len(step.get("prepend") or step.get("replacement") or "") for step in _steps(spec.get(part)))


def _growth(part: Any) -> float:
    """How many times as long the steps of a part may make a text."""
    times = 1.0
    for step in _steps(part):
        if step["type"] == "Replace":
            replaced = len(step["pattern"].get("String", "")) or 1
            times *= max(1, len(step["content"]) / replaced)
        elif step["type"] == "Precompiled" and step.get("precompiled_charsmap"):
            times *= max(1, _longest_mapped(step["precompiled_charsmap"]))
    return times


def _longest_mapped(charsmap: str) -> int:
    """Bytes of the longest text that a table of SentencePiece has for a character: a trie, then the texts."""
    try:
        table = base64.b64decode(charsmap, validate=True)
    except binascii.Error as error:
        raise ValueError(f"precompiled_charsmap: {error}") from error
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    return max(map(len, texts.split(b"\0")))


def _patterns(spec: Mapping[str, Any]) -> Iterator[str]:
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        for step in _steps(spec.get(part)):
            if isinstance(step.get("pattern"), Mapping) and "Regex" in step["pattern"]:
                yield step["pattern"]["Regex"]


def costly(pattern: str) -> str:
    """Why matching a pattern may take time out of proportion, in a clause; empty if it does not."""
    if len(pattern) > _LONGEST_PATTERN:
        return f"has more than {_LONGEST_PATTERN:,} characters"
    try:
        _alternatives(pattern, 0, 1)
    except UnfitError as error:
        return str(error)
    return ""


def _alternatives(pattern: str, place: int, times: int) -> tuple[int, bool, int]:
    """Reads up to the end of a group: (place after it, whether what it matches varies, unbounded repeats in it).

    times: how often it is repeated by the groups around it. UnfitError where matching may be costly.
    """
    varies, most_repeats, repeats = False, 0, 0
    while place < len(pattern) and pattern[place] != ")":
        if pattern[place] == "|":
            varies, most_repeats, repeats, place = True, max(most_repeats, repeats), 0, place + 1
            continue
        start = place
        place, is_many, inner = _atom(pattern, place, times)
        repeats += inner
        while repeat := _REPEAT.match(pattern, place):
            least, most = _times(repeat)
            if repeat.group() == "{}" or most == 0:
                break
            if (most is None or most > 1) and is_many:
                raise UnfitError("repeats a group of variable length")
            if most is not None and most > 1 and pattern[start] == "(":
                _alternatives(pattern, _GROUP.match(pattern, start).end(), times * most)  # type: ignore[union-attr]
            if times * (most or least or 1) > _MOST_TIMES:
                raise UnfitError(f"repeats something more than {_MOST_TIMES:,} times")
            varies = varies or most != least
            is_many = is_many or most != least
            repeats += most is None
            place = repeat.end()
        varies = varies or is_many
        if repeats > _MOST_REPEATS:
            raise UnfitError(f"has more than {_MOST_REPEATS} unbounded repeats beside each other")
    return place + 1, varies, max(most_repeats, repeats)


def _times(repeat: re.Match[str]) -> tuple[int, int | None]:
    sign, least, comma, most = repeat.groups()
    if sign:
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
    fewest = int(least or 0)
    return fewest, (int(most) if most else None) if comma else fewest


def _atom(pattern: str, place: int, times: int) -> tuple[int, bool, int]:
    """As `_alternatives`, for a character, a class, or a group."""
    if pattern[place] == "\\":
        escape = _ESCAPE.match(pattern, place)
        if escape is None or pattern[place + 1] in "kgKGXRO123456789":
            raise UnfitError("refers to its own groups, or to what is of no fixed length")
        return escape.end(), False, 0
    if pattern[place] == "[":
        return _class_end(pattern, place), False, 0
    if pattern[place] == "(":
        group = _GROUP.match(pattern, place)
        if group is None or (group.group() == "(" and pattern[place + 1 : place + 2] in ("?", "*")):
            raise UnfitError("has a group of a kind that is not read")
        if group.group().endswith(")"):
            return group.end(), False, 0
        return _alternatives(pattern, group.end(), times)
    return place + 1, False, 0


def _class_end(pattern: str, place: int) -> int:
    depth, start = 0, place
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 1
        elif character == "[":
            depth, start = depth + 1, place + 1 + (pattern[place + 1 : place + 2] == "^")
        elif character == "]" and place > start:
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return place


def checked_spec(spec: Sequence[Any] | Mapping[str, Any]) -> None:
    """UnfitError if a tokenizer asks for something that is not supported."""
    if not isinstance(spec, Mapping):
        raise UnfitError("it holds no object")
    if problem := problem_of(spec):
        raise UnfitError(f"it {problem}")
