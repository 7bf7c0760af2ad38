"""The report of a job `alignment`: by layer, beside random weights, character n-grams and chance; growth; by pair."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.languages.alignment import Config
from pipeline.downstream.languages.alignment_trials import CHANCE, NO_LAYER, ModelScores, Score
from pipeline.downstream.languages.parallel import Parallel
from pipeline.downstream.model_names import PRETRAINED, slug
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import Figure, Report, Table

GROWTH = "growth.png"
_CALLED = {"tfidf": "TF-IDF of character n-grams"}
_STYLES = {"baseline": {"linestyle": "--"}, CHANCE: {"linewidth": 0.8}}


class Mean(NamedTuple):
    """Means over the pairs of languages and both directions, of vectors as they are and without languages' means."""

    layer: int
    mrr: float
    mrr_centred: float
    top1: float
    top1_centred: float

    @property
    def best(self) -> float:
        return max(self.mrr, self.mrr_centred)


@dataclass(frozen=True)
class _Results:
    """texts: by unit. layers: by unit and model. called: what tables call a model."""

    job: Config
    texts: Mapping[str, Parallel]
    models: Sequence[ModelScores]
    layers: Mapping[tuple[str, str], Sequence[Mean]]
    called: Mapping[str, str]

    def __iter__(self) -> Iterator[tuple[str, ModelScores, Sequence[Mean]]]:
        """Units, and what each model finds of them."""
        return ((unit, of, self.layers[unit, of.model]) for unit in self.texts for of in self.models)


def build(
    job: Config, texts: Mapping[str, Parallel], scores: Sequence[ModelScores], models: FrozenModels, folder: Path
) -> Report:
    """Draws into `folder`. texts: by unit. scores: those of `Trials.run`."""
    called = {of.model: _called(of, models) for of in scores}
    layers = {(unit, of.model): _means(of.scores, unit) for of in scores for unit in texts}
    results = _Results(job, texts, scores, layers, called)
    figures = [_by_layer(results, unit, folder) for unit in texts]
    if len(job.sizes) > 1:
        figures.append(_growth(results, folder))
    return Report(
        title=job.name,
        about=_about(results),
        tables=[_main(results), _pairs(results), _all_layers(results)],
        figures=figures,
        verdict=" ".join(_verdict(results, unit) for unit in texts),
        numbers=dict(_numbers(results)),
        licences=[of.licence for of in job.units.values()],
        notes={"layers": [{"unit": unit, "model": of.model, **mean._asdict()} for unit, of, means in results
                          for mean in means]},
    )  # fmt: skip


def _called(of: ModelScores, models: FrozenModels) -> str:
    return models.title(of.model) if of.kind == "network" else _CALLED.get(of.model, of.model)


def _means(scores: Sequence[Score], unit: str) -> list[Mean]:
    """Of each layer; of methods without layers one, whose centred values are the others."""
    of_unit = [score for score in scores if score.unit == unit]
    means = []
    for layer in dict.fromkeys(score.layer for score in of_unit):
        plain, without = ([s for s in of_unit if (s.layer, s.is_centred) == (layer, is_centred)]
                          for is_centred in (False, True))  # fmt: skip
        values = [
            statistics.fmean(getattr(score, measure) for score in scores_of)
            for measure in ("mrr", "top1")
            for scores_of in (plain, without or plain)
        ]
        means.append(Mean(layer, *values))
    return means


def _best(of_layers: Sequence[Mean]) -> Mean:
    return max(of_layers, key=lambda mean: mean.best)


def _shown(values: Sequence[float], has_layers: bool) -> list[str]:
    """MRR and the share that is first, of vectors as they are and without means."""
    mrr, mrr_centred, top1, top1_centred = values
    if not has_layers:
        return [f"{mrr:.3f}", "–", f"{top1:.1%}", "–"]
    return [f"{mrr:.3f}", f"{mrr_centred:.3f}", f"{top1:.1%}", f"{top1_centred:.1%}"]


_COLUMNS = ("MRR", "MRR, without means", "found first", "found first, without means")


def _main(results: _Results) -> Table:
    rows = []
    for unit, of, means in results:
        called = results.called[of.model]
        shown = f"**{called}**" if of.model == PRETRAINED else called
        if of.kind != "network":
            rows.append([shown, unit, "–", *_shown(means[0][1:], False)])
            continue
        best, last = _best(means), means[-1]
        rows.append([shown, unit, f"{best.layer}, the best", *_shown(best[1:], True)])
        rows.append([shown, unit, f"{last.layer}, the last", *_shown(last[1:], True)])
    return Table("Translations that are found", ["model", "of", "layer", *_COLUMNS], rows)


def _pairs(results: _Results) -> Table:
    """Both directions of each pair, by the best layer and as vectors are best."""
    rows = []
    for unit, of, means in results:
        best = _best(means)
        is_centred = best.layer != NO_LAYER and best.mrr_centred > best.mrr
        layer = "–" if best.layer == NO_LAYER else f"{best.layer}{', without means' * is_centred}"
        for score in of.scores:
            if (score.unit, score.layer, score.is_centred) == (unit, best.layer, is_centred):
                first, second = score.languages
                for ends, side in ((f"{first} → {second}", score.onward), (f"{second} → {first}", score.back)):
                    rows.append([results.called[of.model], unit, ends, layer, f"{side.mrr:.3f}", f"{side.top1:.1%}"])
    return Table("By languages, at the best layer", ["model", "of", "languages", "layer", "MRR", "found first"], rows)


