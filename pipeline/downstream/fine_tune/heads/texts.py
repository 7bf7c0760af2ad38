"""A text written after another one: labels, numbers and answers by their names, too (Raffel et al. 2020, section 2.4).

class    its text ─► the label's name; a text that is no label's name is wrong
score    its text ─► the number, rounded to multiples of a step, halves to even; a text that is no number is a score
         below all of train
answer   the prompt, or "question: … context: …" with spaces around punctuation ─► the first answer, or nothing
text     its text ─► the target
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.task import filled
from data_prep.labelled.text_to_text import CONTEXT, QUESTION, as_in, question, spaced, written_score
from data_prep.opening.pretrained import using_tokenizer
from data_prep.shards.rows import Ragged, Rows
from pipeline.downstream.counted import Counted
from pipeline.downstream.fine_tune.heads import Encoded, Layout, Predicted, Shape


@dataclass(frozen=True)
class Spelling:
    """How a network is given texts. begin: the id before a source, where its tokenizer does not frame sources. end: the
    id that ends what is written. parts: what stands between a source and its text, of decoders."""

    tokenizer: Tokenizer
    end: int
    begin: int | None = None
    framed: bool = True
    parts: str = ""

    def sources(self, texts: Sequence[str], most: int) -> tuple[list[list[int]], int]:
        """Ids of sources, and how many are cut."""
        begin = [] if self.framed or self.begin is None else [self.begin]
        self.tokenizer.enable_truncation(most - len(begin))
        with using_tokenizer():
            encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=self.framed)
        return [begin + each.ids for each in encodings], sum(bool(each.overflowing) for each in encodings)

    def targets(self, texts: Sequence[str], most: int) -> tuple[list[list[int]], int]:
        """Ids of texts to write, and how many are cut."""
        self.tokenizer.no_truncation()
        with using_tokenizer():
            encodings = self.tokenizer.encode_batch(
                [f"{self.parts}{text}" if text else "" for text in texts], add_special_tokens=False
            )
        ids = [each.ids for each in encodings]
        return [[*each[: most - 1], self.end] for each in ids], sum(len(each) >= most for each in ids)

    def texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """What was written."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(each) for each in ids])]


def spelling(tokenizer: Tokenizer, begin: int | None, end: int | None, two_stacks: bool, folder: Path) -> Spelling:
    """The spelling of the network of a folder. UserError where no token ends a text."""
    if end is None:
        raise UserError(f"{folder}: its tokenizer has no token that ends a text; name a network whose tokenizer has.")
    return Spelling(tokenizer, end, begin, framed=two_stacks, parts="" if two_stacks else " ")


def outputs(shape: Shape) -> int:
    """Scores at a place: none, for ids are written."""
    return 0


def encode(shape: Shape, examples: Sequence[Example], tokenizer: Spelling, layout: Layout) -> Encoded:
    sources, cut = tokenizer.sources([source_of(shape, example) for example in examples], layout.length)
    targets, cut_targets = tokenizer.targets([target_of(shape, example) for example in examples], layout.max_answer)
    rows: Rows = {"input": Ragged.from_rows(sources, np.uint32), "target_tokens": Ragged.from_rows(targets, np.uint32)}
    counted = [
        Counted(cut, len(examples), f"rows have over {layout.length} tokens and are cut"),
        Counted(cut_targets, len(examples), f"texts to write have over {layout.max_answer} tokens and are cut"),
    ]
    return Encoded(rows, examples, counted, {"spelling": tokenizer})


def source_of(shape: Shape, example: Example) -> str:
    """What the network is given."""
    if shape.head == "answer":
        texts = {CONTEXT: example.text, QUESTION: example.text_pair or ""}
        return filled(shape.prompt, texts) if shape.prompt else question(texts[QUESTION], texts[CONTEXT])
    return example.text if example.text_pair is None else f"{example.text} {example.text_pair}"


def target_of(shape: Shape, example: Example) -> str:
    """What it is to write; of rows whose answer is not known, nothing."""
    if shape.head == "class":
        return shape.labels[example.label] if example.label >= 0 else ""
    if shape.head == "score":
        return "" if example.score is None else written_score(example.score, shape.step)
    if shape.head == "answer":
        first = example.answers[0].text if example.answers else ""
        return first if shape.prompt else spaced(first)
    return example.target


def predicted(shape: Shape, encoded: Encoded, scores: Ragged) -> Predicted:
    """Answers from ids that were written."""
    spelled: Spelling = encoded.more["spelling"]
    texts = spelled.texts([scores.row(row).tolist() for row in range(len(scores))])
    if shape.head == "answer" and not shape.prompt:
        texts = [as_in(example.text, text) for example, text in zip(encoded.examples, texts, strict=True)]
    if shape.head in ("answer", "text"):
        return Predicted(texts, [None] * len(texts))
    read = _label_of(shape, spelled) if shape.head == "class" else _number_of
    answers = [read(text) for text in texts]
    invalid = sum(answer is None for answer in answers)
    said = answers if shape.head == "class" else [shape.unreadable if each is None else each for each in answers]
    return Predicted(said, [None] * len(said), invalid)


def _label_of(shape: Shape, spelled: Spelling) -> Any:
    """text ↦ the number of its label. Names are compared as the tokenizer reads and writes them."""
    names = spelled.texts([ids[:-1] for ids in spelled.targets(shape.labels, 1 << 30)[0]])
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the network's tokenizer writes two labels as {twice!r}; give them other names in labels.")
    return {name: number for number, name in enumerate(names)}.get


def _number_of(text: str) -> float | None:
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    return None
