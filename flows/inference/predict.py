"""`sesame predict`: answers of a fine-tuned network to the rows of files, one after another.

MODEL, files ─► rows ─► answers ─► a file of JSON lines (.jsonl) or Arrow (.arrow), a row for each row, in their order
                 └► remarks: columns that were taken for granted, rows without ids, texts that are cut
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.text import Text

from data_prep.errors import UserError
from data_prep.labelled.examples import Example
from data_prep.labelled.loading import unlabelled
from data_prep.labelled.rows import Reading
from data_prep.labelled.task import Part, paths_of, task_of
from data_prep.labelled.unlabelled import laid_out
from flows.checkpoint import fine_tuned_folder
from flows.show.console import new_console
from flows.show.outputs import check_output, written_whole

AT_ONCE = 1024  # rows
ARROW, JSON_LINES = ".arrow", ".jsonl"
SCHEMA = pa.schema(
    [pa.field("id", pa.string()), pa.field("predicted", pa.list_(pa.string())), pa.field("score", pa.float64())]
)
SEGMENTS = pa.field(
    "segments",
    pa.list_(
        pa.struct([pa.field("start", pa.float64()), pa.field("end", pa.float64()), pa.field("label", pa.string())])
    ),
)
"""Of recordings: stretches of them, in seconds."""
SHOWN = 5


def predict(
    model: str,
    files: Sequence[str],
    out: str,
    inputs: Sequence[str],
    layout: str | None,
    columns: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Write an answer for every row. UserError for what cannot be read; nothing of the output is written then.

    columns: names of the files' columns, with commas between them, where they have no header; "" where they have one.
    """
    folder = fine_tuned_folder(model)
    path = check_output(Path(out).expanduser(), files)
    if path.suffix not in (ARROW, JSON_LINES):
        raise UserError(f"--out {out}: ends in {path.suffix or 'nothing'}; name a file that ends in .jsonl or .arrow.")
    from pipeline.downstream.counted import Counted, said, summed
    from pipeline.downstream.fine_tune.exported import open_fine_tuned
    from training.distributed import check_device

    check_device(device)
    fine_tuned, reading = open_fine_tuned(folder, device), Reading()
    task = task_of(_settings(fine_tuned.reads, inputs, layout), "predict")
    names = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    paths = [path for file in files for path in paths_of(Part(path=str(Path(file).expanduser().absolute())), Path())]
    tasks = [laid_out(task, path, names, reading) for path in paths]
    rows = chain.from_iterable(unlabelled(of, Path(), "predict", reading, fine_tuned.cleaning) for of in tasks)
    counted: list[Counted] = []
    shown: list[dict[str, Any]] = []

    def answers() -> Iterator[list[dict[str, Any]]]:
        while examples := list(islice(rows, AT_ONCE)):
            predicted = fine_tuned.predict(examples)
            counted.extend(predicted.counted)
            told = zip(examples, fine_tuned.lines(examples, predicted), strict=True)
            lines = [{"id": example.id, **line} for example, line in told]
            few = zip(examples, lines[: SHOWN - len(shown)], strict=False)
            shown.extend({"text": _short(example), **line} for example, line in few)
            yield lines

    count = 0
    with written_whole(path) as partial:
        for lines in _writing(partial, path.suffix, answers()):
            count += lines
    console, remarks = new_console(), [*reading.remarks(), *said(summed(counted))]
    if as_json:
        print(json.dumps({"rows": count, "out": out, "remarks": remarks}))
        return
    for line in shown:
        console.print(Text(f"{line['text']}  ").append(_answer(line["predicted"]), "bold green"), soft_wrap=True)
    for remark in remarks:
        console.print(Text(f"warning: {remark}", "yellow"), soft_wrap=True)
    console.print(Text(f"{out}: {count:,} rows", "dim"))


def _settings(reads: Mapping[str, Any], inputs: Sequence[str], layout: str | None) -> dict[str, Any]:
    """How rows are laid out, as settings of a task file."""
    asked = {"inputs": list(inputs) or None, "layout": layout}
    settings = {**reads, **{name: value for name, value in asked.items() if value}}
    return {name: value for name, value in settings.items() if value is not None}


def _writing(path: Path, suffix: str, batches: Iterator[list[dict[str, Any]]]) -> Iterator[int]:
    """Write batches as they come; the number of rows of each."""
    if suffix == JSON_LINES:
        with path.open("w", encoding="utf-8") as file:
            for lines in batches:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                yield len(lines)
        return
    from pipeline.downstream.predictions_file import WITH_N_BEST

    first = next(batches, [])
    own = {"start": pa.field("start", pa.int64()), "n_best": WITH_N_BEST.field("n_best"), "segments": SEGMENTS}
    schema = pa.schema([*SCHEMA, *(own[name] for name in own if first and name in first[0])])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for lines in chain([first] if first else [], batches):
            rows = [{**line, "predicted": _texts(line["predicted"])} for line in lines]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            yield len(lines)


def _texts(answer: Any) -> list[str]:
    """An answer as texts: one, that of each word, or none."""
    return [] if answer is None else [str(each) for each in (answer if isinstance(answer, list) else [answer])]


def _answer(answer: Any) -> str:
    if answer is None:
        return "(no answer)"
    if isinstance(answer, list):
        return " ".join(answer)
    return f"{answer:.4g}" if isinstance(answer, float) else str(answer)


def _short(example: Example) -> str:
    text = " ".join([*example.words, example.text_pair or example.text]).strip()
    return text if len(text) <= 80 else f"{text[:79]}…"
