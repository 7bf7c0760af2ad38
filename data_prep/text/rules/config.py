"""Settings and results of the rules in `data_prep.text.rules.rules`. Imports nothing heavy.

A rule without a section is off. Within a section, `null`, false or an empty list switches a single test off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from data_prep.sources.config import SourceConfig

_Share = Annotated[float, Field(ge=0, le=1)] | None
_Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LanguageConfig(_Section):
    """Keep documents in these languages, as py3langid identifies them."""

    languages: Annotated[list[str], Field(min_length=1)]
    """Codes of ISO 639, such as en."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.65
    """Minimum probability of a document's likeliest language."""


class C4Config(_Section):
    """The rules of C4 (Raffel et al. 2020, section 2.2)."""

    end_marks: list[str] = [".", "!", "?", '"']
    """Keep lines that end in one of these, but not in an ellipsis."""
    min_words_per_line: _Count = 5
    """Drop lines with fewer words."""
    max_word_length: Annotated[int, Field(ge=1)] | None = 1000
    """Drop lines with a word of more characters."""
    min_sentences: _Count = 3
    """Reject pages with fewer sentences left."""
    citations: bool = True
    """Remove [1], [], [edit] and [citation needed]."""
    javascript: bool = True
    """Drop lines with the word javascript."""
    policies: bool = True
    """Drop lines about cookies, privacy policies and terms of use."""
    lorem_ipsum: bool = True
    """Reject pages with lorem ipsum."""
    curly_brackets: bool = True
    """Reject pages with a {."""
    bad_words: str | None = None
    """Text file of words or phrases, one per line; pages that contain one of them are rejected."""
    span_sentences: Annotated[int, Field(ge=1)] | None = 3
    """Length, in sentences, of spans of which only the first occurrence in all documents stays; null: all stay. See
    `data_prep.text.rules.spans`."""


class GopherConfig(_Section):
    """The quality and repetition rules of Gopher (Rae et al. 2021, A.1.1), for languages with spaces between words."""

    min_words: Annotated[int, Field(ge=0)] | None = 50
    """Minimum number of words."""
    max_words: Annotated[int, Field(ge=1)] | None = 100_000
    """Maximum number of words."""
    min_mean_word_length: Annotated[float, Field(ge=0)] | None = 3
    """Minimum mean length of the words, in characters."""
    max_mean_word_length: Annotated[float, Field(ge=0)] | None = 10
    """Maximum mean length of the words, in characters."""
    max_symbols_per_word: Annotated[float, Field(ge=0)] | None = 0.1
    """Maximum number of hash signs, and of ellipses, per word."""
    max_bullet_lines: _Share = 0.9
    """Maximum share of lines that begin with a bullet."""
    max_ellipsis_lines: _Share = 0.3
    """Maximum share of lines that end in an ellipsis."""
    min_alphabetic_words: _Share = 0.8
    """Minimum share of words with a letter."""
    stop_words: list[str] = ["the", "be", "to", "of", "and", "that", "have", "with"]
    """Words that ordinary text contains."""
    min_stop_words: _Count = 2
    """Minimum number of different stop words."""
    duplicate_lines: _Share = 0.30
    """Maximum share of lines that repeat an earlier one."""
    duplicate_paragraphs: _Share = 0.30
    """Maximum share of paragraphs that repeat an earlier one."""
    duplicate_line_characters: _Share = 0.20
    """Maximum share of characters in lines that repeat an earlier one."""
    duplicate_paragraph_characters: _Share = 0.20
    """Maximum share of characters in paragraphs that repeat an earlier one."""
    top_2gram_characters: _Share = 0.20
    """Maximum share of characters in the most frequent 2-gram that occurs more than once."""
    top_3gram_characters: _Share = 0.18
    """As `top_2gram_characters`, for 3-grams."""
    top_4gram_characters: _Share = 0.16
    """As `top_2gram_characters`, for 4-grams."""
    duplicate_5gram_characters: _Share = 0.15
    """Maximum share of characters in 5-grams that occur more than once."""
    duplicate_6gram_characters: _Share = 0.14
    """As `duplicate_5gram_characters`, for 6-grams."""
    duplicate_7gram_characters: _Share = 0.13
    """As `duplicate_5gram_characters`, for 7-grams."""
    duplicate_8gram_characters: _Share = 0.12
    """As `duplicate_5gram_characters`, for 8-grams."""
    duplicate_9gram_characters: _Share = 0.11
    """As `duplicate_5gram_characters`, for 9-grams."""
    duplicate_10gram_characters: _Share = 0.10
    """As `duplicate_5gram_characters`, for 10-grams."""


class PersonalDataConfig(_Section):
    """Mask personal data by its kind: <email>, <phone>, <card>, <ip>."""

    emails: bool = True
    """Mask e-mail addresses."""
    phones: bool = True
    """Mask phone numbers that are valid according to the library `phonenumbers`."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = "US"
    """Country (ISO 3166) whose phone numbers may lack a country code; null: only numbers with a + count."""
    cards: bool = True
    """Mask numbers of payment cards: of a known issuer, with a valid check digit."""
    ips: bool = False
    """Mask IPv4 and IPv6 addresses; version numbers of programs (1.2.3.4) may look like them."""


class DecontaminationConfig(_Section):
    """Reject documents that share an n-gram with an evaluation text (Brown et al. 2020, appendix C)."""

    evaluation: Annotated[list[SourceConfig], Field(min_length=1)]
    """Where those texts are."""
    n: Annotated[int, Field(ge=1)] = 13
    """Length of an n-gram, in words. A shorter text counts as one n-gram if it has at least 8 words."""


class RulesConfig(_Section):
    """Rules that reject documents, drop lines and mask text, applied in this order; a rule without a section is off."""

    language: LanguageConfig | None = None
    """Keep only documents in some languages."""
    gopher: GopherConfig | None = None
    """Reject documents by Gopher's tests of quality and repetition; {} for the published ones."""
    c4: C4Config | None = None
    """Drop lines and reject documents as C4 did; {} for the published rules but for two that need more: a file of
    bad_words, and English alone, `language: {languages: [en], min_probability: 0.99}` (C4 asked langdetect)."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Reject documents with more characters."""
    decontamination: DecontaminationConfig | None = None
    """Reject documents that contain part of an evaluation text."""
    personal_data: PersonalDataConfig | None = None
    """Mask personal data; {} for e-mail addresses, phone numbers and payment cards."""

    @property
    def span_sentences(self) -> int | None:
        """Length, in sentences, of the spans of which only the first occurrence stays; None: all occurrences stay."""
        return None if self.c4 is None else self.c4.span_sentences


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of applying rules to a text."""

    text: str | None
    """The remaining text; None if it was rejected."""
    reason: str = ""
    """Why it was rejected: one of a few fixed strings that begin with the name of the rule."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of changes that each rule made to a text that is kept."""
