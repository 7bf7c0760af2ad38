"""Shows an artifact as a person reads it: rows of shards, documents of a corpus, a tokenizer at work, or a summary.

What an artifact is, is told by its files and not by its stage's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from data_prep.corpus.documents import SPLITS, Corpus
from data_prep.corruptions import CorruptionConfig
from data_prep.errors import UserError
from data_prep.tokens.tokenizers import load, specials
from flows.show.detokenize import Pieces
from flows.show.readable import number, plain, size
from flows.show.token_rows import show_rows
from pipeline.artifact import Artifact

FIRST_SENTENCES = 3
MAX_FILES = 20
PIECES_PER_LINE = 10
SAMPLE = "Four score and seven years ago, 42 unbelievably naïve newspapermen re-read it."
SAMPLE_WIDE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？"


def peek(
    artifact: Artifact,
    tokenizer_folder: Path | None,
    rows: int,
    console: Console,
    split: str = "train",
    start: int = 0,
    *,
    corruption: CorruptionConfig | None = None,
    corpus_folder: Path | None = None,
    epoch: int = 0,
    text: str | None = None,
) -> None:
    """Print `rows` rows (documents, lines of pieces) from number `start` on.

    tokenizer_folder: of a shards artifact's tokenizer. corruption: what training will do to shards of clean rows, in
    epoch `epoch`; without it they are shown clean. corpus_folder: of the corpus that shards were made from, to name
    documents. text: a sentence for a tokenizer. Raises UserError where the artifact has no such split or row.
    """
    if rows < 1 or start < 0 or epoch < 0:
        raise UserError(f"rows must be at least 1, start and epoch at least 0; found {rows}, {start} and {epoch}")
    files = artifact.manifest["files"]
    _header(artifact, console)
    shards = [name.removesuffix("/index.json") for name in files if name.endswith("/index.json")]
    if shards:
        _check_split(artifact, split, shards)
        index = range(start, start + rows)
        show_rows(artifact, tokenizer_folder, index, console, split, corruption, corpus_folder, epoch)
    elif "corpus.json" in files:
        _check_split(artifact, split, SPLITS)
        _documents(artifact, range(start, start + rows), console, split)
        _rejects(artifact, console)
    elif "tokenizer.json" in files:
        _tokenizer(artifact, rows, console, text)
    else:
        _summary(artifact, console)
        _files(artifact, console)
        _report(artifact, console)


def _check_split(artifact: Artifact, split: str, present: Sequence[str]) -> None:
    if split not in present:
        raise UserError(f"{artifact.key} has no split {split!r}; it has {', '.join(present)}")


def _header(artifact: Artifact, console: Console) -> None:
    provenance = artifact.manifest["provenance"]
    facts = [artifact.stage, size(artifact.size)]
    if "time" in provenance:
        facts.append(f"made {provenance['time']}")
    if provenance.get("licences"):
        facts.append(f"licences: {', '.join(provenance['licences'])}")
    console.print(Text.assemble((artifact.key, "bold"), plain(f" · {' · '.join(facts)}")), soft_wrap=True)


# -- a corpus ---------------------------------------------------------------------------------------------------------


def _documents(artifact: Artifact, index: range, console: Console, split: str) -> None:
    corpus = Corpus(artifact.path, split)
    if index.start >= len(corpus):
        raise UserError(f"{artifact.key} has {len(corpus):,} documents in {split}, so none is number {index.start:,}")
    stop = min(index.stop, len(corpus))
    console.print(Text(f"documents {index.start:,}–{stop - 1:,} of {len(corpus):,} in {split}", "dim"))
    for place in range(index.start, stop):
        document = corpus[place]
        title = Text.assemble((plain(document.name), "bold"), f" · {len(document.sentences):,} sentences")
        if document.source != document.name:
            title.append(plain(f" · {document.source}"), "dim")
        console.print(title, soft_wrap=True)
        if document.meta:
            console.print(Text(plain(", ".join(f"{name} {value}" for name, value in document.meta.items())), "italic"))
        for sentence in document.sentences[:FIRST_SENTENCES]:
            console.print(_hanging(plain(sentence)))
        more = len(document.sentences) - FIRST_SENTENCES
        if more > 0:
            console.print(Text(f"  … {more:,} more", "dim"))


def _hanging(line: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text("  –", "dim"), Text(line))
    return grid


def _rejects(artifact: Artifact, console: Console) -> None:
    path = artifact.path / "rejects.arrow"
    counts: Counter[str] = Counter()
    with pa.memory_map(str(path)) as source:
        for reason in pa.ipc.open_file(source).read_all()["reason"].value_counts().to_pylist():
            kind = "duplicate" if reason["values"].startswith("duplicate of ") else reason["values"]
            counts[kind] += reason["counts"]
    if not counts:
        console.print(Text("no rows were rejected", "dim"))
        return
    table = Table("rows", "rejected because", title="Rejects", title_justify="left", box=None)
    table.columns[0].justify = "right"
    for reason, count in counts.most_common():
        table.add_row(f"{count:,}", Text(plain(reason)))
    console.print(table)


# -- a tokenizer ------------------------------------------------------------------------------------------------------


def _tokenizer(artifact: Artifact, lines: int, console: Console, text: str | None) -> None:
    tokenizer, special = load(artifact.path), specials(artifact.path)
    kind = artifact.summary.get("kind", artifact.config.get("kind", ""))
    console.print(Text(f"{kind}, {special.vocabulary:,} tokens, of them {len(special.all)} special", "dim"))
    pieces = Pieces(tokenizer, special)
    names = [(token, tokenizer.id_to_token(token)) for token in special.ordinary.tolist()]
    names = [(token, name) for token, name in names if name is not None]
    table = Table("id", "pieces", title="From the first to the last", title_justify="left", box=None)
    table.columns[0].justify = "right"
    last = max(len(names) - PIECES_PER_LINE, 0)
    for begin in sorted({last * line // max(lines - 1, 1) for line in range(lines)}):
        part = names[begin : begin + PIECES_PER_LINE]
        table.add_row(
            str(part[0][0]) if part else "", Text("  ".join(plain(name).replace(" ", "␣") for _, name in part))
        )
    console.print(table)
    if text is None:
        sentence = max((SAMPLE, SAMPLE_WIDE), key=lambda sample: _known(tokenizer, sample, special.get("unk")))
    else:
        sentence = text
    ids = tokenizer.encode(sentence).ids
    shown = Text()
    for place, token in enumerate(ids):
        style = "dim" if token in special.all else ("green", "cyan")[place % 2]
        shown.append(plain(tokenizer.id_to_token(token) or "").replace(" ", "␣"), style).append(" ")
    table = Table.grid(padding=(0, 1))
    table.add_row(Text("text", "bold"), Text(plain(sentence)))
    table.add_row(Text("tokens", "bold"), shown)
    table.add_row(Text("ids", "bold"), Text(" ".join(map(str, ids)), "dim"))
    table.add_row(Text("back", "bold"), Text("".join(pieces.texts(ids))))
    console.print(table)


def _known(tokenizer: Any, sentence: str, unknown: int | None) -> float:
    """Share of a sentence that the vocabulary covers; fewer tokens per character is better between equals."""
    ids = tokenizer.encode(sentence, add_special_tokens=False).ids
    return sum(token != unknown for token in ids) / len(ids) - len(ids) / len(sentence.encode()) / 1000


# -- anything else ----------------------------------------------------------------------------------------------------


def _summary(artifact: Artifact, console: Console) -> None:
    if not artifact.summary:
        return
    table = Table("summary", "", title_justify="left", box=None)
    for name, value in _leaves(artifact.summary):
        table.add_row(Text(plain(name)), Text(plain(value)))
    console.print(table)


def _leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """(path.to.key, value) of everything inside; a list stands on one line."""
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in _leaves(part, f"{path}.{name}" if path else name)]
    if isinstance(value, list):
        shown = ", ".join(text for part in value[:8] for _, text in _leaves(part))
        return [(path, shown + (f", … ({len(value)} in all)" if len(value) > 8 else ""))]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [(path, number(value))]
    return [(path, str(value))]


def _files(artifact: Artifact, console: Console) -> None:
    files = artifact.manifest["files"]
    table = Table("size", "file", title_justify="left", box=None)
    table.columns[0].justify = "right"
    for name, entry in list(files.items())[:MAX_FILES]:
        table.add_row(size(entry["size"]), Text(plain(name)))
    console.print(table)
    if len(files) > MAX_FILES:
        console.print(Text(f"… {len(files) - MAX_FILES:,} more files", "dim"))
    console.print(Text(f"in {artifact.path}", "dim"), soft_wrap=True)


def _report(artifact: Artifact, console: Console) -> None:
    for name in artifact.manifest["files"]:
        if Path(name).name == "report.md":
            text = (artifact.path / name).read_text(encoding="utf-8")
            console.print(Markdown(plain(text, keep="\n\t"), hyperlinks=False))
