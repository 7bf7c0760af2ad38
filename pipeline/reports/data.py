"""Figures a person looks at, as PNG files, and the page about the data that shows them.

Colours are Okabe and Ito's, which most colour-blind readers tell apart.
"""

from __future__ import annotations

import html
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.shards.streams import LONGER
from data_prep.stats.types import CorpusCounts, Lengths, RowCounts
from training.monitor.names import HELD_OUT_LOSS, LOSS, PER_SECOND, SPEED, TRAIN, VALIDATION

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS_PER_INCH = 130


def new_axes(title: str, x: str, y: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return figure, axes


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return path


def training_curves(records: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """loss.png, accuracy.png and throughput.png from a run's records, for the metrics they hold."""
    terms = _terms(records)
    unit = "loss (nats per target)" if terms else "loss"
    speeds = _ending(records, PER_SECOND) or [""]
    counted = speeds[0].removeprefix(SPEED).replace("_", " ")
    return [
        *_curves(records, folder / "loss.png", "Loss", unit, terms or [LOSS, HELD_OUT_LOSS]),
        *_curves(records, folder / "accuracy.png", "Accuracy", "share correct", _ending(records, "_accuracy")),
        *_curves(records, folder / "throughput.png", "Throughput", counted, speeds),
    ]


def _terms(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of terms: every metric that has an accuracy beside it, in training and on held-out rows."""
    return [name.removesuffix("_accuracy") for name in _ending(records, "_accuracy")]


def _ending(records: Sequence[dict[str, Any]], suffix: str) -> list[str]:
    return sorted({name for record in records for name in record if name.endswith(suffix)})


def _curves(records: Sequence[dict[str, Any]], path: Path, title: str, y: str, names: Sequence[str]) -> list[Path]:
    series = {n: [(r["step"], r[n]) for r in records if n in r] for n in names}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return []
    figure, axes = new_axes(title, "optimizer step", y)
    colours: dict[str, str] = {}
    for name, points in series.items():
        held_out = name.startswith(VALIDATION)
        base = name.removeprefix(VALIDATION).removeprefix(TRAIN).removeprefix(SPEED)
        colour = colours.setdefault(base, COLOURS[len(colours) % len(COLOURS)])
        style = {"marker": "o", "linestyle": "--", "markersize": 4} if held_out else {"linewidth": 1.4}
        label = base.replace("_", " ") + (" (held out)" if held_out else "")
        axes.plot(*zip(*points, strict=True), color=colour, label=label, **style)
    if all(value >= 0 for points in series.values() for _, value in points):
        axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return [save(figure, path)]


def sweep(curves: dict[str, list[dict[str, Any]]], scores: dict[str, float], path: Path) -> Path:
    """Held-out loss over the steps, a line for each combination; where it was taken once, the loss of training."""
    figure, axes = new_axes("Sweep", "optimizer step", "loss (nats per target)")
    for index, (label, records) in enumerate(curves.items()):
        held_out = [(r["step"], r[HELD_OUT_LOSS]) for r in records if HELD_OUT_LOSS in r]
        points = held_out if len(held_out) > 1 else [(r["step"], r[LOSS]) for r in records if LOSS in r]
        score = f" → {scores[label]:.3f}" if label in scores else ""
        colour, style = COLOURS[index % len(COLOURS)], ("-", "--", ":", "-.")[index // len(COLOURS) % 4]
        axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.4, label=f"{label}{score}")
    axes.legend(frameon=False, fontsize=8)
    return save(figure, path)


def learning_curve(title: str, metric: str, cells: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Score over the number of labels: mean and standard deviation over the seeds for every model, baselines beside.

    cells: `model`, `kind`, `labels`, `mean`, `std`.
    """
    figure, axes = new_axes(title, "labelled training examples", metric)
    for index, model in enumerate(dict.fromkeys(cell["model"] for cell in cells)):
        own = [cell for cell in cells if cell["model"] == model]
        x = [cell["labels"] for cell in own]
        mean = [cell["mean"] for cell in own]
        spread = [cell["std"] for cell in own]
        baseline = own[0]["kind"] == "baseline"
        axes.errorbar(
            x,
            mean,
            yerr=spread,
            label=model,
            color=COLOURS[index % len(COLOURS)],
            marker="s" if baseline else "o",
            linestyle=":" if baseline else "-",
            capsize=3,
        )
    axes.set_xscale("log")
    labels = sorted({cell["labels"] for cell in cells})
    axes.set_xticks(labels, [f"{n:,}" for n in labels], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


# -- data -------------------------------------------------------------------------------------------------------------

MOST_LINES, MOST_BARS = 6, 12  # in one figure
FREQUENCIES, ROWS, DOCUMENTS, REJECTS = (
    f"{name}.png" for name in ("token-frequencies", "row-lengths", "document-lengths", "rejects")
)


def data_figures(splits: Mapping[str, RowCounts], corpus: CorpusCounts, folder: Path) -> list[Path]:
    """How often tokens are, how long rows and documents; why rows were rejected, if some were."""
    figures = [_frequencies(splits, folder / FREQUENCIES), _row_lengths(splits, folder / ROWS)]
    if "train" in corpus["splits"]:
        figures.append(_document_lengths(corpus, folder / DOCUMENTS))
    if corpus["rejects"]["reasons"]:
        figures.append(_rejects(corpus, folder / REJECTS))
    return figures


def _frequencies(splits: Mapping[str, RowCounts], path: Path) -> Path:
    figure, axes = new_axes("", "rank of the token", "share of the text")
    axes.set_title(
        "Tokens by frequency; grey: the share that the tokens up to there make up", loc="left", fontsize=10, y=1.04
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Longer rows are the training rows' documents once more.
    words_of = {name: split["vocabulary"] for name, split in splits.items() if not name.startswith(LONGER)}
    drawn = [(name, words) for name, words in words_of.items() if words["occurring"]]
    for index, (name, words) in enumerate(drawn[:MOST_LINES]):
        share = [count / words["text"] for count in words["counts"]]
        colour, style = COLOURS[index % len(COLOURS)], "--" if name == "validation" else "-"
        axes.plot(words["ranks"], share, color=colour, linestyle=style, linewidth=1.6, label=_label(name), zorder=3)
    if drawn:
        words = max((words for _, words in drawn), key=lambda words: words["text"])
        first, last = words["counts"][0] / words["text"], words["ranks"][-1]
        axes.plot([1, last], [first, first / last], color="0.6", linestyle=":", linewidth=1.2, label="1 / rank (Zipf)")
        above = axes.get_xaxis_transform()
        for (percent, rank), align in zip(words["cover"].items(), ("center", "right", "left"), strict=True):
            axes.axvline(rank, color="0.75", linewidth=0.8, zorder=1)
            axes.text(rank, 1.005, f"{percent} %", transform=above, ha=align, fontsize=7, color="0.4")
        axes.legend(frameon=False, fontsize=9, loc="lower left")
    return save(figure, path)


def _row_lengths(splits: Mapping[str, RowCounts], path: Path) -> Path:
    figure, axes = new_axes("Row lengths", "tokens in a row", "share of rows")
    for index, (name, split) in enumerate(list(splits.items())[:MOST_LINES]):
        label = f"{_label(name)}: {split['padding_share']:.1%} padding"
        edges = [edge - 0.5 for edge in split["row_lengths"]["edges"]]
        _stairs(axes, split["row_lengths"], edges, index, label, dashed=name == "validation")
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return save(figure, path)


def _document_lengths(corpus: CorpusCounts, path: Path) -> Path:
    figure, axes = new_axes("Document lengths in training", "characters in a document", "share of documents")
    sources = corpus["splits"]["train"]["sources"]
    for index, source in enumerate(sources[:MOST_LINES]):
        label = f"{_label(source['source'])}: {_count(source['documents'], 'document')}"
        edges = [max(edge, 0.5) for edge in source["lengths"]["edges"]]  # an empty document has a place, too
        _stairs(axes, source["lengths"], edges, index, label)
    axes.set_xscale("log")
    if len(sources) > MOST_LINES:
        axes.plot([], [], " ", label=f"{len(sources) - MOST_LINES} more sources")
    axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def _stairs(axes: Any, lengths: Lengths, edges: Sequence[float], index: int, label: str, dashed: bool = False) -> None:
    shares = [count / max(lengths["count"], 1) for count in lengths["counts"]]
    colour = COLOURS[index % len(COLOURS)]
    if index == 0:
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.15)
    axes.stairs(shares, edges, color=colour, linewidth=1.6, linestyle="--" if dashed else "-", label=label)


def _rejects(corpus: CorpusCounts, path: Path) -> Path:
    """One bar for each reason, in parts by source."""
    rejects = corpus["rejects"]
    reasons = list(rejects["reasons"])[:MOST_BARS]
    more = len(rejects["reasons"]) - len(reasons)
    title = f"{_count(rejects['rows'], 'row')} rejected{f'; {more} rarer reasons are not shown' if more else ''}"
    figure, axes = new_axes(title, "rows", "")
    figure.set_size_inches(6.4, 1.2 + 0.32 * len(reasons))
    named = list(rejects["sources"])[: MOST_LINES - 1]
    parts = {source: rejects["sources"][source] for source in named}
    rest = Counter({reason: rejects["reasons"][reason] for reason in reasons})
    for part in parts.values():
        rest.subtract(part)
    if any(rest[reason] > 0 for reason in reasons):
        parts["other sources"] = dict(rest)
    left = [0] * len(reasons)
    for index, (source, part) in enumerate(parts.items()):
        counts = [part.get(reason, 0) for reason in reasons]
        axes.barh(range(len(reasons)), counts, 0.7, left, label=_label(source), color=COLOURS[index % len(COLOURS)])
        left = [one + other for one, other in zip(left, counts, strict=True)]
    for place, total in enumerate(left):
        axes.text(total, place, f" {total:,}", va="center", fontsize=8)
    axes.set_yticks(range(len(reasons)), [_label(reason, 44) for reason in reasons], fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    if len(parts) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    return save(figure, path)


def _label(text: str, longest: int = 30) -> str:
    """Strangers' text in a figure: short, and no formula."""
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return (text if len(text) <= longest else f"{text[: longest - 1]}…").replace("$", r"\$")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def data_page(
    title: str,
    splits: Mapping[str, RowCounts],
    corpus: CorpusCounts,
    ingested: Mapping[str, Any],
    drawn: Iterable[Path],
) -> str:
    """The same as Markdown. `ingested`: the summary of the corpus, which knows what became of every row read."""
    shown = {path.name for path in drawn}
    lines = [f"# Data of {_cell(title)}", ""]

    def figure(name: str) -> list[str]:
        return [f"![{name.removesuffix('.png')}](figures/{name})", ""] if name in shown else []

    rows = [
        [
            name,
            f"{split['rows']:,}",
            f"{split['tokens']:,}",
            f"{split['row_lengths']['mean']:,.1f} of {split['length']:,}",
            f"{split['padding_share']:.2%}",
            f"{split['sequences_per_row']:.2f}",
            f"{split['vocabulary']['unk_share']:.3%}",
            f"{split['vocabulary']['coverage']:.1%}",
            f"{split['vocabulary']['entropy']:.2f}",
        ]
        for name, split in splits.items()
    ]
    lines += ["## Rows", ""]
    columns = "split,rows,tokens,mean length,padding,sequences per row,unknown tokens,vocabulary used,entropy"
    lines += [*_table(columns.split(","), rows), ""]
    lines += ["Entropy: nats per token. A network that only knows how frequent tokens are has this loss.", ""]
    for name, split in splits.items():
        if split["read"]["share"] < 1:
            lines += [f"Of {name}, {split['read']['share']:.2%} of the record batches were counted, evenly spaced.", ""]
    lines += [*figure(ROWS), "## Tokens", "", *figure(FREQUENCIES)]
    for name, split in list(splits.items())[:1]:
        lines += _tokens(name, split)
    lines += ["## Documents", "", *_documents(corpus), *figure(DOCUMENTS)]
    return "\n".join([*lines, *_read_rows(corpus, ingested), *figure(REJECTS)])


def _tokens(name: str, split: RowCounts) -> list[str]:
    words = split["vocabulary"]
    cover = ", ".join(f"{rank:,} cover {percent} %" for percent, rank in words["cover"].items())
    lines = [f"Of {words['pieces']:,} pieces, {words['occurring']:,} occur in {name}; {cover} of the text.", ""]
    table = [
        [str(place), _cell(piece["piece"]), f"{piece['count']:,}", f"{piece['share']:.2%}"]
        for place, piece in enumerate(words["frequent"], 1)
    ]
    lines += [*_table(["rank", "piece", "count", "share of the text"], table), ""]
    if words["unseen"]:
        some = " ".join(map(_cell, words["unseen_pieces"]))
        more = words["unseen"] - len(words["unseen_pieces"])
        lines += [f"Never seen: {some}{f' and {more:,} more' if more else ''}.", ""]
    return lines


def _documents(corpus: CorpusCounts) -> list[str]:
    rows = [
        [
            name,
            f"{split['documents']:,}",
            f"{split['sentences']:,}",
            f"{split['characters']:,}",
            f"{split['document_lengths']['median']:,}",
            f"{split['document_sentences']['median']:,}",
            f"{split['sentence_lengths']['median']:,}",
        ]
        for name, split in corpus["splits"].items()
    ]
    columns = "split,documents,sentences,characters,characters of the median document,its sentences,median sentence"
    lines = [*_table(columns.split(","), rows), ""]
    for name, split in corpus["splits"].items():
        if split["read"]["share"] < 1:
            lines += [f"Of {name}, {split['read']['share']:.2%} of the documents were counted, evenly spaced.", ""]
    if "train" in corpus["splits"]:
        rows = [
            [_cell(one["source"]), f"{one['documents']:,}", f"{one['characters']:,}", f"{one['lengths']['median']:,}"]
            for one in corpus["splits"]["train"]["sources"]
        ]
        lines += [*_table(["source of training", "documents", "characters", "median document"], rows), ""]
    return lines


def _read_rows(corpus: CorpusCounts, ingested: Mapping[str, Any]) -> list[str]:
    """What became of the rows that were read."""
    lines = ["## Rows read", ""]
    known = [
        [name.replace("_", " "), f"{ingested[name]:,}"]
        for name in ("rows", "kept", "rejected", "duplicates", "near_duplicates", "filtered")
        if name in ingested
    ]
    known += [[f"rule: {_cell(rule)}", f"{count:,}"] for rule, count in ingested.get("rules", {}).items()]
    lines += [*_table(["what", "rows"], known), ""] if known else []
    if corpus["rejects"]["reasons"]:
        rows = [[_cell(reason), f"{count:,}"] for reason, count in corpus["rejects"]["reasons"].items()]
        lines += [*_table(["rejected because", "rows"], rows), ""]
    return lines


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown; all columns but the first one are numbers."""
    return [
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _cell(text: str) -> str:
    """Strangers' text that is nothing but text in Markdown."""
    text = html.escape("".join(character if character.isprintable() else "\ufffd" for character in text), quote=False)
    return "".join(f"\\{character}" if character in "\\|*_`[]#~$" else character for character in text)
