"""Converts token ids back to text, one piece of text per token.

    ids ──► texts, joined as the tokenizer would join them; special tokens are set apart by spaces

Unlike with `Tokenizer.decode`, each token has its own piece of text, so that it can be coloured.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders

from data_prep.shards.rows import Specials

_NO_SPACE_BEFORE = set(".,;:!?)]}%’”…-–—/'")
_NO_SPACE_AFTER = set("([{$#‘“-–—/")
_AFTER_APOSTROPHE = {"d", "ll", "m", "re", "s", "t", "ve"}


class Pieces:
    """The text of each token of a row."""

    def __init__(self, tokenizer: Tokenizer, specials: Specials) -> None:
        self.tokenizer = tokenizer
        self.specials = specials.all
        self._inner = {
            specials.get("mask"),
            specials.get("unk"),
        }  # these stand for text, other special tokens surround it
        decoder: Any = tokenizer.decoder
        self._continues = decoder.prefix if isinstance(decoder, decoders.WordPiece) else None
        self._bytes = _byte_alphabet() if isinstance(decoder, decoders.ByteLevel) else None
        self._is_character = isinstance(decoder, decoders.Fuse)

    def name(self, token: int) -> str:
        """The text of a single token, or its spelling in the vocabulary if the text is not legible."""
        if token in self.specials:
            return self._spelt(token)
        text = "".join(self.texts([token]))
        return text.strip() or text.replace(" ", "␣") or self._spelt(token)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """One text per token; joined, they are the text of the row. A space belongs to the token after it."""
        texts: list[str] = []
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        before, apart = "", False  # end of the row so far; whether a space must follow
        for token in map(int, ids):
            if token in self.specials:
                cut_off = utf8.decode(b"", final=True)
                utf8.reset()
                inside_text = self._is_character and token in self._inner and not apart
                space = "" if not texts or inside_text or before.endswith(" ") else " "
                text = f"{cut_off}{space}{self._spelt(token)}"
                before, apart = text, token not in self._inner
            else:
                text, joins = self._text(token, utf8, before)
                if text and texts and not text.startswith(" ") and (apart or (self._continues and not joins)):
                    text = " " + text
                if text:
                    before, apart = text, False
            texts.append(text)
        return texts

    def num_bytes(self, vocabulary: int) -> list[int]:
        """Bytes of UTF-8 that each id spells in a text, without spaces that are in no token; 0 of special tokens."""
        return [0 if number in self.specials else self._size(self._spelt(number)) for number in range(vocabulary)]

    def _size(self, piece: str) -> int:
        if self._bytes is not None and all(character in self._bytes for character in piece):
            return len(piece)
        if self._continues and piece != self._continues:
            piece = piece.removeprefix(self._continues)
        return len(piece.replace("▁", " ").encode())

    def _spelt(self, token: int) -> str:
        return self.tokenizer.id_to_token(token) or f"<{token}>"

    def _text(self, token: int, utf8: codecs.IncrementalDecoder, before: str) -> tuple[str, bool]:
        """The token's text, and whether it continues the text before it without a space."""
        piece = self._spelt(token)
        if self._bytes is not None:
            if all(character in self._bytes for character in piece):
                return utf8.decode(bytes(self._bytes[character] for character in piece)), False
            return piece, False
        if self._continues is None:
            return piece.replace("▁", " "), False
        if piece.startswith(self._continues) and piece != self._continues:
            return piece.removeprefix(self._continues), True
        before = before.strip()
        is_contraction = before in ("'", "’") and piece in _AFTER_APOSTROPHE
        joins = piece in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER or (_is_wide(piece) and _is_wide(before))
        return piece, joins or is_contraction


def _is_wide(text: str) -> bool:
    """Whether a text is in a script without spaces, such as Chinese."""
    text = text.strip()
    return bool(text) and all(unicodedata.east_asian_width(character) in "WF" for character in text)


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (Radford et al. 2019)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
