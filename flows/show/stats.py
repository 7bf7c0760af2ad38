"""Shows statistics of an artifact: shards, a corpus or a tokenizer.

    rows and tokens     lengths, padding, frequencies of tokens
    documents           numbers, lengths, sources; rejected rows
    vocabulary          kinds of pieces, their lengths

Bars are made of block characters with a resolution of an eighth of a cell. Most statistics of shards are stored with
them; for older shards, and for everything else, they are computed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.errors import UserError
from data_prep.kinds import kind_of
from data_prep.legible import plain
from data_prep.stats import stats
from data_prep.stats.types import CorpusCounts, DocumentCounts, Lengths, RowCounts, ShardsCounts, TokenizerCounts
from data_prep.text.write_shards import row_length
from flows.show.blocks import BAR, bars, percent, show_blocks
from flows.show.readable import number, size
from pipeline.artifact import Artifact
from pipeline.reports.describe import STATS, STATS_OF_CORPUS

MOST_BINS, MOST_LINES, MOST_PIECES = 16, 12, 10


def gather(artifact: Artifact, tokenizer: Artifact | None = None, corpus: Artifact | None = None) -> dict[str, Any]:
    """Statistics of an artifact as plain values; the keys depend on what it is (`data_prep.stats.types`).

    tokenizer, corpus: what shards were made from, if it still exists. Raises UserError if the artifact is something
    else, if its statistics are damaged, or if shards without stored statistics lack their tokenizer.
    """
    files = artifact.manifest["files"]
    if not _is_text(artifact):
        return {"artifact": artifact.key, "stage": artifact.stage, **_counted(artifact)}
    shards = sorted(name.removesuffix("/index.json") for name in files if name.endswith("/index.json"))
    values: dict[str, Any] = {"artifact": artifact.key, "stage": artifact.stage}
    if shards:
        values["rows"] = _stored(artifact, STATS) or _rows(artifact, shards, tokenizer)
        documents = _stored(artifact, STATS_OF_CORPUS)
        if documents is None and corpus is not None:
            documents = stats.of_corpus(corpus.path)
        if documents is not None:
            values["corpus"] = documents
        if corpus is not None:
            values["ingested"] = corpus.summary
    elif "corpus.json" in files:
        values |= {"corpus": stats.of_corpus(artifact.path), "ingested": artifact.summary}
    elif "tokenizer.json" in files:
        values["tokenizer"] = stats.of_tokenizer(artifact.path)
    else:
        raise UserError(
            f"{artifact.key} is neither shards nor a corpus nor a tokenizer; "
            f"`sesame inspect {artifact.key}` shows what it holds"
        )
    return values


def _is_text(artifact: Artifact) -> bool:
    """Whether the statistics are those of text; others are shown as blocks."""
    return artifact.stage not in ("ingest", "shards") or kind_of(artifact.config["kind"]).fits == "tokenizer"


def _counted(artifact: Artifact) -> dict[str, Any]:
    """Statistics stored with shards, or computed now for a corpus."""
    if artifact.stage == "ingest":
        return {**kind_of(artifact.config["kind"]).corpus_stats(artifact.path), "ingested": artifact.summary}
    return json.loads((artifact.path / STATS).read_text(encoding="utf-8"))


def _stored(artifact: Artifact, name: str) -> Any:
    """Statistics stored by the stage; None if there are none, or only of another version."""
    if name not in artifact.manifest["files"]:
        return None
    try:
        values = json.loads((artifact.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{artifact.path / name} is damaged: delete the artifact {artifact.key} and run again"
        ) from error
    return values if values.get("format") == stats.FORMAT else None


def _rows(artifact: Artifact, splits: Sequence[str], tokenizer: Artifact | None) -> ShardsCounts:
    if tokenizer is None:
        parent = artifact.manifest["inputs"].get("preprocessor")
        missing = f"its tokenizer {parent['key']}" if parent else "a tokenizer"
        raise UserError(f"the tokens of {artifact.key} cannot be named without {missing}: make it again")
    folders = {split: artifact.path / split for split in splits}
    lengths = {split: row_length(artifact.config["settings"], split) for split in splits}
    return stats.of_shards(folders, tokenizer.path, lengths)


# -- the page ---------------------------------------------------------------------------------------------------------


def show(artifact: Artifact, values: dict[str, Any], console: Console, split: str = "train") -> None:
    """Print `values` from `gather`, with details of one split. Raises UserError if there is no such split."""
    console.print(
        Text.assemble((artifact.key, "bold"), plain(f" · {artifact.stage} · {size(artifact.size)}")), soft_wrap=True
    )
    if not _is_text(artifact):
        ingested = values.get("ingested", artifact.summary)
        show_blocks(kind_of(artifact.config["kind"]).statistics(values, ingested).blocks, console)
        return
    if "rows" in values:
        _show_rows(artifact, values["rows"]["splits"], console, split)
    if "corpus" in values:
        _show_corpus(artifact, values, console, split)
    if "tokenizer" in values:
        _show_tokenizer(values["tokenizer"], console)
    figures = sorted(name for name in artifact.manifest["files"] if name.endswith(".png"))
    if figures:
        folder = artifact.path / Path(figures[0]).parent
        console.print(Text("\nfigures  ", "bold").append(str(folder), "not bold"), soft_wrap=True)


def _chosen(artifact: Artifact, split: str, sizes: dict[str, int]) -> str:
    """The requested split; if it has several parts in a mixture, the largest."""
    matches = [name for name in sizes if split in (name, name.partition("-")[0])]
    if not matches:
        raise UserError(f"{artifact.key} has no split {split!r}; it has {', '.join(sizes)}")
    return max(matches, key=sizes.__getitem__)


def _show_rows(artifact: Artifact, splits: dict[str, RowCounts], console: Console, split: str) -> None:
    chosen = _chosen(artifact, split, {name: counts["tokens"] for name, counts in splits.items()})
    table = _table("split", "rows", "tokens", "mean row", "padding", "seqs/row", "unknown", "used")
    for name, counts in splits.items():
        table.add_row(
            name,
            f"{counts['rows']:,}",
            f"{counts['tokens']:,}",
            f"{counts['row_lengths']['mean']:,.1f}",
            percent(counts["padding_share"]),
            f"{counts['sequences_per_row']:.2f}",
            percent(counts["vocabulary"]["unk_share"]),
            percent(counts["vocabulary"]["coverage"]),
        )
    console.print(table)
    console.print(Text("used: share of the vocabulary that occurs", "dim"))
    kept = {name: part for name in splits if (part := _summary_of(artifact, name)) and "left_out" in part}
    for name, part in kept.items():
        total = part["corpus_tokens"]
        held = f"{total - part['left_out']:,} of {total:,} tokens of the corpus are in rows"
        unknown = part["unknown_characters"] / max(part["characters"], 1)
        shares = f"{percent(1 - part['left_out'] / max(total, 1))}; {percent(unknown)} of characters are unknown"
        console.print(Text(f"{name}: {held}, {shares}", "dim"))
    counts = splits[chosen]
    if counts["read"]["share"] < 1:
        console.print(Text(f"counted in {percent(counts['read']['share'])} of {chosen}, evenly spaced", "dim"))
    _heading(console, f"Row lengths in {chosen}", f"tokens, of at most {counts['length']:,}")
    _lengths(console, counts["row_lengths"])
    if len(counts["sequences_of_rows"]) > 1:
        _heading(console, "Sequences in a row", f"{counts['sequences_per_row']:.2f} on average")
        items = list(counts["sequences_of_rows"].items())
        shown, num_others = items[:MOST_LINES], sum(count for _, count in items[MOST_LINES:])
        bars(console, [*shown, *([("more", num_others)] if num_others else [])])
    _show_tokens(console, chosen, counts)


def _summary_of(artifact: Artifact, name: str) -> dict[str, Any]:
    """The summary of one part of the shards."""
    return artifact.summary["parts"].get(name.partition("-")[0], {}).get(name, {})


def _show_tokens(console: Console, split: str, rows: RowCounts) -> None:
    vocabulary = rows["vocabulary"]
    occurring = f"{vocabulary['occurring']:,} of {vocabulary['pieces']:,} pieces"
    _heading(console, f"Tokens in {split}", f"{occurring}, entropy {vocabulary['entropy']:.2f} nats per token")
    (lowest, pieces), *others = vocabulary["cover"].items()
    rest = "".join(f", {rank:,} are {percent} %" for percent, rank in others)
    console.print(Text(f"the {pieces:,} most frequent are {lowest} % of the text{rest}"))
    edges, counts = vocabulary["occurrences"]["edges"], vocabulary["occurrences"]["counts"]
    ranges = ["never" if high == 1 else f"{low:,}–{high - 1:,} times" for low, high in _pairs(edges)]
    if len(ranges) > 1:
        ranges[1] = "1–9 times"
    console.print(Text("\npieces that occur", "bold"))
    bars(console, list(zip(ranges, counts, strict=True)))
    console.print(Text("\nmost frequent", "bold"))
    bars(
        console,
        [(plain(piece["piece"]), piece["count"]) for piece in vocabulary["frequent"][:MOST_PIECES]],
        vocabulary["text"],
    )
    if vocabulary["unseen"]:
        num_more = vocabulary["unseen"] - len(vocabulary["unseen_pieces"])
        line = Text("\nnever seen", "bold")
        line.append(f"  {plain('  '.join(vocabulary['unseen_pieces']))}", "not bold")
        console.print(line.append(f"  … {num_more:,} more" if num_more > 0 else "", "not bold dim"))


def _show_corpus(artifact: Artifact, values: dict[str, Any], console: Console, split: str) -> None:
    corpus: CorpusCounts = values["corpus"]
    splits = corpus["splits"]
    kind = split.partition("-")[0]
    chosen = split if "rows" not in values else kind if kind in splits else "train"
    chosen = _chosen(artifact, chosen, {name: counts["documents"] for name, counts in splits.items()})
    table = _table("documents of", "documents", "sentences", "characters", "document", "sentence")
    for name, counts in splits.items():
        table.add_row(
            name,
            f"{counts['documents']:,}",
            f"{counts['sentences']:,}",
            f"{counts['characters']:,}",
            f"{counts['document_lengths']['median']:,}",
            f"{counts['sentence_lengths']['median']:,}",
        )
    console.print()
    console.print(table)
    console.print(Text("document, sentence: characters of the median one", "dim"))
    _show_documents(console, chosen, splits[chosen])
    _show_rejects(console, corpus, values.get("ingested", {}))


def _show_documents(console: Console, split: str, counts: DocumentCounts) -> None:
    if counts["read"]["share"] < 1:
        console.print(Text(f"counted in {percent(counts['read']['share'])} of {split}, evenly spaced", "dim"))
    _heading(console, f"Document lengths in {split}", "characters")
    _lengths(console, counts["document_lengths"])
    _heading(console, f"Document lengths in {split}", "sentences")
    _lengths(console, counts["document_sentences"])
    _heading(console, f"Sentence lengths in {split}", "characters")
    _lengths(console, counts["sentence_lengths"])
    _heading(console, f"Characters by source in {split}", f"{len(counts['sources']):,} in all")
    shown, others = counts["sources"][:MOST_LINES], counts["sources"][MOST_LINES:]
    items = [(plain(source["source"]), source["characters"]) for source in shown]
    if others:
        items.append((f"{len(others):,} more", sum(source["characters"] for source in others)))
    bars(console, items)


def _show_rejects(console: Console, corpus: CorpusCounts, ingested: dict[str, Any]) -> None:
    rejects = corpus["rejects"]
    of_all = f" of {ingested['rows']:,}" if "rows" in ingested else ""
    by_rules = f", {ingested['filtered']:,} by rules" if ingested.get("filtered") else ""
    _heading(console, "Rejected", f"{rejects['rows']:,}{of_all} rows{by_rules}")
    reasons = list(rejects["reasons"].items())
    if rejects["read"]["share"] < 1:
        console.print(Text(f"reasons of {percent(rejects['read']['share'])} of them, evenly spaced", "dim"))
    shown, num_others = reasons[:MOST_LINES], sum(count for _, count in reasons[MOST_LINES:])
    items = [(plain(reason), count) for reason, count in shown] + (
        [("other reasons", num_others)] if num_others else []
    )
    bars(console, items, width=BAR // 2)
    rules = ingested.get("rules") or {}
    if rules:
        console.print(Text("\nwhat rules did", "bold"))
        bars(
            console,
            [(plain(rule), count) for rule, count in sorted(rules.items(), key=lambda item: -item[1])],
            width=BAR // 2,
        )


def _show_tokenizer(counts: TokenizerCounts, console: Console) -> None:
    special = ", ".join(f"{role} {plain(piece)}" for role, piece in counts["specials"].items())
    console.print(Text(f"{counts['vocabulary']:,} tokens; {special}", "dim"))
    table = _table("kind of piece", "pieces", "share", "length")
    table.add_column("for example", ratio=1, no_wrap=True)
    table.expand = True
    for kind in counts["kinds"]:
        table.add_row(
            kind["kind"],
            f"{kind['pieces']:,}",
            percent(kind["share"]),
            f"{kind['mean_length']:.1f}",
            Text(plain("  ".join(kind["examples"]))),
        )
    console.print()
    console.print(table)
    _heading(console, "Lengths of pieces", "characters")
    _lengths(console, counts["lengths"])
    if counts["scripts"]:
        _heading(console, "Scripts", "pieces with letters")
        bars(console, list(counts["scripts"].items())[:MOST_LINES])


# -- tables and bars --------------------------------------------------------------------------------------------------


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for head in others:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _heading(console: Console, title: str, about: str) -> None:
    console.print(Text(f"\n{title}", "bold").append(f"  {about}", "not bold dim"))


def _lengths(console: Console, lengths: Lengths) -> None:
    facts = ("least", "median", "mean", "most")
    console.print(Text("  ".join(f"{fact} {number(lengths[fact])}" for fact in facts)))
    edges, counts = _coarser(lengths["edges"], lengths["counts"])
    ranges = [f"{low:,}" if high - low == 1 else f"{low:,}–{high - 1:,}" for low, high in _pairs(edges)]
    bars(console, list(zip(ranges, counts, strict=True)))


def _coarser(edges: Sequence[int], counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Edges and counts of bins for a page: without empty ones at the ends, and merged if there are too many."""
    occupied = [index for index, count in enumerate(counts) if count]
    first, last = (occupied[0], occupied[-1] + 1) if occupied else (0, 0)
    shown = list(edges[first : last + 1])
    if last - first > MOST_BINS:
        doublings = [edge for edge in shown if edge & (edge - 1) == 0]
        step = -(-(last - first) // MOST_BINS)
        inner = doublings if len(doublings) > 2 else shown[::step]
        shown = sorted({shown[0], *inner, shown[-1]})
    indices = [edges.index(edge) for edge in shown]
    return shown, [sum(counts[low:high]) for low, high in _pairs(indices)]


def _pairs(values: Sequence[int]) -> Iterable[tuple[int, int]]:
    return pairwise(values)
