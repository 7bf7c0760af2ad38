"""Converts between answers as character spans and scores of tokens in windows.

    characters of an answer  ──token_spans──►  tokens of the context  ──targets──►  positions in each window
    start and end scores [W, L]  ──answers──►  the n best spans of each context

A span's score is the start score of its first token plus the end score of its last one. The score of “no answer” is
that of position 0, [CLS], minimised over windows (Devlin et al. 2019, section 4.3).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged
from pipeline.downstream.question_answering.windows import Windows, is_counted

N_BEST, MOST_ANSWER_TOKENS = 20, 30
NOWHERE = -1
_AT_ONCE = 2048  # windows; bounds memory


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a context. start: number of its first character."""

    text: str
    start: int
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answers to a question.

    scores [n], characters [n, 2]: the n best spans of its context, best first. null_score: the score of “no answer”.
    """

    context: str
    scores: np.ndarray
    characters: np.ndarray
    null_score: float

    def answers(self) -> Iterator[Answer]:
        """The n best answers, best first, stripped of spaces; of equal texts only the best.

        Marks of the last character belong to it, though a tokenizer that strips accents has none of them in its token.
        """
        seen: set[str] = set()
        for score, (start, end) in zip(self.scores.tolist(), self.characters.tolist(), strict=True):
            while end < len(self.context) and unicodedata.category(self.context[end]).startswith("M"):
                end += 1
            text = self.context[start:end]
            stripped = text.strip()
            if stripped and stripped not in seen:
                seen.add(stripped)
                yield Answer(stripped, start + len(text) - len(text.lstrip()), score)

    @cached_property
    def best(self) -> Answer | None:
        """The best answer; None if the context is empty."""
        return next(self.answers(), None)

    @property
    def text(self) -> str:
        """The text of the best answer, or ""."""
        return self.best.text if self.best else ""

    @property
    def null_odds(self) -> float:
        """The score of “no answer” minus that of the best answer: higher where no answer is likelier."""
        return self.null_score - self.best.score if self.best else math.inf

    def above(self, threshold: float) -> str:
        """The best answer, or "" if `null_odds` is above the threshold."""
        return "" if self.null_odds > threshold else self.text


def token_spans(offsets: Ragged, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last token [N] that overlap the answer in each context; NOWHERE if none does.

    offsets: character spans of the tokens of each context [tokens, 2]. starts, ends [N]: the answer's characters, end
    exclusive; start −1 if there is no answer.
    """
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    characters = 2 + max(int(values.max(initial=0)) for values in (offsets.values, starts, ends))
    begins_at, ends_at = (np.maximum.accumulate(offsets.values[:, side]
        + characters * offsets.row_index()) for side in (0, 1))  # fmt: skip
    shift = characters * np.arange(len(offsets))  # one search for all contexts
    first = np.searchsorted(ends_at, starts + shift, side="right")
    last = np.searchsorted(begins_at, ends + shift, side="left") - 1
    is_inside = (starts >= 0) & (first <= last) & (first >= offsets.offsets[:-1]) & (last < offsets.offsets[1:])
    return tuple(np.where(is_inside, token - offsets.offsets[:-1], NOWHERE) for token in (first, last))  # type: ignore[return-value]


