"""The job `generation`: a variational auto-encoder's likelihood bounds, samples, interpolations and traversals.

    nats      mean log p(x) of test rows, from below: the evidence lower bound (ELBO), and the importance-weighted one
    bits/dim  −nats / (D · ln 2), D the values of a row, the prior's part included. A density of images is first given
              per step of a byte (+ D · ln 255), for they are made of bytes

A latent dimension is in use if the variance over rows of its mean E[z_j|x] is above 0.01 (Burda et al. 2016,
section 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from data_prep.corruptions.noise import scaled
from data_prep.shards.order import permute
from pipeline.artifact import MODEL
from pipeline.downstream.config import JobConfig, Problem, kind_problems, objective_problems
from pipeline.downstream.rows import batches, flat, plane, rows_of
from pipeline.reports.report import Figure, Report, Table

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "shards")
SIDE = 8  # images along a grid of samples
STEPS = 9  # images along a way between two, and along an axis
WAYS, AXES = 6, 8
FARTHEST = 2.5  # standard deviations of the prior, along an axis
IN_USE = 0.01
ROWS_AT_ONCE = 64
ELBO = "ELBO"


class Config(JobConfig):
    """A variational auto-encoder's bounds on the likelihood, samples, interpolations and traversals."""

    task: Literal["generation"]
    """Which job it is."""
    importance_samples: int = Field(default=50, ge=1)
    """Number of samples, k, of the importance-weighted bound."""
    rows: int = Field(default=2000, ge=1)
    """Maximum number of test rows for the bounds."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A variational auto-encoder."""
    yield from kind_problems(recipe, job, ("table", "images"))
    yield from objective_problems(recipe, job, "vae")


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """The seed for samples."""
    return {"seed": recipe.seed}


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Bound the likelihood of test rows, and draw what the network generates.

    inputs: `pretrained`, a variational auto-encoder in `model/`; `shards`, columns `input` [R, *shape] and `label` [R]
    of the split test. Bounds are in nats a row and bits a value: ELBO (Kingma & Welling 2014, equation 3) and
    importance-weighted (Burda et al. 2016, equation 8).
    """
    from pipeline.downstream.train_in_memory import encoded, rebuilt
    from training.inference.networks.arrays import open_model

    model = open_model(inputs["pretrained"].path / MODEL)
    test = rows_of(inputs["shards"], "test")
    unseen = scaled(np.asarray(test["input"]))
    context.progress("bounds")
    nats = bounds(model, unseen[: job.rows], job.importance_samples, context)
    means = encoded(model, unseen)
    variances = flat(means).var(0)
    as_bytes = unseen.ndim == 4 and model.options.likelihood == "gaussian"
    measured = {name: {"nats": value, "bits": bits(value, model.values, as_bytes)} for name, value in nats.items()}
    error = float(np.square(flat(rebuilt(model, unseen) - unseen)).sum(1).mean())
    context.progress("samples")
    figures = _figures(model, unseen, np.asarray(test["label"]), means, settings["seed"], out_dir / "figures")
    num_rows = len(unseen[: job.rows])
    return _report(job, model, num_rows, measured, variances, error, _density(model, as_bytes), figures)


def _figures(
    model: Any, unseen: np.ndarray, labels: np.ndarray, means: np.ndarray, seed: int, folder: Path
) -> list[Figure]:
    """Samples and test rows [N, *shape]; for images also interpolations between codes [N, …] and traversals."""
    from pipeline.reports import images

    samples = sampled(model, SIDE * SIDE if unseen.ndim == 4 else len(unseen), seed)
    if unseen.ndim != 4:
        images.maps(_in_a_plane(unseen, samples), None, [], folder / "samples.png")
        return [Figure("samples", "samples.png")]
    sample = permute(np.arange(SIDE * SIDE), len(unseen), seed) if len(unseen) >= SIDE * SIDE else []
    images.tiles({"samples": samples, "test images": unseen[sample]}, folder / "samples.png")
    images.image_grid(_ways(model, means, labels), folder / "ways.png")
    images.image_grid(_axes(model, means[0], flat(means).var(0)), folder / "axes.png")
    titles = {"samples": "samples.png", "ways between images": "ways.png", "axes of the code": "axes.png"}
    return [Figure(title, file) for title, file in titles.items()]


def _density(model: Any, as_bytes: bool) -> str:
    """What p(x) is, in words."""
    if model.options.likelihood == "bernoulli":
        drawn = " of being drawn as 1" if model.options.binarise else ""
        return f"Bernoulli p(x), values as probabilities{drawn}"
    return "density per byte step" if as_bytes else "p(x)"


def _report(
    job: Config,
    model: Any,
    num_rows: int,
    measured: Mapping[str, Mapping[str, float]],
    variances: np.ndarray,
    error: float,
    density: str,
    figures: list[Figure],
) -> Report:
    tightest = importance_weighted(job.importance_samples)
    in_use = int((variances > IN_USE).sum())
    rows = [[name, f"{bound['nats']:.2f}", f"{bound['bits']:.4f}"] for name, bound in measured.items()]
    return Report(
        title=job.name,
        about=f"{num_rows:,} test rows of {model.values} values; {density}. Both bounds are from below, on the mean "
        "log-likelihood, the prior's part included; noise is drawn by each row's own values.",
        tables=[Table("Bounds on the likelihood", ["bound", "nats a row", "bits/dim"], rows)],
        figures=figures,
        verdict=f"The tighter bound on unseen rows is {measured[tightest]['bits']:.3f} bits a value; "
        f"{in_use} of {len(variances)} numbers of the code are in use.",
        numbers={
            "likelihood/elbo": measured[ELBO]["nats"],
            "likelihood/importance_bound": measured[tightest]["nats"],
            "likelihood/bits_per_dim": measured[tightest]["bits"],
            "dimensions_in_use": in_use,
            "squared_error": error,
        },
        notes={
            "task": job.task,
            "bounds": measured,
            "dimensions_in_use": in_use,
            "variances": variances.tolist(),
            "squared_error": error,
        },
    )


def importance_weighted(k: int) -> str:
    """The name of the bound of k samples."""
    return f"importance-weighted, k = {k}"


def bounds(model: Any, rows: np.ndarray, k: int, context: Context) -> dict[str, float]:
    """Means over rows [N, *shape], in nats."""
    from pipeline.downstream.train_in_memory import applied

    elbo = applied(model.elbo, rows)
    tighter = []
    for batch in batches(len(rows), ROWS_AT_ONCE):
        tighter.append(applied(lambda x: model.importance_bound(x, k), rows[batch]))
        context.progress("bounds", batch.stop / len(rows))
    return {ELBO: float(elbo.mean()), importance_weighted(k): float(np.concatenate(tighter).mean())}


def bits(nats: float, values: int, of_bytes: bool) -> float:
    """Bits per dimension; see the module."""
    return (-nats / values + (math.log(255) if of_bytes else 0.0)) / math.log(2)


def sampled(model: Any, count: int, seed: int) -> np.ndarray:
    """float32 [count, *shape] of a model that can sample."""
    import torch

    with torch.no_grad():
        return model.sample(count, torch.Generator().manual_seed(seed)).float().cpu().numpy()


def _decoded(model: Any, codes: np.ndarray) -> np.ndarray:
    from pipeline.downstream.train_in_memory import applied

    return applied(model.decode, codes.astype(np.float32))


def _ways(model: Any, means: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Interpolations from a row to one of another class, along the arc between their codes."""
    grids = {}
    for number in range(WAYS):
        start = number * len(means) // WAYS
        others = np.flatnonzero(labels != labels[start]) if (labels != labels[start]).any() else np.arange(len(means))
        end = int(others[(number * 7919 + 13) % len(others)])
        codes = np.stack([_between(means[start], means[end], share) for share in np.linspace(0, 1, STEPS)])
        name = f"{labels[start]} → {labels[end]}" if labels[start] >= 0 else str(number + 1)
        grids[name] = _decoded(model, codes)
    return grids


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """A point on the arc from a to b: a straight line would pass through regions of low prior density."""
    cosine = float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < 1e-6:
        return (1 - share) * a + share * b
    return (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)


def _axes(model: Any, code: np.ndarray, spread: np.ndarray) -> dict[str, np.ndarray]:
    """Traversals: one dimension of a row's code varied, for the dimensions of the largest variance."""
    grids = {}
    for axis in np.argsort(-spread)[:AXES]:
        codes = np.repeat(code[None], STEPS, 0)
        codes.reshape(STEPS, -1)[:, axis] = np.linspace(-FARTHEST, FARTHEST, STEPS)
        grids[f"z{axis}"] = _decoded(model, codes)
    return grids


def _in_a_plane(rows: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of a table and samples, projected to the two directions of the rows' largest variance."""
    project = plane(rows)
    return {"test rows": project(rows), "samples": project(samples)}
