"""The report of a job on unusual documents: tables, figures, and which words are surprising."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.text.passages import Passage
from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, RECALL, Measured
from pipeline.downstream.document_anomaly import figures
from pipeline.downstream.job import mean_and_spread
from pipeline.recipe.jobs.document_anomaly import NORMAL, REPLACED, SHUFFLED, DocumentAnomalyConfig
from pipeline.reports import detection

SURPRISE, EXCESS, OVER_UNIGRAM = OURS = ("surprise", "excess", "over-unigram")
METRICS = (AUROC, AVERAGE_PRECISION, RECALL)
DRAWN = 1  # documents of each kind in the figure of words
WORDS_TOLD = 4


@dataclass(frozen=True)
class Shown:
    """The first draw, which figures show."""

    normal: np.ndarray  # scores
    unusual: dict[str, np.ndarray]  # by kind
    thresholds: dict[str, float]
    documents: list[dict[str, Any]]
    """The most unusual ones of each kind: document, kind, score, words, reasons."""


def report(
    job: DocumentAnomalyConfig,
    measured: Mapping[str, Measured],
    shown: Shown,
    learned: Mapping[str, Sequence[Passage]],
    out_dir: Path,
) -> dict[str, Any]:
    """As `pipeline.downstream.job.run` describes it. measured: by kind of anomaly; learned: from, by split."""
    methods = list(next(iter(measured.values())).values)
    alarms = f"{100 * job.false_alarms:.3g} % false alarms"
    heads = ["method", *(f"AUROC, {kind}" for kind in measured)]
    titles = {AVERAGE_PRECISION: "Average precision", RECALL: f"Recall at {alarms}"}
    tables = {
        title: (["method", *(f"{kind}{_base_rate(metric, of)}" for kind, of in measured.items())],
                [_row(name, measured, metric) for name in methods])
        for metric, title in titles.items()
    }  # fmt: skip
    tables[f"Thresholds of {SURPRISE} for {alarms}"] = _thresholds(measured)
    tables["The most unusual documents of the first draw"] = _documents(shown)
    return {
        "title": job.name,
        "task": job.task,
        "about": _about(job, measured, shown, learned),
        "heads": heads,
        "rows": [_row(name, measured, AUROC) for name in methods],
        "tables": tables,
        "figures": _figures(methods, measured, shown, job, out_dir / "figures"),
        "verdict": _verdict(measured),
        "found": {kind: {name: dict(of.values[name]) for name in methods} for kind, of in measured.items()},
        "documents": shown.documents,
        "summary": _summary(measured),
    }


def _about(
    job: DocumentAnomalyConfig,
    measured: Mapping[str, Measured],
    shown: Shown,
    learned: Mapping[str, Sequence[Passage]],
) -> str:
    pieces = "documents" if job.words is None else f"passages of documents, of about {job.words} words each,"
    replaced = f"; {job.replaced:.0%} of its words replaced by words drawn from training documents" * bool(job.replaced)
    others = [kind for kind in measured if kind not in (SHUFFLED, REPLACED)]
    elsewhere = f"; and documents of {', '.join(others)}" * bool(others)
    counts = ", ".join(f"{len(found):,} {kind}" for kind, found in {NORMAL: shown.normal, **shown.unusual}.items())
    sizes = {split: _size(split, found, job.words is None) for split, found in learned.items()}
    return (
        f"Which {pieces} are unusual, told without a label by the network that was pretrained. Normal ones are of the "
        f"test split, which it has not met. Unusual ones: each of these with the words of every sentence in another "
        f"order{replaced}{elsewhere}. In a draw there are {counts}; mean ± standard deviation over {job.draws} draws "
        f"from the same test documents. **{SURPRISE}** is the negative pseudo-log-likelihood per token: in windows "
        f"of at most {job.length} tokens one in {job.rounds} is masked, in {job.rounds} rounds, so that each is masked "
        f"once. Its thresholds are drawn by {sizes['validation']}; passages of one document are alike, so the fewer "
        f"documents there are, the less exactly thresholds keep their promise. Baselines learned from "
        f"{sizes['training']}. Nothing was chosen by an anomaly, and no score depends on the other documents."
    )


def _size(split: str, found: Sequence[Passage], whole: bool) -> str:
    documents = f"{len({one.document for one in found}):,} {split} documents"
    return documents if whole else f"{len(found):,} passages of {documents}"


def _base_rate(metric: str, of: Measured) -> str:
    return f" ({np.mean(of.base_rates):.0%} by chance)" if metric == AVERAGE_PRECISION else ""


def _row(name: str, measured: Mapping[str, Measured], metric: str) -> list[str]:
    cells = [mean_and_spread(100 * np.array(of.values[name][metric]), 1) for of in measured.values()]
    return [f"**{name}**" if name == SURPRISE else name, *cells]


def _thresholds(measured: Mapping[str, Measured]) -> tuple[list[str], list[list[str]]]:
    heads = ["threshold", "normal documents flagged", *(f"{kind} flagged" for kind in measured)]
    lines = []
    for key in next(iter(measured.values())).flagged:
        shares = [np.mean(of.flagged[key], 0) for of in measured.values()]
        lines.append([key[1], f"{shares[0][0]:.2%}", *(f"{right:.1%}" for _, right in shares)])
    return heads, lines


def _documents(shown: Shown) -> tuple[list[str], list[list[str]]]:
    lines = []
    for one in shown.documents:
        words = ", ".join(f"{_cell(word)} ({share:.0%})" for word, share in one["reasons"][:WORDS_TOLD])
        lines.append([_cell(one["document"]), one["kind"], f"{one['score']:.3f}", words])
    return ["document", "kind", "score", "most surprising words (their share of the surprise)"], lines


def _cell(text: str) -> str:
    """Strangers' text that ends no cell and begins no markup."""
    return "".join(f"\\{character}" if character in "\\|*_`[]#~$<" else character for character in text)


