"""Languages of labelled rows: what is learned in some, and tested in others.

One table of all jobs of a suite: a row for each encoder, each mix of training languages and each language tested (as in
Hsu et al. 2019):

    encoder | pretrained on | fine-tuned on | tested on | exact | f1 | source

A mix is a task: its rows say which languages they are of (`language` of a task file), so there is nothing to set. Tasks
of the same languages are told apart by their names, in a column more.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.labelled.examples import Example, Labelled
from pipeline.downstream.fine_tune.metrics import language_name
from pipeline.downstream.model_names import OWN, PRETRAINED, SCRATCH
from pipeline.reports.report import Report, Table
from pipeline.reports.spread import mean_and_spread

NONE = "–"
TITLE = "By encoder and languages, in percent"
RANDOM_WEIGHTS = "nothing: random weights"


def counts(examples: Sequence[Example]) -> dict[str, int]:
    """Rows of each language, in the order in which they come first; without those of which nothing is known."""
    return dict(Counter(example.language for example in examples if example.language))


def by_split(data: Labelled, tested: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Rows by language that can be learned from, and that are tested."""
    return {"train": counts(data.splits["train"]), "test": counts(tested)}


def sentence(data: Labelled, tested: Sequence[Example]) -> str:
    """Which languages are in train and tested, and how many rows of each; nothing of a single language."""
    languages = by_split(data, tested)
    if len({*languages["train"], *languages["test"]}) < 2:
        return ""
    named = {"train": languages["train"], data.reported: languages["test"]}
    listed = "; ".join(f"{split} {', '.join(f'{name} {n:,}' for name, n in of.items())}" for split, of in named.items())
    each = " Scores of all rows together stand beside those by language."
    return f"Rows by language: {listed}." + each * (len(languages["test"]) > 1)


@dataclass(frozen=True)
class Cell:
    """Percentages by metric and seed of an encoder, trained on some languages and tested on one."""

    job: str
    model: str
    trained: str
    tested: str
    scores: Mapping[str, Sequence[float]]


def table(
    about: Mapping[str, Any], reports: Mapping[str, Report], metrics: Mapping[str, Sequence[str]]
) -> Table | None:
    """None where every task is tested in the language that it is learned in, or some language is not said. metrics: the
    numbers of each task that count.

    about: as of `suite.build`; encoders: by model what to call it (`title`) and what it was pretrained on.
    """
    cells = [cell for name, report in reports.items() for cell in _cells(name, report, metrics[about["tasks"][name]])]
    places = {(cell.trained, cell.tested) for cell in cells}
    is_transfer = len(places) > 1 and any(trained != tested for trained, tested in places)
    if not is_transfer or {report.notes.get("languages") is None for report in reports.values()} != {False}:
        return None
    columns = list(dict.fromkeys(name for cell in cells for name in cell.scores))
    encoders = about.get("encoders", {})
    of_task = about["tasks"] if _are_several(cells) else {}
    rows = []
    for model in dict.fromkeys(cell.model for cell in cells):
        title, pretrained_on = _named(model, encoders)
        shown = f"**{title}**" if model == PRETRAINED else title
        for cell in (cell for cell in cells if cell.model == model):
            scores = [mean_and_spread(cell.scores[name], 1) if name in cell.scores else NONE for name in columns]
            task = [of_task[cell.job]] if of_task else []
            rows.append([shown, pretrained_on, *task, cell.trained, cell.tested, *scores, ""])
    rows += _published(about, cells, columns, bool(of_task))
    task = ["task"] if of_task else []
    return Table(TITLE, ["encoder", "pretrained on", *task, "fine-tuned on", "tested on", *columns, "source"], rows)


def _are_several(cells: Sequence[Cell]) -> bool:
    """Whether some tasks are learned and tested in the same languages, and so are no mixes of one task."""
    return len({(cell.model, cell.trained, cell.tested) for cell in cells}) < len(cells)


def _cells(name: str, report: Report, metrics: Sequence[str]) -> Iterator[Cell]:
    languages = report.notes.get("languages") or {"train": {}, "test": {}}
    trained = " + ".join(languages["train"])
    most = max(cell["labels"] for cell in report.notes["cells"])
    counted = [metric for metric in metrics if metric in report.notes["cells"][0]["all"][0]] or [report.notes["metric"]]
    for cell in report.notes["cells"]:
        if cell["kind"] != "network" or cell["labels"] != most or not trained:
            continue
        for tested in languages["test"]:
            suffix = f"/{language_name(tested, report.notes.get('parts', ()))}" * (len(languages["test"]) > 1)
            known = [metric for metric in counted if metric + suffix in cell["all"][0]]  # which may not be defined
            if known:
                scores = {metric: [100 * of[metric + suffix] for of in cell["all"]] for metric in known}
                yield Cell(name, cell["model"], trained, tested, scores)


def _named(model: str, encoders: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """What to call a model, and what it was pretrained on."""
    known = encoders.get(PRETRAINED if model in OWN else model, {})
    title = known.get("title") or model
    if model == SCRATCH:
        return f"{title}, {SCRATCH}" if known else SCRATCH, RANDOM_WEIGHTS
    return f"{title}, {model}" if model in OWN and model != PRETRAINED else title, known.get("pretrained_on") or NONE


def _published(
    about: Mapping[str, Any], cells: Sequence[Cell], columns: Sequence[str], with_task: bool
) -> Iterator[list[str]]:
    """Rows of others for the same tasks, or for languages of one: `xquad/zh`."""
    for row in about["published"]:
        for place, scores in row["scores"].items():
            task, _, language = place.partition("/")
            named = [name for name, of_suite in about["tasks"].items() if of_suite == task]
            known = {(cell.trained, cell.tested) for cell in cells if cell.job in named}
            of_place = [pair for pair in known if not language or pair[1] == language]
            if len(of_place) == 1:
                shown = [f"{scores[name]:.1f}" if name in scores else NONE for name in columns]
                source = "; ".join(filter(None, (row["source"], row["split"])))
                named_task = [task] if with_task else []
                yield [row["name"], row.get("pretrained_on") or NONE, *named_task, *of_place[0], *shown, source]


def transferred(about: Mapping[str, Any], reports: Mapping[str, Report], metrics: Mapping[str, Sequence[str]]) -> str:
    """Sentences: how much of the score of learning in a language is left when it is learned in others.

    None of tasks that are no mixes of one: their scores are not of the same rows.
    """
    cells = [cell for name, report in reports.items() for cell in _cells(name, report, metrics[about["tasks"][name]])]
    if _are_several(cells):
        return ""
    said = []
    for model in dict.fromkeys(cell.model for cell in cells if cell.model != SCRATCH):
        of_model = [cell for cell in cells if cell.model == model]
        for own in (cell for cell in of_model if cell.trained == cell.tested):
            metric = list(own.scores)[-1]
            base = statistics.fmean(own.scores[metric])
            beside = [cell for cell in of_model if cell.tested == own.tested and cell.trained != own.trained]
            others = {cell.trained: statistics.fmean(cell.scores[metric]) for cell in beside if metric in cell.scores}
            if others and base > 0:
                listed = ", ".join(f"{value:.1f} from {name} ({value / base:.0%})" for name, value in others.items())
                title = _named(model, about.get("encoders", {}))[0]
                said.append(f"Tested on {own.tested}, {title} has {metric} {base:.1f} from {own.trained}, {listed}.")
    return " ".join(said)
