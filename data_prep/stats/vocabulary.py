"""Statistics of a vocabulary: readable pieces, their kinds, lengths and scripts."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from data_prep.shards.rows import Specials
from data_prep.stats.counts import BINS, Exact, by_count, evenly
from data_prep.stats.types import FORMAT, Kind, TokenizerCounts
from data_prep.tokens.tokenizers import load, specials

EXAMPLES = 8  # pieces to list for each kind
MOST_SCRIPTS = 16


class _Text(NamedTuple):
    """A piece as text without marks, whether it may begin a word, and whether it consists of complete characters."""

    text: str
    begins: bool
    is_complete: bool


class Vocabulary:
    """Readable forms of the pieces of a vocabulary. `ordinary`: ids [n] of pieces that are not special."""

    def __init__(self, tokenizer: Tokenizer, specials: Specials) -> None:
        self.tokenizer, self.specials = tokenizer, specials
        spec = json.loads(tokenizer.to_str())
        is_wordpiece = spec["model"]["type"] == "WordPiece"
        self.prefix: str | None = spec["model"]["continuing_subword_prefix"] if is_wordpiece else None
        self.is_bytes = "ByteLevel" in json.dumps(spec["decoder"])
        present = set(tokenizer.get_vocab(with_added_tokens=True).values())
        self.ordinary = np.array([number for number in specials.ordinary.tolist() if number in present], np.int64)

    def spelt(self, number: int) -> str:
        """The piece as spelled in the vocabulary."""
        return self.tokenizer.id_to_token(number) or f"<{number}>"

    def shown(self, number: int) -> str:
        """The piece on one line: a space before a word as ␣; continuations as in the vocabulary."""
        piece = self.spelt(number)
        if self.is_bytes:
            text = self.tokenizer.decode([number], skip_special_tokens=False)
            piece = text if text and "\ufffd" not in text else piece
        return piece.replace("▁", "␣").replace(" ", "␣").replace("\n", "↵")

    def text(self, number: int) -> _Text:
        """The text that the piece represents."""
        piece = self.spelt(number)
        if self.prefix is not None:
            inside = piece.startswith(self.prefix) and piece != self.prefix
            return _Text(piece.removeprefix(self.prefix) if inside else piece, not inside, True)
        if self.is_bytes:
            text = self.tokenizer.decode([number], skip_special_tokens=False)
            return _Text(text.removeprefix(" ") or text, text.startswith(" "), "\ufffd" not in text)
        text = piece.replace("▁", " ")
        return _Text(text.removeprefix(" ") or text, text.startswith(" "), True)


def of_tokenizer(folder: Path) -> TokenizerCounts:
    """Statistics of a tokenizer's vocabulary. UserError if the folder has no tokenizer."""
    vocabulary = Vocabulary(load(folder), specials(folder))
    lengths, scripts, ids_of_kind = Exact(), Counter[str](), dict[str, list[int]]()
    sizes: Counter[str] = Counter()
    for number in vocabulary.ordinary.tolist():
        piece = vocabulary.text(number)
        kind = _kind(piece, joins=vocabulary.prefix is not None or vocabulary.is_bytes)
        ids_of_kind.setdefault(kind, []).append(number)
        size = len(piece.text) if piece.is_complete else 0
        sizes[kind] += size
        if piece.is_complete:
            lengths.add(np.array([size]))
            letter = next((character for character in piece.text if character.isalpha()), None)
            if letter:
                scripts[unicodedata.name(letter, "OTHER").split()[0].partition("-")[0].capitalize()] += 1
    special = vocabulary.specials
    kinds: list[Kind] = [
        {
            "kind": kind,
            "pieces": len(numbers),
            "share": round(len(numbers) / len(vocabulary.ordinary), 6),
            "mean_length": round(sizes[kind] / len(numbers), 2),
            "examples": [
                vocabulary.shown(numbers[place]) for place in evenly(len(numbers), EXAMPLES, f"examples {kind}")
            ],
        }
        for kind, numbers in sorted(ids_of_kind.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return {
        "format": FORMAT,
        "vocabulary": special.vocabulary,
        "specials": {role: vocabulary.spelt(number) for role, number in special.roles},
        "kinds": kinds,
        "lengths": lengths.lengths(min(max(lengths.most, 1), BINS)),
        "scripts": dict(by_count(scripts)[:MOST_SCRIPTS]),
    }


def _kind(piece: _Text, joins: bool) -> str:
    text = piece.text
    if not piece.is_complete:
        return "part of a character"
    if text.isspace() or not text:
        return "white space"
    if not any(character.isalnum() for character in text):
        return "punctuation and symbols"
    if not any(character.isalpha() for character in text):
        return "numbers"
    if len(text) == 1:
        return "single letters"
    return "inside words" if joins and not piece.begins else "words or beginnings"
