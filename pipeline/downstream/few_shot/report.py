"""The report of few-shot answers: accuracy by rule and number of shots, beside guesses; seeds; examples."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.downstream.few_shot.job import Config
from pipeline.downstream.few_shot.rules import ACC, WRITTEN
from pipeline.downstream.few_shot.task_file import Question, TaskData
from pipeline.downstream.model_names import PRETRAINED, SCRATCH, slug
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import Figure, Report, Table

CURVE = "shots.png"
MAJORITY, GUESS = "most frequent answer", "guess"
TAIL = 160  # characters of a prompt that are shown


def build(
    job: Config, data: TaskData, test: Sequence[Question], cells: Sequence[Mapping[str, Any]], folder: Path
) -> Report:
    """Draws into `folder`. test: the rows that were asked. cells: those of `Trials.run`."""
    measured = list(dict.fromkeys(rule for cell in cells for rule in cell["scores"]))
    main = ACC if ACC in measured else measured[0]
    beside = baselines(data, test)
    summaries = {
        (model, shots, rule): _spread(
            [cell for cell in cells if (cell["model"], cell["shots"]) == (model, shots)], rule
        )
        for model in job.models
        for shots in job.shots
        for rule in measured
    }
    _draw(job, main, summaries, beside, folder / CURVE)
    rows, cut = len(test), _most_cut(cells)
    kinds = {"by log-likelihood of the choices": ACC in measured, "by what is written": WRITTEN in measured}
    how = " and ".join(kind for kind, is_measured in kinds.items() if is_measured)
    said = [*data.notes]
    for what, most in cut.items():
        if most:
            said.append(f"In one cell {most:,} of {rows:,} prompts lost their beginning, for answers that are {what}.")
    return Report(
        title=job.name,
        about=f"{data.task.about or Path(job.file).name}\n\nAccuracy on {rows:,} rows ({how}), rules and ids as in "
        "lm-evaluation-harness; shots are "
        + ("other training rows for every row" if job.draw == "row" else "the same for all rows of a seed")
        + f", {_count(job.seeds, 'seed')}, {_count(job.orders, 'order')}; mean ± standard deviation over seeds. "
        "Nothing is trained: the weights are, bit for bit, those before." + "".join(f"\n\n{text}" for text in said),
        tables=_tables(job, cells, measured, main, summaries, beside),
        figures=[Figure("accuracy by shots", CURVE)],
        verdict=_verdict(job, main, summaries, beside, rows),
        numbers={
            **{f"{rule}/{slug(model)}_{shots}": values[0] for (model, shots, rule), values in summaries.items()},
            **{f"{main}/{slug(name)}": value for name, value in beside.items()},
        },
        licences=[data.task.licence],
        notes={"rows": rows, "train": len(data.train), "cells": [dict(cell) for cell in cells], "cut": cut},
    )


def _most_cut(cells: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The most prompts of a cell that lost their beginning, by how answers are given."""
    hows = dict.fromkeys(how for cell in cells for how in cell["cut"])
    return {how: max(cell["cut"].get(how, 0) for cell in cells) for how in hows}


def baselines(data: TaskData, test: Sequence[Question]) -> dict[str, float]:
    """Accuracy of the most frequent answer of train (or of test), and of guessing among choices."""
    answer = _commonest(data.train or data.test)
    accuracies = {MAJORITY: statistics.fmean(_is_right(row, answer) for row in test)}
    if data.task.choices is not None:
        accuracies[GUESS] = statistics.fmean(1 / len(row.choices) for row in test)
    return accuracies


def _commonest(rows: Sequence[Question]) -> Any:
    return Counter(row.gold if row.choices else row.answers[0] for row in rows).most_common(1)[0][0]


def _is_right(row: Question, answer: Any) -> bool:
    return row.gold == answer if row.choices else answer in row.answers


def _spread(cells: Sequence[Mapping[str, Any]], rule: str) -> tuple[float, float | None, float | None]:
    """Mean, standard deviation over the seeds' means, and mean of the seeds' standard deviations over orders."""
    by_seed: dict[int, list[float]] = {}
    for cell in cells:
        by_seed.setdefault(cell["seed"], []).append(cell["scores"][rule])
    means = [statistics.fmean(scores) for scores in by_seed.values()]
    of_orders = [statistics.stdev(scores) for scores in by_seed.values() if len(scores) > 1]
    return (
        statistics.fmean(means),
        statistics.stdev(means) if len(means) > 1 else None,
        statistics.fmean(of_orders) if of_orders else None,
    )


