"""Composes examples from a tokenised corpus: selects the sentences, or pairs of them, of each row.

    packed   [CLS] s s s … [SEP]      consecutive sentences of one document; its last row is shorter
    nsp      [CLS] A [SEP] B [SEP]    next sentence prediction: B follows A, or is from another document
    sop      [CLS] A [SEP] B [SEP]    sentence order prediction: B follows A, or the two are swapped
    raw      [CLS] s [SEP]            one document, or one sentence; a long one goes on in further rows
    stream   … s s [EOS] s s s …      documents one after another, cut into full rows (Radford et al. 2019)

The special tokens around a text are its `frame`: [CLS] … [SEP] as here, [BOS] … [EOS], … [EOS] or none.

`compose` is a pure function and works document by document: the sequences of a document depend on the
document, the corpus, the config, the seed and the epoch, not on which documents are composed together.
Only `pack`, which puts several of these sequences into each row, and stream depend on that.

Sources: packed is RoBERTa's DOC-SENTENCES (Liu et al. 2019, section 4.2); nsp is BERT's (Devlin et al.
2018, section 3.1, and `create_pretraining_data` published with it); sop is ALBERT's (Lan et al. 2019,
section 3.1), except that a document of one sentence is left out instead of becoming a random pair.

Both published programs drop what does not fit into a row. Here nothing is dropped: the last sentence of a pair that is
too long is put back, as is what a random B displaces, and where that would leave a row too empty, the pair becomes
several rows, each with a stretch of A and a stretch of B (`windows`). Its first row has the beginnings of both, its
last row the ends of both, so that the ends of A and B tell nothing about their order. What no row holds, `compose`
counts.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.settings import Belongs
from data_prep.shards.rows import Ragged, Rows, Specials, offsets_of, ragged
from data_prep.tokens import segment
from data_prep.tokens.corpus import TokenCorpus
from data_prep.tokens.packing import pack
from data_prep.tokens.pairs import SHORT, TARGET, Spans, foreign, pairs_of, windows
from data_prep.tokens.phrases import PhrasesConfig

VERSION = 2  # of what rows hold


class ComposeConfig(BaseModel):
    """How to make rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["packed", "nsp", "sop", "raw", "stream"]
    """Which sentences, or pairs of them, make a row; see the module's docstring."""
    frame: Literal["cls-sep", "bos-eos", "eos", "none"] = "cls-sep"
    """Special tokens around a text; in a stream, around each document."""
    length: int = Field(default=128, ge=8)
    """Maximum tokens in a row, including special tokens."""
    short_probability: float = Field(default=0.1, ge=0, le=1)
    """Share of documents whose pairs are made shorter, of a random length (nsp and sop)."""
    whole_sentences: bool = True
    """Whether packed rows end at the end of a sentence (one longer than a row is still cut) or are filled up."""
    epochs: int = Field(default=1, ge=1)
    """How many times the corpus is composed; pairs differ between epochs."""
    pack: bool = False
    """Several sequences per row, best-fit, to reduce padding; each has its own [CLS], positions, budget of masks and
    label."""
    per: Literal["document", "sentence"] = "document"
    """Content of a raw row, or of several if it is longer than one."""
    columns: tuple[Literal["sentence", "boundary", "unit"], ...] = ()
    """Additional columns, see `compose`."""
    lexicon: str | None = None
    """Text file of phrases and entities, one per line, which become the units of the column unit."""
    phrases: PhrasesConfig | None = None
    """Instead of a lexicon: find phrases in the training text, which become the units of the column unit."""
    segmenter: segment.Name | None = None
    """Library that finds the words of Chinese text; null: each of its characters is a word."""

    belongs: ClassVar[dict[str, Belongs]] = {
        "short_probability": Belongs("kind nsp or sop", lambda config: config.pairs),
        "whole_sentences": Belongs("kind packed", lambda config: config.kind == "packed"),
    }

    @model_validator(mode="after")
    def _fits_together(self) -> ComposeConfig:
        if self.pairs and self.frame != "cls-sep":
            raise ValueError(f"pairs ({self.kind}) are told apart by [SEP], so frame must be cls-sep, not {self.frame}")
        if self.kind == "stream" and self.pack:
            raise ValueError("a stream fills its rows already: leave pack out")
        if self.kind != "raw" and self.per != "document":
            raise ValueError("'per' belongs to kind raw")
        if "unit" in self.columns and self.lexicon is None and self.phrases is None:
            raise ValueError(
                "the column unit needs a lexicon, a text file with one phrase a line, or phrases: {} to find them"
            )
        for name in ("lexicon", "phrases"):
            if "unit" not in self.columns and getattr(self, name) is not None:
                raise ValueError(f"'{name}' belongs to the column unit: add unit to columns, or leave it out")
        if self.lexicon is not None and self.phrases is not None:
            raise ValueError("phrases are found, or those of a lexicon: leave out one of the two")
        return self

    @property
    def front(self) -> str | None:
        """Role of the token before a text."""
        return {"cls-sep": "cls", "bos-eos": "bos"}.get(self.frame)

    @property
    def back(self) -> str | None:
        """Role of the token after a text."""
        return {"cls-sep": "sep", "bos-eos": "eos", "eos": "eos"}.get(self.frame)

    @property
    def joins(self) -> bool:
        """Whether a row may hold several sequences."""
        return self.pack or self.kind == "stream"

    @property
    def pairs(self) -> bool:
        """Whether a row is a pair of texts."""
        return self.kind in ("nsp", "sop")

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles of special tokens that a tokenizer must have."""
        return tuple(role for role in (self.front, self.back) if role)

    @property
    def offers(self) -> tuple[str, ...]:
        """The columns of its rows."""
        pair = ("segment", "label") if self.pairs else ()
        sequence = ("sequence",) if self.joins else ()
        return "input", "word_start", "document", *pair, *sequence, *dict.fromkeys(self.columns)


HOW_TO_OFFER = {
    "segment": "set compose.kind to nsp or sop",
    "label": "set compose.kind to nsp or sop",
    "sequence": "set compose.pack to true",
    "sentence": "add sentence to compose.columns",
    "boundary": "add boundary to compose.columns",
    "unit": "add unit to compose.columns, and set compose.lexicon to a text file with one phrase a line, or "
    "compose.phrases: {} to find them in the training text",
}
"""What to set for rows to have a column that not all have."""


class Composed(NamedTuple):
    """Rows, and the number of the documents' tokens that are in none of them."""

    rows: Rows
    left_out: int


