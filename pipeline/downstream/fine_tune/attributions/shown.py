"""Parts of wrong answers in a report: a table, a figure, and all effects for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from data_prep.kinds import kind_of
from data_prep.labelled.examples import TEXT, Example, Labelled
from pipeline.downstream.fine_tune.answered import COLUMNS, surest
from pipeline.downstream.fine_tune.attributions.omission import Part, effects
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import Predicted, tokenizer_of
from pipeline.downstream.fine_tune.heads.arrays import array_of
from pipeline.reports.highlighted import Passage, highlighted
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.stretches import Recording, stretched

FIGURE = "attributions.png"
NOTE = "attributions"
MOST = 4  # parts of a cell
BETWEEN = " | "  # two texts
_OF_NUMBERS, _FURTHER = "the numbers that are furthest off", "much the number is further off"
_OF_ANSWERS = "the wrong answers that are surest"
_LIKELIER = "many nats the log odds of the answer against the right one are higher"


class Shows(Protocol):
    """How examples of a kind and their parts are shown. noun: of parts. remark: a clause about them."""

    noun: ClassVar[str]
    remark: ClassVar[str]

    def name(self, example: Example, part: Part) -> str:
        """What a table calls a part."""
        ...

    def noted(self, example: Example, parts: Sequence[Part]) -> dict[str, Any]:
        """The example and its parts as JSON values."""
        ...

    def draw(
        self, title: str, headings: Sequence[str], examples: Sequence[Example], parts: Sequence[Sequence[Part]],
        path: Path,
    ) -> None: ...  # fmt: skip


def added(
    report: Report, model: FineTuned, data: Labelled, examples: Sequence[Example], predicted: Predicted, most: int,
    folder: Path,
) -> Report:  # fmt: skip
    """The report with the parts of the surest wrong answers, of at most so many; draws into `folder`.

    predicted: what the model answered to the examples.
    """
    wrong = surest(data, examples, predicted, most)
    if not wrong:
        return report
    shows: Shows = Words() if data.kind == TEXT else Stretches(model)
    cases = [(examples[case.place], predicted.answers[case.place]) for case in wrong]
    parts = effects(model, cases)
    rows, headings, noted = [], [], []
    for case, (example, _), of_example in zip(wrong, cases, parts, strict=True):
        _, right, answer, sure = case.cells
        towards = sorted((part for part in of_example if part.effect > 0), key=lambda part: -part.effect)
        against = sorted((part for part in of_example if part.effect < 0), key=lambda part: part.effect)
        listed = [
            ", ".join(f"{shows.name(example, part)} {part.effect:+.2f}" for part in some[:MOST])
            for some in (towards, against)
        ]
        rows.append([*case.cells, *listed])
        headings.append(f"right: {right}; answer: {answer}" + (f"; {sure} sure" if data.head != "score" else ""))
        texts = [each for each in (example.text, example.text_pair) if each is not None]
        about = {"id": example.id, "texts": texts, "right": right, "answer": answer}
        noted.append({**about, **shows.noted(example, of_example)})
    title = f"{shows.noun.capitalize()} that push towards wrong answers, and against them"
    shows.draw(title, headings, [example for example, _ in cases], parts, folder / FIGURE)
    about = (
        f"{shows.noun.capitalize()} of {_OF_NUMBERS if data.head == 'score' else _OF_ANSWERS} of the pretrained "
        "network of the first seed: each is left out in turn, and the network asked again. A number is by how "
        f"{_FURTHER if data.head == 'score' else _LIKELIER} with it than without it; {shows.remark}."
    )
    table = Table(f"{shows.noun.capitalize()} of wrong answers", [*COLUMNS, "towards it", "against it"], rows)
    caption = f"{shows.noun} that push towards wrong answers (orange) and against (blue)"
    return replace(
        report,
        about=f"{report.about}\n\n{about}",
        tables=[*report.tables, table],
        figures=[*report.figures, Figure(caption, FIGURE)],
        notes={**report.notes, NOTE: noted},
    )


class Words:
    """Of texts."""

    noun: ClassVar[str] = "words"
    remark: ClassVar[str] = "words beyond the network's length have none"

    def name(self, example: Example, part: Part) -> str:
        return self._texts(example)[part.of][part.start : part.end]

    def noted(self, example: Example, parts: Sequence[Part]) -> dict[str, Any]:
        return {"words": [asdict(part) for part in parts]}

    def draw(
        self, title: str, headings: Sequence[str], examples: Sequence[Example], parts: Sequence[Sequence[Part]],
        path: Path,
    ) -> None:  # fmt: skip
        shown = zip(headings, examples, parts, strict=True)
        passages = [Passage(heading, self._pieces(example, words)) for heading, example, words in shown]
        highlighted(title, passages, path)

    def _texts(self, example: Example) -> tuple[str, str]:
        return example.text, example.text_pair or ""

    def _pieces(self, example: Example, words: Sequence[Part]) -> list[tuple[str, float | None]]:
        """The texts in pieces, of which words have a number."""
        pieces: list[tuple[str, float | None]] = []
        for of, text in enumerate(self._texts(example)):
            if of and text:
                pieces.append((BETWEEN, None))
            end = 0
            for word in (word for word in words if word.of == of):
                pieces += [(text[end : word.start], None), (text[word.start : word.end], word.effect)]
                end = word.end
            pieces.append((text[end:], None))
        return [piece for piece in pieces if piece[0]]


class Stretches:
    """Of arrays in files, by their seconds."""

    noun: ClassVar[str] = "stretches"
    remark: ClassVar[str] = "what is left is read as one recording"

    def __init__(self, model: FineTuned) -> None:
        self._read = tokenizer_of(model.shape, model.folder, model.framed)
        self._rate = float(kind_of(model.shape.kind).run_facts(model.folder)["rate"])

    def name(self, example: Example, part: Part) -> str:
        return f"{part.start / self._rate:.2f}–{part.end / self._rate:.2f} s"

    def noted(self, example: Example, parts: Sequence[Part]) -> dict[str, Any]:
        """With starts and ends in seconds."""
        named = [(part.start / self._rate, part.end / self._rate, part.effect) for part in parts]
        return {"stretches": [dict(zip(("start", "end", "effect"), each, strict=True)) for each in named]}

    def draw(
        self, title: str, headings: Sequence[str], examples: Sequence[Example], parts: Sequence[Sequence[Part]],
        path: Path,
    ) -> None:  # fmt: skip
        recordings = [
            Recording(
                f"{example.text}; {heading}",
                array_of(example, self._read),
                self._rate,
                [(part.start, part.end, part.effect) for part in of_example],
            )
            for heading, example, of_example in zip(headings, examples, parts, strict=True)
        ]
        stretched(title, recordings, path)
