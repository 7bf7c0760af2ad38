"""The job `perplexity`: how well a decoder predicts whole held-out documents, as text.

    documents ─► ids ─► windows of the network's length ─► Σ log p ─► nats per token, bits per byte, per word

Windows and what the sum is divided by are those of lm-evaluation-harness (`training.inference.likelihood`). Unlike the
loss on held-out rows, bits per byte compares networks with different tokenizers, and with a compressor: xz, which has
seen nothing but the same documents.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.order import permute
from data_prep.tokens.cleaning import whole_text
from pipeline.downstream.config import JobConfig, Problem, held_out_text_problems
from pipeline.downstream.fine_tune.job import contents_of
from pipeline.downstream.model_names import OWN, PRETRAINED, SCRATCH, problems, slug
from training.models.text.architectures import architecture_of, types_with

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.reports.report import Report
    from pipeline.stage import Context
    from training.inference.likelihood import TextLikelihood

VERSION = 2
READS = ("pretrained", "corpus")
XZ, UNIFORM = "xz", "all bytes alike"
BARS = "bits-per-byte.png"


class Config(JobConfig):
    """How well a decoder predicts held-out documents."""

    task: Literal["perplexity"]
    """Which job it is."""
    split: Literal["validation", "test"] = "validation"
    """Split whose documents are predicted."""
    num_bytes: int = Field(default=200_000, ge=1)
    """About how much text: documents are taken until they have so many bytes."""
    models: list[str] = Field(default=[PRETRAINED, SCRATCH], min_length=1)
    """Networks: pretrained, scratch (its shape with random weights), or folders that `transformers` can open."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Text, held-out documents, and a decoder where the recipe's network is among the models."""
    yield from held_out_text_problems(recipe, job, job.split)
    yield from problems(job.models)
    if set(OWN) & set(job.models) and not architecture_of(recipe.network.architecture).causal:
        text = f"{job.name!r} asks a network that predicts each token from those before it"
        yield "network.architecture", f"{text}; choose a decoder such as {types_with('causal')}, or leave the job out"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """`contents`: digests of others' networks by path; `seed`; `keep_lines`, whether sentences are lines."""
    others = [Path(model).expanduser() for model in job.models if model not in OWN]
    contents = {str(folder): contents_of(folder) for folder in others}
    return {"contents": contents, "seed": recipe.seed, "keep_lines": recipe.data.clean.keep_lines}


def check_inputs(job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact]) -> None:
    """See `pipeline.downstream`."""
    if not len(Corpus(inputs["corpus"].path, job.split)):
        raise UserError(
            f"downstream.{job.name}: no document is in {job.split}; raise data.split.{job.split}, or add documents."
        )


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Predict documents by every model.

    inputs: `pretrained`, with a `transformers` folder `model/` of a decoder; `corpus`, with the held-out documents.
    Reports nats per token, bits per byte of UTF-8 and perplexity per word.
    """
    from pipeline.artifact import MODEL
    from training.distributed import choose_device
    from training.inference.language_model import open_language_model
    from training.inference.likelihood import Likelihood, TextLikelihood

    texts = documents(Corpus(inputs["corpus"].path, job.split), job.num_bytes, settings["seed"], settings["keep_lines"])
    device = str(choose_device(context.one_worker.device))
    likelihoods: dict[str, TextLikelihood] = {}
    for number, name in enumerate(job.models):
        folder = inputs["pretrained"].path / MODEL if name in OWN else Path(name).expanduser()
        random = settings["seed"] if name == SCRATCH else None
        likelihood = Likelihood(open_language_model(folder, device, random=random))
        likelihoods[name] = sum(likelihood.texts(texts), TextLikelihood())
        context.progress(f"{name}: {likelihoods[name].bits_per_byte:.3f} bits a byte", (number + 1) / len(job.models))
    return _report(job, texts, likelihoods, out_dir / "figures")


def numbers(job: Config) -> Iterator[str]:
    """See `pipeline.downstream`."""
    models = [slug(model) for model in job.models]
    yield from (f"bits_per_byte/{name}" for name in (*models, XZ, slug(UNIFORM)))
    yield from (f"nats_per_token/{name}" for name in models)


def documents(corpus: Corpus, num_bytes: int, seed: int, keep_lines: bool = False) -> list[str]:
    """Texts of documents in keyed order, until they have so many bytes."""
    texts: list[str] = []
    size = 0
    for place in permute(np.arange(len(corpus)), max(1, len(corpus)), key(seed, "perplexity")).tolist():
        document = corpus[place]
        texts.append(whole_text(document.sentences, document.paragraphs, keep_lines))
        size += len(texts[-1].encode())
        if size >= num_bytes:
            break
    return texts


def _report(job: Config, texts: list[str], likelihoods: Mapping[str, TextLikelihood], folder: Path) -> Report:
    from pipeline.reports.data import COLOURS, new_axes, save
    from pipeline.reports.report import Figure, Report, Table

    whole = "\n".join(texts).encode()
    beside = {XZ: 8 * len(lzma.compress(whole)) / len(whole), UNIFORM: 8.0}
    rows = [
        [f"**{name}**" if name == PRETRAINED else name, f"{of.bits_per_byte:.3f}", f"{of.nats_per_token:.3f}",
         f"{of.word_perplexity:,.4g}", f"{of.tokens:,}"]
        for name, of in likelihoods.items()
    ]  # fmt: skip
    rows += [[name, f"{bits:.3f}", "–", "–", "–"] for name, bits in beside.items()]
    bits = {**{slug(name): of.bits_per_byte for name, of in likelihoods.items()}, **beside}
    figure, axes = new_axes(job.name, "bits per byte", "")
    axes.barh(list(bits)[::-1], list(bits.values())[::-1], color=COLOURS[0])
    save(figure, folder / BARS)
    first = next(iter(likelihoods))
    of_first = likelihoods[first].bits_per_byte
    order = "fewer" if of_first < beside[XZ] else "more"
    return Report(
        title=job.name,
        about=f"{len(texts):,} documents of {job.split}, {len(whole):,} bytes, in windows of the network's length; the "
        "first token of a document is predicted from what documents begin with.\n\nxz has seen nothing but these "
        "documents, the network the training split.",
        tables=[
            Table("Held-out text", ["model", "bits per byte", "nats per token", "perplexity per word", "tokens"], rows)
        ],
        figures=[Figure("bits per byte", BARS)],
        verdict=f"{first} needs {of_first:.3f} bits a byte, {order} than xz's {beside[XZ]:.3f}.",
        numbers={
            **{f"bits_per_byte/{slug(name)}": value for name, value in bits.items()},
            **{f"nats_per_token/{slug(name)}": of.nats_per_token for name, of in likelihoods.items()},
        },
        notes={"documents": len(texts), "bytes": len(whole)},
    )
