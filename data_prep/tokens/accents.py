"""What a tokenizer that strips accents takes away: marks are decoration in few scripts, and spell words in most.

In Devanagari or Thai they are vowels, in kana the difference between か and が, in Vietnamese tones.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import Tokenizer

LOOKED_AT = 10_000_000  # characters that are counted
_USUAL = {"Latin", "Greek", "Cyrillic", "Combining"}  # scripts whose accents BERT's uncased models strip
_MANY = 0.1  # share of letters with marks from which on they spell words in a usual script, too
_FEW = 1e-4  # share of all letters below which a script is a quotation


def are_stripped(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer removes marks from letters."""
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    for step in normalizer.get("normalizers", [normalizer]):
        strips = step.get("strip_accents")
        if step.get("type") == "StripAccents" or strips or (strips is None and step.get("lowercase")):
            return True
    return False


class Watched:
    """Passes texts on, and counts the first LOOKED_AT characters of them in `characters`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.characters: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        left = LOOKED_AT
        for text in self.texts:
            if left > 0:
                self.characters.update(text)
                left -= len(text)
            yield text

    def look(self) -> None:
        """Count what would be counted if all texts were passed on."""
        for _ in self:
            if self.characters.total() >= LOOKED_AT:
                break


def warnings(characters: Mapping[str, int]) -> list[str]:
    """A sentence with numbers about the marks that stripping removes from words; none where they are few."""
    letters: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    for character, count in characters.items():
        decomposed = unicodedata.normalize("NFD", character)
        if unicodedata.category(decomposed[0])[0] in "LM":
            script = unicodedata.name(decomposed[0], "?").split()[0].capitalize()
            letters[script] += count
            marks[script] += count * sum(unicodedata.category(part) == "Mn" for part in decomposed)
    least = _FEW * sum(letters.values())
    lost = {
        script: number
        for script, number in marks.most_common()
        if number > max(least, _MANY * letters[script] if script in _USUAL else 0)
    }
    if not lost:
        return []
    shares = ", ".join(f"{number:,} from {letters[script]:,} letters of {script}" for script, number in lost.items())
    return [
        f"tokenizer.strip_accents: marks that spell words are removed: {shares}; set it to false, or lowercase to false"
    ]
