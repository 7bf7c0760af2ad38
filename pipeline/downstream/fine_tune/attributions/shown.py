"""Words of wrong answers in a report: a table, a figure of coloured texts, and all effects for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from data_prep.labelled.examples import Example, Labelled
from pipeline.downstream.fine_tune.answered import COLUMNS, surest
from pipeline.downstream.fine_tune.attributions.omission import Word, effects
from pipeline.downstream.fine_tune.exported import FineTuned
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.reports.highlighted import Passage, highlighted
from pipeline.reports.report import Figure, Report, Table

FIGURE = "attributions.png"
NOTE = "attributions"
MOST = 4  # words of a cell
BETWEEN = " | "  # two texts
_OF_NUMBERS, _FURTHER = "the numbers that are furthest off", "much the number is further off"
_OF_ANSWERS = "the wrong answers that are surest"
_LIKELIER = "many nats the log odds of the answer against the right one are higher"


def added(
    report: Report, model: FineTuned, data: Labelled, examples: Sequence[Example], predicted: Predicted, most: int,
    folder: Path,
) -> Report:  # fmt: skip
    """The report with the words of the surest wrong answers, of at most so many; draws into `folder`.

    predicted: what the model answered to the examples.
    """
    wrong = surest(data, examples, predicted, most)
    if not wrong:
        return report
    cases = [(examples[case.place], predicted.answers[case.place]) for case in wrong]
    words = effects(model, cases)
    rows, passages, noted = [], [], []
    for case, (example, _), of_example in zip(wrong, cases, words, strict=True):
        _, right, answer, sure = case.cells
        towards = sorted((word for word in of_example if word.effect > 0), key=lambda word: -word.effect)
        against = sorted((word for word in of_example if word.effect < 0), key=lambda word: word.effect)
        rows.append([*case.cells, _listed(example, towards), _listed(example, against)])
        heading = f"right: {right}; answer: {answer}" + (f"; {sure} sure" if data.head != "score" else "")
        passages.append(Passage(heading, _pieces(example, of_example)))
        texts = [each for each in (example.text, example.text_pair) if each is not None]
        about = {"id": example.id, "texts": texts, "right": right, "answer": answer}
        noted.append({**about, "words": [asdict(word) for word in of_example]})
    highlighted("Words that push towards wrong answers, and against them", passages, folder / FIGURE)
    about = (
        f"Words of {_OF_NUMBERS if data.head == 'score' else _OF_ANSWERS} of the pretrained network of the first seed: "
        "each is left out in turn, and the network asked again. A number is by how "
        f"{_FURTHER if data.head == 'score' else _LIKELIER} with the word than without it; words beyond the network's "
        "length have none."
    )
    return replace(
        report,
        about=f"{report.about}\n\n{about}",
        tables=[*report.tables, Table("Words of wrong answers", [*COLUMNS, "towards it", "against it"], rows)],
        figures=[*report.figures, Figure("words that push towards wrong answers (orange) and against (blue)", FIGURE)],
        notes={**report.notes, NOTE: noted},
    )


def _listed(example: Example, words: Sequence[Word]) -> str:
    return ", ".join(f"{_texts(example)[word.of][word.start : word.end]} {word.effect:+.2f}" for word in words[:MOST])


def _texts(example: Example) -> tuple[str, str]:
    return example.text, example.text_pair or ""


def _pieces(example: Example, words: Sequence[Word]) -> list[tuple[str, float | None]]:
    """The texts in pieces, of which words have a number."""
    pieces: list[tuple[str, float | None]] = []
    for of, text in enumerate(_texts(example)):
        if of and text:
            pieces.append((BETWEEN, None))
        end = 0
        for word in (word for word in words if word.of == of):
            pieces += [(text[end : word.start], None), (text[word.start : word.end], word.effect)]
            end = word.end
        pieces.append((text[end:], None))
    return [piece for piece in pieces if piece[0]]
