"""Cleaning the text of a document.

Cleaning changes only characters: Unicode normalisation, uniform line ends, no control characters,
single spaces. Words are not changed. It is idempotent.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.text import sentences
from data_prep.text.near_duplicates import NearDuplicateConfig
from data_prep.text.rules.config import RulesConfig

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# control characters, soft hyphens, byte order marks and word joiners; joiners that shape Arabic or
# emoji stay
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BESIDE_LINE_END = re.compile(r" \n ?|\n ")
# None of the above characters, listed explicitly because a class with \s is ten times slower.
_IN_ORDER = re.compile(
    "[^\x00-\x09\x0b-\x1f\x7f-\xa0\xad\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]*"
)
_FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}
_BLANK_LINES = re.compile(r"\n{3,}")


class CleanConfig(BaseModel):
    """How documents are cleaned, and the tolerance for bad rows."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    normalisation: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normal form; nfkc also folds wide, ligature and superscript forms, irreversibly."""
    language: str = "en"
    """ISO 639 code of the language whose rules split sentences."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Documents with fewer characters after cleaning are rejected."""
    drop_duplicates: bool = True
    """Reject a document whose text equals that of an earlier one, except for white space."""
    near_duplicates: NearDuplicateConfig | None = None
    """Reject a document that shares most of its word n-grams with an earlier one; {} for the usual settings."""
    max_rejects: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, le=1, strict=True)] = 0.01
    """Maximum number (an integer) or share (a fraction) of bad rows. Duplicates and documents that a rule rejects do
    not count as bad."""
    keep_lines: bool = False
    """Keep line breaks and indentation, as needed for code; each line is then a sentence."""
    rules: RulesConfig = Field(default_factory=RulesConfig)
    """Rules that drop lines, mask and reject; see `data_prep.text.rules.rules`. All are off by default."""

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        sentences.check_language(language)
        return language


def clean(text: str, normalisation: Literal["nfc", "nfkc", "none"] = "nfc", keep_lines: bool = False) -> str:
    """Normalised text without control characters, with single spaces and single blank lines.

    keep_lines: spaces and tabs are kept, except at the end of lines.
    """
    form = _FORMS[normalisation]
    if keep_lines:
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = text if form is None else unicodedata.normalize(form, text)
        return _BLANK_LINES.sub("\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip("\n")
    stripped = text.strip()
    if _in_order(stripped) and (form is None or unicodedata.is_normalized(form, stripped)):
        return stripped  # the common case, and much faster to check than to clean
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if form is not None:
        text = unicodedata.normalize(form, text)
    text = _SPACES.sub(" ", text)
    text = _BESIDE_LINE_END.sub("\n", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def _in_order(text: str) -> bool:
    """Whether `clean` would not change the spaces, line ends and control characters of a stripped text."""
    if "  " in text or "\n\n\n" in text:
        return False
    lines = text.split("\n")
    if any(line[:1] == " " or line[-1:] == " " for line in lines):
        return False
    # printable text is in order; other text needs a slower check
    return all(map(str.isprintable, lines)) or _IN_ORDER.fullmatch(text) is not None


def fingerprint(text: str, tidy: bool = False) -> bytes:
    """A 16-byte digest that ignores white space; `tidy`: the text is the output of `clean`."""
    words = filter(None, text.split("\n")) if tidy else text.split()
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
