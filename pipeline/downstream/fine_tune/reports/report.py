"""The report of fine-tuning with few labels: scores, chosen rates, differences, and one figure."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.labelled.examples import Example, Labelled
from pipeline import gate
from pipeline.artifact import MODEL
from pipeline.downstream import labelled_scores, predictions_file
from pipeline.downstream.fine_tune.examples import some
from pipeline.downstream.fine_tune.job import FINE_TUNED, Config
from pipeline.downstream.fine_tune.metrics import main_metric
from pipeline.downstream.fine_tune.reports import languages, protocol
from pipeline.downstream.metrics import metric_notes
from pipeline.downstream.model_names import FROZEN, PRETRAINED, SCRATCH, slug
from pipeline.gate import ENCODER, Candidate
from pipeline.reports import data as figures
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.spread import mean_and_spread

if TYPE_CHECKING:
    from pipeline.downstream.fine_tune.trials import Trials

CURVE = "learning-curve.png"
NONE = "–"
ONE_SEED = "whose spread is not known"


def build(
    job: Config,
    data: Labelled,
    cells: list[dict[str, Any]],
    precision: str,
    evaluation: Mapping[str, Any],
    folder: Path,
    remarks: Sequence[str] = (),
) -> Report:
    """Draws into `folder`. cells: one for each model and number of labels, but for models that diverged; evaluation:
    what identifies their scores.

    remarks: what to know before reading them.
    """
    for cell in cells:
        cell["mean"] = statistics.fmean(cell["scores"])
        cell["std"] = spread(cell["scores"])
    models = list(dict.fromkeys([*job.models, *(cell["model"] for cell in cells)]))
    scored = {(cell["model"], cell["labels"]) for cell in cells}
    paired = [
        _paired(cells, PRETRAINED, other, labels)
        for labels in job.label_counts
        for other in models
        if PRETRAINED in job.models and other != PRETRAINED and (other, labels) in scored
    ]
    tested = some(data.splits[data.reported], job.test_rows, 0)  # how many of each language does not depend on the seed
    metric, test_rows = main_metric(data), len(tested)
    said = filter(None, [*metric_notes(data.metrics), protocol.padding(cells), languages.sentence(data, tested)])
    figures.learning_curve(f"{job.name} ({data.reported})", metric, cells, folder / CURVE)
    return Report(
        title=job.name,
        about=f"{data.description} {data.protocol}\n\n{metric} on {test_rows:,} rows of {data.reported}; "
        f"{_seeds(job.seeds)}; {protocol.description(job)}; learning rates chosen on validation rows."
        + "".join(f"\n\n{text}" for text in said)
        + "".join(f"\n\n{remark[0].upper()}{remark[1:]}." for remark in remarks),
        tables=_tables(job, models, cells, paired),
        figures=[Figure("learning curve", CURVE)],
        verdict=_verdict(job, cells, paired, metric),
        numbers=_numbers(metric, cells, paired),
        candidates=_candidates(job, data, cells, metric, evaluation),
        licences=[data.licence],
        notes={
            "task": job.task,
            "metric": metric,
            "split": data.reported,
            "steps": job.steps,
            "epochs": job.epochs,
            "precision": precision,
            "rows": {name: len(examples) for name, examples in data.splits.items()},
            "test_rows": test_rows,
            "languages": languages.by_split(data, tested),
            "parts": list(dict.fromkeys(e.part for e in data.splits[data.reported] if e.part)),
            "remarks": list(remarks),
            "cells": cells,
            "paired": paired,
        },
    )


def _seeds(number: int) -> str:
    if number == 1:
        return f"of one seed (examples, weights and order), {ONE_SEED}"
    return f"mean ± standard deviation over {number} seeds (examples, weights and order)"


def _paired(cells: Sequence[dict[str, Any]], model: str, other: str, labels: int) -> dict[str, Any]:
    """Differences seed by seed. `clear`: their mean exceeds their standard deviation over the seeds."""
    scores = {c["model"]: c["scores"] for c in cells if c["labels"] == labels}
    differences = [a - b for a, b in zip(scores[model], scores[other], strict=True)]
    mean = statistics.fmean(differences)
    spread = statistics.stdev(differences) if len(differences) > 1 else None
    return {
        "labels": labels,
        "model": model,
        "other": other,
        "mean": mean,
        "std": spread,
        "wins": sum(d > 0 for d in differences),
        "seeds": len(differences),
        "clear": spread is not None and abs(mean) > spread,
    }


def _tables(
    job: Config, models: Sequence[str], cells: Sequence[dict[str, Any]], paired: Sequence[dict[str, Any]]
) -> list[Table]:
    labels = sorted({cell["labels"] for cell in cells})
    columns = ["model", *(f"{number:,} labels" for number in labels)]
    by_place = {(cell["model"], cell["labels"]): cell for cell in cells}
    known = {model: [by_place.get((model, number)) for number in labels] for model in models}
    scores = [
        [_marked(model), *(mean_and_spread(cell["scores"]) if cell else NONE for cell in of)]
        for model, of in known.items()
    ]
    rates = [[model, *(f"{cell['lr']:g}" if cell else NONE for cell in known[model])] for model in job.models]
    tables = [Table("Scores", columns, scores), *_others(cells, labels), Table("Learning rates chosen", columns, rates)]
    tables += protocol.tables(cells, job)
    if paired:
        differences = [
            [
                pair["other"],
                f"{pair['labels']:,}",
                f"{pair['mean']:+.3f}" + ("" if pair["std"] is None else f" ± {pair['std']:.3f}"),
                f"{pair['wins']} of {pair['seeds']}",
            ]
            for pair in paired
        ]
        tables.append(
            Table("Pretrained minus others, seed by seed", ["other", "labels", "difference", "seeds won"], differences)
        )
    return tables


def with_submission(report: Report, files: Sequence[str], remarks: Sequence[str] = ()) -> Report:
    """The report, with files that were written for a test server. remarks: what of their rows was not read."""
    about = f"{report.about}\n\nPredictions for rows without labels, for a test server: {', '.join(files)}."
    of_rows = [f"of the rows without labels, {remark}" for remark in remarks]
    notes = {**report.notes, "submission": list(files), "remarks": [*report.notes["remarks"], *of_rows]}
    return replace(report, about=about + "".join(f" O{remark[1:]}." for remark in of_rows), notes=notes)


def write_predictions(job: Config, data: Labelled, trials: Trials, folder: Path) -> None:
    """What the pretrained network, with the most labels, predicts for the reported rows in each seed.

    F1 of words, which is no metric of such files, is compared by accuracy there.
    """
    reported = trials.reported()
    examples = [replace(example, id=own) for example, own in zip(reported, row_ids(reported), strict=True)]
    parts = []
    for seed, predicted in enumerate(trials.predicted[PRETRAINED, max(job.label_counts)]):
        of_seed = (examples, predicted.answers, predicted.scores, predicted.n_best)
        parts += labelled_scores.parts_of(job.name, data, data.reported, seed, *of_seed)
    tasks = {part.task: labelled_scores.tasks_of(job.name, data)[part.task] for part in parts}
    predictions_file.write(folder / predictions_file.FILE, tasks, parts)


def row_ids(examples: Sequence[Example]) -> list[str]:
    """Their own ids; else places with digests of contents, as other files have lines of these numbers, too. Equal rows
    of data without places are numbered."""
    ids, times = [], Counter[str]()
    for example in examples:
        own = example.id if example.names_itself else _named_by_content(example)
        times[own] += not example.names_itself
        ids.append(own if times[own] < 2 else f"{own}-{times[own]}")
    return ids


def _named_by_content(example: Example) -> str:
    content = [example.digest or example.text, example.text_pair, *example.words, *example.choices]
    return f"{example.place} {hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()}".lstrip()


def _others(cells: Sequence[dict[str, Any]], labels: Sequence[int]) -> list[Table]:
    """With the most labels, all metrics where there are several."""
    most = [cell for cell in cells if cell["labels"] == max(labels)]
    names = list(dict.fromkeys(name for cell in most for scores in cell.get("all", ()) for name in scores))
    whole = [name for name in names if "/" not in name]
    of_parts = [name for name in names if "/" in name]
    tables = [_table(f"All metrics, {max(labels):,} labels", most, whole)] if len(whole) > 1 else []
    return [*tables, _by_part(f"By part, {max(labels):,} labels", most, of_parts)] if of_parts else tables


def _by_part(title: str, cells: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    """A row for each model and part, or language. names: as `f1/zh`."""
    metrics = list(dict.fromkeys(name.partition("/")[0] for name in names))
    parts = list(dict.fromkeys(name.partition("/")[2] for name in names))
    rows = [
        [
            _marked(cell["model"]),
            part,
            *(_of_all(cell, f"{metric}/{part}") for metric in metrics),
        ]
        for part in parts
        for cell in cells
    ]
    return Table(title, ["model", "part", *metrics], rows)


def _table(title: str, cells: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    rows = [[_marked(cell["model"]), *(_of_all(cell, name) for name in names)] for cell in cells]
    return Table(title, ["model", *names], rows)


def _of_all(cell: Mapping[str, Any], name: str) -> str:
    """A metric of a cell, as its seeds have it, where they do."""
    of_seeds = [scores[name] for scores in cell["all"] if name in scores]
    return mean_and_spread(of_seeds) if of_seeds else NONE


def spread(values: Sequence[float]) -> float:
    """The standard deviation over seeds; 0 of one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _marked(model: str) -> str:
    return f"**{model}**" if model == PRETRAINED else model


