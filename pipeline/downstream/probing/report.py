"""The report of a job `probe`: scores and selectivity by layer, beside random weights and methods without a network."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.labelled.examples import Labelled
from pipeline.downstream.fine_tune import metrics
from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.model_names import PRETRAINED, slug
from pipeline.downstream.probing.job import Config
from pipeline.downstream.probing.trials import ModelProbes, Probe
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.spread import mean_and_spread

CURVE, SELECTIVITY = "layers.png", "selectivity.png"
NONE = "–"


@dataclass(frozen=True)
class _Layer:
    """The probes of a layer, one for each seed."""

    layer: int
    probes: Sequence[Probe]

    @property
    def validation(self) -> float:
        return statistics.fmean(probe.validation for probe in self.probes)

    @property
    def test(self) -> list[float]:
        return [probe.test for probe in self.probes]

    @property
    def selectivity(self) -> list[float]:
        """Accuracy less that of the control; empty where there is none."""
        return [probe.accuracy - probe.control for probe in self.probes if probe.control is not None]

    @property
    def control(self) -> list[float]:
        return [probe.control for probe in self.probes if probe.control is not None]


def build(
    job: Config,
    data: Labelled,
    models: Sequence[ModelProbes],
    baselines: Sequence[Mapping[str, Any]],
    names: FrozenModels,
    remarks: Sequence[str],
    folder: Path,
) -> Report:
    """Draws into `folder`. baselines: cells as `fine_tune.baselines` has them."""
    metric = metrics.main_metric(data)
    layers = {of.model: _layers(of) for of in models}
    titles = {name: names.title(name) for name in layers}
    has_control = any(layer.control for layer in layers[models[0].model])
    figures = [_curve(job, metric, layers, titles, baselines, folder)]
    if has_control:
        figures.append(_selectivity(job, layers, titles, folder))
    return Report(
        title=job.name,
        about=_about(job, data, metric, has_control, remarks),
        tables=[_main(metric, layers, titles, baselines), _all(metric, layers, titles)],
        figures=figures,
        verdict=_verdict(job, metric, layers, titles, baselines),
        numbers=dict(_numbers(metric, layers, baselines)),
        licences=[data.licence],
        notes={
            "metric": metric,
            "split": data.reported,
            "probes": [
                {"model": name, "layer": layer.layer, "validation": layer.validation, "test": layer.test,
                 "control": layer.control, "selectivity": layer.selectivity}
                for name, of in layers.items() for layer in of
            ],
            "baselines": [{"model": cell["model"], "scores": cell["scores"]} for cell in baselines],
        },
    )  # fmt: skip


def _layers(of: ModelProbes) -> list[_Layer]:
    numbers = dict.fromkeys(probe.layer for probe in of.probes)
    return [_Layer(number, [probe for probe in of.probes if probe.layer == number]) for number in numbers]


def chosen(layers: Sequence[_Layer]) -> _Layer:
    """The layer that validation rows choose."""
    return max(layers, key=lambda layer: layer.validation)


def _main(
    metric: str,
    layers: Mapping[str, Sequence[_Layer]],
    titles: Mapping[str, str],
    baselines: Sequence[Mapping[str, Any]],
) -> Table:
    rows = []
    for name, of in layers.items():
        shown = f"**{titles[name]}**" if name == PRETRAINED else titles[name]
        for layer, why in ((chosen(of), "chosen by validation"), (of[-1], "the last")):
            rows.append([shown, f"{layer.layer}, {why}", *_shown(layer)])
    rows += [[cell["model"], NONE, mean_and_spread(cell["scores"]), NONE, NONE] for cell in baselines]
    return Table("What a linear probe finds", ["model", "layer", metric, "control", "selectivity"], rows)


def _all(metric: str, layers: Mapping[str, Sequence[_Layer]], titles: Mapping[str, str]) -> Table:
    rows = [
        [titles[name], str(layer.layer), f"{layer.validation:.3f}", *_shown(layer)]
        for name, of in layers.items()
        for layer in of
    ]
    columns = ["model", "layer", f"{metric} of validation", metric, "control", "selectivity"]
    return Table("By layer", columns, rows)


def _shown(layer: _Layer) -> list[str]:
    return [mean_and_spread(of) for of in (layer.test, layer.control, layer.selectivity)]


def _curve(
    job: Config,
    metric: str,
    layers: Mapping[str, Sequence[_Layer]],
    titles: Mapping[str, str],
    baselines: Sequence[Mapping[str, Any]],
    folder: Path,
) -> Figure:
    figure, axes = new_axes(f"{job.name}: what a linear probe finds", "layer (0: embeddings)", metric)
    for index, (name, of) in enumerate(layers.items()):
        colour = COLOURS[index % len(COLOURS)]
        _line(axes, [layer.layer for layer in of], [layer.test for layer in of], colour, "-", titles[name])
    for index, cell in enumerate(baselines):
        colour, style = COLOURS[(len(layers) + index) % len(COLOURS)], ("--", ":", "-.")[index % 3]
        axes.axhline(
            statistics.fmean(cell["scores"]), color=colour, linestyle=style, linewidth=1.2, label=cell["model"]
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    save(figure, folder / CURVE)
    return Figure(f"{metric} by layer", CURVE)


def _selectivity(
    job: Config, layers: Mapping[str, Sequence[_Layer]], titles: Mapping[str, str], folder: Path
) -> Figure:
    figure, axes = new_axes(f"{job.name}: how much of it is not learned by heart", "layer (0: embeddings)", "accuracy")
    for index, (name, of) in enumerate(layers.items()):
        colour, numbers = COLOURS[index % len(COLOURS)], [layer.layer for layer in of]
        _line(axes, numbers, [layer.selectivity for layer in of], colour, "-", f"{titles[name]}: selectivity")
        _line(axes, numbers, [layer.control for layer in of], colour, ":", f"{titles[name]}: control task")
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    save(figure, folder / SELECTIVITY)
    return Figure("selectivity, and accuracy of the control task, by layer", SELECTIVITY)


def _line(
    axes: Any, numbers: Sequence[int], values: Sequence[Sequence[float]], colour: str, style: str, label: str
) -> None:
    means = [statistics.fmean(of) for of in values]
    spreads = [statistics.stdev(of) if len(of) > 1 else 0.0 for of in values]
    axes.errorbar(numbers, means, yerr=spreads, color=colour, linestyle=style, marker="o", markersize=4, capsize=3,
                  label=label)  # fmt: skip


def _about(job: Config, data: Labelled, metric: str, has_control: bool, remarks: Sequence[str]) -> str:
    unit = "words, each the vector of its first piece" if data.head == "tags" else f"rows, pooled by {job.pooling}"
    reported = data.splits[data.reported]
    rows = len(reported) if job.test_rows is None else min(job.test_rows, len(reported))
    seeds = f"{job.seeds} seed{'s' * (job.seeds > 1)}"
    control = (
        " The control task gives each word type one label, drawn from those of the training rows (Hewitt & Liang "
        "2019); selectivity is accuracy less that of the control."
    )
    return (
        f"{data.description.rstrip('.')}.\n\nLogistic regression on the standardised vectors of each layer of a "
        f"network that is not trained, from {job.labels:,} labelled rows, of {unit}: {metric} on {rows:,} rows of "
        f"{data.reported}, mean ± standard deviation over {seeds}, each with other training rows. The layer is chosen "
        f"on validation rows.{control if has_control else ''}" + "".join(f"\n\n{text}." for text in remarks)
    )  # fmt: skip


def _verdict(
    job: Config,
    metric: str,
    layers: Mapping[str, Sequence[_Layer]],
    titles: Mapping[str, str],
    baselines: Sequence[Mapping[str, Any]],
) -> str:
    first = PRETRAINED if PRETRAINED in layers else job.models[0]
    best, last = chosen(layers[first]), layers[first][-1]
    beside = [f"{titles[name]} {mean_and_spread(chosen(of).test)}" for name, of in layers.items() if name != first]
    beside += [f"{cell['model']} {mean_and_spread(cell['scores'])}" for cell in baselines]
    selective = f", selectivity {mean_and_spread(best.selectivity)}" if best.selectivity else ""
    listed = f"; beside it: {', '.join(beside)}" if beside else ""
    return (
        f"Of {titles[first]}, validation chooses layer {best.layer} of {last.layer}: {metric} "
        f"{mean_and_spread(best.test)}{selective}; the last layer {mean_and_spread(last.test)}{listed}."
    )


def _numbers(
    metric: str, layers: Mapping[str, Sequence[_Layer]], baselines: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, float]]:
    for model, of in layers.items():
        name = slug(model)
        for layer, which in ((chosen(of), "best"), (of[-1], "last")):
            yield f"{metric}/{name}_{which}", statistics.fmean(layer.test)
            if layer.selectivity:
                yield f"selectivity/{name}_{which}", statistics.fmean(layer.selectivity)
        yield f"layer/{name}_best", float(chosen(of).layer)
    yield from ((f"{metric}/{cell['model']}", statistics.fmean(cell["scores"])) for cell in baselines)
