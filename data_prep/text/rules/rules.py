"""Rules that decide whether a cleaned text is good enough to learn from, and improve it where they can.

A rule is off unless the config names it. Each reports what it did by a fixed string, so that it can be counted. Rules
look at one text at a time, in this order: language, Gopher, C4, length, decontamination, personal data. So Gopher's
tests see the whole page, evaluation texts are compared before anything is masked, and masking comes last.

One of C4's rules needs all texts at once: see `data_prep.text.rules.spans`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from data_prep.errors import UserError, choices
from data_prep.sources.config import SourceConfig, snapshot
from data_prep.sources.config import digest as digest_of_sources
from data_prep.sources.records import Reject
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT, documents
from data_prep.text.rules.c4 import C4, read_bad_words
from data_prep.text.rules.config import LanguageConfig, Outcome, RulesConfig
from data_prep.text.rules.gopher import Gopher
from data_prep.text.rules.ngrams import SharedNgrams, ngrams_of
from data_prep.text.rules.personal import PersonalData
from data_prep.tokens.cleaning import clean

__all__ = ["Outcome", "Rules", "RulesConfig", "digest", "ngrams_of"]

_SAMPLE = 1024  # characters that the language of a text is judged by
_PIECES = 4  # from so many places of it


class Rules:
    """The rules of a config: a pure function from a cleaned text (`data_prep.tokens.cleaning`) to an `Outcome`."""

    def __init__(self, config: CleanConfig, downloads: Path = Path()) -> None:
        """Read the files that the rules name. downloads: folder for evaluation texts that come as packages.

        Raises UserError if a file cannot be read, or if a library does not know a language or a region.
        """
        rules = config.rules
        self._steps: list[Callable[[str], Outcome]] = []
        if rules.language is not None:
            self._steps.append(Language(rules.language))
        if rules.gopher is not None:
            self._steps.append(Gopher(rules.gopher))
        if rules.c4 is not None:
            self._steps.append(C4(rules.c4, config.language))
        if rules.max_characters is not None:
            self._steps.append(_Longest(rules.max_characters))
        if rules.decontamination is not None:
            texts = (
                clean(text, config.normalisation)
                for source in rules.decontamination.evaluation
                for text in _evaluation_texts(source, downloads, config.max_seconds)
            )
            self._steps.append(SharedNgrams(texts, rules.decontamination.n))
        if rules.personal_data is not None:
            self._steps.append(PersonalData(rules.personal_data, config.max_seconds))

    def __call__(self, text: str) -> Outcome:
        counts: Counter[str] = Counter()
        for step in self._steps:
            outcome = step(text)
            if outcome.text is None:
                return outcome
            text = outcome.text
            counts.update(outcome.counts)
        return Outcome(text, counts=dict(counts))


class Language:
    """Keeps texts whose likeliest language, by py3langid, is one of a few and likely enough.

    A function from a cleaned text to an `Outcome`; a long text is judged by samples. Raises UserError for a language
    that cannot be identified.
    """

    def __init__(self, config: LanguageConfig) -> None:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        known_languages = self._identifier.labels
        for language in config.languages:
            if language not in known_languages:
                raise UserError(
                    f"{language!r} is not a language that can be identified; {choices(language, known_languages)}"
                )
        self._languages = frozenset(config.languages)
        self._least = config.min_probability
        self._other = f"language: not {' or '.join(config.languages)}"
        self._unsure = f"language: probability below {config.min_probability}"

    def __call__(self, text: str) -> Outcome:
        language, probability = self._identifier.classify(_sample(text))
        if probability < self._least:
            return Outcome(None, self._unsure)
        return Outcome(text) if language in self._languages else Outcome(None, self._other)


def _sample(text: str) -> str:
    """The text if it is short, else evenly spaced pieces of it, `_SAMPLE` characters together."""
    if len(text) <= _SAMPLE:
        return text
    piece = _SAMPLE // _PIECES
    gap = (len(text) - piece) // (_PIECES - 1)
    return "\n".join(text[place * gap : place * gap + piece] for place in range(_PIECES))


class _Longest:
    def __init__(self, characters: int) -> None:
        self._characters = characters
        self._reason = f"length: more than {characters} characters"

    def __call__(self, text: str) -> Outcome:
        return Outcome(text) if len(text) <= self._characters else Outcome(None, self._reason)


def _evaluation_texts(source: SourceConfig, downloads: Path, seconds: int | None) -> list[str]:
    texts = []
    for row in documents(source, downloads, seconds):
        if isinstance(row, Reject):  # what is not read would not be looked for
            raise UserError(f"{row.source} line {row.position}: {row.reason}; mend this evaluation text")
        texts.append(row.text)
    return texts


def digest(config: RulesConfig, downloads: Path | None = None) -> str:
    """Digest of the contents of all files that the rules read, as 32 hex digits; empty if they read none.

    downloads: folder where the digests of files are cached; None: no cache. Raises UserError if a file cannot be read.
    """
    parts: list[str] = []
    if config.c4 is not None and config.c4.bad_words is not None:
        parts.append("\n".join(read_bad_words(config.c4.bad_words)))
    if config.decontamination is not None:
        parts.append(digest_of_sources(snapshot(config.decontamination.evaluation, TEXT), downloads))
    return hashlib.blake2b("\n\n".join(parts).encode(), digest_size=16).hexdigest() if parts else ""
