"""What the rules of `data_prep.text.rules.rules` may be told, and what they answer. Nothing heavy is imported here.

A section that is missing is a rule that is off. Within a section, `null` (or false, or an empty list) switches one of
its tests off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from data_prep.sources.config import SourceConfig

_Share = Annotated[float, Field(ge=0, le=1)] | None
_Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class LanguageConfig(_Section):
    """Keep documents in these languages, as py3langid identifies them."""

    languages: Annotated[list[str], Field(min_length=1)]
    """Codes of ISO 639, such as en."""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.65
    """The least probability of a document's likeliest language."""


class C4Config(_Section):
    """The rules of C4 (Raffel et al. 2020, .2.2)."""

    end_marks: list[str] = [".", "!", "?", '"']
    """Keep lines that end in one of these, but not in an ellipsis."""
    min_words_per_line: _Count = 5
    """Keep lines with at least so many words."""
    max_word_length: Annotated[int, Field(ge=1)] | None = 1000
    """Drop lines with a longer word."""
    min_sentences: _Count = 3
    """Reject pages of which fewer sentences are left."""
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
    """A text file of words or phrases, one a line; reject pages with one of them."""
    span_sentences: Annotated[int, Field(ge=1)] | None = 3
    """Of so many sentences in a row that occur more than once in all documents keep the first; see
    `data_prep.text.rules.spans`."""


class GopherConfig(_Section):
    """The quality and repetition rules of Gopher (Rae et al. 2021, A.1.1), for languages with spaces between words."""

    min_words: Annotated[int, Field(ge=0)] | None = 50
    """Fewest words."""
    max_words: Annotated[int, Field(ge=1)] | None = 100_000
    """Most words."""
    min_mean_word_length: Annotated[float, Field(ge=0)] | None = 3
    """Least mean length of the words, in characters."""
    max_mean_word_length: Annotated[float, Field(ge=0)] | None = 10
    """Greatest mean length of the words, in characters."""
    max_symbols_per_word: Annotated[float, Field(ge=0)] | None = 0.1
    """Most hash signs, and most ellipses, for each word."""
    max_bullet_lines: _Share = 0.9
    """Greatest share of lines that begin with a bullet."""
    max_ellipsis_lines: _Share = 0.3
    """Greatest share of lines that end in an ellipsis."""
    min_alphabetic_words: _Share = 0.8
    """Least share of words with a letter."""
    stop_words: list[str] = ["the", "be", "to", "of", "and", "that", "have", "with"]
    """Words of which ordinary text has some."""
    min_stop_words: _Count = 2
    """How many different ones of them there must be."""
    duplicate_lines: _Share = 0.30
    """Greatest share of lines that repeat an earlier one."""
    duplicate_paragraphs: _Share = 0.30
    """Greatest share of paragraphs that repeat an earlier one."""
    duplicate_line_characters: _Share = 0.20
    """Greatest share of characters in such lines."""
    duplicate_paragraph_characters: _Share = 0.20
    """Greatest share of characters in such paragraphs."""
    top_2gram_characters: _Share = 0.20
    """Greatest share of characters in the most frequent repeated 2-gram."""
    top_3gram_characters: _Share = 0.18
    """The same for 3-grams."""
    top_4gram_characters: _Share = 0.16
    """The same for 4-grams."""
    duplicate_5gram_characters: _Share = 0.15
    """Greatest share of characters in 5-grams that occur more than once."""
    duplicate_6gram_characters: _Share = 0.14
    """The same for 6-grams."""
    duplicate_7gram_characters: _Share = 0.13
    """The same for 7-grams."""
    duplicate_8gram_characters: _Share = 0.12
    """The same for 8-grams."""
    duplicate_9gram_characters: _Share = 0.11
    """The same for 9-grams."""
    duplicate_10gram_characters: _Share = 0.10
    """The same for 10-grams."""


class PersonalDataConfig(_Section):
    """Replace what names a person by its kind: <email>, <phone>, <card>, <ip>."""

    emails: bool = True
    """E-mail addresses."""
    phones: bool = True
    """Phone numbers that are valid, by the library phonenumbers."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = "US"
    """The country whose phone numbers may lack their country code; null: only numbers with + count."""
    cards: bool = True
    """Numbers of payment cards: of a known issuer, with a valid check digit."""
    ips: bool = False
    """Addresses of IPv4 and IPv6; versions of programs (1.2.3.4) may look like them."""


class DecontaminationConfig(_Section):
    """Reject documents that share an n-gram with a text that models are evaluated on (Brown et al. 2020, C)."""

    evaluation: Annotated[list[SourceConfig], Field(min_length=1)]
    """Where those texts are."""
    n: Annotated[int, Field(ge=1)] = 13
    """Words in a row that must not be the same. A text of 8 or more that has fewer counts as a whole."""


class RulesConfig(_Section):
    """Rules that drop lines, mask and reject, in this order; all are off unless they are named."""

    language: LanguageConfig | None = None
    """Keep documents in some languages."""
    gopher: GopherConfig | None = None
    """Reject documents by Gopher's tests of quality and repetition; {} for the published ones."""
    c4: C4Config | None = None
    """Drop lines and reject documents as C4 did; {} for the published rules."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Reject documents with more characters."""
    decontamination: DecontaminationConfig | None = None
    """Reject documents that hold part of an evaluation text."""
    personal_data: PersonalDataConfig | None = None
    """Mask personal data; {} for e-mail addresses, phone numbers and payment cards."""

    @property
    def span_sentences(self) -> int | None:
        """Sentences of the spans of which the first stays; None: repeated ones stay, too."""
        return None if self.c4 is None else self.c4.span_sentences


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a text."""

    text: str | None
    """The text that is left; None: rejected."""
    reason: str = ""
    """Why it was rejected: one of few fixed strings, which begin with the name of the rule."""
    counts: dict[str, int] = field(default_factory=dict)
    """How often each rule changed a text that is kept."""