def compose(
    corpus: TokenCorpus,
    config: ComposeConfig,
    specials: Specials,
    seed: int,
    name: str,
    epoch: int,
    documents: range,
    sources: np.ndarray | None = None,
) -> Composed:
    """The rows of a range of documents, in the order of the documents and of their text.

    name: of the corpus, part of the keys. sources: [D] number of each document's source, if there are several: a random
    B is of the source of A. The rows have `input` and `word_start` (Ragged), `document` [R] uint32, and for pairs also
    `segment` (Ragged uint8) and `label` [R] uint8 (nsp: 1 = random, sop: 1 = swapped). With `pack`,
    `document` and `label` are Ragged, one value per sequence of the row, and `sequence` (Ragged uint8, or uint16 for
    long rows) is the sequence of each token; rows are in the order of their first sequences; a stream's rows have both,
    where a sequence is the part of a document in a row.
    If requested by `config.columns`, also Ragged: `sentence` uint16 (index of a token's sentence in its
    text; special tokens belong to the sentence before them), `boundary` uint8 (1 at the first token of
    a paragraph) and `unit` (smallest unsigned type that holds `length`; index of a token's phrase or word in its
    sequence; a special token is a unit of its own; each part of a unit that is cut is a unit), which needs a corpus
    with `unit_start`. UserError if nsp has no second document to draw B from, or if the tokenizer lacks a special
    token of the frame.
    """
    if config.kind in ("packed", "raw", "stream"):
        divided = {"packed": _packed, "raw": _raw, "stream": _whole}[config.kind]
        document, spans = divided(corpus, config, documents)
        left_out = _uncovered(corpus, documents, [spans])
        rows = _assemble(corpus, config, specials, document, [spans])
        return Composed(_cut(rows, config) if config.kind == "stream" else _finished(rows, config), left_out)
    if config.kind == "nsp" and len(corpus.with_text) < 2:
        raise UserError(
            f"next sentence prediction takes partners from other documents, and {name} has "
            f"{len(corpus.with_text)} with text: add documents, or compose sop or packed"
        )
    numbers = np.asarray(documents, np.int64)
    draws = Draws(key(seed, f"compose.{config.kind}", name), epoch, numbers)
    longest = config.length - 3
    short = draws.uniform(SHORT) < config.short_probability
    target = np.where(short, 2 + draws.below(longest - 1, TARGET), longest)
    pairs = pairs_of(corpus, config.kind, draws, numbers, target, longest)
    document = numbers[pairs.row]
    first = corpus.document_offsets[document]
    cuts = [corpus.sentence_offsets[first + cut] for cut in (pairs.start, pairs.half, pairs.stop)]
    a, b = Spans(cuts[0], cuts[1]), Spans(cuts[1], cuts[2])
    own = [a, b]
    if config.kind == "nsp":
        own = [a, Spans(b.start, np.where(pairs.label, b.start, b.stop))]
        b = b.where(pairs.label, foreign(corpus, draws, pairs, document, a.length, target[pairs.row], longest, sources))
    left_out = _uncovered(corpus, documents, own)
    pair, a, b = windows(a, b, longest)
    document, label = document[pair], pairs.label[pair]
    if config.kind == "sop":
        a, b = a.where(label, b), b.where(label, a)
    rows = _assemble(corpus, config, specials, document, [a, b])
    lengths = np.stack([a.length + 2, b.length + 1], axis=1).ravel()
    segment = np.repeat(np.tile(np.array([0, 1], np.uint8), len(document)), lengths)
    rows["segment"] = Ragged.from_lengths(segment, a.length + b.length + 3)
    rows["label"] = label.astype(np.uint8)
    return Composed(_finished(rows, config), left_out)


