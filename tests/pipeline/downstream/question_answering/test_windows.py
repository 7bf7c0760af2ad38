"""Windows: nothing of a context is lost, and the rows are what a plain loop makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, ragged
from pipeline.downstream.question_answering.windows import Frame, cut, encoded, frame_of, is_counted, rows
from tests.pipeline.downstream.question_answering.made_up import FRAME, MadeUp, made_up


@settings(max_examples=60, deadline=None)
@given(made_up())
def test_windows_are_those_of_a_plain_loop(data: MadeUp) -> None:
    expected = []
    for question, context in zip(data.questions.lengths, data.contexts.lengths, strict=True):
        room, begin = data.length - len(FRAME) - min(question, 6), 0
        while True:
            size = min(room, context - begin)
            expected.append((begin, size))
            if begin + size == context:
                break
            begin += room - data.overlap
    windows = data.windows()
    assert list(zip(windows.first, windows.size, strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(made_up())
def test_rows_have_the_question_and_a_part_of_the_context(data: MadeUp) -> None:
    windows = data.windows()
    made = rows(windows, data.questions, data.contexts, FRAME)
    ids, segment = ragged(made, "input"), ragged(made, "segment")
    for place in range(len(windows)):
        question = data.questions.row(windows.example[place])[:6].tolist()
        context = data.contexts.row(windows.example[place]).tolist()
        part = context[windows.first[place] : windows.first[place] + windows.size[place]]
        assert ids.row(place).tolist() == [101, *question, 102, *part, 102]
        assert segment.row(place).tolist() == [0] * (len(question) + 2) + [1] * (len(part) + 1)
        assert len(ids.row(place)) <= data.length
        assert not part or ids.row(place)[windows.context_at[place]] == part[0]


@settings(max_examples=60, deadline=None)
@given(made_up())
def test_every_token_is_in_a_window_and_counts_in_one(data: MadeUp) -> None:
    windows = data.windows()
    counted = is_counted(windows, data.contexts, 30)
    times = [np.zeros(length, int) for length in data.contexts.lengths]
    for place in range(len(windows)):
        tokens = windows.first[place] + np.flatnonzero(counted.row(place))
        times[windows.example[place]][tokens] += 1
    assert all((once == 1).all() for once in times)


def test_a_token_counts_where_it_has_most_context() -> None:
    """As in BERT's script: windows of 10 tokens, 6 of them again; answers of 3 tokens pass no window over."""
    windows = cut(Ragged.from_rows([[7]], np.uint32), Ragged.from_rows([np.arange(16)], np.uint32), FRAME, 14, 6)
    assert windows.first.tolist() == [0, 4, 8] and windows.size.tolist() == [10, 10, 8]
    counted = is_counted(windows, Ragged.from_rows([np.arange(16)]), 3)
    chosen = [(windows.first[place] + np.flatnonzero(counted.row(place))).tolist() for place in range(3)]
    assert chosen == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14, 15]]
    longer = is_counted(windows, Ragged.from_rows([np.arange(16)]), 6)
    chosen = [(windows.first[place] + np.flatnonzero(longer.row(place))).tolist() for place in range(3)]
    assert chosen == [[0, 1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15]], "six tokens on, the window ends"


def test_an_overlap_that_leaves_no_room_is_refused() -> None:
    question, context = Ragged.from_rows([np.arange(100)], np.uint32), Ragged.from_rows([np.arange(9)], np.uint32)
    with pytest.raises(UserError, match="of 100 tokens with 64 of a question and 3 special ones have room for 33 of"):
        cut(question, context, FRAME, 100, 33)
    assert cut(question, context, FRAME, 100, 32).size.tolist() == [9]
    with pytest.raises(UserError, match="have room for 0 of the context"):
        cut(question, context, FRAME, 20, 0)


def test_a_context_without_tokens_has_a_window_and_no_context_none() -> None:
    nothing = Ragged.from_rows([[]], np.uint32)
    assert cut(Ragged.from_rows([[1, 2]], np.uint32), nothing, FRAME, 20, 4).size.tolist() == [0]
    none = Ragged(np.zeros(0, np.uint32), np.zeros(1, np.int64))
    assert len(cut(none, none, FRAME, 20, 4)) == 0


# -- tokenizers -------------------------------------------------------------------------------------------------------


def tokenizer(pair: str, single: str = "$A") -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "who": 1, "he": 2, "<s>": 3, "</s>": 4}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=single, pair=pair, special_tokens=[("<s>", 3), ("</s>", 4)]
    )
    return made


@pytest.mark.parametrize(
    ("pair", "frame"),
    [
        ("<s> $A </s> $B:1 </s>:1", Frame((3,), (4,), (4,))),
        ("<s> $A </s> </s> $B </s>", Frame((3,), (4, 4), (4,), 0, 0)),
        ("<s> $A $B:1", Frame((3,), (), ())),
    ],
)
def test_rows_are_what_the_tokenizer_itself_makes(pair: str, frame: Frame) -> None:
    made = tokenizer(pair)
    assert frame_of(made) == frame
    question, _ = encoded(made.encode_batch(["who"], add_special_tokens=False))
    context, offsets = encoded(made.encode_batch(["he who she"], add_special_tokens=False))
    assert offsets.row(0).tolist() == [[0, 2], [3, 6], [7, 10]]
    row = rows(cut(question, context, frame, 20, 4), question, context, frame)
    whole = made.encode("who", "he who she")
    assert ragged(row, "input").row(0).tolist() == whole.ids
    assert ragged(row, "segment").row(0).tolist() == whole.type_ids


@pytest.mark.parametrize("pair", ["$A $B", "$A </s> $B </s>"])
def test_a_tokenizer_that_begins_with_no_special_token_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match="puts no special token in front of a pair"):
        frame_of(tokenizer(pair))