def _figures(
    methods: list[str], measured: Mapping[str, Measured], shown: Shown, job: DocumentAnomalyConfig, folder: Path
) -> dict[str, str]:
    unit = "mean surprise of a token (nats)"
    figures.scores(shown.normal, shown.unusual, shown.thresholds, unit, folder / "scores.png")
    drawn: dict[str, list[tuple[str, Any]]] = {}
    for one in shown.documents:
        kept = drawn.setdefault(one["kind"], [])
        if len(kept) < DRAWN:
            kept.append((f"{one['kind']}: {one['document']}, score {one['score']:.2f}", one["words"]))
    figures.words([one for kept in drawn.values() for one in kept], folder / "words.png")
    files = {"scores": "scores.png", "words by how surprising they are": "words.png"}
    ours = [name for name in methods if name in OURS]
    for kind, of in measured.items():
        file = f"roc-{slug(kind).replace('_', '-')}.png"
        detection.curves(
            {name: of.roc(name) for name in methods},
            ours,
            f"ROC, {kind} (test, mean of {job.draws} draws)",
            "share of normal documents flagged",
            "share of unusual documents flagged",
            folder / file,
        )
        files[f"ROC, {kind}"] = file
    return files


def _verdict(measured: Mapping[str, Measured]) -> str:
    told = []
    for kind, of in measured.items():
        others = [name for name in of.values if name not in OURS]
        beside = ""
        if others:
            best = max(others, key=of.mean)
            beside = f" (the best of the others, {best}: {100 * of.mean(best):.1f})"
        told.append(f"{kind} {mean_and_spread(100 * np.array(of.values[SURPRISE][AUROC]), 1)}{beside}")
    return f"AUROC of the surprise of a document: {'; '.join(told)}."


def _summary(measured: Mapping[str, Measured]) -> dict[str, float]:
    found: dict[str, float] = {}
    for kind, of in measured.items():
        found |= {f"{metric}_{slug(kind)}": of.mean(SURPRISE, metric) for metric in METRICS}
        found[f"base_rate_{slug(kind)}"] = float(np.mean(of.base_rates))
        found |= {f"{slug(name)}_auroc_{slug(kind)}": of.mean(name) for name in of.values if name != SURPRISE}
        for (_, how), shares in of.flagged.items():
            wrong, right = np.mean(shares, 0).tolist()
            found[f"false_alarms_{slug(how)}"], found[f"recall_{slug(how)}_{slug(kind)}"] = wrong, right
    return found


def slug(text: str) -> str:
    """Of a metric's name or a file's."""
    return "".join(character if character.isalnum() and character.isascii() else "_" for character in text.lower())
