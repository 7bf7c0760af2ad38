"""Settings for cleaning the text of a document; see `data_prep.tokens.cleaning` for what it does to characters."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data_prep.settings import changed_default
from data_prep.text import sentences
from data_prep.text.near_duplicates import NearDuplicateConfig
from data_prep.text.rules.config import RulesConfig
from data_prep.tokens.cleaning import Cleaning, Form


class CleanConfig(BaseModel):
    """How documents are cleaned, and the tolerance for bad rows."""

    model_config = ConfigDict(extra="forbid")

    normalisation: Form = "nfc"
    """Unicode normal form; nfkc also folds wide, ligature and superscript forms, irreversibly."""
    language: str = "en"
    """ISO 639 code of the language whose rules split sentences."""
    passage_words: Annotated[int, Field(ge=1)] | None = None
    """Cut documents at ends of sentences into passages of about this many words, each a document by itself, so that
    parts of a long one can be held out; null: documents stay whole."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Documents with fewer characters after cleaning are rejected."""
    drop_duplicates: bool = True
    """Reject a document whose text equals that of an earlier one, except for white space."""
    near_duplicates: NearDuplicateConfig | None = None
    """Reject a document that shares most of its word n-grams with an earlier one; {} for the usual settings."""
    max_rejects: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, le=1, strict=True)] = 0.01
    """Maximum number (an integer) or share (a fraction) of bad rows. Duplicates and documents that a rule rejects do
    not count as bad."""
    max_seconds: Annotated[int, Field(ge=1, strict=True)] | None = changed_default(None, 60)
    """Seconds of the processor after which a document is rejected: for parsing a page of a dump or of a web archive,
    and again each for masking personal data in a long text and for splitting it into sentences; null: no limit."""
    keep_lines: bool = False
    """Keep line breaks and indentation, as needed for code; each line is then a sentence."""
    rules: RulesConfig = Field(default_factory=RulesConfig)
    """Rules that drop lines, mask and reject; see `data_prep.text.rules.rules`. All are off by default."""

    @property
    def cleaning(self) -> Cleaning:
        """What is done to the characters of every text: documents, and all other text given to their tokenizer."""
        return Cleaning(self.normalisation, self.keep_lines)

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        sentences.check_language(language)
        return language


def fingerprint(text: str, tidy: bool = False) -> bytes:
    """A 16-byte digest that ignores white space; `tidy`: the text is what `data_prep.tokens.cleaning.clean` gave."""
    words = filter(None, text.split("\n")) if tidy else text.split()
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
