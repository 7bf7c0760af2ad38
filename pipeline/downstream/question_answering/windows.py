"""Long contexts are cut into overlapping windows, each with the question in front (Devlin et al. 2019, `run_squad.py`).

    [CLS] question [SEP] context tokens 0 … 299   [SEP]
    [CLS] question [SEP] context tokens 172 … 471 [SEP]        window_overlap 128: 128 of 300 tokens are repeated
    [CLS] question [SEP] context tokens 344 … 370 [SEP]        the last window is shorter

`doc_stride` is the step between windows in BERT, 172 here, but the overlap in other scripts; hence the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, offsets_of

MOST_QUESTION_TOKENS = 64
_WIDE = 1e6  # more than any number of tokens


@dataclass(frozen=True)
class Frame:
    """Special tokens around a question and its context; “no answer” points at the first of them.

    question_segment, context_segment: token types; special tokens have the type of what precedes them.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    question_segment: int = 0
    context_segment: int = 1

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True, eq=False)
class Windows:
    """W windows over N contexts, in the order of contexts; every context has at least one.

    example [W]: number of the context. first, size [W]: the window has its tokens first … first + size − 1. context_at
    [W]: position of the first of them in the window. question_size [N]: number of question tokens. overlap: number of
    context tokens shared with the previous window.
    """

    example: np.ndarray
    first: np.ndarray
    size: np.ndarray
    context_at: np.ndarray
    question_size: np.ndarray
    overlap: int

    def __len__(self) -> int:
        return len(self.example)

    @property
    def begins(self) -> np.ndarray:
        """The first window of each context [N]."""
        return np.searchsorted(self.example, np.arange(len(self.question_size)))


