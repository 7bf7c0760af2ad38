"""A fuzzer for time: whatever is repeated in a file or a text, what reads it takes seconds in proportion to its bytes.

    python -m tests.data_prep.bad_input.fuzz_time SECONDS [SEED]

Some marks of the formats are put together, repeated until there are SIZE characters, and given to every reader and
rule, with a valid beginning or without. What takes more than FREE + PER_BYTE × bytes seconds of the processor is
printed with what made it, and the exit code is 1. Readers take 0.1 to 5 µs a byte on one core, rules up to 10, so
that only what grows faster than its input is caught.
"""

from __future__ import annotations

import io
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from data_prep.errors import UserError

SIZE = 1 << 16
FREE, PER_BYTE = 1.0, 30e-6  # seconds of the processor
MARKS = (
    *(
        " ",
        "\n",
        "\t",
        "\r\n",
        ",",
        '"',
        '""',
        "'",
        "\\",
        "|",
        ";",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "=",
        "*",
        "#",
    ),
    *(
        "&amp;",
        "&",
        ":",
        ".",
        "!",
        "?",
        "-",
        "@",
        "/",
        "%",
        "0",
        "9",
        "a",
        "A",
        "é",
        "字",
        "。",
        "\u0301",
        "\u200b",
        "“",
    ),
    *(
        "{{",
        "}}",
        "[[",
        "]]",
        "{|",
        "|}",
        "<ref>",
        "</ref>",
        "<div>",
        "</div>",
        "<b>",
        "<table>",
        "<td>",
        "<!--",
        "-->",
    ),
    *(
        "http://a",
        "+1 650 253 0000",
        "4111111111111111",
        "a@b.co",
        "1.2.3.4",
        "::1",
        '{"text": "a"}',
        "Mr. ",
        "''",
        "\x00",
    ),
)
Consumer = Callable[[str], object]


def readers(folder: Path) -> dict[str, tuple[str, Consumer]]:
    """What takes a text, and a valid beginning for it."""
    from data_prep.labelled.files import LabelledConfig, load
    from data_prep.sources.archives import listed
    from data_prep.sources.config import SourceConfig
    from data_prep.sources.records import Fields
    from data_prep.tables import files as tables
    from data_prep.text.formats.formats import read_opened
    from data_prep.text.formats.web import text_of
    from data_prep.text.formats.wiki import plain_text

    def document(name: str) -> Consumer:
        return lambda text: list(read_opened(lambda: io.BytesIO(text.encode()), len(text.encode()), name, Fields()))

    def table(name: str) -> Consumer:
        def read(text: str) -> None:
            (folder / name).write_text(text, encoding="utf-8")
            for file in listed(SourceConfig(path=str(folder / name)), tables.accepts(None), folder):
                for _ in tables.raw_batches(file, None, ()):
                    pass

        return read

    def labels(name: str) -> Consumer:
        def read(text: str) -> None:
            (folder / name).write_text(text, encoding="utf-8")
            load(LabelledConfig(path=str(folder / name)), folder)

        return read

    record = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 1\r\n\r\na\r\n\r\n"
    return {
        **{name: ("", document(name)) for name in ("a.txt", "a.jsonl", "a.json")},
        "a.csv": ("id,text\n1,a\n", document("a.csv")),
        "a.tsv": ("id\ttext\n1\ta\n", document("a.tsv")),
        "a.warc": (record, document("a.warc")),
        "a.xml": ("<mediawiki><page>", document("a.xml")),
        "wikitext": ("", plain_text),
        "html": ("<html><body><p>", lambda text: text_of(text.encode(), "utf-8")),
        "rows.csv": ("a,b\n1,2\n", table("rows.csv")),
        "rows.tsv": ("a\tb\n1\t2\n", table("rows.tsv")),
        "rows.jsonl": ('{"a": 1}\n', table("rows.jsonl")),
        "rows.arff": ("@relation a\n@attribute x numeric\n@attribute y string\n@data\n", table("rows.arff")),
        "labels.csv": ("text,label\na,b\n", labels("labels.csv")),
        "labels.tsv": ("words\ttags\na b\tx y\n", labels("labels.tsv")),
        "labels.jsonl": ('{"text": "a", "label": "b"}\n', labels("labels.jsonl")),
    }


def rules() -> dict[str, tuple[str, Consumer]]:
    """Cleaning, sentences, rules, and what makes a text safe to show."""
    from data_prep import legible
    from data_prep.text.rules.c4 import C4, C4Config
    from data_prep.text.rules.gopher import Gopher, GopherConfig
    from data_prep.text.rules.personal import PersonalData, PersonalDataConfig
    from data_prep.text.sentences import split
    from data_prep.text.words import words, words_or_letters
    from data_prep.tokens.cleaning import Cleaning

    forms = [Cleaning("nfc"), Cleaning("nfkc"), Cleaning("nfc", keep_lines=True)]
    consumers: dict[str, Consumer] = {str(form): form for form in forms}
    consumers |= {f"sentences {language}": _splitter(split, language) for language in ("en", "zh", "hi")}
    consumers |= {"gopher": Gopher(GopherConfig()), "c4": C4(C4Config(), "en")}
    consumers |= {"personal data": PersonalData(PersonalDataConfig(phones=False))}
    consumers |= {"words": words, "letters": words_or_letters, "safe": legible.safe, "escaped": legible.escaped}
    return {name: ("", consumer) for name, consumer in consumers.items()}


def _splitter(split: Callable[[str, str], object], language: str) -> Consumer:
    return lambda text: split(text, language)


def is_too_slow(consumer: Consumer, text: str) -> bool:
    """Whether a text takes more than its share; it is interrupted where Python runs."""

    def stop(*_: object) -> None:
        raise TimeoutError

    limit = FREE + PER_BYTE * len(text.encode())
    before = signal.signal(signal.SIGPROF, stop)
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        consumer(text)
    except TimeoutError:
        return True
    except UserError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return time.process_time() - started > limit


def main(seconds: float, seed: int) -> int:
    draw, until, runs, slow = random.Random(seed), time.monotonic() + seconds, 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        consumers = readers(Path(folder)) | rules()
        while time.monotonic() < until:
            piece = "".join(draw.choices(MARKS, k=draw.randint(1, 4)))
            for name, (begin, consumer) in consumers.items():
                text = draw.choice([begin, ""]) + piece * (SIZE // len(piece))
                runs += 1
                if is_too_slow(consumer, text) and is_too_slow(consumer, text):  # the first call may load a library
                    slow.add(name)
                    print(f"SLOW {name}: {text[: len(begin) + 2 * len(piece)]!r} …", flush=True)
    print(f"{runs:,} runs, {len(slow)} of {len(consumers)} too slow")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
