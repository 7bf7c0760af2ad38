"""Cleaning the text of a document, and deciding whether it may stay.

Cleaning changes characters only: Unicode normalisation, one kind of line end, no control
characters, single spaces. Words are never touched. It is idempotent: cleaning clean text changes
nothing.
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
# No character of the above, which are written out: a class with \s is ten times as slow.
_IN_ORDER = re.compile(
    "[^\x00-\x09\x0b-\x1f\x7f-\xa0\xad\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]*"
)
_FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}
_BLANK_LINES = re.compile(r"\n{3,}")


class CleanConfig(BaseModel):
    """How documents are cleaned, and how many bad rows a corpus may have."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    normalisation: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normal form; nfkc also folds wide, ligature and superscript forms for good."""
    language: str = "en"
    """Whose rules split sentences, by its code of ISO 639."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Documents with fewer characters after cleaning are rejected."""
    drop_duplicates: bool = True
    """Reject a document whose text, but for spaces, is that of an earlier one."""
    near_duplicates: NearDuplicateConfig | None = None
    """Reject a document that shares most of its word n-grams with an earlier one; {} for the usual settings."""
    max_rejects: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, le=1, strict=True)] = 0.01
    """Bad rows tolerated: an integer counts them, a fraction is their share. No duplicate is bad, nor what a rule
    leaves out."""
    keep_lines: bool = False
    """Keep line breaks and the space that lines begin with, as code needs them: each line is a sentence then."""
    rules: RulesConfig = Field(default_factory=RulesConfig)
    """Rules that drop lines, mask and reject; see `data_prep.text.rules.rules`. None is on unless it is named."""

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        sentences.check_language(language)
        return language


def clean(text: str, normalisation: Literal["nfc", "nfkc", "none"] = "nfc", keep_lines: bool = False) -> str:
    """Normalised text without control characters, with single spaces and single blank lines.

    keep_lines: spaces and tabs stay as they are, but at the end of lines.
    """
    form = _FORMS[normalisation]
    if keep_lines:
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = text if form is None else unicodedata.normalize(form, text)
        return _BLANK_LINES.sub("\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip("\n")
    stripped = text.strip()
    if _in_order(stripped) and (form is None or unicodedata.is_normalized(form, stripped)):
        return stripped  # most text is in order, which is seen much faster than put right
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if form is not None:
        text = unicodedata.normalize(form, text)
    text = _SPACES.sub(" ", text)
    text = _BESIDE_LINE_END.sub("\n", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def _in_order(text: str) -> bool:
    """Whether the spaces, line ends and control characters of a stripped text are as `clean` leaves them."""
    if "  " in text or "\n\n\n" in text:
        return False
    lines = text.split("\n")
    if any(line[:1] == " " or line[-1:] == " " for line in lines):
        return False
    # what can be printed is in order; the reverse does not hold, and takes longer to find out
    return all(map(str.isprintable, lines)) or _IN_ORDER.fullmatch(text) is not None


def fingerprint(text: str, tidy: bool = False) -> bytes:
    """16 bytes that are equal for texts which differ only in white space; `tidy`: `clean` made the text."""
    words = filter(None, text.split("\n")) if tidy else text.split()
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
