"""From labelled questions to rows and back to answers, with tokenizers as they are in use."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from data_prep.labelled.examples import Answer, Example
from data_prep.shards.rows import ragged
from pipeline.downstream.counted import said
from pipeline.downstream.metrics import scores
from pipeline.downstream.question_answering.questions import Questions, encode

CONTEXT = "Élan, the café of Mrs. O'Neill, opened in 1998;  it was sold for $3,000 to the city. " * 3
CHINESE = "北京大學（簡稱北大）創建於1898年，位於 Beijing 的海淀區。👩‍🔬" * 3


def answer(context: str, text: str, nth: int = 0) -> Answer:
    start = -1
    for _ in range(nth + 1):
        start = context.index(text, start + 1)
    return Answer(text, start)


EXAMPLES = [
    Example(CONTEXT, text_pair="Who?", answers=(answer(CONTEXT, "Mrs. O'Neill", 2),), id="1"),
    Example(CONTEXT, text_pair="When was it opened?", answers=(answer(CONTEXT, "1998", 1),), id="2"),
    Example(CONTEXT, text_pair="For how much?", answers=(Answer("3000"), answer(CONTEXT, "$3,000")), id="3"),
    Example(CONTEXT, text_pair="Why?", id="4"),
    Example(CHINESE, text_pair="何時？", answers=(answer(CHINESE, "1898年", 1),), id="5"),
    Example(CHINESE, text_pair="誰？", answers=(answer(CHINESE, "👩‍🔬", 2),), id="6"),
]


def wordpiece() -> Tokenizer:
    """Lower-cases and strips accents, as BERT's does."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    made.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    return _trained(made, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]", "[SEP]"]))


def byte_level() -> Tokenizer:
    """Has several tokens for one character."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(
        made, trainers.BpeTrainer(vocab_size=300, special_tokens=["[CLS]", "[SEP]"], initial_alphabet=alphabet)
    )


def metaspace() -> Tokenizer:
    """Blanks are parts of words, as in SentencePiece."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    return _trained(
        made, trainers.UnigramTrainer(vocab_size=150, special_tokens=["[UNK]", "[CLS]", "[SEP]"], unk_token="[UNK]")
    )


def _trained(made: Tokenizer, trainer) -> Tokenizer:
    trainer.show_progress = False
    made.train_from_iterator([CONTEXT, CHINESE], trainer)
    special = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return made


TOKENIZERS = {"wordpiece": wordpiece, "byte-level": byte_level, "metaspace": metaspace}


def oracle(questions: Questions) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a network that knows the targets."""
    length = int(ragged(questions.rows, "input").lengths.max())
    return tuple(9.0 * (np.arange(length) == questions.rows[name][:, None]) for name in ("start", "end"))  # type: ignore[index,return-value]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_the_rows_say_comes_back_as_answers(kind: str) -> None:
    questions = encode(EXAMPLES, TOKENIZERS[kind](), length=60, window_overlap=20)
    made = questions.answers(*oracle(questions))
    for prediction, example in zip(made, EXAMPLES, strict=True):
        assert prediction.text in example.text
        for right in example.answers:
            assert right.start < 0 or right.text.strip("$.") in prediction.above(0), example.id
    assert made[3].above(0) == "" and made[3].null_odds > 0, "it has no answer"
    golds = [[right.text for right in example.answers] for example in EXAMPLES[:3]]
    values = scores(["squad"], "answer", golds, [prediction.above(0) for prediction in made[:3]])
    assert values["f1"] > 80, "pieces of words may bring a comma along, which is not compared"
    assert (questions.truncated, questions.lost.any(), questions.not_whole) == (0, False, 0)
    assert said(questions.counted()) == [] and len(questions) == 6


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_rows_are_those_of_the_tokenizer(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding()
    questions = encode(EXAMPLES, tokenizer, length=500, window_overlap=20)
    assert len(questions.windows) == len(EXAMPLES)
    for place, example in enumerate(EXAMPLES):
        whole = tokenizer.encode(example.text_pair, example.text)
        assert ragged(questions.rows, "input").row(place).tolist() == whole.ids
        assert ragged(questions.rows, "segment").row(place).tolist() == whole.type_ids
        start, end = (int(questions.rows[name][place]) for name in ("start", "end"))  # type: ignore[call-overload]
        if example.answers:
            text = example.text[whole.offsets[start][0] : whole.offsets[end][1]]
            assert example.answers[-1].text.strip("$.") in text


def test_what_does_not_fit_is_counted() -> None:
    long = Example(CONTEXT, text_pair="why " * 20, answers=(answer(CONTEXT, CONTEXT[:120]),), id="1")
    lost = Example(CONTEXT, text_pair="Who?", answers=(Answer("Nobody"),), id="2")
    blank = Example("a  b", text_pair="Who?", answers=(Answer(" ", 1),), id="3")
    questions = encode([long, lost, blank], wordpiece(), length=40, window_overlap=8, max_question=12)
    assert said(questions.counted()) == [
        "1 of 3 questions are too long and truncated",
        "2 of 3 questions have answers that are not in their context, and are not learned",
        "1 of 3 questions have answers that no window has whole, learned as without one",
    ]
    assert questions.lost.tolist() == [False, True, True]
    assert not np.any(questions.rows["start"]) and not np.any(questions.rows["end"])  # type: ignore[arg-type]


def test_a_question_that_leaves_its_context_no_room_is_cut_and_counted() -> None:
    """Whoever set no overlap is not told of one, and one long question does not end a job."""
    asked = [Example(CONTEXT, text_pair="why " * 30, id="1"), Example(CONTEXT, text_pair="Who?", id="2")]
    questions = encode(asked, wordpiece(), length=24, window_overlap=8)
    assert said(questions.counted()) == ["1 of 2 questions are too long and truncated"]
    assert ragged(questions.rows, "input").lengths.max() == 24 and questions.windows.question_size[0] == 24 - 3 - 8 - 1


def test_no_examples_are_no_windows() -> None:
    questions = encode([], wordpiece(), length=40, window_overlap=8)
    assert len(questions) == 0 and questions.answers(np.zeros((0, 1)), np.zeros((0, 1))) == []
