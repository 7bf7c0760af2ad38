"""`sesame predict`: answers of a fine-tuned network to the rows of files, one after another.

MODEL, files ─► rows ─► answers ─► a file of JSON lines (.jsonl) or Arrow (.arrow), a row for each row, in their order
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.text import Text

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.loading import unlabelled
from data_prep.labelled.rows import Reading
from data_prep.labelled.task import task_of
from flows.checkpoint import fine_tuned_folder
from flows.show.console import new_console
from flows.show.outputs import check_output, written_whole

AT_ONCE = 1024  # rows
ARROW, JSON_LINES = ".arrow", ".jsonl"
SCHEMA = pa.schema(
    [pa.field("id", pa.string()), pa.field("predicted", pa.list_(pa.string())), pa.field("score", pa.float64())]
)
SHOWN = 5


def predict(
    model: str, files: Sequence[str], out: str, inputs: Sequence[str], layout: str | None, device: str, as_json: bool
) -> None:
    """Write an answer for every row. UserError for what cannot be read; nothing of the output is written then."""
    folder = fine_tuned_folder(model)
    path = check_output(Path(out).expanduser(), files)
    if path.suffix not in (ARROW, JSON_LINES):
        raise UserError(f"--out {out}: ends in {path.suffix or 'nothing'}; name a file that ends in .jsonl or .arrow.")
    from pipeline.downstream.fine_tune.exported import open_fine_tuned
    from pipeline.downstream.labelled_scores import named_as
    from training.distributed import check_device

    check_device(device)
    fine_tuned, reading = open_fine_tuned(folder, device), Reading()
    settings = {**fine_tuned.reads, "predict": [str(Path(file).expanduser().absolute()) for file in files]}
    settings |= {"inputs": list(inputs)} if inputs else {}
    settings |= {"layout": layout} if layout else {}
    task = task_of({name: value for name, value in settings.items() if value is not None}, "predict")
    rows = unlabelled(task, Path(), "predict", reading, fine_tuned.cleaning)
    shown: list[dict[str, Any]] = []

    def answers() -> Iterator[list[dict[str, Any]]]:
        while examples := list(islice(rows, AT_ONCE)):
            predicted = fine_tuned.predict(examples)
            lines = [
                {"id": example.id, "predicted": named_as(fine_tuned.shape, answer), "score": score}
                for example, answer, score in zip(examples, predicted.answers, predicted.scores, strict=True)
            ]
            few = zip(examples, lines[: SHOWN - len(shown)], strict=False)
            shown.extend({"text": _short(example), **line} for example, line in few)
            yield lines

    count = 0
    with written_whole(path) as partial:
        for lines in _writing(partial, path.suffix, answers()):
            count += lines
    console = new_console()
    if as_json:
        print(json.dumps({"rows": count, "out": out, "remarks": reading.remarks()}))
        return
    for line in shown:
        console.print(Text(f"{line['text']}  ").append(_answer(line["predicted"]), "bold green"), soft_wrap=True)
    for remark in reading.remarks():
        console.print(Text(f"warning: {remark}", "yellow"), soft_wrap=True)
    console.print(Text(f"{out}: {count:,} rows", "dim"))


def _writing(path: Path, suffix: str, batches: Iterator[list[dict[str, Any]]]) -> Iterator[int]:
    """Write batches as they come; the number of rows of each."""
    if suffix == JSON_LINES:
        with path.open("w", encoding="utf-8") as file:
            for lines in batches:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                yield len(lines)
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for lines in batches:
            rows = [{**line, "predicted": _texts(line["predicted"])} for line in lines]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
            yield len(lines)


def _texts(answer: Any) -> list[str]:
    """An answer as texts: one, or that of each word."""
    return [str(each) for each in (answer if isinstance(answer, list) else [answer])]


def _answer(answer: Any) -> str:
    if isinstance(answer, list):
        return " ".join(answer)
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def _short(example: Example) -> str:
    text = " ".join([*example.words, example.text_pair or example.text]).strip()
    return text if len(text) <= 80 else f"{text[:79]}…"
