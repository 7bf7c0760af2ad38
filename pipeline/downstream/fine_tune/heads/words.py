"""A label for each word: its first piece carries it (BERT, section 5.3).

A sentence that does not fit into a row is cut into windows that overlap, and a word's label is taken from the window in
which most stands around it, so that every word has one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders

from data_prep.labelled.examples import Example
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged
from data_prep.tokens.cleaning import without_cleaning
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape, softmax
from pipeline.downstream.question_answering.windows import Frame, asked_once, cut, rows

OUTSIDE = "O"  # the tag of words that carry none


def outputs(shape: Shape) -> int:
    return len(shape.labels)


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Tokenizer, layout: Layout) -> Encoded:
    tokenizer.no_truncation()
    sentences = [list(example.words) for example in examples]
    if isinstance(tokenizer.decoder, decoders.ByteLevel):  # the blank before a word is a part of it, as in a text
        tokenizer.normalizer = without_cleaning(tokenizer).normalizer
        sentences = [[f" {word}" if place else word for place, word in enumerate(words)] for words in sentences]
    frame = _frame_of(tokenizer)
    with using_tokenizer():
        encodings = tokenizer.encode_batch(sentences, is_pretokenized=True, add_special_tokens=False)
    ids = Ragged.from_rows([encoding.ids for encoding in encodings], np.uint32)
    word = Ragged.from_rows([_words(encoding) for encoding in encodings], np.int64)
    none = Ragged.from_rows([[] for _ in examples], np.uint32, ())
    windows = cut(none, ids, frame, layout.length, min(layout.window_overlap, layout.length - len(frame) - 1))
    of_rows = rows(windows, none, ids, frame)
    is_first = word.positions() == 0
    is_first[1:] |= (np.diff(word.values) != 0) | (np.diff(word.row_index()) != 0)
    positions, token = asked_once(windows, ids, is_first)
    starts = np.concatenate([[0], np.cumsum([len(words) for words in sentences])])
    number = starts[word.row_index()[token]] + word.values[token]
    tags = np.concatenate([np.array(example.tags or (0,) * len(example.words), np.int64) for example in examples])
    of_rows["target_positions"] = positions
    of_rows["target_ids"] = Ragged.from_lengths(tags[number], positions.lengths)
    unread = Counted(len(tags) - len(number), len(tags), "words have no piece, and no label is asked for them")
    return Encoded(of_rows, examples, [unread], {"word": number})


def _words(encoding: Encoding) -> list[int]:
    return [number for number in encoding.word_ids if number is not None]


def _frame_of(tokenizer: Tokenizer) -> Frame:
    """The special tokens around one text."""
    encoding = tokenizer.encode("a")
    own = [place for place, of in enumerate(encoding.sequence_ids) if of is not None]
    first, last = (own[0], own[-1] + 1) if own else (len(encoding.ids), len(encoding.ids))
    segment = encoding.type_ids[0] if encoding.type_ids else 0
    return Frame(tuple(encoding.ids[:first]), (), tuple(encoding.ids[last:]), segment, segment)


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Words without a piece, such as invisible ones, are outside of everything, or have the first label."""
    shares = softmax(scores.values.astype(np.float64))
    lengths = [len(example.words) for example in encoded.examples]
    tags = np.full(sum(lengths), shape.labels.index(OUTSIDE) if OUTSIDE in shape.labels else 0)
    sure = np.ones(len(tags))
    tags[encoded.more["word"]], sure[encoded.more["word"]] = shares.argmax(-1), shares.max(-1)
    of_examples, sures = (Ragged.from_lengths(values, lengths) for values in (tags, sure))
    answers = [of_examples.row(row).tolist() for row in range(len(lengths))]
    return Predicted(answers, [float(sures.row(row).mean()) for row in range(len(lengths))])
