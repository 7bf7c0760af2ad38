"""Whether the rules of another language find more ends of sentences in a corpus than those of `clean.language`."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.corpus.documents import Corpus
from data_prep.stats.counts import evenly
from data_prep.text.sentences import split

LANGUAGES = {
    "ARABIC": "ar", "ARMENIAN": "hy", "BENGALI": "bn", "CJK": "zh", "CYRILLIC": "ru", "DEVANAGARI": "hi",
    "ETHIOPIC": "am", "GEORGIAN": "ka", "GREEK": "el", "GUJARATI": "gu", "GURMUKHI": "pa", "HANGUL": "ko",
    "HEBREW": "he", "HIRAGANA": "ja", "KANNADA": "kn", "KATAKANA": "ja", "KHMER": "km", "LAO": "lo",
    "MALAYALAM": "ml", "MYANMAR": "my", "ORIYA": "or", "SINHALA": "si", "TAMIL": "ta", "TELUGU": "te",
    "THAI": "th", "TIBETAN": "bo",
}  # fmt: skip
"""By script, the first word of its letters' names, a language that is written in it."""
KANA_SHARE = 0.05  # of letters, from which on Chinese characters are Japanese
DOCUMENTS, CHARACTERS = 64, 2000  # looked at, and of each
BETTER = 1.5


def scripts(texts: Sequence[str]) -> Counter[str]:
    """Numbers of letters by script."""
    letters = Counter(character for text in texts for character in text if character.isalpha())
    counts: Counter[str] = Counter()
    for letter, count in letters.items():
        counts[unicodedata.name(letter, "OTHER").replace("-", " ").split()[0]] += count
    return counts


def language_of(letters: Counter[str]) -> str | None:
    """A language of the script that most letters are of; None if that is Latin, or no script of `LANGUAGES`."""
    kana = letters["HIRAGANA"] + letters["KATAKANA"]
    if kana and kana >= KANA_SHARE * (kana + letters["CJK"]) and kana + letters["CJK"] > letters.total() / 2:
        return "ja"
    script, count = next(iter(letters.most_common(1)), ("", 0))
    return LANGUAGES.get(script) if count > letters.total() / 2 else None


def better_rules(corpus: Corpus, language: str) -> dict[str, Any]:
    """`language`: whose rules find more sentences in a sample of documents, and how many they and ours find; or {}."""
    texts = list(_sample(corpus))
    other = language_of(scripts(texts))
    if other in (None, language):
        return {}
    ours, theirs = (sum(len(split(text, each)) for text in texts) for each in (language, other))
    return {"language": other, "found": ours, "would_find": theirs} if theirs >= BETTER * ours else {}


def _sample(corpus: Corpus) -> Iterator[str]:
    for number in evenly(len(corpus), min(len(corpus), DOCUMENTS), "languages"):
        text = ""
        for sentence in corpus[number].sentences:
            text += f"{sentence} "
            if len(text) >= CHARACTERS:
                break
        yield text[:CHARACTERS].rstrip()
