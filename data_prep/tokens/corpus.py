"""A tokenised corpus: every token of every document in one flat array, with offsets into it.

    tokens          ▕ t t t t t t t t t t t t t t ▏   ids, no special tokens added
    sentence_offsets  └──s0──┘└─s1─┘└─s2─┘└──s3──┘    where sentences begin in tokens
    document_offsets  └─────d0──────┘└─────d1─────┘   where documents begin in sentences

On disk it is a folder of Arrow files of one record batch each, memory-mapped when opened, and an
index with their digests, which are checked on opening.
"""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from data_prep.arrow import pc
from data_prep.errors import UserError
from data_prep.sealed import digest, mapped, sealed, unsealed, write_whole
from data_prep.shards.reader import ShardDamaged
from data_prep.shards.rows import offsets_of
from data_prep.tokens.cleaning import Documents, white_space
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.segment import Segmenter

FORMAT = 3
INDEX = "tokens.json"
BATCH = 1 << 14  # sentences per encoding call
_ARRAYS = ("tokens", "word_start", "sentence_offsets", "document_offsets", "paragraph_start")
UNIT_START = "unit_start"


@dataclass(frozen=True, eq=False)
class TokenCorpus:
    """N tokens in S sentences in D documents. No sentence is empty; a document may be.

    tokens: [N] uint16, or uint32 for vocabularies over 65,535. word_start: [N] bool, a word's first
    piece. sentence_offsets: [S + 1] int64 into tokens. document_offsets: [D + 1] int64 into
    sentences. paragraph_start: [S] bool, a paragraph's first sentence; None: each document is one.
    unit_start: [N] bool, the first token of a phrase or word (`data_prep.tokens.lexicon`); None: not known.
    """

    tokens: np.ndarray
    word_start: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray
    paragraph_start: np.ndarray | None = None
    unit_start: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.document_offsets) - 1

    @cached_property
    def with_text(self) -> np.ndarray:
        """Indices of the documents that have sentences, in ascending order."""
        return np.flatnonzero(np.diff(self.document_offsets))

    @cached_property
    def document_starts(self) -> np.ndarray:
        """[D + 1] int64: where documents begin in tokens."""
        return np.asarray(self.sentence_offsets[self.document_offsets])

    def _starts(self) -> np.ndarray:
        """[S] bool: whether each sentence is a paragraph's first."""
        if self.paragraph_start is not None:
            return self.paragraph_start
        starts = np.zeros(len(self.sentence_offsets) - 1, bool)
        starts[self.document_offsets[:-1][self.with_text]] = True
        return starts

    @cached_property
    def paragraphs(self) -> np.ndarray:
        """[P] int64: where paragraphs begin in tokens, in ascending order."""
        return np.asarray(self.sentence_offsets[:-1][self._starts()])

    def is_paragraph_start(self, tokens: np.ndarray) -> np.ndarray:
        """[n] bool: whether the tokens at these positions [n] are the first of a paragraph."""
        place = np.searchsorted(self.paragraphs, tokens)
        return (place < len(self.paragraphs)) & (np.append(self.paragraphs, -1)[place] == tokens)

    def ranges(self, tokens: int = 1 << 20) -> Iterator[range]:
        """All documents in consecutive ranges of at most `tokens` tokens, or of one document."""
        start = 0
        while start < len(self):
            limit = self.document_starts[start] + tokens
            stop = int(np.searchsorted(self.document_starts, limit, side="right")) - 1
            stop = min(max(stop, start + 1), len(self))
            yield range(start, stop)
            start = stop

    def save(self, folder: Path) -> None:
        """Write the corpus to a folder; the index, which makes it readable, comes last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        first_sentence = self.document_offsets[:-1]
        tables: dict[str, dict[str, Any]] = {
            "tokens": {"token": self.tokens, "word_start": self.word_start.view(np.uint8)},
            "sentences": {"first_token": self.sentence_offsets, "paragraph_start": np.append(self._starts(), False)},
            "documents": {"first_sentence": np.ascontiguousarray(first_sentence)},
        }
        files = {}
        for name, columns in tables.items():
            path = folder / f"{name}.arrow"
            batch = pa.record_batch(
                {
                    key: pa.array(value.view(np.uint8) if value.dtype == bool else value)
                    for key, value in columns.items()
                }
            )
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
            data = mapped(path)
            files[path.name] = {"bytes": len(data), "digest": digest(data)}
        index = {"format": FORMAT, "tokens": len(self.tokens), "documents": len(self)}
        index |= {"sentences": len(self.sentence_offsets) - 1, "files": files}
        write_whole(folder / INDEX, sealed(index))

    @staticmethod
    def open(folder: Path) -> TokenCorpus:
        """Memory-map a saved corpus, read-only. UserError if it is missing or damaged."""
        folder = Path(folder)
        if not (folder / INDEX).is_file():
            raise UserError(f"{folder} holds no token corpus ({INDEX} is missing): tokenise first")
        advice = f"delete the artifact {folder} and run again"
        try:
            index = unsealed((folder / INDEX).read_bytes())
        except ValueError as error:
            message = f"{folder / INDEX} cannot be trusted ({error}): {advice}"
            raise ShardDamaged(message) from error
        batches = {}
        for name, wanted in index["files"].items():
            path = folder / name
            data = mapped(path) if path.is_file() else None
            if data is None or len(data) != wanted["bytes"] or digest(data) != wanted["digest"]:
                raise ShardDamaged(f"{path} is missing or not what was written: {advice}")
            batches[path.stem] = pa.ipc.open_file(pa.py_buffer(data)).get_batch(0)
        tokens, documents = batches["tokens"], batches["documents"]
        sentence_offsets = batches["sentences"]["first_token"].to_numpy()
        return TokenCorpus(
            tokens["token"].to_numpy(),
            tokens["word_start"].to_numpy().view(bool),
            sentence_offsets,
            np.append(documents["first_sentence"].to_numpy(), len(sentence_offsets) - 1),
            batches["sentences"]["paragraph_start"].to_numpy()[:-1].view(bool),
        )


def tokenise(
    corpus: Documents,
    tokenizer: Tokenizer | Encoder,
    counted: Counter[str] | None = None,
    segmenter: Segmenter | None = None,
) -> TokenCorpus:
    """Tokenise a corpus sentence by sentence: nothing is cut, padded or added.

    Where the tokenizer spells white space, the tokens of a document are those of its whole text; those of a sentence
    begin with the white space before it. "[MASK]" in a text is ordinary text, not a mask. Sentences without tokens are
    left out. Pass an `Encoder` to reuse its cache of words for several corpora. counted: is increased by the numbers of
    `characters`, without spaces, and of `unknown_characters`, those that the tokenizer's unknown token stands for.
    segmenter: finds words of Chinese text; without one, each of its characters is a word.
    """
    encoder = tokenizer if isinstance(tokenizer, Encoder) else Encoder(tokenizer)
    tokens, lengths = [np.empty(0, encoder.dtype)], [np.empty(0, np.int64)]
    counts = [np.empty(0, np.int64)]  # sentences of each document
    starts = [np.empty(0, bool)]  # sentences that begin a paragraph
    for number_of, sentences, paragraph in corpus.batches():
        if encoder.spells_white_space:
            before = white_space(sentences, number_of, paragraph, encoder.keep_lines)
            slices = _slices(encoder.begins(before))
            parts = [encoder.encode_documents(sentences[part], before[part]) for part in slices]
        else:
            slices = _slices(np.ones(len(sentences), bool))
            parts = [encoder.encode(sentences[part]) for part in slices]
        if counted is not None:
            for part, encoded in zip(slices, parts, strict=True):
                characters = pc.sum(pc.utf8_length(pc.replace_substring(sentences[part], " ", ""))).as_py() or 0
                unknown = min(encoder.unknown_characters(sentences[part], encoded), characters)  # which is estimated
                counted.update(characters=characters, unknown_characters=unknown)
        length = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
        has_text = np.concatenate([[0], np.cumsum(length > 0)])
        ends = offsets_of(number_of)
        tokens += [part.values for part in parts]
        lengths.append(length[length > 0])
        document = np.repeat(np.arange(len(number_of)), number_of)[length > 0]
        changes = np.diff(document, prepend=-1) != 0
        if paragraph is not None:
            changes |= np.diff(paragraph[length > 0], prepend=-1) != 0
        starts.append(changes)
        counts.append(has_text[ends[1:]] - has_text[ends[:-1]])
    ids, sentence_offsets = np.concatenate(tokens), offsets_of(np.concatenate(lengths))
    document_offsets = offsets_of(np.concatenate(counts))
    word_start = _word_starts(encoder)(ids, sentence_offsets, sentence_offsets[document_offsets[:-1]])
    if segmenter is not None:
        word_start = segmenter(ids, sentence_offsets, word_start)
    return TokenCorpus(ids, word_start, sentence_offsets, document_offsets, np.concatenate(starts))


def _slices(begins: np.ndarray) -> list[slice]:
    """Sentences in slices of about `BATCH` that begin where a sentence is encoded independently."""
    places, slices, start = np.append(np.flatnonzero(begins), len(begins)), list[slice](), 0
    while start < len(begins):
        stop = int(places[np.searchsorted(places, min(start + BATCH, len(begins)))])
        slices.append(slice(start, stop))
        start = stop
    return slices


@lru_cache(1)
def _word_starts(encoder: Encoder) -> WordStarts:
    """The `WordStarts` of an encoder, cached because computing it goes through the entire vocabulary."""
    return WordStarts(encoder.tokenizer)


def joined(parts: Sequence[Path], folder: Path) -> TokenCorpus:
    """The concatenation of saved corpora, with its arrays as memory-mapped files in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sentence = document = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in _ARRAYS}
        for name in _ARRAYS[2:4]:
            files[name].write(np.zeros(1, np.int64).tobytes())
        for number, part in enumerate(map(TokenCorpus.open, parts)):
            if not number:
                dtype = part.tokens.dtype
            files["tokens"].write(part.tokens.data)
            files["word_start"].write(part.word_start.data)
            files["sentence_offsets"].write((part.sentence_offsets[1:] + sentence).tobytes())
            files["document_offsets"].write((part.document_offsets[1:] + document).tobytes())
            files["paragraph_start"].write(part._starts().tobytes())
            sentence += int(part.sentence_offsets[-1])
            document += int(part.document_offsets[-1])
    (folder / "dtype").write_text(np.dtype(dtype).name)
    return mapped_corpus(folder)