def _finished(rows: Rows, config: ComposeConfig) -> Rows:
    if "unit" in rows:
        starts = ragged(rows, "unit")
        rows = rows | {"unit": _unit_numbers(starts, starts.offsets[:-1], config)}
    return pack(rows, config.length, len(config.needs) + 1) if config.pack else rows


def _uncovered(corpus: TokenCorpus, documents: range, parts: list[Spans]) -> int:
    """Number of the documents' tokens that are in none of these spans, which are of the same documents."""
    begin, end = (int(corpus.document_starts[number]) for number in (documents.start, documents.stop))
    change = np.zeros(end - begin + 1, np.int64)
    for part in parts:
        np.add.at(change, part.start - begin, 1)
        np.add.at(change, part.stop - begin, -1)
    return int(np.count_nonzero(np.cumsum(change[:-1]) == 0))


def _packed(corpus: TokenCorpus, config: ComposeConfig, documents: range) -> tuple[np.ndarray, Spans]:
    """Document and tokens of each packed row."""
    room = config.length - len(config.needs)
    rows: list[tuple[int, int, int]] = []
    for number in documents:
        first, last = corpus.document_offsets[number : number + 2].tolist()
        tokens = corpus.sentence_offsets[first : last + 1].tolist()
        start, end = tokens[0], tokens[-1]
        while start < end:
            stop = min(start + room, end)
            if config.whole_sentences and stop < end:
                boundary = tokens[bisect_right(tokens, stop) - 1]
                stop = boundary if boundary > start else stop
            rows.append((number, start, stop))
            start = stop
    document, start, stop = np.array(rows, np.int64).reshape(-1, 3).T
    return document, Spans(start, stop)