def _verdict(job: Config, cells: Sequence[dict[str, Any]], paired: Sequence[dict[str, Any]], metric: str) -> str:
    """A sentence per number of labels comparing pretraining with random weights; without both, the best model."""
    sentences = []
    for pair in paired:
        if pair["other"] != SCRATCH:
            continue
        better = "better" if pair["mean"] >= 0 else "worse"
        spread = "" if pair["std"] is None else f" ± {pair['std']:.3f}"
        seeds = f"{pair['wins']} of {pair['seeds']} seeds; " if pair["seeds"] > 1 else ""
        sentences.append(
            f"With {pair['labels']:,} labels pretraining is {abs(pair['mean']):.3f}{spread} {better} than random "
            f"weights ({seeds}{_beyond(pair)})."
        )
    sentences += _beside_others(job, cells, paired)
    if not sentences:
        num_labels = max(cell["labels"] for cell in cells)
        best = max((cell for cell in cells if cell["labels"] == num_labels), key=lambda cell: cell["mean"])
        sentences = [f"With {num_labels:,} labels {best['model']} is best: {metric} {best['mean']:.3f}."]
    return " ".join(sentences)


def _beside_others(job: Config, cells: Sequence[dict[str, Any]], paired: Sequence[dict[str, Any]]) -> list[str]:
    """With the most labels, the pretrained network beside the frozen one and the best method without a network."""
    most = max(job.label_counts)
    baselines = [cell for cell in cells if cell["kind"] == "baseline" and cell["labels"] == most]
    best = max(baselines, key=lambda cell: cell["mean"])["model"] if baselines else None
    named = {FROZEN: "the frozen network", best: f"{best}, the best method without a network"}
    phrases = []
    for pair in paired:
        if pair["labels"] == most and pair["other"] in named:
            better = "better" if pair["mean"] >= 0 else "worse"
            phrases.append(f"{abs(pair['mean']):.3f} {better} than {named[pair['other']]} ({_beyond(pair)})")
    return [f"With {most:,} labels it is {', and '.join(phrases)}."] if phrases else []