def cut(
    questions: Ragged,
    contexts: Ragged,
    frame: Frame,
    length: int,
    window_overlap: int,
    max_question: int = MOST_QUESTION_TOKENS,
) -> Windows:
    """Windows of at most `length` tokens, specials included. questions, contexts: token ids, without specials.

    Questions are truncated to `max_question` tokens. Every answer of up to `window_overlap` + 1 tokens is whole in some
    window. UserError if the overlap leaves no room to advance.
    """
    question_size = np.minimum(questions.lengths, max_question)
    room = length - len(frame) - question_size
    if room.size and room.min() <= window_overlap:
        longest = int(question_size.max())
        raise UserError(
            f"windows of {length} tokens with {longest} of a question and {len(frame)} special ones have room for "
            f"{max(int(room.min()), 0)} of the context, which must be more than the window_overlap of "
            f"{window_overlap}; lower window_overlap or raise length."
        )
    step = room - window_overlap
    beyond = np.maximum(contexts.lengths - room, 0)
    num_windows = 1 + -(-beyond // step)
    example = np.repeat(np.arange(len(contexts)), num_windows)
    first = step[example] * (np.arange(len(example)) - offsets_of(num_windows)[example])
    size = np.minimum(room[example], contexts.lengths[example] - first)
    context_at = len(frame.before) + len(frame.between) + question_size[example]
    return Windows(example, first, size, context_at, question_size, window_overlap)


def rows(windows: Windows, questions: Ragged, contexts: Ragged, frame: Frame) -> Rows:
    """The `input` and `segment` columns of the windows, as text networks read them."""
    question_size = windows.question_size[windows.example]
    lengths = windows.context_at + windows.size + len(frame.after)
    offsets = offsets_of(lengths)
    ids, segment = np.empty(offsets[-1], np.uint32), np.empty(offsets[-1], np.uint8)
    segments = frame.question_segment, frame.question_segment, frame.question_segment, *(frame.context_segment,) * 2
    parts = [
        _special(frame.before, len(windows)),
        (questions.values, questions.offsets[:-1][windows.example], question_size),
        _special(frame.between, len(windows)),
        (contexts.values, contexts.offsets[:-1][windows.example] + windows.first, windows.size),
        _special(frame.after, len(windows)),
    ]
    at = offsets[:-1]
    for (values, begins, sizes), of_part in zip(parts, segments, strict=True):
        places = ranges(at, sizes)
        ids[places], segment[places] = values[ranges(begins, sizes)], of_part
        at = at + sizes
    return {"input": Ragged(ids, offsets), "segment": Ragged(segment, offsets)}


def _special(tokens: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens that every window has: values, and for each window where they begin and how many there are."""
    return np.array(tokens, np.uint32), np.zeros(count, np.int64), np.full(count, len(tokens))


def is_counted(windows: Windows, contexts: Ragged, max_answer: int) -> Ragged:
    """For each context token of each window, whether answers that start with it are taken from this window.

    As in BERT's script, this is so in one window only: where the token has the most context on its shorter side (ties:
    the longer window, then the first). Unlike there, windows that end before an answer of `max_answer` tokens would are
    avoided if possible; with an overlap of more than twice as many tokens, this makes no difference.
    """
    size = np.repeat(windows.size, windows.size)
    flat = Ragged.from_lengths(np.zeros(len(size), bool), windows.size)
    place = flat.positions()
    behind = size - 1 - place
    left = np.repeat(contexts.lengths[windows.example] - windows.first, windows.size) - 1 - place
    is_wide = behind >= np.minimum(left, min(max_answer, windows.overlap + 1) - 1)
    context = np.minimum(place, behind) + 0.01 * size + np.where(is_wide, _WIDE, 0.0)
    token = ranges(contexts.offsets[:-1][windows.example] + windows.first, windows.size)
    most = np.full(len(contexts.values), -1.0)
    np.maximum.at(most, token, context)
    candidates = np.flatnonzero(context == most[token])[::-1]
    first = np.empty(len(most), np.int64)
    first[token[candidates]] = candidates  # duplicates: the last one written stays
    flat.values[first[token[candidates]]] = True
    return flat


def asked_once(windows: Windows, contexts: Ragged, wanted: np.ndarray) -> tuple[Ragged, np.ndarray]:
    """Where each wanted token is asked about: in the one window with the most context around it (`is_counted`).

    wanted: [N] bool, of the tokens of all contexts. Returns positions in the windows' rows, and of each the number of
    its token.
    """
    token = Ragged.from_lengths(
        ranges(contexts.offsets[:-1][windows.example] + windows.first, windows.size), windows.size
    )
    asked = is_counted(windows, contexts, 1).values & wanted[token.values]
    position = token.positions() + np.repeat(windows.context_at, windows.size)
    lengths = np.bincount(token.row_index()[asked], minlength=len(windows))
    return Ragged.from_lengths(position[asked], lengths), token.values[asked]


def ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The concatenated ranges begin … begin + size − 1."""
    offsets = offsets_of(sizes)
    return np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], sizes)


def encoded(encodings: Sequence[Encoding]) -> tuple[Ragged, Ragged]:
    """Token ids, and the character span of each token in its text. For texts encoded without special tokens."""
    lengths = [len(encoding) for encoding in encodings]
    ids = np.fromiter((number for encoding in encodings for number in encoding.ids), np.uint32, sum(lengths))
    spans = [span for encoding in encodings for span in encoding.offsets]
    return Ragged.from_lengths(ids, lengths), Ragged.from_lengths(np.array(spans, np.int64).reshape(-1, 2), lengths)


def frame_of(tokenizer: Tokenizer) -> Frame:
    """The special tokens that a tokenizer puts around a pair. UserError if there is none in front."""
    pair = tokenizer.encode("a", "a")
    question, context = ([place for place, of in enumerate(pair.sequence_ids) if of == which] for which in (0, 1))
    if not question or not context or question[0] == 0 or context[0] < question[-1]:
        raise UserError(
            "the tokenizer puts no special token in front of a pair, which “no answer” could point at; use a model "
            "with one, such as BERT's [CLS]."
        )
    return Frame(
        before=tuple(pair.ids[: question[0]]),
        between=tuple(pair.ids[question[-1] + 1 : context[0]]),
        after=tuple(pair.ids[context[-1] + 1 :]),
        question_segment=pair.type_ids[question[0]],
        context_segment=pair.type_ids[context[0]],
    )
