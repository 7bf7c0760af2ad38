"""The report of the job `document-anomaly`: tables, figures, and the most surprising words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.text.passages import Passage
from pipeline.downstream.anomaly.measures import AUROC, AVERAGE_PRECISION, RECALL, Measurements
from pipeline.downstream.document_anomaly import figures
from pipeline.downstream.document_anomaly.job import NORMAL, REPLACED, SHUFFLED, Config
from pipeline.gate import DETECTOR as KIND
from pipeline.gate import Candidate
from pipeline.reports import detection
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.spread import mean_and_spread
from pipeline.scoring.champion import DETECTOR

SURPRISAL, EXCESS, OVER_UNIGRAM = OURS = ("surprisal", "excess", "over-unigram")
METRICS = (AUROC, AVERAGE_PRECISION, RECALL)
DRAWN = 1  # documents of each kind in the figure of words
WORDS_NAMED = 4


@dataclass(frozen=True)
class FirstDraw:
    """The first draw, shown in figures."""

    normal: np.ndarray  # scores
    unusual: dict[str, np.ndarray]  # by kind
    thresholds: dict[str, float]
    documents: list[dict[str, Any]]
    """The most unusual ones of each kind: document, kind, score, words, reasons."""


def build(
    job: Config,
    measured: Mapping[str, Measurements],
    shown: FirstDraw,
    learned: Mapping[str, Sequence[Passage]],
    left_out: Mapping[str, str],
    out_dir: Path,
) -> Report:
    """Draws into `out_dir/figures`. measured: by kind of anomaly; learned: passages learned from, by split.

    left_out: what of other sources is not among the documents, by kind.
    """
    methods = list(next(iter(measured.values())).values)
    alarms = f"{100 * job.false_alarms:.3g} % false alarms"
    tables = [Table("AUROC", ["method", *(f"AUROC, {kind}" for kind in measured)], _rows(methods, measured, AUROC))]
    for metric, title in {AVERAGE_PRECISION: "Average precision", RECALL: f"Recall at {alarms}"}.items():
        columns = ["method", *(f"{kind}{_base_rate(metric, of_kind)}" for kind, of_kind in measured.items())]
        tables.append(Table(title, columns, _rows(methods, measured, metric)))
    tables.append(_thresholds(f"Thresholds of {SURPRISAL} for {alarms}", measured))
    tables.append(_documents(shown))
    return Report(
        title=job.name,
        about=_about(job, measured, shown, learned) + _without(left_out),
        tables=tables,
        figures=_figures(methods, measured, shown, job, out_dir / "figures"),
        verdict=_verdict(measured),
        numbers=_numbers(measured),
        candidates=[Candidate(KIND, "", DETECTOR, f"{AUROC} beside shuffled words")],
        notes={
            "task": job.task,
            "kinds": {
                kind: {name: dict(of_kind.values[name]) for name in methods} for kind, of_kind in measured.items()
            },
            "documents": shown.documents,
            "left_out": dict(left_out),
        },
    )


def _about(
    job: Config,
    measured: Mapping[str, Measurements],
    shown: FirstDraw,
    learned: Mapping[str, Sequence[Passage]],
) -> str:
    pieces = "documents" if job.words is None else f"passages of documents, of about {job.words} words each,"
    replaced = f"; {job.replaced:.0%} of its words replaced by words drawn from training documents" * bool(job.replaced)
    others = [kind for kind in measured if kind not in (SHUFFLED, REPLACED)]
    elsewhere = f"; and documents of {', '.join(others)}" * bool(others)
    counts = ", ".join(f"{len(scores):,} {kind}" for kind, scores in {NORMAL: shown.normal, **shown.unusual}.items())
    sizes = {split: _size(split, passages, job.words is None) for split, passages in learned.items()}
    return (
        f"Which {pieces} are unusual, told without a label by the network that was pretrained. Normal ones are of the "
        f"test split, which it has not met. Unusual ones: each of these with the words of every sentence in another "
        f"order{replaced}{elsewhere}. In a draw there are {counts}; mean ± standard deviation over {job.draws} draws "
        f"from the same test documents. The {SURPRISAL} is the negative pseudo-log-likelihood per token: in windows "
        f"of at most {job.length} tokens one in {job.rounds} is masked, in {job.rounds} rounds, so that each is masked "
        f"once. Its thresholds are drawn by {sizes['validation']}; passages of one document are alike, so the fewer "
        f"documents there are, the less exactly thresholds keep their promise. Baselines learned from "
        f"{sizes['training']}. Nothing was chosen by an anomaly, and no score depends on the other documents."
    )


def _without(left_out: Mapping[str, str]) -> str:
    return "".join(f" Of {kind}, {what}." for kind, what in left_out.items())


def _size(split: str, passages: Sequence[Passage], are_documents: bool) -> str:
    documents = f"{len({passage.document for passage in passages}):,} {split} documents"
    return documents if are_documents else f"{len(passages):,} passages of {documents}"


def _base_rate(metric: str, of: Measurements) -> str:
    return f" ({np.mean(of.base_rates):.0%} by chance)" if metric == AVERAGE_PRECISION else ""


def _rows(methods: Sequence[str], measured: Mapping[str, Measurements], metric: str) -> list[list[str]]:
    """A line for each method, ours in bold: per cent, by kind of anomaly."""
    return [
        [
            f"**{name}**" if name == SURPRISAL else name,
            *(mean_and_spread(100 * np.array(of_kind.values[name][metric]), 1) for of_kind in measured.values()),
        ]
        for name in methods
    ]


def _thresholds(title: str, measured: Mapping[str, Measurements]) -> Table:
    columns = ["threshold", "normal documents flagged", *(f"{kind} flagged" for kind in measured)]
    rows = []
    for key in next(iter(measured.values())).flagged:
        shares = [np.mean(of_kind.flagged[key], 0) for of_kind in measured.values()]
        rows.append([key[1], f"{shares[0][0]:.2%}", *(f"{anomalies:.1%}" for _, anomalies in shares)])
    return Table(title, columns, rows)


def _documents(shown: FirstDraw) -> Table:
    rows = []
    for document in shown.documents:
        words = ", ".join(f"{word} ({share:.0%})" for word, share in document["reasons"][:WORDS_NAMED])
        rows.append([document["document"], document["kind"], f"{document['score']:.3f}", words])
    columns = ["document", "kind", "score", "most surprising words (their share of the surprisal)"]
    return Table("The most unusual documents of the first draw", columns, rows)


def _figures(
    methods: list[str], measured: Mapping[str, Measurements], shown: FirstDraw, job: Config, folder: Path
) -> list[Figure]:
    unit = "mean surprisal of a token (nats)"
    figures.scores(shown.normal, shown.unusual, shown.thresholds, unit, folder / "scores.png")
    drawn: dict[str, list[tuple[str, Any]]] = {}
    for document in shown.documents:
        of_kind = drawn.setdefault(document["kind"], [])
        if len(of_kind) < DRAWN:
            title = f"{document['kind']}: {document['document']}, score {document['score']:.2f}"
            of_kind.append((title, document["words"]))
    figures.words([document for of_kind in drawn.values() for document in of_kind], folder / "words.png")
    files = [Figure("scores", "scores.png"), Figure("words by how surprising they are", "words.png")]
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
        files.append(Figure(f"ROC, {kind}", file))
    return files


def _verdict(measured: Mapping[str, Measurements]) -> str:
    parts = []
    for kind, of in measured.items():
        others = [name for name in of.values if name not in OURS]
        beside = ""
        if others:
            best = max(others, key=of.mean)
            beside = f" (the best of the others, {best}: {100 * of.mean(best):.1f})"
        parts.append(f"{kind} {mean_and_spread(100 * np.array(of.values[SURPRISAL][AUROC]), 1)}{beside}")
    return f"AUROC of the surprisal of a document: {'; '.join(parts)}."


def _numbers(measured: Mapping[str, Measurements]) -> dict[str, float]:
    """By kind of anomaly: metrics of the surprisal, AUROC of the other methods, and shares flagged."""
    numbers: dict[str, float] = {}
    for kind, of_kind in measured.items():
        numbers |= {f"{metric}/{slug(kind)}": of_kind.mean(SURPRISAL, metric) for metric in METRICS}
        numbers[f"base_rate/{slug(kind)}"] = float(np.mean(of_kind.base_rates))
        others = [name for name in of_kind.values if name != SURPRISAL]
        numbers |= {f"{AUROC}/{slug(kind)}/{slug(name)}": of_kind.mean(name) for name in others}
        for (_, how), shares in of_kind.flagged.items():
            normal, anomalies = np.mean(shares, 0).tolist()
            numbers[f"false_alarms/{slug(how)}"] = normal
            numbers[f"recall/{slug(how)}/{slug(kind)}"] = anomalies
    return numbers


def slug(text: str) -> str:
    """Text as part of the name of a metric or file."""
    return "".join(character if character.isalnum() and character.isascii() else "_" for character in text.lower())
