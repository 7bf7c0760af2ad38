"""Findings: what is odd or wrong with data and settings, reported with numbers and advice before training starts.

A kind of data declares its own (`Kind.findings`); those that all kinds share are here. They follow from settings and
from the summaries of finished stages, so `sesame plan`, the first lines of a run and its report tell the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.errors import UserError

Summary = Mapping[str, Any] | None
"""The summary of a stage; None: it is not finished."""
FEW_SHARE = 0.01


@dataclass(frozen=True)
class Finding:
    """One sentence. refused: nothing useful can come of it, so the run ends before it trains."""

    text: str
    refused: bool = False


@dataclass(frozen=True)
class Known:
    """What is known of an experiment before it trains.

    data, train, corruption: sections of the recipe. composed, length: compose.kind and the most tokens of a row, for
    text. tokenizer: its settings, for text that is not tokenised yet. characters: how often each occurs in a sample of
    the sources, for text that is not read yet. hidden: the share of tokens to predict in some training rows, and the
    share that the corruption allows. unit, units: what the corruption hides whole, and what such units are in scripts
    without blanks between words (`data_prep.tokens.segment.Units`).
    """

    data: Any
    train: Any
    corruption: Any
    composed: str | None = None
    length: int | None = None
    tokenizer: Any = None
    characters: Mapping[str, int] | None = None
    hidden: tuple[float, float] | None = None
    unit: str = "token"
    units: tuple[float, float] | None = None
    corpus: Summary = None
    fitted: Summary = None
    shards: Summary = None


def refuse(findings: Iterable[Finding]) -> None:
    """UserError that tells the findings for which nothing is trained, if there are any."""
    if reasons := [finding.text for finding in findings if finding.refused]:
        raise UserError(f"nothing is trained: {'; '.join(reasons)}.")


def held_out(known: Known, unit: str, advice: str) -> Iterator[Finding]:
    """Splits with too few examples to measure anything on. unit: plural noun of examples; advice: how to get more."""
    splits = (known.corpus or {}).get("splits")
    if splits is None:
        return
    of_split = {name: _examples(splits.get(name, {})) for name in ("train", "validation", "test")}
    total = sum(of_split.values())
    for name in ("validation", "test"):
        share, held = getattr(known.data.split, name), of_split[name]
        if not share or held > 1:
            continue
        if held:
            text = f"{name} is 1 of {total:,} {unit}: what is measured or drawn from it is true of that one; {advice}"
            yield Finding(text)
            continue
        trained_on = (
            f"the only one of all {unit} is trained on" if total == 1 else f"all {total:,} {unit} are trained on"
        )
        text = f"{name} is empty, though data.split.{name} is {share:g}: {trained_on}; {advice}"
        yield Finding(f"{text}, or set data.split.{name} to 0", refused=name == "validation")


def _examples(split: Mapping[str, Any]) -> int:
    return split.get("documents", split.get("rows", 0))


def budget(known: Known, many_passes: int) -> Iterator[Finding]:
    """Fewer rows than a step takes, and more passes over them than `many_passes`."""
    if not known.shards:
        return
    rows, batch, steps = known.shards["train"]["rows"], known.train.global_batch, known.train.steps
    if rows < batch:
        yield Finding(
            f"a step takes {batch:,} rows and there are {rows:,}: each is in it up to {math.ceil(batch / rows):,} "
            "times; lower train.global_batch or add data"
        )
    passes = steps * batch / rows
    if passes > many_passes:
        yield Finding(
            f"{steps:,} steps of {batch:,} rows are {passes:,.0f} passes over {rows:,} training rows; "
            "lower train.steps or add data"
        )


def uniform(known: Known, word: str | None) -> Iterator[Finding]:
    """Rows of one value throughout. word: what such a row is called; None: they are nothing odd."""
    counted = (known.shards or {}).get("uniform")
    if word is None or not counted or counted["uniform"] <= FEW_SHARE * counted["rows"]:
        return
    share = counted["uniform"] / counted["rows"]
    yield Finding(
        f"{share:.1%} of {counted['rows']:,} training rows are {word}: the network is to learn from them, too; "
        "leave them out of data.sources",
        refused=share == 1,
    )
