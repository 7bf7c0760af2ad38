"""The report of the job `predictions`: losses and accuracies next to those of n-grams, figures, examples, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.rng import key
from pipeline.downstream.predictions import figures
from pipeline.downstream.predictions.job import Config
from pipeline.downstream.predictions.judgements import JudgedTokens
from pipeline.downstream.predictions.ngrams import BOTH, NAMES, ORDER, Scored
from pipeline.downstream.predictions.weights import Moved
from pipeline.reports.report import Figure, Report, Table
from training.inference.likelihood import bits_per_byte

NETWORK, UNTRAINED, COPIED = "network", "random weights", "what it was given, copied"
SAMPLES = 2000  # of the bootstrap
LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """What was predicted of M held-out tokens.

    rows, words, places: [M], held-out row, truth and position of each. num_bytes: of the text that they spell, where
    they are one from left to right. scored: by who predicted. all_targets, all_words: of all the objective's targets,
    also those that the network could see; shown: number of these. given: of a sequence of its own, the share of its
    tokens that the network was given somewhere. counts: [vocabulary], of training tokens. read: training tokens that
    n-grams were counted in, the rows that they are from, and all rows. moved: by part of the network.
    """

    rows: np.ndarray
    words: np.ndarray
    places: np.ndarray
    num_bytes: int | None
    scored: Mapping[str, Scored]
    all_targets: Scored
    all_words: np.ndarray
    counts: np.ndarray
    both_sides: bool
    shown: int
    given: float | None
    read: tuple[int, int, int]
    moved: Mapping[str, Moved]
    asked: str = ""
    """Which part of the network predicted, where that is not all of it."""
    copied: np.ndarray | None = None
    """[M] guesses by copying what the network was given, of a sequence of its own; they have no probabilities."""

    @property
    def ngrams(self) -> list[str]:
        return [name for name in self.scored if name not in (NETWORK, UNTRAINED)]

    def loss(self, name: str) -> np.ndarray:
        """−log p of each token, in nats."""
        return -self.scored[name].truth

    def right(self, name: str) -> np.ndarray:
        """Whether the first guess at each token is right, as 0 and 1."""
        return (self.scored[name].best == self.words).astype(np.float64)

    def values(self, name: str) -> np.ndarray:
        """What the verdict compares, higher is better: right guesses, where both sides are seen; else log p."""
        return self.right(name) if self.both_sides else self.scored[name].truth

    @property
    def best_ngram(self) -> str:
        return max(self.ngrams, key=lambda name: self.values(name).mean())


def interval(values: np.ndarray, rows: np.ndarray, seed: int) -> tuple[float, float]:
    """The mean's 95 % interval by a bootstrap of whole rows: percentiles of means over rows drawn again."""
    sums, counts = (np.bincount(rows, weights) for weights in (values, None))
    sums, counts = sums[counts > 0], counts[counts > 0]
    random = np.random.default_rng(key(seed, "bootstrap"))
    drawn = random.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), SAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def build(
    job: Config, measured: Measured, examples: Sequence[Table], judged: JudgedTokens | None, out_dir: Path, seed: int
) -> Report:
    """Draws into `out_dir/figures`. judged: of networks that judge tokens, too."""
    tables = [_main(measured, seed), *(judged.tables if judged else []), *examples]
    if measured.moved:
        tables.append(_moved(measured.moved))
    return Report(
        title=job.name,
        about=_about(measured),
        tables=tables,
        figures=_figures(measured, out_dir / "figures"),
        verdict=_verdict(measured, seed) + (f" {judged.verdict}" if judged else ""),
        numbers=_numbers(measured, seed) | (judged.numbers if judged else {}),
        notes={"task": job.task, "best_ngram": measured.best_ngram},
    )


def _main(measured: Measured, seed: int) -> Table:
    columns = ["predicted by", "nats per token (95 % interval)", "perplexity", "right at first guess"]
    if measured.num_bytes:
        columns.insert(3, "bits per byte")
    rows = []
    for name in measured.scored:
        loss, right = measured.loss(name), measured.right(name)
        low, high = interval(loss, measured.rows, seed)
        row = [f"**{name}**" if name == NETWORK else name]
        row += [f"{loss.mean():.3f} ({low:.3f} to {high:.3f})", f"{np.exp(loss.mean()):,.1f}", f"{right.mean():.1%}"]
        if measured.num_bytes:
            row.insert(3, f"{bits_per_byte(loss.sum(), measured.num_bytes):.3f}")
        rows.append(row)
    if measured.copied is not None:
        rows.append([COPIED, *["–"] * (len(columns) - 2), f"{(measured.copied == measured.words).mean():.1%}"])
    return Table("Held-out tokens", columns, rows)


def _moved(moved: Mapping[str, Moved]) -> Table:
    rows = [
        [part, f"{of.parameters:,}", "–" if of.change is None else f"{of.change:.3g}"] for part, of in moved.items()
    ]
    return Table("How far weights moved", ["part", "parameters", "‖change‖ / ‖initial weights‖"], rows)


