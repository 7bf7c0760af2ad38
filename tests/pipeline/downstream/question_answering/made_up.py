"""Contexts and questions that are made up: tokens anywhere in a text, as tokenizers place them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from data_prep.shards.rows import Ragged
from pipeline.downstream.question_answering.windows import Frame, Windows, cut

FRAME = Frame((101,), (102,), (102,))


@dataclass(frozen=True)
class MadeUp:
    """Some questions, in windows of `length`."""

    questions: Ragged
    contexts: Ragged
    offsets: Ragged
    texts: list[str]
    length: int
    overlap: int

    def windows(self) -> Windows:
        return cut(self.questions, self.contexts, FRAME, self.length, self.overlap, max_question=6)


@st.composite
def made_up(draw: st.DrawFn, least_tokens: int = 0) -> MadeUp:
    """Tokens are of 0 to 3 characters, 0 to 2 apart; several may be parts of one character, as bytes are."""
    overlap = draw(st.integers(0, 6))
    length = 6 + len(FRAME) + overlap + draw(st.integers(1, 6))
    token = st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([1, 1, 1, 2, 3]))
    offsets, texts, sizes = [], [], draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    for _ in sizes:
        spans, at = [], 0
        for gap, width, repeats in draw(st.lists(token, min_size=least_tokens, max_size=30)):
            spans += [(at + gap, at + gap + width)] * repeats
            at += gap + width
        offsets.append(np.array(spans, np.int64).reshape(-1, 2))
        letters = draw(st.text("ab 京\n", min_size=at + 1, max_size=at + 3))
        texts.append(letters)
    of_tokens = Ragged.from_rows(offsets, np.int64, (2,))
    contexts = Ragged(np.arange(len(of_tokens.values), dtype=np.uint32) + 1000, of_tokens.offsets)
    questions = Ragged.from_rows([np.arange(size) + 10 for size in sizes], np.uint32)
    return MadeUp(questions, contexts, of_tokens, texts, length, overlap)
