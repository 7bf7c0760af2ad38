"""What is learned from an example, by the head: rows for a network, and answers from its scores.

    examples ─encode─► rows (several of a long one) ─► network ─► scores ─predicted─► an answer to each example

`HEADS` names the module of each. A module has

    outputs      shape ↦ how many scores the network has at a place
    encode       (shape, examples, what `tokenizer_of` gives, layout) ↦ `Encoded`
    predicted    (shape, `Encoded`, scores) ↦ `Predicted`
    fitted       (shape, `Encoded`, scores) ↦ the shape with what validation rows choose; of heads where they choose
    told         (shape, example, answer) ↦ what is told of an answer, by name; of heads whose answers are not told as
                 they are
    of_examples  (`Encoded`, scores) ↦ scores of each example; of heads that average those of several rows of one
    AT_ONCE      how many examples are encoded together where a network is asked; of heads with large ones

and imports no torch. A network that writes has one module for all heads: what it scores are the ids that it wrote.
`OF_FILES` names the modules of examples that are files, whatever their kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, processors

from data_prep.kinds import kind_of
from data_prep.labelled.examples import TEXT, Example, Head, Labelled
from data_prep.labelled.text_to_text import step_of, unreadable_score
from data_prep.opening.files import read_json
from data_prep.shards.rows import Ragged, Rows, num_rows, ragged, take
from data_prep.tokens import pretrained
from data_prep.tokens.roles import ends_of, roles_of, specials_of
from pipeline.downstream.counted import Counted, said, summed
from training.models.text.architectures import architecture_in

_ROOM = "pipeline.downstream.fine_tune.heads"
HEADS: dict[Head, str] = {
    "class": f"{_ROOM}.rows",
    "score": f"{_ROOM}.rows",
    "tags": f"{_ROOM}.words",
    "choice": f"{_ROOM}.choices",
    "answer": f"{_ROOM}.answers",
    "text": f"{_ROOM}.texts",
}

OF_FILES: dict[Head, str] = {
    "class": f"{_ROOM}.arrays",
    "score": f"{_ROOM}.arrays",
    "tags": f"{_ROOM}.segments",
    "choice": f"{_ROOM}.array_choices",
    "answer": f"{_ROOM}.spans",
}


@dataclass(frozen=True)
class Shape:
    """What answers can be. scale: mean and standard deviation of training's scores, in which scores are learned.
    unanswerable: whether some question of training has no answer. written: whether answers are written as texts.
    threshold: “no answer” is said where its score is above that of the best answer by more than this. prompt: how a
    network that writes is given a `question` about a `context`; empty: as T5 was. kind: of data in examples. step: in
    which scores are written. unreadable: the score of a written text that is no number. outside: the label of what is
    in no segment; empty: there is none. smoothing: positions over which the probabilities of labels are averaged.
    paired: whether examples are of several files that are read one by one, the first compared with the others."""

    head: Head
    labels: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.0, 1.0)
    unanswerable: bool = False
    written: bool = False
    threshold: float = 0.0
    prompt: str = ""
    kind: str = TEXT
    step: float = 0.2
    unreadable: float = -1.0
    outside: str = ""
    smoothing: int = 1
    paired: bool = False


def shape_of(
    data: Labelled,
    written: bool = False,
    prompt: str = "",
    learned: Sequence[Example] | None = None,
    step: float | None = None,
) -> Shape:
    """The shape of a data set's answers. learned: the examples that are learned from; None: all of train. step: that of
    written scores; None: `step_of` all scores of train."""
    train, scale = data.splits["train"] if learned is None else learned, (0.0, 1.0)
    if data.head == "score":
        scores = np.array([example.score for example in train if example.score is not None])
        scale = (float(scores.mean()), float(scores.std()) or 1.0)
    unanswerable = data.head == "answer" and any(not example.answers for example in train)
    shape = Shape(
        data.head,
        tuple(data.labels),
        scale,
        unanswerable,
        written or data.head == "text",
        prompt=prompt,
        kind=data.kind,
        outside=data.outside,
        paired=data.head != "answer" and any(len(example.files) > 1 for example in data.splits["train"]),
    )
    if not (shape.written and data.head == "score"):
        return shape
    scores = [example.score for example in data.splits["train"] if example.score is not None]
    step = step_of(scores) if step is None else step
    return replace(shape, step=step, unreadable=unreadable_score(scores, step))


@dataclass(frozen=True)
class Layout:
    """How examples become rows. length: most tokens, specials included, or most frames. window_overlap: tokens that
    windows of what is longer have in common."""

    length: int
    window_overlap: int
    max_question: int = 64
    max_answer: int = 30


@dataclass(frozen=True)
class Encoded:
    """Rows of examples. counted: what of them is in no row. more: what `predicted` needs besides. teaches: which rows
    can be learned from, [rows] bool; None: all. Of `target_ids`, those below 0 are not known."""

    rows: Rows
    examples: Sequence[Example]
    counted: Sequence[Counted] = ()
    more: dict[str, Any] = field(default_factory=dict)
    teaches: np.ndarray | None = None

    @property
    def remarks(self) -> list[str]:
        """What was counted, in sentences, if there is any."""
        return said(self.counted)

    def __len__(self) -> int:
        return num_rows(self.rows)

    def learnable(self) -> Rows:
        """The rows that can be learned from."""
        return _with_known_targets(self.rows if self.teaches is None else self.take(np.flatnonzero(self.teaches)))

    def take(self, index: np.ndarray) -> Rows:
        return take(self.rows, index)


def _with_known_targets(rows: Rows) -> Rows:
    if "target_ids" not in rows or (is_known := ragged(rows, "target_ids").values >= 0).all():
        return rows
    columns = {name: ragged(rows, name) for name in ("target_positions", "target_ids")}
    lengths = np.bincount(columns["target_ids"].row_index()[is_known], minlength=num_rows(rows))
    known = {name: Ragged.from_lengths(column.values[is_known], lengths) for name, column in columns.items()}
    return rows | known


class Span(NamedTuple):
    """A part of a context. start: its first character; None: “no answer”, whose text is "". score: its share of the
    probability of all parts that are listed with it."""

    text: str
    start: int | None
    score: float


@dataclass(frozen=True)
class Predicted:
    """Answers to examples, as `labelled_scores` has them, and how sure the network is of each: 0 to 1, or None.

    invalid: how many written texts are no answer. counted: what of the examples was not read, where that is told.
    n_best: of questions about contexts the best answers to each, best first. null_odds: where they may have none, by
    how much the score of “no answer” is above that of the best one.
    """

    answers: list[Any]
    scores: list[float | None]
    invalid: int = 0
    counted: Sequence[Counted] = ()
    n_best: list[list[Span]] = field(default_factory=list)
    null_odds: list[float] = field(default_factory=list)


def joined(parts: Iterable[Predicted]) -> Predicted:
    """What was predicted for some examples after others."""
    parts = list(parts)
    return Predicted(
        [answer for part in parts for answer in part.answers],
        [score for part in parts for score in part.scores],
        sum(part.invalid for part in parts),
        summed(counted for part in parts for counted in part.counted),
        [spans for part in parts for spans in part.n_best],
        [odds for part in parts for odds in part.null_odds],
    )


def module_of(shape: Shape) -> Any:
    """The module for a shape's answers."""
    if shape.kind != TEXT:
        return import_module(OF_FILES[shape.head])
    return import_module(HEADS["text" if shape.written else shape.head])


