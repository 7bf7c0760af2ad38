"""The report of the job `adaptation`: what it knew and what it knows, by source; how texts are cut; a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.text.by_source import SourceTokens
from data_prep.tokens.vocabulary.extension import Added
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import Figure, Report, Table

Known = Literal["before", "start", "after"]
NAMES: Mapping[Known, str] = {
    "before": "as it was",
    "start": "with new pieces, untrained",
    "after": "trained",
}
BARS = "bits-per-byte.png"
SHOWN = 40  # new pieces


@dataclass(frozen=True)
class SourceReport:
    """One source: its held-out losses in bits per byte, and how its texts are cut before and after."""

    name: str
    is_trained_on: bool
    bits: Mapping[Known, float]
    tokens: Mapping[str, SourceTokens]

    @property
    def first(self) -> float:
        """Bits per byte of the network as it was."""
        return self.bits.get("before", self.bits["start"])

    @property
    def gain(self) -> float:
        """Bits per byte that are saved by training; below 0: forgotten."""
        return self.first - self.bits["after"]


def build(
    job: Any,
    sources: Sequence[SourceReport],
    added: Added | None,
    spelt: Sequence[str],
    is_in_order: bool,
    remarks: Sequence[str],
    out: Path,
) -> Report:
    """The report, and its figure in `out`.

    spelt: the new pieces, as a person reads them. is_in_order: each token is predicted from those before it, so that
    losses add up to that of the text. remarks: what became of the folder's weights, in sentences.
    """
    whens: list[Known] = [when for when in NAMES if when in sources[0].bits]
    _draw(sources, whens, out / "figures" / BARS)
    tables = [
        Table(
            "What it knew and what it knows, in bits per byte",
            ["source", "read", *(NAMES[when] for when in whens), "gain"],
            [
                [
                    f"**{source.name}**" if source.is_trained_on else source.name,
                    "trained on" if source.is_trained_on else "held out only",
                    *(f"{source.bits[when]:.3f}" for when in whens),
                    f"{source.gain:+.3f} ({source.gain / source.first:+.1%})",
                ]
                for source in sources
            ],
        ),
        Table(
            "How held-out texts are cut",
            ["source", "tokens per", "before", "after", "tokens that are new pieces", "unknown characters"],
            [_cut(source, added) for source in sources],
        ),
    ]
    if added is not None:
        tables.append(_pieces(sources, added, spelt))
    about = (
        "Held-out documents of every source, predicted as the recipe has it: by the network that training started "
        f"from, with its own tokenizer{', with new pieces before any training,' if added else ''} and after training. "
        "Bits are divided by the bytes of the text that predicted tokens spell, so vocabularies compare; spaces count "
        "where they are part of tokens."
    )
    if added is not None and not is_in_order:
        about += (
            " A masked token is predicted from all that is not masked, other pieces of its word among them, so its "
            "loss is no share of the text's: of texts that are cut in another way, compare the last two columns."
        )
    return Report(
        title=job.name,
        about="\n\n".join([about, *(f"Of its weights: {remark}." for remark in remarks)]),
        tables=tables,
        figures=[Figure("bits per byte by source", BARS)],
        verdict=_verdict(sources, added),
        numbers={
            **{f"bits_per_byte/{when}/{source.name}": source.bits[when] for source in sources for when in whens},
            **{f"gain/{source.name}": source.gain for source in sources},
            **{
                f"fertility/{when}/{source.name}": cut.fertility
                for source in sources
                for when, cut in source.tokens.items()
            },
            "new_pieces": float(len(added.pieces)) if added else 0.0,
        },
    )


def _new_counts(source: SourceReport, added: Added) -> np.ndarray:
    """How often each new piece occurs in a source's text: [number of new pieces]."""
    counts = source.tokens["after"].token_counts[added.first :]
    return np.pad(counts, (0, len(added.pieces) - len(counts)))


def _cut(source: SourceReport, added: Added | None) -> list[str]:
    before, after = source.tokens["before"], source.tokens["after"]
    share = _new_counts(source, added).sum() / max(1, after.tokens) if added else 0.0
    return [
        source.name,
        after.unit,
        f"{before.fertility:.3f}",
        f"{after.fertility:.3f}",
        f"{share:.1%}",
        f"{after.unknown_share:.2%}",
    ]


def _pieces(sources: Sequence[SourceReport], added: Added, spelt: Sequence[str]) -> Table:
    """The new pieces that occur most often where it was trained."""
    total = sum(
        (_new_counts(source, added) for source in sources if source.is_trained_on),
        np.zeros(len(added.pieces), np.int64),
    )
    used = int((total > 0).sum())
    order: list[int] = np.argsort(-total, kind="stable")[: min(SHOWN, used)].tolist()
    return Table(
        f"New pieces: {used:,} of {len(added.pieces):,} occur in held-out texts",
        ["piece", "occurs", "made of pieces"],
        [[spelt[place], f"{total[place]:,}", str(len(added.parts[place]))] for place in order],
        examples=True,
    )


def _verdict(sources: Sequence[SourceReport], added: Added | None) -> str:
    sentences = []
    for source in sources:
        change = f"{source.first:.3f} → {source.bits['after']:.3f} bits per byte"
        if source.is_trained_on:
            word = "gained" if source.gain > 0 else "lost"
            sentences.append(f"On {source.name}, which it was trained on, it {word} {abs(source.gain):.3f} ({change}).")
        else:
            word = "forgot" if source.gain < 0 else "forgot nothing and gained"
            sentences.append(f"Of {source.name}, which it did not read, it {word} {abs(source.gain):.3f} ({change}).")
    if added is not None:
        cuts = [
            f"{before.fertility:.2f} → {after.fertility:.2f} tokens per {after.unit}"
            for before, after in (
                (source.tokens["before"], source.tokens["after"]) for source in sources if source.is_trained_on
            )
        ]
        sentences.append(f"{len(added.pieces):,} new pieces make {', '.join(cuts)} of what it was trained on.")
    return " ".join(sentences)


def _draw(sources: Sequence[SourceReport], whens: Sequence[Known], path: Path) -> None:
    figure, axes = new_axes("What it knew and what it knows", "", "bits per byte")
    width = 0.8 / len(whens)
    for number, when in enumerate(whens):
        places = np.arange(len(sources)) + (number - (len(whens) - 1) / 2) * width
        axes.bar(places, [source.bits[when] for source in sources], width, label=NAMES[when], color=COLOURS[number])
    axes.set_xticks(np.arange(len(sources)), [source.name for source in sources])
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)
