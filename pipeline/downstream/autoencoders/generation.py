"""What a variational auto-encoder knows: bounds on the likelihood of unseen rows, samples, ways between rows, its axes.

    nats      mean log p(x) of test rows, from below: the evidence lower bound (ELBO), and the importance-weighted one
    bits/dim  −nats / (D · ln 2), D the values of a row, the prior's part included. A density of pictures is first told
              per step of a byte (+ D · ln 255), for they are made of bytes

A latent dimension is in use if what its mean says of rows varies: variance over rows of E[z_j|x] above 0.01 (Burda et
al. 2016, section 5).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.shards.order import permute
from pipeline.artifact import Artifact
from pipeline.downstream.job import batches, flat, plane, rows_of
from pipeline.downstream.train_in_memory import applied, encoded, rebuilt
from pipeline.recipe.jobs.autoencoders import GenerationConfig
from pipeline.reports import pictures
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL

SIDE = 8  # pictures along a grid of samples
STEPS = 9  # pictures along a way between two, and along an axis
WAYS, AXES = 6, 8
FARTHEST = 2.5  # standard deviations of the prior, along an axis
IN_USE = 0.01
ROWS_AT_ONCE = 64


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.models.autoencoder import open_model

    job = GenerationConfig.model_validate(config["job"])
    model = open_model(inputs["pretrained"].path / MODEL)
    test = rows_of(inputs["shards"], "test")
    unseen = scaled(np.asarray(test["input"]))
    context.progress("bounds")
    measured = bounds(model, unseen[: job.rows], job.importance_samples, context)
    means = encoded(model, unseen)
    spread = flat(means).var(0)
    bytes_of_pictures = unseen.ndim == 4 and model.options.likelihood == "gaussian"
    found = {
        name: {"nats": nats, "bits": bits(nats, model.values, bytes_of_pictures)} for name, nats in measured.items()
    }
    error = float(np.square(flat(rebuilt(model, unseen) - unseen)).sum(1).mean())

    context.progress("samples")
    figures, shown = out_dir / "figures", {}
    samples = sampled(model, SIDE * SIDE if unseen.ndim == 4 else len(unseen), config["seed"])
    if unseen.ndim == 4:
        some = permute(np.arange(SIDE * SIDE), len(unseen), config["seed"]) if len(unseen) >= SIDE * SIDE else []
        pictures.tiles({"samples": samples, "test pictures": unseen[some]}, figures / "samples.png")
        labels = np.asarray(test["label"])
        pictures.picture_grid(_ways(model, means, labels), figures / "ways.png")
        pictures.picture_grid(_axes(model, means[0], spread), figures / "axes.png")
        shown = {"samples": "samples.png", "ways between pictures": "ways.png", "axes of the code": "axes.png"}
    else:
        pictures.maps(_in_a_plane(unseen, samples), None, [], figures / "samples.png")
        shown = {"samples": "samples.png"}
    used = int((spread > IN_USE).sum())
    k, density = job.importance_samples, "density per byte step" if bytes_of_pictures else "p(x)"
    if model.options.likelihood == "bernoulli":
        density = "Bernoulli p(x), values as probabilities" + (" of being drawn as 1" if model.options.binarise else "")
    tightest = f"importance-weighted, k = {k}"
    return {
        "title": job.name,
        "task": job.task,
        "about": f"{len(unseen[: job.rows]):,} test rows of {model.values} values; {density}. Both bounds are from "
        "below, on the mean log-likelihood, the prior's part included; noise is drawn by each row's own values.",
        "heads": ["bound", "nats a row", "bits/dim"],
        "rows": [[name, f"{one['nats']:.2f}", f"{one['bits']:.4f}"] for name, one in found.items()],
        "figures": shown,
        "verdict": f"The tighter bound on unseen rows is {found[tightest]['bits']:.3f} bits a value; "
        f"{used} of {len(spread)} numbers of the code are in use.",
        "found": {**found, "dimensions_in_use": used, "variances": spread.tolist(), "squared_error": error},
        "summary": {
            "elbo": found["ELBO"]["nats"],
            "importance_bound": found[tightest]["nats"],
            "bits_per_dim": found[tightest]["bits"],
            "dimensions_in_use": used,
            "squared_error": error,
        },
    }


def bounds(model: Any, rows: np.ndarray, k: int, context: Context) -> dict[str, float]:
    """Means over rows, in nats."""
    elbo = applied(model.elbo, rows)
    tighter = []
    for some in batches(len(rows), ROWS_AT_ONCE):
        tighter.append(applied(lambda x: model.importance_bound(x, k), rows[some]))
        context.progress("bounds", some.stop / len(rows))
    return {"ELBO": float(elbo.mean()), f"importance-weighted, k = {k}": float(np.concatenate(tighter).mean())}


def bits(nats: float, values: int, of_bytes: bool) -> float:
    """Bits a value; see above."""
    return (-nats / values + (math.log(255) if of_bytes else 0.0)) / math.log(2)


def sampled(model: Any, count: int, seed: int) -> np.ndarray:
    """float32 [count, *shape] of a model that can sample."""
    import torch

    with torch.no_grad():
        return model.sample(count, torch.Generator().manual_seed(seed)).float().cpu().numpy()


def _decoded(model: Any, codes: np.ndarray) -> np.ndarray:
    return applied(model.decode, codes.astype(np.float32))


def _ways(model: Any, means: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """From one row to another of another class, along the arc between their codes."""
    found = {}
    for number in range(WAYS):
        start = number * len(means) // WAYS
        others = np.flatnonzero(labels != labels[start]) if (labels != labels[start]).any() else np.arange(len(means))
        end = int(others[(number * 7919 + 13) % len(others)])
        codes = np.stack([_between(means[start], means[end], share) for share in np.linspace(0, 1, STEPS)])
        name = f"{labels[start]} → {labels[end]}" if labels[start] >= 0 else str(number + 1)
        found[name] = _decoded(model, codes)
    return found


def _between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """On the arc from a to b: a straight line would pass where the prior has little."""
    cosine = float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < 1e-6:
        return (1 - share) * a + share * b
    return (math.sin((1 - share) * angle) * a + math.sin(share * angle) * b) / math.sin(angle)


def _axes(model: Any, code: np.ndarray, spread: np.ndarray) -> dict[str, np.ndarray]:
    """One number of a row's code changed, for those that say most."""
    found = {}
    for axis in np.argsort(-spread)[:AXES]:
        codes = np.repeat(code[None], STEPS, 0)
        codes.reshape(STEPS, -1)[:, axis] = np.linspace(-FARTHEST, FARTHEST, STEPS)
        found[f"z{axis}"] = _decoded(model, codes)
    return found


def _in_a_plane(rows: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of a table and samples beside them, by the two directions in which the rows vary most."""
    project = plane(rows)
    return {"test rows": project(rows), "samples": project(samples)}