def _raw(corpus: TokenCorpus, config: ComposeConfig, documents: range) -> tuple[np.ndarray, Spans]:
    """Document and tokens of each row: a document, or a sentence, or as much of it as fits after the row before."""
    number = np.asarray(documents, np.int64)
    if config.per == "sentence":
        counts = corpus.document_offsets[number + 1] - corpus.document_offsets[number]
        number = np.repeat(number, counts)
        sentence = np.arange(*corpus.document_offsets[[documents.start, documents.stop]])
        start, stop = corpus.sentence_offsets[sentence], corpus.sentence_offsets[sentence + 1]
    else:
        start, stop = corpus.document_starts[number], corpus.document_starts[number + 1]
    room = config.length - len(config.needs)
    count = -(-(stop - start) // room)
    text = np.repeat(np.arange(len(count)), count)
    begin = start[text] + room * (np.arange(len(text)) - offsets_of(count)[text])
    return number[text], Spans(begin, np.minimum(stop[text], begin + room))


def _whole(corpus: TokenCorpus, config: ComposeConfig, documents: range) -> tuple[np.ndarray, Spans]:
    """Document and tokens of each document that is not empty."""
    number = np.asarray(documents, np.int64)
    start, stop = corpus.document_starts[number], corpus.document_starts[number + 1]
    has_text = stop > start
    return number[has_text], Spans(start[has_text], stop[has_text])


def _cut(texts: Rows, config: ComposeConfig) -> Rows:
    """The concatenated texts in rows of `length` tokens; the last may be shorter. Parts of texts become sequences."""
    sequences = ragged(texts, "input")
    total = len(sequences.values)
    offsets = np.append(np.arange(0, total, config.length), total)
    rows: Rows = {name: Ragged(column.values, offsets) for name, column in texts.items() if isinstance(column, Ragged)}
    begins = np.union1d(offsets[:-1], sequences.offsets[:-1])  # of sequences
    row = np.searchsorted(offsets, begins, side="right") - 1
    text = np.searchsorted(sequences.offsets, begins, side="right") - 1
    bounds = offsets_of(np.bincount(row, minlength=len(offsets) - 1))
    number = np.arange(len(begins)) - bounds[row]
    dtype = np.min_scalar_type(config.length)
    rows["sequence"] = Ragged(np.repeat(number.astype(dtype), np.diff(begins, append=total)), offsets)
    rows["document"] = Ragged(np.asarray(texts["document"])[text], bounds)
    if "unit" in rows:
        rows["unit"] = _unit_numbers(ragged(rows, "unit"), begins, config)
    return rows


def _unit_numbers(starts: Ragged, begins: np.ndarray, config: ComposeConfig) -> Ragged:
    """The number of each token's unit in its sequence. starts: 1 where a unit begins; begins: [S], of sequences."""
    count = np.cumsum(starts.values, dtype=np.int64)
    numbers = count - np.repeat(count[begins], np.diff(begins, append=len(count)))
    return Ragged(numbers.astype(np.min_scalar_type(config.length)), starts.offsets)


def _assemble(
    corpus: TokenCorpus, config: ComposeConfig, specials: Specials, document: np.ndarray, parts: list[Spans]
) -> Rows:
    """Rows of [CLS] part [SEP] part [SEP] …, or with the tokens of another frame.

    `unit` is 1 where a unit begins: texts may yet be cut before units are numbered.
    """
    front, back = (
        role and specials.need(role, f"compose.frame {config.frame}") for role in (config.front, config.back)
    )
    before, behind = int(front is not None), int(back is not None)
    offsets = offsets_of(before + sum(part.length + behind for part in parts))
    tokens = np.full(offsets[-1], back or 0, corpus.tokens.dtype)
    word_start = np.ones(offsets[-1], np.uint8)
    optional_columns: dict[str, np.ndarray] = {}
    if "boundary" in config.columns:
        optional_columns["boundary"] = np.zeros(offsets[-1], np.uint8)
    if "sentence" in config.columns:
        optional_columns["sentence"] = np.zeros(offsets[-1], np.int64)
    if "unit" in config.columns:
        if corpus.unit_start is None:
            raise ValueError("the column unit needs a corpus whose units are known: give it unit_start")
        optional_columns["unit"] = np.ones(offsets[-1], np.uint8)
    if front is not None:
        tokens[offsets[:-1]] = front
    at, first = offsets[:-1] + before, np.zeros(len(document), np.int64)
    for part in parts:
        step = np.arange(part.length.sum()) - np.repeat(offsets_of(part.length)[:-1], part.length)
        source, place = np.repeat(part.start, part.length) + step, np.repeat(at, part.length) + step
        tokens[place] = corpus.tokens[source]
        word_start[place] = corpus.word_start[source]
        if "boundary" in optional_columns:
            optional_columns["boundary"][place] = corpus.is_paragraph_start(source)
        if "unit" in optional_columns and corpus.unit_start is not None:
            optional_columns["unit"][place] = corpus.unit_start[source]
            optional_columns["unit"][at] = 1
        if "sentence" in optional_columns:
            number = np.searchsorted(corpus.sentence_offsets, source, side="right") - 1
            edges = part.start, part.stop - 1
            begin, end = (np.searchsorted(corpus.sentence_offsets, edge, side="right") for edge in edges)
            optional_columns["sentence"][place] = number + np.repeat(first - begin + 1, part.length)
            first = first + end - begin + 1
            if behind:
                optional_columns["sentence"][at + part.length] = first - 1
        at = at + part.length + behind
    if "sentence" in optional_columns:
        optional_columns["sentence"] = optional_columns["sentence"].astype(np.uint16)
    return {
        "input": Ragged(tokens, offsets),
        "word_start": Ragged(word_start, offsets),
        **{name: Ragged(values, offsets) for name, values in optional_columns.items()},
        "document": document.astype(np.uint32),
    }
