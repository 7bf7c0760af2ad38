"""Long contexts in windows that overlap, each with its question before it (Devlin et al. 2019; as in `run_squad.py`).

    [CLS] question [SEP] context tokens 0 … 299   [SEP]
    [CLS] question [SEP] context tokens 172 … 471 [SEP]        window_overlap 128: of 300 tokens, 128 again
    [CLS] question [SEP] context tokens 344 … 370 [SEP]        the last is as long as what is left

BERT's `doc_stride` is the step from one window to the next, 172 here; other scripts call the overlap so.
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
    """Special tokens around a question and its context; what stands first is what “no answer” points at.

    question_segment, context_segment: token types, those of the special tokens behind each being its own.
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
    """W windows over N contexts, those of a context one after another; each context has one at least.

    example [W]: number of the context. first, size [W]: its tokens in the window are first … first + size − 1.
    context_at [W]: the position in the window of the first of them. question_size [N]: tokens of its question. overlap:
    tokens that a window has in common with the one before it.
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
        """[N]: the first window of each context."""
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

    Questions are cut to their first `max_question` tokens. An answer of at most `window_overlap` + 1 tokens is in some
    window as a whole. UserError where an overlap leaves no room to go on.
    """
    question_size = np.minimum(questions.lengths, max_question)
    room = length - len(frame) - question_size
    if room.size and room.min() <= window_overlap:
        longest = int(question_size.max())
        raise UserError(
            f"windows of {length} tokens, {longest} of them a question's and {len(frame)} special, have room for "
            f"{max(int(room.min()), 0)} of a context, so that with a window_overlap of {window_overlap} none begins "
            "behind another; lower window_overlap or raise length."
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
    """`input` and `segment` of each window, as networks of text read them."""
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
    """Tokens that all windows have: the values, and for each window where they begin and how many they are."""
    return np.array(tokens, np.uint32), np.zeros(count, np.int64), np.full(count, len(tokens))


def is_counted(windows: Windows, contexts: Ragged, max_answer: int) -> Ragged:
    """Of each context token of each window, whether answers that begin with it are taken from this window.

    They are from one alone: that in which the token has most context on its shorter side (of those that give it equally
    much the longest, of equally long ones the first), as in BERT's script. But a window that does not reach as far as
    an answer of `max_answer` tokens may is passed over if another one does; with an overlap of over twice as many
    tokens none is.
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
    first[token[candidates]] = candidates  # of several, the last that is written
    flat.values[first[token[candidates]]] = True
    return flat


def ranges(begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers begin … begin + size − 1 of each, one after another."""
    offsets = offsets_of(sizes)
    return np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], sizes)


def encoded(encodings: Sequence[Encoding]) -> tuple[Ragged, Ragged]:
    """Token ids, and for each token where it begins and ends in its text, in characters. Of texts without specials."""
    lengths = [len(encoding) for encoding in encodings]
    ids = np.fromiter((number for encoding in encodings for number in encoding.ids), np.uint32, sum(lengths))
    spans = [span for encoding in encodings for span in encoding.offsets]
    return Ragged.from_lengths(ids, lengths), Ragged.from_lengths(np.array(spans, np.int64).reshape(-1, 2), lengths)


def frame_of(tokenizer: Tokenizer) -> Frame:
    """The special tokens that a tokenizer puts around a pair. UserError if it begins with none of them."""
    pair = tokenizer.encode("a", "a")
    question, context = ([place for place, of in enumerate(pair.sequence_ids) if of == which] for which in (0, 1))
    if not question or not context or question[0] == 0 or context[0] < question[-1]:
        raise UserError(
            "a tokenizer that begins a question and its context with no special token gives “no answer” no place to "
            "point at; take a model with one, such as BERT's [CLS]."
        )
    return Frame(
        before=tuple(pair.ids[: question[0]]),
        between=tuple(pair.ids[question[-1] + 1 : context[0]]),
        after=tuple(pair.ids[context[-1] + 1 :]),
        question_segment=pair.type_ids[question[0]],
        context_segment=pair.type_ids[context[0]],
    )
