"""Words as their bytes, from rows of word pieces (ELMo: Peters et al. 2018; allenai/bilm-tf, `UnicodeCharsVocabulary`).

    pieces      [CLS]  un    ##happy  cats     [SEP]
    words       <S>    unhappy        cats     </S>
    slots       258, the word's bytes (of 50 slots, 48 are theirs), 259, then 260: padding.  <S> is 256, </S> is 257

A word that is one piece has that piece's id; any other is the unknown word, and still spelt by its own bytes. Only a
word with a character that no piece has comes from the tokenizer as [UNK], and is spelt so; how many characters of the
text are unknown is a finding of every run (`data_prep.text.findings`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Specials, offsets_of

BEGIN, END, WORD, WORD_END, PADDING = range(256, 261)  # slots that are no bytes
SYMBOLS = 261
PREFIX = "##"


@dataclass(frozen=True)
class Words:
    """Words of rows. ids: Ragged. of_piece: Ragged, the word of each piece, counted in its row. slots: [N, S]."""

    ids: Ragged
    of_piece: Ragged
    slots: np.ndarray


class Spelling:
    """Turns pieces into words. length: slots of a word."""

    def __init__(self, pieces: list[str], specials: Specials, length: int) -> None:
        self.specials, self.length = specials, length
        is_special = specials.is_special
        self.continues = np.array([p.startswith(PREFIX) and len(p) > 2 for p in pieces]) & ~is_special
        texts = [piece[2:] if on else piece for piece, on in zip(pieces, self.continues, strict=True)]
        spelt = [np.frombuffer(text.encode(), np.uint8).astype(np.int16) for text in texts]
        for roles, symbol in ((("cls", "bos"), BEGIN), (("sep", "eos"), END)):
            for number in map(specials.get, roles):
                if number is not None:
                    spelt[number] = np.array([symbol], np.int16)
        self.bytes = Ragged.from_rows(spelt, np.int16)
        unknown = specials.get("unk")
        self.unknown = specials.need("unk", "ELMo") if unknown is None else unknown

    @classmethod
    def of_tokenizer(cls, folder: Path, specials: Specials, length: int) -> Spelling:
        """The spelling of a WordPiece tokenizer. UserError for another one, whose pieces do not say how words go on."""
        from data_prep.tokens.tokenizers import load

        tokenizer = load(folder)
        if type(tokenizer.model).__name__ != "WordPiece":
            raise UserError(
                f"tokenizer.kind: ELMo reads words, which it finds by WordPiece's {PREFIX}; found "
                f"{type(tokenizer.model).__name__}; set it to wordpiece."
            )
        pieces = [tokenizer.id_to_token(number) or "" for number in range(specials.vocabulary)]
        return cls(pieces, specials, length)

    def words(self, tokens: Ragged) -> Words:
        """The words of rows of pieces [R, ragged]."""
        begins = ~self.continues[tokens.values] | (tokens.positions() == 0)
        begins[1:] |= self.specials.is_special[tokens.values[:-1]]
        first = np.flatnonzero(begins)
        word = np.cumsum(begins) - 1  # of each piece, counted in all rows
        offsets = np.searchsorted(first, tokens.offsets)
        pieces_of_word = np.diff(np.append(first, len(begins)))
        ids = np.where(pieces_of_word == 1, tokens.values[first], self.unknown).astype(np.int64)
        of_piece = word - np.repeat(offsets[:-1], tokens.lengths)
        return Words(
            Ragged(ids, offsets), Ragged(of_piece, tokens.offsets), self._slots(tokens.values, word, len(first))
        )

    def _slots(self, pieces: np.ndarray, word: np.ndarray, num_words: int) -> np.ndarray:
        """[N, S] int16 of the words that pieces belong to."""
        slots = np.full((num_words, self.length), PADDING, np.int16)
        spelt = self.bytes.take(pieces)
        of_byte = np.repeat(word, spelt.lengths)
        size = np.bincount(of_byte, minlength=num_words)
        place = np.arange(len(of_byte)) - np.repeat(offsets_of(size)[:-1], size) + 1
        kept = place <= self.length - 2
        slots[:, 0] = WORD
        slots[of_byte[kept], place[kept]] = spelt.values[kept]
        slots[np.arange(num_words), np.minimum(size, self.length - 2) + 1] = WORD_END
        return slots