def _all_layers(results: _Results) -> Table:
    rows = [
        [results.called[of.model], unit, str(mean.layer), *_shown(mean[1:], True)]
        for unit, of, means in results
        if of.kind == "network"
        for mean in means
    ]
    return Table("By layer", ["model", "of", "layer", *_COLUMNS], rows)


def _by_layer(results: _Results, unit: str, folder: Path) -> Figure:
    figure, axes = new_axes(f"{unit.capitalize()} found by their translations", "layer (0: embeddings)", "MRR")
    for index, of in enumerate(of for of in results.models if of.kind == "network"):
        means, colour = results.layers[unit, of.model], COLOURS[index % len(COLOURS)]
        numbers = [mean.layer for mean in means]
        axes.plot(numbers, [mean.mrr_centred for mean in means], color=colour, marker="o", markersize=4,
                  label=results.called[of.model])  # fmt: skip
        axes.plot(numbers, [mean.mrr for mean in means], color=colour, linestyle=":", marker="o", markersize=3)
    for of in results.models:
        if of.kind != "network":
            axes.axhline(results.layers[unit, of.model][0].mrr, color="grey", **_STYLES[of.kind],
                         label=results.called[of.model])  # fmt: skip
    axes.plot([], [], color="black", linestyle=":", label="with languages' means")
    axes.set_ylim(0, 1.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    save(figure, folder / f"{unit}.png")
    return Figure(f"{unit}: mean reciprocal rank by layer", f"{unit}.png")


def _growth(results: _Results, folder: Path) -> Figure:
    job = results.job
    figure, axes = new_axes("Alignment while pretraining goes on", job.size_of, "MRR at the best layer")
    names = sorted(job.sizes, key=lambda name: job.sizes[name])
    sizes = [job.sizes[name] for name in names]
    for index, unit in enumerate(results.texts):
        best, colour = [_best(results.layers[unit, name]) for name in names], COLOURS[index % len(COLOURS)]
        axes.plot(sizes, [mean.mrr_centred for mean in best], color=colour, marker="o", label=unit)
        axes.plot(sizes, [mean.mrr for mean in best], color=colour, linestyle=":", marker="o")
        axes.axhline(results.layers[unit, CHANCE][0].mrr, color=colour, linewidth=0.8, alpha=0.5,
                     label=f"{unit}, {CHANCE}")  # fmt: skip
    axes.plot([], [], color="black", linestyle=":", label="with languages' means")
    if sizes[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    save(figure, folder / GROWTH)
    return Figure("mean reciprocal rank by how much a network was pretrained on", GROWTH)


def _about(results: _Results) -> str:
    counted = []
    for unit, of in results.texts.items():
        candidates = (f"{pair.name} {len(pair.texts[0]):,} and {len(pair.texts[1]):,}" for pair in of.pairs())
        counted.append(f"{len(of.rows):,} rows of {unit}, texts in each language: {', '.join(candidates)}")
    cut = [
        f"\n\nOf {numbers[1]:,} {unit} {numbers[0]:,} are longer than {results.called[of.model]} reads, and are cut."
        for of in results.models
        for unit, numbers in of.cut.items()
        if numbers[0]
    ]
    return (
        f"{'; '.join(counted)}.\n\nEach text is looked for among all texts of the other language by the cosine of "
        "their vectors, in both directions; a text as near as the right one goes before it. A sentence is the mean of "
        "its tokens in a layer, special ones included; a word stands alone and is the mean of its pieces. Without "
        "means: less the mean of its language's vectors here. MRR is the mean of 1/rank. Numbers are means over pairs "
        "of languages and both directions; the best layer is chosen on these same rows, so compare it with the best of "
        f"random weights.{''.join(cut)}"
    )


def _verdict(results: _Results, unit: str) -> str:
    names = results.job.models
    first = PRETRAINED if PRETRAINED in names else names[0]
    means = results.layers[unit, first]
    best = _best(means)
    others = [
        f"{results.called[of.model]} {_best(results.layers[unit, of.model]).best:.3f}"
        for of in results.models
        if of.model != first
    ]
    return (
        f"{unit.capitalize()}: at its best layer, {best.layer} of {means[-1].layer}, {results.called[first]} finds "
        f"{max(best.top1, best.top1_centred):.1%} first, MRR {best.mrr:.3f}, without languages' means "
        f"{best.mrr_centred:.3f}; beside it, at best: {', '.join(others)}."
    )


def _numbers(results: _Results) -> Iterator[tuple[str, float]]:
    measures: dict[str, Callable[[Mean], float]] = {
        "mrr": lambda mean: mean.best,
        "top1": lambda mean: max(mean.top1, mean.top1_centred),
    }
    for unit, of, means in results:
        name = slug(of.model)
        for measure, value in measures.items():
            yield f"{unit}/{measure}/{name}_best", value(_best(means))
            if of.kind == "network":
                yield f"{unit}/{measure}/{name}_last", value(means[-1])
