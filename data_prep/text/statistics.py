"""Statistics of text, as tables and figures.

    rows       one line per split of the shards: number of rows, lengths, fill, diversity
    tokens     the most frequent pieces of each split
    phrases    phrases found in the training text, if any were looked for
    documents  one line per split and source of the corpus
    sources    one line per source in the recipe: its licence, rows read, rows kept
    rejects    one line per source and reason, including duplicates

Shares are in [0, 1], lengths in tokens (rows) or characters (documents). Entropy, in nats per token, is the loss of a
network that knows only the frequencies of tokens. Of very large data, only the share `counted_share` was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.shards.streams import LONGER
from data_prep.stats.blocks import Bars, Block, Curves, Histogram, Note, Statistics, Table
from data_prep.stats.types import CorpusCounts, RowCounts

MOST_SERIES, MOST_BARS = 6, 12  # in one figure


def statistics(counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
    """Metrics and blocks of text.

    counts: `splits` (`RowCounts` by name) and `corpus` (`CorpusCounts`). ingested: summary of the corpus, with its
    `sources` and `rules`.
    """
    splits: dict[str, RowCounts] = counts["splits"]
    corpus: CorpusCounts = counts["corpus"]
    numbers = {
        name: {
            "padding_share": split["padding_share"],
            "sequences_per_row": split["sequences_per_row"],
            "unk_share": split["vocabulary"]["unk_share"],
            "vocabulary_coverage": split["vocabulary"]["coverage"],
            "entropy": split["vocabulary"]["entropy"],
        }
        for name, split in splits.items()
    }
    blocks: list[Block] = [
        _rows(splits),
        Note("Entropy: nats per token. A network that only knows how frequent tokens are has this loss."),
        _row_lengths(splits),
        _tokens(splits),
        *_vocabularies(splits),
        _frequencies(splits),
        *_phrases(counts.get("phrases", ())),
        _documents(corpus),
    ]
    if "train" in corpus["splits"]:
        blocks.append(_document_lengths(corpus))
    blocks += [_sources(ingested), *_rules(ingested), _rejects(corpus)]
    if corpus["rejects"]["reasons"]:
        blocks.append(_reject_bars(corpus))
    return Statistics(numbers, blocks)


def _rows(splits: Mapping[str, RowCounts]) -> Table:
    columns = ["split", "rows", "tokens", "sequences", "mean_length", "median_length", "length", "padding_share"]
    columns += ["sequences_per_row", "unk_share", "vocabulary_coverage", "entropy", "counted_share"]
    rows = [
        [
            name,
            split["rows"],
            split["tokens"],
            split["sequences"],
            split["row_lengths"]["mean"],
            split["row_lengths"]["median"],
            split["length"],
            split["padding_share"],
            split["sequences_per_row"],
            split["vocabulary"]["unk_share"],
            split["vocabulary"]["coverage"],
            split["vocabulary"]["entropy"],
            split["read"]["share"],
        ]
        for name, split in splits.items()
    ]
    return Table("rows", "Rows", columns, rows)


def _tokens(splits: Mapping[str, RowCounts]) -> Table:
    rows = [
        [name, rank, piece["piece"], piece["count"], piece["share"]]
        for name, split in splits.items()
        for rank, piece in enumerate(split["vocabulary"]["frequent"], 1)
    ]
    return Table("tokens", "Most frequent tokens", ["split", "rank", "piece", "count", "share"], rows)


def _vocabularies(splits: Mapping[str, RowCounts]) -> Iterator[Note]:
    """The share of the vocabulary that occurs in the first split, and the pieces that never do."""
    for name, split in list(splits.items())[:1]:
        words = split["vocabulary"]
        cover = ", ".join(f"{rank:,} cover {percent} %" for percent, rank in words["cover"].items())
        yield Note(f"Of {words['pieces']:,} pieces, {words['occurring']:,} occur in {name}; {cover} of the text.")
        if words["unseen"]:
            num_more = words["unseen"] - len(words["unseen_pieces"])
            yield Note(
                f"Never seen: {' '.join(words['unseen_pieces'])}{f' and {num_more:,} more' if num_more else ''}."
            )


def _frequencies(splits: Mapping[str, RowCounts]) -> Curves:
    # Longer rows contain the same documents as the training rows.
    words_of = {name: split["vocabulary"] for name, split in splits.items() if not name.startswith(LONGER)}
    series = {
        name: (words["ranks"], [count / words["text"] for count in words["counts"]])
        for name, words in words_of.items()
        if words["occurring"]
    }
    largest = max((words_of[name] for name in series), key=lambda words: words["text"], default=None)
    marks = {f"{percent} %": rank for percent, rank in largest["cover"].items()} if largest else {}
    title = "Tokens by frequency; grey: the share that the tokens up to there make up"
    return Curves(
        "token-frequencies",
        title,
        "rank of the token",
        "share of the text",
        dict(list(series.items())[:MOST_SERIES]),
        marks,
        "1 / rank (Zipf)",
    )


def _phrases(top: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    if top:
        columns = ["phrase", "words", "count", "npmi"]
        title = "Phrases that were found, the most frequent first"
        yield Table("phrases", title, columns, [[phrase[column] for column in columns] for phrase in top])


def _row_lengths(splits: Mapping[str, RowCounts]) -> Histogram:
    series = {
        f"{name}: {split['padding_share']:.1%} padding": (
            [edge - 0.5 for edge in split["row_lengths"]["edges"]],
            split["row_lengths"]["counts"],
        )
        for name, split in list(splits.items())[:MOST_SERIES]
    }
    return Histogram("row-lengths", "Row lengths", "tokens in a row", "rows", series)


def _documents(corpus: CorpusCounts) -> Table:
    columns = ["split", "source", "documents", "sentences", "characters", "mean_length", "median_length"]
    rows = [
        [
            name,
            source["source"],
            source["documents"],
            source["sentences"],
            source["characters"],
            source["lengths"]["mean"],
            source["lengths"]["median"],
            split["read"]["share"],
        ]
        for name, split in corpus["splits"].items()
        for source in split["sources"]
    ]
    return Table("documents", "Documents", [*columns, "counted_share"], rows)


def _document_lengths(corpus: CorpusCounts) -> Histogram:
    sources = corpus["splits"]["train"]["sources"]
    series = {
        f"{source['source']}: {_count(source['documents'], 'document')}": (
            [
                max(edge, 0.5) for edge in source["lengths"]["edges"]
            ],  # a place for empty documents on the logarithmic axis
            source["lengths"]["counts"],
        )
        for source in sources[:MOST_SERIES]
    }
    more_sources = f"; {len(sources) - MOST_SERIES} more sources" if len(sources) > MOST_SERIES else ""
    title = f"Document lengths in training{more_sources}"
    return Histogram("document-lengths", title, "characters in a document", "documents", series, logarithmic=True)


def _sources(ingested: Mapping[str, Any]) -> Table:
    columns = ["source", "licence", "files", "bytes", "rows", "kept"]
    rows = [
        [*(source[column] for column in columns), source["rows"] - source["kept"]] for source in ingested["sources"]
    ]
    return Table("sources", "Rows read", [*columns, "rejected"], rows)


def _rules(ingested: Mapping[str, Any]) -> Iterator[Table]:
    if ingested.get("rules"):
        yield Table("rules", "What rules did", ["rule", "rows"], [[*item] for item in ingested["rules"].items()])


def _rejects(corpus: CorpusCounts) -> Table:
    rejects = corpus["rejects"]
    rows = [
        [source, reason, count, rejects["read"]["share"]]
        for source, reasons in rejects["sources"].items()
        for reason, count in reasons.items()
    ]
    return Table("rejects", "Rejected", ["source", "reason", "rows", "counted_share"], rows)


def _reject_bars(corpus: CorpusCounts) -> Bars:
    """One bar per reason, stacked by source."""
    rejects = corpus["rejects"]
    reasons = list(rejects["reasons"])[:MOST_BARS]
    num_more = len(rejects["reasons"]) - len(reasons)
    title = (
        f"{_count(rejects['rows'], 'row')} rejected{f'; {num_more} rarer reasons are not shown' if num_more else ''}"
    )
    parts = {}
    rest = Counter({reason: rejects["reasons"][reason] for reason in reasons})
    for source in list(rejects["sources"])[: MOST_SERIES - 1]:
        parts[source] = {reason: rejects["sources"][source].get(reason, 0) for reason in reasons}
        rest.subtract(parts[source])
    if any(rest[reason] > 0 for reason in reasons):
        parts["other sources"] = {reason: max(rest[reason], 0) for reason in reasons}
    return Bars("rejects", title, "rows", parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