def tokenizer_of(shape: Shape, folder: Path, framed: bool) -> Any:
    """The tokenizer of a network; of one that writes, its `texts.Spelling`; of one that reads files, what makes arrays
    of them (`Kind.file_reader`).

    framed: where it does not frame texts itself, rows are [BOS] A [EOS], or [BOS] A [EOS] B [EOS].
    """
    if shape.kind != TEXT:
        return kind_of(shape.kind).file_reader(folder)
    tokenizer, settings = pretrained.read(folder)
    if shape.written:
        from pipeline.downstream.fine_tune.heads.texts import spelling

        begin, end = ends_of(specials_of(tokenizer, settings))
        two_stacks = architecture_in(read_json(folder / "config.json")).encoder_decoder
        return spelling(tokenizer, begin, end, two_stacks, folder)
    if framed and not tokenizer.num_special_tokens_to_add(False):
        _frame(tokenizer, settings)
    return tokenizer


def _frame(tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Let a tokenizer put its special tokens around texts, as far as it has them."""
    roles = roles_of(tokenizer, settings)
    bos, eos = roles.get("bos", ""), roles.get("eos", "")
    bos = "" if bos == eos else f"{bos} "
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos}$A {eos}".strip(),
        pair=f"{bos}$A {eos} $B {eos}".strip(),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in {bos.strip(), eos} - {""}],
    )


def logistic(odds: float) -> float:
    """The probability of log odds."""
    return float(1 / (1 + np.exp(-odds))) if odds > 0 else float(np.exp(odds) / (1 + np.exp(odds)))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [M, K] of scores [M, K]."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