def _tables(
    job: Config,
    cells: Sequence[Mapping[str, Any]],
    measured: Sequence[str],
    main: str,
    summaries: Mapping[tuple[str, int, str], tuple[float, float | None, float | None]],
    beside: Mapping[str, float],
) -> list[Table]:
    rows = [
        [_marked(model), str(shots), *(_with_spread(*summaries[model, shots, rule][:2]) for rule in measured)]
        for model in job.models
        for shots in job.shots
    ]
    rows += [
        [name, "–", *("–" if (name, rule) == (GUESS, WRITTEN) else _with_spread(value) for rule in measured)]
        for name, value in beside.items()
    ]
    tables = [Table("Accuracy", ["model", "shots", *measured], rows)]
    by_seed = [
        [model, str(shots), *(_of_seed(cells, model, shots, seed, main) for seed in range(job.seeds))]
        for model in job.models
        for shots in job.shots
    ]
    tables.append(Table(f"{main} by seed", ["model", "shots", *(f"seed {seed}" for seed in range(job.seeds))], by_seed))
    if job.orders > 1:
        orders = [
            [model, str(shots), *(_or_dash(summaries[model, shots, rule][2]) for rule in measured)]
            for model in job.models
            for shots in job.shots
        ]
        tables.append(Table("Standard deviation over orders of the same shots", ["model", "shots", *measured], orders))
    examples = [
        [cell["model"], str(cell["shots"]), f"…{example['prompt'][-TAIL:]}", *(example.get(name) or "–" for name in
         ("right", "taken", "written"))]
        for cell in cells
        if cell["seed"] == cell["order"] == 0
        for example in cell["shown"]
    ]  # fmt: skip
    tables.append(Table("Answers", ["model", "shots", "prompt", "right", f"taken by {ACC}", "written"], examples))
    return tables


def _of_seed(cells: Sequence[Mapping[str, Any]], model: str, shots: int, seed: int, rule: str) -> str:
    scores = [
        cell["scores"][rule] for cell in cells if (cell["model"], cell["shots"], cell["seed"]) == (model, shots, seed)
    ]
    return f"{statistics.fmean(scores):.3f}" if scores else "–"


def _verdict(
    job: Config,
    main: str,
    summaries: Mapping[tuple[str, int, str], tuple[float, float | None, float | None]],
    beside: Mapping[str, float],
    rows: int,
) -> str:
    """A sentence for each number of shots: the first model beside random weights and the best guess.

    A difference counts where it is more than two standard errors of an accuracy over so many rows, and than the spread
    over seeds.
    """
    model = PRETRAINED if PRETRAINED in job.models else job.models[0]
    name, floor = max(beside.items(), key=lambda item: item[1])
    sentences = []
    for shots in job.shots:
        mean, spread, _ = summaries[model, shots, main]
        chance = max(2 * math.sqrt(floor * (1 - floor) / rows), spread or 0.0)
        is_more = mean - floor > chance
        than = f"{'' if is_more else 'not '}more than the {name}'s {floor:.3f} by more than chance ({chance:.3f})"
        scratch = (
            f"; random weights {summaries[SCRATCH, shots, main][0]:.3f}"
            if SCRATCH in job.models and model != SCRATCH
            else ""
        )
        sentences.append(
            f"With {_count(shots, 'shot')} {model} is right in {_with_spread(mean, spread)} of the rows ({main}), "
            f"{than}{scratch}."
        )
    return " ".join(sentences)


def _draw(
    job: Config,
    main: str,
    summaries: Mapping[tuple[str, int, str], tuple[float, float | None, float | None]],
    beside: Mapping[str, float],
    path: Path,
) -> None:
    figure, axes = new_axes(job.name, "shots", main)
    places = range(len(job.shots))
    for index, model in enumerate(job.models):
        means = [summaries[model, shots, main][0] for shots in job.shots]
        spreads = [summaries[model, shots, main][1] or 0.0 for shots in job.shots]
        colour = COLOURS[index % len(COLOURS)]
        axes.errorbar(places, means, yerr=spreads, label=model, color=colour, marker="o", capsize=3)
    for style, (name, value) in zip(("--", ":"), beside.items(), strict=False):
        axes.axhline(value, color="grey", linestyle=style, label=name)
    axes.set_xticks(list(places), [str(shots) for shots in job.shots])
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)


def _marked(model: str) -> str:
    return f"**{model}**" if model == PRETRAINED else model


def _with_spread(mean: float, spread: float | None = None) -> str:
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