def write_unit_starts(folder: Path, parts: Iterable[np.ndarray]) -> TokenCorpus:
    """Add `unit_start`, given in consecutive parts, to the corpus that `joined` wrote to a folder."""
    unfinished = folder / f"{UNIT_START}.part"  # others may map the corpus meanwhile
    with unfinished.open("wb") as file:
        for part in parts:
            file.write(part.tobytes())
    unfinished.replace(folder / UNIT_START)
    return mapped_corpus(folder)


def mapped_corpus(folder: Path) -> TokenCorpus:
    """The corpus that `joined` wrote to a folder."""
    types = [
        np.dtype((folder / "dtype").read_text()),
        np.dtype(bool),
        np.dtype(np.int64),
        np.dtype(np.int64),
        np.dtype(bool),
    ]
    arrays = [_mapped_array(folder / name, dtype) for name, dtype in zip(_ARRAYS, types, strict=True)]
    has_units = (folder / UNIT_START).is_file()
    unit_start = _mapped_array(folder / UNIT_START, np.dtype(bool)) if has_units else None
    return TokenCorpus(*arrays, unit_start=unit_start)


def _mapped_array(path: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


SPACE, MARK, LETTER, ALONE = range(4)  # classes of single characters


class WordStarts:
    """Determines which pieces begin words, by a rule that depends on the tokenizer.

    A sentence's first piece always does unless it is white space, and so does a special token. Of the others,

    - in WordPiece: each piece without the continuation prefix (##);
    - if each piece is one character: each Chinese or Japanese character, each punctuation mark or
      symbol, and a letter or digit that does not follow another; a space or a combining mark
      belongs to the character before it;
    - otherwise (byte-level BPE, SentencePiece): each piece that begins with a space (Ġ, ▁), each line break, and the
      piece after it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        pieces = [""] * (max(vocabulary.values()) + 1)
        for piece, number in vocabulary.items():
            pieces[number] = piece
        added = tokenizer.get_added_tokens_decoder()
        special = {number for number, token in added.items() if token.special}
        spec = json.loads(tokenizer.to_str())
        self._classes: np.ndarray | None = None
        self._breaks = np.zeros(len(pieces), bool)
        if spec["model"]["type"] == "WordPiece":
            prefix = spec["model"]["continuing_subword_prefix"]
            starts = [not piece.startswith(prefix) for piece in pieces]
        elif "ByteLevel" not in json.dumps(spec["decoder"]) and all(
            len(piece) <= 1 or number in special for number, piece in enumerate(pieces)
        ):
            classes = [
                character_class(piece) if number not in special and piece else ALONE
                for number, piece in enumerate(pieces)
            ]
            self._classes = np.array(classes, np.uint8)
            starts = [kind == ALONE for kind in classes]
        else:
            self._breaks = np.array([(bool(piece) and not piece.strip("Ċ\n")) or piece == "<0x0A>" for piece in pieces])
            starts = [
                number in special or piece.startswith(("Ġ", "▁")) or bool(self._breaks[number])
                for number, piece in enumerate(pieces)
            ]
        self._starts = np.array(starts, bool)

    def __call__(
        self, ids: np.ndarray, sentence_offsets: np.ndarray, documents: np.ndarray | None = None
    ) -> np.ndarray:
        """[N] bool for ids [N]; sentence_offsets: [S + 1], no sentence is empty; documents: where they begin."""
        starts = self._starts[ids]
        first = sentence_offsets[:-1]
        starts[1:] |= self._breaks[ids[:-1]]
        if self._classes is not None:
            kind = self._classes[ids]
            inside = (kind[:-1] == LETTER) | (kind[:-1] == MARK)
            starts[1:] |= (kind[1:] == LETTER) & ~inside
            if documents is not None:
                first = np.append(first[kind[first] != SPACE], documents[documents < len(ids)])
        starts[first] = True
        return starts


def character_class(character: str) -> int:
    """SPACE, MARK (combining, joiners), LETTER (or digit) or ALONE (a word by itself)."""
    category = unicodedata.category(character)
    if character.isspace():
        return SPACE
    if category[0] == "M" or category == "Cf":
        return MARK
    by_itself = unicodedata.name(character, "").startswith(("CJK", "HIRAGANA", "KATAKANA"))
    return LETTER if category[0] in "LN" and not by_itself else ALONE
