"""Replaced tokens that a network must tell from true ones: how well it does, compared with n-grams, and examples.

What n-grams say of a token is how surprising it is between its neighbours: −log p as it would be filled in there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.rng import key
from data_prep.shards.rows import Ragged
from pipeline.downstream.predictions import ngrams
from pipeline.downstream.predictions.examples import NOTHING, Models, Words
from pipeline.reports.report import Table
from training.inference.predictions import Judged, Predictions
from training.objectives.text import Targets

TOKENS = 1 << 14  # that are judged by both
AROUND = 16  # tokens shown on each side of a replaced one
LIKELY = 0.5  # probability from which on a token is called replaced
AUROC, PRECISION, RATE = "auroc", "average_precision", "replaced"


class JudgedTokens(NamedTuple):
    """Tables, numbers by name, and a sentence."""

    tables: list[Table]
    numbers: dict[str, float]
    verdict: str


def judged_tokens(
    parts: Sequence[Predictions], models: Models, words: Words, seed: int, count: int
) -> JudgedTokens | None:
    """How well replaced tokens were detected, in the first rows; None if the network judges no tokens."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    judged = _first_rows([part.judged for part in parts if part.judged is not None])
    ordinary = ~words.special.is_special
    chosen = ordinary[judged.ids.values] if judged is not None else np.zeros(0, bool)
    if judged is None or len(np.unique(judged.replaced.values[chosen])) < 2:
        return None
    truth = judged.replaced.values[chosen]
    scores = {"network": judged.p.values[chosen], ngrams.BOTH: _surprise(judged.ids, chosen, models, words)}
    rows, numbers = [], {f"judged/{RATE}": float(truth.mean())}
    for name, score in scores.items():
        slug = "" if name == "network" else "/n-grams"
        numbers[f"judged/{AUROC}{slug}"] = float(roc_auc_score(truth, score))
        numbers[f"judged/{PRECISION}{slug}"] = float(average_precision_score(truth, score))
        of_method = (numbers[f"judged/{metric}{slug}"] for metric in (AUROC, PRECISION))
        rows.append([f"**{name}**" if name == "network" else name, *(f"{100 * value:.1f}" for value in of_method)])
    base = f"{len(truth):,} tokens, {truth.mean():.1%} of them replaced"
    columns = ["judged by", "AUROC", f"average precision ({100 * truth.mean():.1f} by chance)"]
    own, others = (numbers[f"judged/{AUROC}{slug}"] for slug in ("", "/n-grams"))
    verdict = (
        f"It tells replaced tokens from true ones with an AUROC of {100 * own:.1f}; by how surprising they are to "
        f"n-grams, it is {100 * others:.1f} ({base})."
    )
    tables = [Table("Replaced tokens", columns, rows), _examples(judged, words, seed, count)]
    return JudgedTokens(tables, numbers, verdict)


def _first_rows(parts: Sequence[Judged]) -> Judged | None:
    if not parts:
        return None
    joined = Judged(*(Ragged.concat(columns) for columns in zip(*parts, strict=True)))
    rows = max(1, int(np.searchsorted(joined.ids.offsets, TOKENS, side="right")) - 1)
    return Judged(*(column.slice(0, rows) for column in joined))


def _surprise(shown: Ragged, chosen: np.ndarray, models: Models, words: Words) -> np.ndarray:
    """−log p of the chosen tokens between their neighbours."""
    places, row = np.flatnonzero(chosen), shown.row_index()
    offsets = np.searchsorted(row[places], np.arange(len(shown) + 1))
    targets = Targets(
        shown, Ragged(shown.positions()[places], offsets), Ragged(shown.values[places], offsets), both_sides=True
    )
    return -models(ngrams.contexts_of(targets, words.special.is_special))[ngrams.BOTH].truth


def _examples(judged: Judged, words: Words, seed: int, count: int) -> Table:
    """Texts as they were shown, around a replaced token of each row, and what was replaced there."""
    random = np.random.default_rng(key(seed, "judged"))
    rows = []
    for row in random.permutation(len(judged.ids)).tolist():
        ids, replaced, p = (column.row(row) for column in judged)
        if not replaced.any() or len(rows) == count:
            continue
        place = int(random.choice(np.flatnonzero(replaced)))
        around = slice(max(0, place - AROUND), place + AROUND + 1)
        flagged = np.flatnonzero(p[around] > LIKELY)
        suspicions = [
            f"{words.name(token)} {share:.0%}"
            for token, share in zip(ids[around][replaced[around]].tolist(), p[around][replaced[around]], strict=True)
        ]
        rows.append([words.text(ids[around], marked=flagged.tolist()), ", ".join(suspicions) or NOTHING])
    columns = ["text as it was shown", "replaced, and how likely the network thought it"]
    return Table("What was called replaced (⟦so⟧)", columns, rows, examples=True)