def targets(windows: Windows, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [W] of the answer's first and last token; 0, [CLS], in windows that do not contain all of it.

    first, last [N]: from `token_spans`.
    """
    begin, end = first[windows.example] - windows.first, last[windows.example] - windows.first
    inside = (first[windows.example] != NOWHERE) & (begin >= 0) & (end < windows.size)
    return np.where(inside, begin + windows.context_at, 0), np.where(inside, end + windows.context_at, 0)


def is_found(windows: Windows, starts: np.ndarray) -> np.ndarray:
    """Whether some window contains the whole answer [N]. starts [W]: from `targets`."""
    return np.maximum.reduceat(starts, windows.begins) > 0 if len(windows) else np.zeros(0, bool)


def answers(
    windows: Windows,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    offsets: Ragged,
    contexts: Sequence[str],
    n_best: int = N_BEST,
    max_tokens: int = MOST_ANSWER_TOKENS,
) -> list[Prediction]:
    """A prediction for each context.

    start_logits, end_logits: [W, L], L being at least the longest window. offsets: as for `token_spans`. Answers have 1
    to `max_tokens` tokens of the context; in the overlap of windows, one window counts (`is_counted`). UserError for
    scores that are nan or +inf.
    """
    for which, logits in (("start", start_logits), ("end", end_logits)):
        if (bad := np.isnan(logits) | np.isposinf(logits)).any():
            raise UserError(
                f"{np.count_nonzero(bad.any(1))} of {len(logits)} windows have {which} scores that are not finite: the "
                "network diverged; lower its learning rate."
            )
    if not len(windows):
        return []
    null_scores = np.minimum.reduceat(start_logits[:, 0].astype(np.float64) + end_logits[:, 0], windows.begins)
    counted = is_counted(windows, offsets, max_tokens)
    chunks = [slice(at, at + _AT_ONCE) for at in range(0, len(windows), _AT_ONCE)]
    best = [
        _best(windows, chunk, start_logits[chunk], end_logits[chunk], counted, n_best, max_tokens) for chunk in chunks
    ]
    scores, example, first, last = (np.concatenate(parts) for parts in zip(*best, strict=True))
    order = np.lexsort((last, first, -scores, example))
    scores, example, first, last = (values[order] for values in (scores, example, first, last))
    tokens = offsets.offsets[example]
    characters = np.stack([offsets.values[tokens + first, 0], offsets.values[tokens + last, 1]], axis=-1)
    begins = np.searchsorted(example, np.arange(len(contexts) + 1))
    ends = np.minimum(begins[:-1] + n_best, begins[1:])
    return [
        Prediction(context, scores[a:b], characters[a:b], null_score)
        for context, a, b, null_score in zip(contexts, begins[:-1], ends, null_scores.tolist(), strict=True)
    ]


def _best(
    windows: Windows,
    chunk: slice,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    counted: Ragged,
    n_best: int,
    max_tokens: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Score, context, first and last token of the n best spans of each window in a chunk.

    The n best spans start at the n positions whose best spans score highest, so only these are expanded.
    """
    example, begin, size = windows.example[chunk], windows.first[chunk], windows.size[chunk]
    at = windows.context_at[chunk][:, None]
    num_windows, length = start_logits.shape
    in_context = (np.arange(length) >= at) & (np.arange(length) < at + size[:, None])
    may_begin = np.zeros_like(in_context)
    may_begin[in_context] = counted.slice(chunk.start, chunk.start + num_windows).values
    start = np.where(may_begin, start_logits, -np.inf)
    end = np.full((num_windows, length + max_tokens - 1), -np.inf, start.dtype)
    end[:, :length] = np.where(in_context, end_logits, -np.inf)
    num_starts = min(n_best, length)
    starts = np.argpartition(-(start + _best_within(end, max_tokens, length)), num_starts - 1, axis=-1)[:, :num_starts]
    window = np.arange(num_windows)[:, None]
    pairs = start[window, starts][..., None] + end[window[..., None], starts[..., None] + np.arange(max_tokens)]
    pairs = pairs.reshape(num_windows, -1)
    num_pairs = min(n_best, pairs.shape[1])
    chosen = np.argpartition(-pairs, num_pairs - 1, axis=-1)[:, :num_pairs]
    scores = pairs[window, chosen]
    first = starts[window, chosen // max_tokens]
    last = first + chosen % max_tokens
    real = scores > -np.inf
    which, _ = np.nonzero(real)
    shift = (begin - windows.context_at[chunk])[which]
    return scores[real].astype(np.float64), example[which], first[real] + shift, last[real] + shift


def _best_within(values: np.ndarray, width: int, length: int) -> np.ndarray:
    """Sliding maximum [W, length] of `width` values, by doubling. values: [W, length + width − 1]."""
    best, covered = values, 1
    while 2 * covered <= width:
        best = np.maximum(best[:, :-covered], best[:, covered:])
        covered *= 2
    rest = width - covered
    return np.maximum(best[:, :length], best[:, rest : rest + length])
