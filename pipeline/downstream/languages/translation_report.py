"""The report of a job `token-translation`: by layer and α, beside no shift, the texts as they are, random ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.languages.parallel import Parallel
from pipeline.downstream.languages.token_translation import Config
from pipeline.downstream.languages.translation_trials import (
    COPIED,
    RANDOM,
    SHIFTED,
    UNSHIFTED,
    Cell,
    Measures,
    ModelCells,
)
from pipeline.downstream.model_names import PRETRAINED, slug
from pipeline.reports.data import COLOURS, new_axes, save
from pipeline.reports.report import Figure, Report, Table

NONE = "–"
_MEASURES = ("converted", "BLEU-1", "BLEU-1 of others", "unchanged")


def build(
    job: Config, asked: Parallel, others: Parallel, models: Sequence[ModelCells], names: FrozenModels, folder: Path
) -> Report:
    """Draws into `folder`. asked, others: rows that are asked about, and those that give means."""
    titles = {of.model: names.title(of.model) for of in models}
    figures = [figure for of in models for figure in _figures(of, titles[of.model], job, folder)]
    return Report(
        title=job.name,
        about=_about(job, asked, others, models, titles),
        tables=[_main(models, titles), _layers(models, titles), *_examples(models, titles)],
        figures=figures,
        verdict=" ".join(_verdict(of, titles[of.model]) for of in models),
        numbers=dict(_numbers(models)),
        licences=[job.sentences.licence],
        notes={"cells": [{"model": of.model, **_plain(cell)} for of in models for cell in of.cells]},
    )


def _plain(cell: Cell) -> dict[str, object]:
    about = {name: getattr(cell, name) for name in ("source", "target", "how", "layer", "alpha")}
    return {**about, **cell.measures._asdict()}


def _mean(of: ModelCells, how: str, layer: int = 0, alpha: float = 0.0) -> Measures:
    """Over the directions."""
    cells = [cell.measures for cell in of.cells if (cell.how, cell.layer, cell.alpha) == (how, layer, alpha)]
    return Measures(*(statistics.fmean(values) for values in zip(*cells, strict=True)))


def _best(of: ModelCells) -> tuple[int, float]:
    """The layer and α of the highest BLEU-1, of the mean over directions."""
    places = dict.fromkeys((cell.layer, cell.alpha) for cell in of.cells if cell.how == SHIFTED)
    return max(places, key=lambda place: _mean(of, SHIFTED, *place).bleu1)


def _shown(measures: Measures) -> list[str]:
    bleus = [f"{measures.bleu1:.1f}", f"{measures.bleu1_of_others:.1f}"]
    return [f"{measures.converted:.1%}", *bleus, f"{measures.unchanged:.1%}"]


def _main(models: Sequence[ModelCells], titles: dict[str, str]) -> Table:
    """For each direction, the best shift by BLEU-1 over all directions, and what stands beside it."""
    rows = []
    for of in models:
        layer, alpha = _best(of)
        for source, target in dict.fromkeys((cell.source, cell.target) for cell in of.cells):
            for how, at in ((SHIFTED, (layer, alpha)), (RANDOM, (layer, alpha)), (UNSHIFTED, (0, 0.0)),
                            (COPIED, (0, 0.0))):  # fmt: skip
                (cell,) = (c for c in of.cells
                           if (c.source, c.target, c.how, c.layer, c.alpha) == (source, target, how, *at))  # fmt: skip
                where = [str(layer), f"{alpha:g}"] if how in (SHIFTED, RANDOM) else [NONE, NONE]
                shown = f"**{titles[of.model]}**" if (of.model, how) == (PRETRAINED, SHIFTED) else titles[of.model]
                rows.append([shown, f"{source} → {target}", how, *where, *_shown(cell.measures)])
    columns = ["model", "languages", "what is added", "layer", "α", *_MEASURES]
    return Table("Tokens of the other language, at the layer and α of the highest BLEU-1", columns, rows)


def _layers(models: Sequence[ModelCells], titles: dict[str, str]) -> Table:
    rows = [
        [titles[of.model], str(layer), f"{alpha:g}", *_shown(_mean(of, SHIFTED, layer, alpha)),
         f"{_mean(of, RANDOM, layer, alpha).converted:.1%}"]
        for of in models
        for layer, alpha in dict.fromkeys((cell.layer, cell.alpha) for cell in of.cells if cell.how == SHIFTED)
    ]  # fmt: skip
    columns = ["model", "layer", "α", *_MEASURES, "converted by a random direction"]
    return Table("By layer and α, means over the directions", columns, rows)


def _examples(models: Sequence[ModelCells], titles: dict[str, str]) -> Iterator[Table]:
    rows = [
        [
            titles[of.model],
            f"{each.source} → {each.target}",
            f"{each.alpha:g}",
            each.text,
            each.read or NONE,
            each.right,
        ]
        for of in models
        for each in of.examples
    ]
    if rows:
        yield Table("What is read", ["model", "languages", "α", "text", "read", "right"], rows, examples=True)


def _figures(of: ModelCells, title: str, job: Config, folder: Path) -> Iterator[Figure]:
    """Share converted and BLEU-1 by layer, a line for each α."""
    name_in_files = slug(of.model)
    layers = sorted({cell.layer for cell in of.cells if cell.how == SHIFTED})
    for measure, name in (("converted", "share of tokens converted"), ("bleu1", "BLEU-1 without brevity penalty")):
        figure, axes = new_axes(f"{title}: {name}", "layer whose vectors are moved (0: embeddings)", name)
        for index, alpha in enumerate(job.alphas):
            colour = COLOURS[index % len(COLOURS)]
            for how, style in ((SHIFTED, "-"), (RANDOM, ":")):
                values = [getattr(_mean(of, how, layer, alpha), measure) for layer in layers]
                shown = {"label": f"α = {alpha:g}"} if how == SHIFTED else {}
                axes.plot(layers, values, color=colour, linestyle=style, marker="o", markersize=4, **shown)
        axes.plot([], [], color="black", linestyle=":", label=RANDOM)
        axes.axhline(getattr(_mean(of, UNSHIFTED), measure), color="grey", linestyle="--", label=UNSHIFTED)
        axes.axhline(getattr(_mean(of, COPIED), measure), color="grey", linestyle="-.", label=COPIED)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
        file = f"{measure}-{name_in_files}.png"
        save(figure, folder / file)
        yield Figure(f"{title}: {name}, by layer", file)


def _about(job: Config, asked: Parallel, others: Parallel, models: Sequence[ModelCells], titles: dict[str, str]) -> str:
    counts = ", ".join(f"{language} {len(others.texts(language)):,}" for language in others.languages)
    cut = [
        f"\n\n{of.cut[0]:,} of {of.cut[1]:,} texts are longer than {titles[of.model]} reads, and are cut."
        for of in models
        if of.cut[0]
    ]
    return (
        f"{len(asked.rows):,} rows of sentences in {', '.join(asked.languages)} are read with the difference of the "
        f"languages' mean vectors added in a layer, α times; the means are of other texts ({counts}), whose pairs are "
        "not used. Converted: of the tokens that are not of both languages, those of the other alone; a token is of "
        "a language if the texts of its mean have it. BLEU-1 is without brevity penalty, over the tokenizer's tokens; "
        "BLEU-1 of others is against the translation of another text, which frequent tokens alone reach. Layer and α "
        "are chosen by the highest BLEU-1 on these same rows: the random direction beside them shows what a vector of "
        f"that length does by itself (Liu et al. 2020).{''.join(cut)}"
    )


def _verdict(of: ModelCells, title: str) -> str:
    layer, alpha = _best(of)
    shifted, random = _mean(of, SHIFTED, layer, alpha), _mean(of, RANDOM, layer, alpha)
    copied, unshifted = _mean(of, COPIED), _mean(of, UNSHIFTED)
    return (
        f"With {alpha:g} times the difference in layer {layer} of {of.num_layers}, {title} reads "
        f"{shifted.converted:.1%} of the tokens as the other language's (a random direction {random.converted:.1%}, "
        f"no shift {unshifted.converted:.1%}), BLEU-1 {shifted.bleu1:.1f} (against translations of other texts "
        f"{shifted.bleu1_of_others:.1f}; the texts themselves {copied.bleu1:.1f})."
    )


def _numbers(models: Sequence[ModelCells]) -> Iterator[tuple[str, float]]:
    for of in models:
        name = slug(of.model)
        place = _best(of)
        for how, measures in ((name, _mean(of, SHIFTED, *place)), (f"{name}_random", _mean(of, RANDOM, *place)),
                              (f"{name}_copied", _mean(of, COPIED))):  # fmt: skip
            yield from ((f"{measure}/{how}", value) for measure, value in measures._asdict().items())