def _beyond(pair: Mapping[str, Any]) -> str:
    """Whether a difference is more than its spread."""
    if pair["std"] is None:
        return f"one seed, {ONE_SEED}"
    return f"{'more' if pair['clear'] else 'not more'} than the seeds' spread"


def _numbers(metric: str, cells: Sequence[dict[str, Any]], paired: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Every model's mean at every number of labels, and the paired differences."""
    numbers = {f"{metric}/{slug(cell['model'])}_{cell['labels']}": cell["mean"] for cell in cells}
    for cell in cells:
        of_parts = [name for name in cell.get("all", [{}])[0] if name.startswith(f"{metric}/")]
        for name in of_parts:
            numbers[f"{name}/{slug(cell['model'])}_{cell['labels']}"] = statistics.fmean(of[name] for of in cell["all"])
        if cell.get("padding") is not None:
            numbers[f"padding/{slug(cell['model'])}_{cell['labels']}"] = cell["padding"]
    for pair in paired:
        name = f"{slug(pair['model'])}_minus_{slug(pair['other'])}_{pair['labels']}"
        numbers[f"difference/{name}"] = pair["mean"]
    return numbers


def _candidates(
    job: Config, data: Labelled, cells: Sequence[dict[str, Any]], metric: str, evaluation: Mapping[str, Any]
) -> list[Candidate]:
    """The pretrained encoder, by its score with the most labels, and what it has become with them.

    An encoder is compared with others that were fine-tuned alike, a fine-tuned network with any that was scored on the
    same rows.
    """
    if PRETRAINED not in job.models:
        return []
    num_labels = max(job.label_counts)
    cell = next(cell for cell in cells if (cell["model"], cell["labels"]) == (PRETRAINED, num_labels))
    encoder = Candidate(
        kind=ENCODER,
        role="pretrained",
        path=MODEL,
        measure=f"{metric}/{PRETRAINED}_{num_labels}",
        evaluation=evaluation,
        score=cell["mean"],
        spread=cell["std"] or None,
    )
    same = ("cleaning", "corpus", "task", "seed", "examples")
    of_data = {name: evaluation[name] for name in same if name in evaluation}
    contents = evaluation.get("contents", {})
    of_data |= {
        "data": job.data.model_dump(mode="json"),
        "contents": {path: contents[path] for path in map(str, job.data.files()) if path in contents},
        "rows": {"split": data.reported, "most": job.test_rows},
        "metric": metric,
    }
    own = replace(encoder, kind=gate.FINE_TUNED, role="", path=FINE_TUNED, evaluation=of_data, name=job.name)
    return [encoder, own]