def _about(measured: Measured) -> str:
    tokens, rows = len(measured.words), len(np.unique(measured.rows))
    if measured.both_sides:
        asked = f"{tokens:,} masked tokens of {rows:,} held-out rows, filled in from both sides."
        if measured.shown:
            loss = -measured.all_targets.truth.mean()
            right = (measured.all_targets.best == measured.all_words).mean()
            asked += (
                f" Another {measured.shown:,} targets are left out, for the network sees a token at their place (the "
                f"true one, or a random one); with them its loss is {loss:.3f} and it is right in {right:.1%}."
            )
        methods = (
            f"“{BOTH}” is p(w | left) p(w | right) / p(w), of models up to order {ORDER} in both directions, with the "
            "tokens that the network sees, too, next to a masked one."
        )
    else:
        asked = f"{tokens:,} tokens of {rows:,} held-out rows, each predicted from those before it."
        if measured.asked:
            asked += f" Of the network, {measured.asked}, predicts."
        methods = f"N-gram models see at most {ORDER - 1} tokens before it, of the same sequence."
        if measured.given is not None:
            asked += (
                f" The network sees the text with its gaps, too, in which {measured.given:.1%} of these tokens stand "
                "somewhere; n-gram models do not."
            )
        if measured.copied is not None:
            asked += f" “{COPIED}” guesses what stands there behind the token before."
    untrained = "the same network before training" if measured.moved else "a network of that shape"
    counted, read, of_rows = measured.read
    share = "of all training rows" if read == of_rows else f"of {read:,} of {of_rows:,} training rows"
    return (
        f"{asked} All predict the same tokens. N-grams are counted in {counted:,} tokens {share}, by the same "
        "tokenizer, with interpolated Kneser–Ney smoothing of three discounts (Chen & Goodman 1999). "
        f"{methods} “{UNTRAINED}” is {untrained}. Intervals are a bootstrap of whole rows; rows "
        "of one document are alike, so between documents the spread is larger."
    )


def _verdict(measured: Measured, seed: int) -> str:
    best, count = measured.best_ngram, len(measured.words)
    gains = measured.values(NETWORK) - measured.values(best)
    gain, bounds = float(gains.mean()), interval(gains, measured.rows, seed)
    if measured.both_sides:
        own, others, before = (f"{measured.right(name).mean():.1%}" for name in (NETWORK, best, UNTRAINED))
        text = f"The network fills in {own} of {count:,} masked tokens, the best n-gram model ({best}) {others}"
        scale, unit, better, worse = 100, "points", "more", "fewer"
        trained_from = f"Before training it was {before}." if measured.moved else f"Random weights fill in {before}."
    else:
        own, others, before = (f"{measured.loss(name).mean():.3f}" for name in (NETWORK, best, UNTRAINED))
        text = f"The network needs {own} nats for each of {count:,} tokens, the best n-gram model ({best}) {others}"
        scale, unit, better, worse = 1, "nats", "fewer", "more"
        trained_from = f"Before training it needed {before}." if measured.moved else f"Random weights need {before}."
    digits = 1 if measured.both_sides else 3
    low, high = sorted(abs(scale * bound) for bound in bounds)
    size = f"{abs(scale * gain):.{digits}f} {unit} {better if gain > 0 else worse}"
    if bounds[0] <= 0 <= bounds[1]:
        around = " to ".join(f"{scale * bound:+.{digits}f}" for bound in bounds)
        return f"{text}: no more than chance makes of such rows (95 % interval of the gain {around}). {trained_from}"
    beats = "beats it" if gain > 0 else "does not beat it"
    return f"{text}: {size} (95 % interval {low:.{digits}f} to {high:.{digits}f}), so it {beats}. {trained_from}"


def _numbers(measured: Measured, seed: int) -> dict[str, float]:
    numbers: dict[str, float] = {"tokens": float(len(measured.words))}
    for name in measured.scored:
        slug = "" if name == NETWORK else f"/{name.replace(', ', '_').replace(' ', '_')}"
        numbers[f"loss{slug}"] = float(measured.loss(name).mean())
        numbers[f"accuracy{slug}"] = float(measured.right(name).mean())
        if measured.num_bytes:
            numbers[f"bits_per_byte{slug}"] = bits_per_byte(float(measured.loss(name).sum()), measured.num_bytes)
    if measured.copied is not None:
        numbers["accuracy/copied"] = float((measured.copied == measured.words).mean())
    difference = measured.values(NETWORK) - measured.values(measured.best_ngram)
    low, high = interval(difference, measured.rows, seed)
    numbers |= {"gain": float(difference.mean()), "gain/low": low, "gain/high": high}
    return numbers


def _figures(measured: Measured, folder: Path) -> list[Figure]:
    shown = [NETWORK, measured.best_ngram, NAMES[0]]
    shown = list(dict.fromkeys(shown))
    rank = np.argsort(np.argsort(-measured.counts, kind="stable"))[measured.words]
    figures.by_frequency(rank, {name: measured.right(name) for name in shown}, folder / "frequency.png")
    files = [Figure("accuracy by how frequent a token is", "frequency.png")]
    if not measured.both_sides:
        figures.by_place(measured.places, {name: measured.loss(name) for name in shown}, folder / "place.png")
        files.append(Figure("loss by how much stands before a token", "place.png"))
    return files
