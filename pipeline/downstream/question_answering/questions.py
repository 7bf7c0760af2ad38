"""Questions about contexts as rows for a network, and its scores as answers.

questions = encode(examples, tokenizer, length=384, window_overlap=128)
questions.rows                                       # a row for each window: input, segment, start, end
questions.answers(start_logits, end_logits)          # a prediction for each example
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from data_prep.labelled.examples import Example
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged, Rows
from pipeline.downstream.counted import Counted
from pipeline.downstream.question_answering import spans
from pipeline.downstream.question_answering.windows import MOST_QUESTION_TOKENS, Windows, cut, encoded, frame_of, rows


@dataclass(frozen=True, eq=False)
class Questions:
    """Encoded examples.

    rows: of the windows, with the positions `start` and `end` [W] of the answer, 0 in windows without it. offsets: the
    character spans of context tokens. contexts: texts. truncated: number of questions that were too long.
    lost [N]: whether a question has answers, but none whose place is known and that shares a character with a token.
    not_whole: answers that no window contains as a whole. Rows treat these and the former as unanswerable.
    """

    rows: Rows
    windows: Windows
    offsets: Ragged
    contexts: Sequence[str]
    truncated: int
    lost: np.ndarray
    not_whole: int

    def __len__(self) -> int:
        return len(self.contexts)

    def answers(
        self,
        start_logits: np.ndarray,
        end_logits: np.ndarray,
        n_best: int = spans.N_BEST,
        max_tokens: int = spans.MOST_ANSWER_TOKENS,
    ) -> list[spans.Prediction]:
        """A prediction for each example, from scores of all windows [W, L]; see `spans.answers`."""
        return spans.answers(self.windows, start_logits, end_logits, self.offsets, self.contexts, n_best, max_tokens)

    def counted(self) -> list[Counted]:
        """What does not fit."""
        counts = (
            (self.truncated, "questions are too long and truncated"),
            (
                int(np.count_nonzero(self.lost)),
                "questions have answers that are not in their context, and are not learned",
            ),
            (self.not_whole, "questions have answers that no window has whole, learned as without one"),
        )
        return [Counted(count, len(self), problem) for count, problem in counts]


def encode(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    length: int,
    window_overlap: int,
    max_question: int = MOST_QUESTION_TOKENS,
) -> Questions:
    """Encode examples of the head `answer`: `text` is the context, `text_pair` the question.

    Of several accepted answers, the first whose place is known is learned. Questions are truncated to `max_question`
    tokens, or to fewer where these leave windows no room to go on. UserError if the tokenizer has no special token in
    front of a pair, or if `window_overlap` is too large for `length`.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    frame = frame_of(tokenizer)
    contexts = list(dict.fromkeys(example.text for example in examples))  # many questions have the same
    place = {context: number for number, context in enumerate(contexts)}
    with using_tokenizer():
        questions = tokenizer.encode_batch([example.text_pair or "" for example in examples], add_special_tokens=False)
        encodings = tokenizer.encode_batch(contexts, add_special_tokens=False)
    question_ids, _ = encoded(questions)
    of_example = np.array([place[example.text] for example in examples], np.int64)
    context_ids, offsets = (column.take(of_example) for column in encoded(encodings))
    most = max(1, min(max_question, length - len(frame) - window_overlap - 1))
    windows = cut(question_ids, context_ids, frame, length, window_overlap, most)

    learned = [next((answer for answer in example.answers if answer.start >= 0), None) for example in examples]
    begins = np.array([-1 if answer is None else answer.start for answer in learned], np.int64)
    ends = np.array([0 if answer is None else answer.start + len(answer.text) for answer in learned], np.int64)
    first, last = spans.token_spans(offsets, begins, ends)
    starts, stops = spans.targets(windows, first, last)
    answerable, has_tokens = np.array([bool(example.answers) for example in examples], bool), first != spans.NOWHERE
    return Questions(
        rows={**rows(windows, question_ids, context_ids, frame), "start": starts, "end": stops},
        windows=windows,
        offsets=offsets,
        contexts=[example.text for example in examples],
        truncated=int(np.count_nonzero(question_ids.lengths > most)),
        lost=answerable & ~has_tokens,
        not_whole=int(np.count_nonzero(has_tokens & ~spans.is_found(windows, starts))),
    )
