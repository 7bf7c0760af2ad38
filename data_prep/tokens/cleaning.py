"""The cleaning that every text goes through before it is made token ids: corpus, labelled rows, prompts, users' texts.

Cleaning changes only characters: Unicode normalisation, uniform line ends, no control characters, single spaces. Words
are not changed. It is idempotent. It exists twice, and both give the same text:

    clean(text)             in Python, for whole corpora
    Cleaning.normalizers()  the first steps of a tokenizer's normalizer, by which `tokenizer.json` carries it elsewhere
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, normalizers

Form = Literal["nfc", "nfkc", "none"]

_LINE_ENDS = "\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"
# control characters, soft hyphens, byte order marks and word joiners; joiners that shape Arabic or
# emoji stay
_INVISIBLE = "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u2060\ufeff]"
_SPACE = "[\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]"  # what is left of white space, but line ends
_BESIDE_LINE_END = " \n ?|\n "
_BLANK_LINES = "\n{3,}"
# None of the above characters, listed explicitly because a class with \s is ten times slower.
_IN_ORDER = re.compile(
    "[^\x00-\x09\x0b-\x1f\x7f-\xa0\xad\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]*"
)
_FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}

_line_ends, _invisible = re.compile(_LINE_ENDS), re.compile(_INVISIBLE)
_spaces = re.compile(f"{_SPACE}{{2,}}|{_SPACE.replace(' ', '', 1)}")
_nfc, _nfkc = normalizers.NFC(), normalizers.NFKC()
_many_marks = re.compile("[^\\w\x00-\u02ff]{64,}")  # or other signs
_beside_line_end, _blank_lines = re.compile(_BESIDE_LINE_END), re.compile(_BLANK_LINES)


def clean(text: str, normalisation: Form = "nfc", keep_lines: bool = False) -> str:
    """Normalised text without control characters, with single spaces and single blank lines.

    keep_lines: spaces and tabs are kept, except at the end of lines.
    """
    if keep_lines:
        text = _invisible.sub("", _line_ends.sub("\n", text))
        text = _normalised(text, normalisation)
        return _blank_lines.sub("\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip("\n")
    stripped, form = text.strip(), _FORMS[normalisation]
    if _in_order(stripped) and (form is None or unicodedata.is_normalized(form, stripped)):
        return stripped  # the common case, and much faster to check than to clean
    text = _line_ends.sub("\n", text)
    text = _invisible.sub("", text)
    text = _normalised(text, normalisation)
    text = _spaces.sub(" ", text)
    text = _beside_line_end.sub("\n", text)
    return _blank_lines.sub("\n\n", text).strip()


def _normalised(text: str, normalisation: Form) -> str:
    """NFKC is the library's, whose tables are those of Unicode 12; NFC of what is assigned never changes.

    Python puts the marks of one character in order in quadratic time, the library in linear time.
    """
    if normalisation == "nfkc":
        return _nfkc.normalize_str(text)
    if normalisation == "none" or unicodedata.is_normalized("NFC", text):
        return text
    return _nfc.normalize_str(text) if _many_marks.search(text) else unicodedata.normalize("NFC", text)


def _in_order(text: str) -> bool:
    """Whether `clean` would not change the spaces, line ends and control characters of a stripped text."""
    if "  " in text or "\n\n\n" in text:
        return False
    lines = text.split("\n")
    if any(line[:1] == " " or line[-1:] == " " for line in lines):
        return False
    # printable text is in order; other text needs a slower check
    return all(map(str.isprintable, lines)) or _IN_ORDER.fullmatch(text) is not None


@dataclass(frozen=True)
class Cleaning:
    """How text is cleaned: the settings of `clean`."""

    normalisation: Form = "nfc"
    keep_lines: bool = False

    def __call__(self, text: str) -> str:
        return clean(text, self.normalisation, self.keep_lines)

    def normalizers(self) -> list[Any]:
        """`clean` as steps of a tokenizer's normalizer."""
        form = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()], "none": []}[self.normalisation]
        steps = [_replace(_LINE_ENDS, "\n"), _replace(_INVISIBLE, ""), *form]
        if self.keep_lines:
            ends = [_replace(f"{_SPACE}+(?=\n)", ""), normalizers.Strip(left=False), _replace("\\A\n+", "")]
            return [*steps, *ends, _replace(_BLANK_LINES, "\n\n")]
        spaces = [_replace(f"{_SPACE}+", " "), _replace(_BESIDE_LINE_END, "\n"), _replace(_BLANK_LINES, "\n\n")]
        return [*steps, *spaces, normalizers.Strip()]


def add_cleaning(tokenizer: Tokenizer, cleaning: Cleaning) -> None:
    """Let a tokenizer clean texts before it does anything else to them."""
    own = tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([*cleaning.normalizers(), *([own] if own else [])])


def without_cleaning(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that takes texts as they are; for clean texts it gives the same ids."""
    spec = json.loads(tokenizer.to_str())
    steps = (spec["normalizer"] or {}).get("normalizers", [])
    for cleaning in _CLEANINGS:
        if steps[: len(cleaning)] == cleaning:
            own = steps[len(cleaning) :]
            spec["normalizer"] = own[0] if len(own) == 1 else {"type": "Sequence", "normalizers": own} if own else None
            break
    return Tokenizer.from_str(json.dumps(spec))


def _replace(pattern: str, content: str) -> Any:
    return normalizers.Replace(Regex(pattern), content)


def _steps(cleaning: Cleaning) -> list[dict[str, Any]]:
    return json.loads(normalizers.Sequence(cleaning.normalizers()).__getstate__())["normalizers"]


_CLEANINGS = [
    _steps(Cleaning(form, keep_lines)) for form, keep_lines in product(("nfc", "nfkc", "none"), (False, True))
]
