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

from pydantic import BaseModel, ConfigDict, Field

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# control characters, soft hyphens, byte order marks and word joiners; joiners that shape Arabic or
# emoji stay
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_BESIDE_LINE_END = re.compile(r" \n ?|\n ")
_BLANK_LINES = re.compile(r"\n{3,}")


class CleanConfig(BaseModel):
    """How documents are cleaned, and how many bad rows a corpus may have."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    normalisation: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normal form; nfkc also folds wide, ligature and superscript forms for good."""
    language: Literal["en", "zh"] = "en"
    """Whose rules split sentences."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Documents with fewer characters after cleaning are rejected."""
    drop_duplicates: bool = True
    """Reject a document whose text, but for spaces, is that of an earlier one."""
    max_rejects: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, le=1, strict=True)] = 0.01
    """Bad rows tolerated: an integer counts them, a fraction is their share. No duplicate is bad."""


def clean(text: str, normalisation: Literal["nfc", "nfkc", "none"] = "nfc") -> str:
    """Normalised text without control characters, with single spaces and single blank lines."""
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if normalisation == "nfc":
        text = unicodedata.normalize("NFC", text)
    elif normalisation == "nfkc":
        text = unicodedata.normalize("NFKC", text)
    text = _SPACES.sub(" ", text)
    text = _BESIDE_LINE_END.sub("\n", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def fingerprint(text: str) -> bytes:
    """16 bytes that are equal for texts which differ only in white space."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


def allowed_rejects(limit: int | float, rows: int) -> int:
    """How many of so many rows may be bad; `limit` is a count (int) or a share (float)."""
    return limit if isinstance(limit, int) else int(limit * rows + 1e-9)
