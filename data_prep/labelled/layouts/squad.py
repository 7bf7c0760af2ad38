"""Questions about paragraphs, as SQuAD, DRCD, CMRC2018, XQuAD and TyDiQA-GoldP are distributed.

    {"data": [{"paragraphs": [{"context": …, "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}
    [{"context_text": …, "qas": [{"query_id", "query_text", "answers": ["…", …]}]}]        CMRC2018, without places

A row has context, question, answers and id; with `is_impossible` (SQuAD v2) it has no answers.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.labelled.rows import Asked, Reading, Row
from data_prep.labelled.values import short

COLUMNS = ("context", "question")
LABEL, ID = "answers", "id"
_OF_CMRC = {"context_text": "context", "query_text": "question", "query_id": "id"}
IMPOSSIBLE = "answers of questions that are marked as impossible, left out"


def rows(path: Path, asked: Asked, reading: Reading) -> Iterator[Row | UserError]:
    """The questions of a file; an error in place of each that cannot be used. UserError for another file."""
    for number, paragraph in enumerate(_paragraphs(path), 1):
        where = f"{path} paragraph {number}"
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
            yield UserError(f"{where} is {short(paragraph)}; expected a context and a list of questions, qas")
            continue
        context = _renamed(paragraph).get("context")
        for place, question in enumerate(paragraph["qas"], 1):
            if not isinstance(question, dict):
                yield UserError(f"{where} question {place} is {short(question)}; expected an object")
                continue
            yield _row(path, f"{where} question {place}", {"context": context, **_renamed(question)}, reading)


def _row(path: Path, where: str, fields: dict[str, Any], reading: Reading) -> Row:
    name = fields.get(ID)
    place = f"{path.name}#{name}" if name else path.name + where[len(str(path)) :]
    row = Row(f"{where} ({name})" if name else where, place, fields)
    if fields.get("is_impossible") is True:
        if fields.get(LABEL):
            reading.add(IMPOSSIBLE, row.place)
        fields[LABEL] = []
    return row


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {_OF_CMRC.get(name, name): value for name, value in fields.items()}


def _paragraphs(path: Path) -> Iterator[Any]:
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            whole = json.loads(file.read().decode("utf-8-sig"))
    except gzip.BadGzipFile as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); compress it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); give a file") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file ({error}); compress it again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); expected questions as SQuAD has them") from error
    entries = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list 'data' of paragraphs; expected questions as SQuAD has them")
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("paragraphs"), list):
            yield from entry["paragraphs"]
        else:
            yield entry
