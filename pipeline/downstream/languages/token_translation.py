"""The job `token-translation`: whether a vector turns texts of one language into tokens of another (Liu et al. 2020).

    mean vector of each language in layer l ─► difference ─► α times added to all vectors of a text in layer l
    ─► the other layers and the head of the masked language model ─► the likeliest token of each place

No pairs are learned from: a language's mean is that of texts that are not asked about, each text being the mean of its
tokens ([CLS] left out). Of what is read in the places of a text's pieces are told

    converted    tokens of the target language alone, of all that are not of both languages
                 |y ∈ T \\ S| / (|y| − |y ∈ S ∩ T|), S and T the tokens of the means' texts in either language
    BLEU-1       without brevity penalty: the share of tokens that are in the translation, each as often as there
                 of others: against the translation of another text, which frequent tokens alone reach
    unchanged    the share of places in which the text's own token is read

Beside it: no shift, the text itself, and a random direction of the same length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read_json
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream import frozen_models, model_names
from pipeline.downstream.config import JobConfig, Problem, kind_problems
from pipeline.downstream.frozen_models import compared
from pipeline.downstream.languages import parallel
from pipeline.downstream.languages.parallel import Parallel, ParallelConfig
from pipeline.downstream.model_names import PRETRAINED, SCRATCH
from training.models.text.architectures import architecture_in, architecture_of

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context

__all__ = ["READS", "VERSION", "Config", "compared", "needs", "remarks", "run", "settings"]

VERSION = 1
READS = ("pretrained",)
FILLS = "fill-mask"
FEWEST = 20  # texts that a mean is of


class Config(JobConfig):
    """Tokens of another language by the difference of the languages' mean vectors."""

    task: Literal["token-translation"]
    """Which job it is."""
    sentences: ParallelConfig
    """Parallel sentences: some are asked about, the others give means, without their pairs."""
    rows: int = Field(default=200, ge=1)
    """Sentences that are asked about, drawn by the recipe's seed."""
    layers: list[int] = Field(default=[])
    """Layers whose vectors are moved, 0 being the embeddings; empty: all."""
    alphas: list[float] = Field(default=[1.0, 2.0, 3.0], min_length=1)
    """Numbers by which the difference is multiplied."""
    length: int | None = Field(default=None, ge=3)
    """Most tokens of a text, specials included; null: as many as the network takes."""
    models: list[str] = Field(default=[PRETRAINED], min_length=1)
    """Masked language models: pretrained; names of an evaluation's `networks`; or folders."""
    shown: int = Field(default=4, ge=0)
    """Sentences that the report shows."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, and a masked language model where the recipe's network is among the models."""
    yield from kind_problems(recipe, job, ("text",))
    yield from model_names.problems(job.models)
    if SCRATCH in job.models:
        yield ".models", f"{SCRATCH} has not learned to fill gaps; leave it out"
    if any(alpha <= 0 for alpha in job.alphas):
        yield ".alphas", "are above 0: without a shift is shown beside them"
    if recipe.network is not None and PRETRAINED in job.models:
        line = architecture_of(recipe.network.architecture)
        if line.causal or line.encoder_decoder or line.discriminator:
            text = f"{job.name!r} asks a masked language model, and {recipe.network.architecture!r} fills no gaps"
            yield "network.architecture", f"{text}; leave the job out"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of the user's files; `cleaning` of texts, `seed`, `titles` of models.

    Texts and networks that are there are looked at, too: UserError, before anything is trained, if they cannot serve.
    """
    from pipeline.downstream.fine_tune.job import contents_of

    known = frozen_models.settings(recipe, job)
    split(job, parallel.load(job.sentences, recipe.cleaning), recipe.seed)
    known["contents"] |= {str(path): contents_of(path) for path in job.sentences.paths()}
    init = getattr(recipe, "init", None)
    named = {**({} if init is None else {PRETRAINED: init.folder}),
             **{name: of.folder for name, of in recipe.other_networks.items()}}  # fmt: skip
    for name in job.models:
        folder = named.get(name) if name in (PRETRAINED, *recipe.other_networks) else name
        if folder is not None:
            check_fills(Path(folder).expanduser())
    return {**known, "cleaning": asdict(recipe.cleaning)}


def check_fills(folder: Path) -> None:
    """UserError where a folder holds no masked language model, or one without its head."""
    try:
        config = read_json(folder / "config.json")
        exported = (config.get("architectures") or [""])[0]
        does = architecture_in(config).task(exported)
    except (UnfitError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: holds no network of transformers ({error}); name another in models.") from None
    if does != FILLS:
        raise UserError(
            f"{folder}: {exported or 'its network'} has no head that fills gaps, by which tokens are read; name a "
            "masked language model."
        )


def split(job: Config, texts: Parallel, seed: int) -> tuple[Parallel, Parallel]:
    """Rows that are asked about, and those that give means. UserError where too few are left for a mean."""
    texts.pairs()
    asked, others = texts.some(job.rows, seed)
    for language in texts.languages:
        if (left := len(others.texts(language))) < FEWEST:
            raise UserError(
                f"downstream {job.name}: rows: {job.rows:,} of {len(texts.rows):,} are asked about, which leaves "
                f"{left:,} texts of {language} for its mean, and {FEWEST} are needed; lower it, or add texts."
            )
    asked.pairs()
    return asked, others


def remarks(recipe: Any, job: Config) -> list[str]:
    """What is odd about the texts."""
    return [f"downstream {job.name}: {note}" for note in parallel.load(job.sentences, recipe.cleaning).notes]


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`: of each model, at the layer and α of the highest BLEU-1."""
    yield from (f"{measure}/*" for measure in ("converted", "bleu1", "bleu1_of_others", "unchanged"))


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Read texts of each language as tokens of the others, with every layer's shift.

    inputs: `pretrained`, a masked language model in `model/`; those of `compared`, alike. UserError for networks
    without a head on the vocabulary.
    """
    from pipeline.downstream.languages import translation_report
    from pipeline.downstream.languages.translation_trials import Trials

    models = frozen_models.FrozenModels.of(job, settings, inputs, context)
    trials = Trials(job, models, Cleaning(**settings["cleaning"]), context)
    return translation_report.build(job, trials.asked, trials.others, trials.run(), models, out_dir / "figures")
