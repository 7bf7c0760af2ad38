"""What codes keep of rows that were never seen, beside PCA's of the same size; and maps of the codes.

Rows are what the network is given: pictures in 0 … 1, the columns of a table made numbers. An error is the squared one
summed over the values of a row. Probes (`probes`) see codes of training rows and are scored on test rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream.job import are_classes, flat, plane, rows_of
from pipeline.downstream.probes import knn_accuracy, linear_accuracy
from pipeline.downstream.train_in_memory import encoded, rebuilt
from pipeline.recipe.jobs.autoencoders import CodesConfig
from pipeline.reports import pictures as array_figures
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL

SHOWN = 12  # pictures in a grid
OURS, PCA, INPUTS = "auto-encoder", "PCA", "inputs"


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from sklearn.decomposition import PCA as Components  # noqa: N811 - the name is ours here

    from training.models.autoencoder import open_model

    job = CodesConfig.model_validate(config["job"])
    train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")
    seen, unseen = (scaled(np.asarray(rows["input"])) for rows in (train, test))
    context.progress("encoding")
    model = open_model(inputs["pretrained"].path / MODEL)
    codes, unseen_codes = flat(encoded(model, seen)), flat(encoded(model, unseen))
    by_ours = rebuilt(model, unseen)
    size = codes.shape[1]
    if size > min(len(seen), seen[0].size):
        raise UserError(f"downstream.{job.name}: PCA has no {size} components of {len(seen)} rows of {seen[0].size}.")
    context.progress("fitting PCA")
    pca = Components(size, svd_solver="full").fit(flat(seen))
    by_pca = pca.inverse_transform(pca.transform(flat(unseen))).reshape(unseen.shape)
    found: dict[str, dict[str, float]] = {
        OURS: {"error": _error(by_ours, unseen)},
        PCA: {"error": _error(by_pca, unseen)},
    }
    features = {
        OURS: (codes, unseen_codes),
        PCA: (pca.transform(flat(seen)), pca.transform(flat(unseen))),
        INPUTS: (flat(seen), flat(unseen)),
    }
    labels, truth = np.asarray(train["label"]), np.asarray(test["label"])
    if are_classes(labels, truth):
        for name, (known, new) in features.items():
            context.progress(f"probing {name}")
            scores = {
                "knn": knn_accuracy(known, labels, new, truth, max(1, min(200, len(known) // 10))),
                "linear": linear_accuracy(known, labels, new, truth),
            }
            found.setdefault(name, {}).update(scores)
    figures = out_dir / "figures"
    if unseen.ndim == 4:
        pictures = {"input": unseen, OURS: by_ours, PCA: by_pca}
        some = np.linspace(0, len(unseen) - 1, SHOWN).astype(int)
        array_figures.picture_grid({name: of[some] for name, of in pictures.items()}, figures / "rebuilt.png")
    maps = _maps(job, {name: new for name, (_, new) in features.items()}, context)
    where = {f"{name} (trustworthiness {one['trustworthiness']:.3f})": one.pop("points") for name, one in maps.items()}
    classes = inputs["corpus"].summary["classes"]
    array_figures.maps(where, truth[: job.rows] if are_classes(labels, truth) else None, classes, figures / "maps.png")
    ratio = found[OURS]["error"] / found[PCA]["error"]
    probed = "knn" in found[OURS]
    return {
        "title": job.name,
        "task": job.task,
        "about": f"{size} numbers a row; {len(seen):,} training rows, {len(unseen):,} test rows, on which everything "
        "here is measured. Error: squared, summed over the values. Trustworthiness says how far neighbours on a map "
        "were neighbours before.",
        "heads": ["features", "error", *(["kNN accuracy", "linear accuracy"] if probed else [])],
        "rows": [[name, *_cells(one, probed)] for name, one in found.items()],
        "figures": {"rebuilt": "rebuilt.png", "maps": "maps.png"} if unseen.ndim == 4 else {"maps": "maps.png"},
        "verdict": f"With {size} numbers a row the auto-encoder's error on unseen rows is {ratio:.2f} times PCA's.",
        "found": found,
        "maps": maps,
        "summary": {
            "error_ratio": ratio,
            **{f"{_slug(name)}_{what}": value for name, one in found.items() for what, value in one.items()},
            **{f"{_slug(name)}_trustworthiness": one["trustworthiness"] for name, one in maps.items()},
        },
    }


def _cells(one: dict[str, float], probed: bool) -> list[str]:
    error = f"{one['error']:.4g}" if "error" in one else "–"
    return [error, f"{one['knn']:.3f}", f"{one['linear']:.3f}"] if probed else [error]


def _maps(job: CodesConfig, features: dict[str, np.ndarray], context: Context) -> dict[str, Any]:
    """Two numbers a test row: the first two components, t-SNE of the inputs and of the codes."""
    from sklearn.manifold import TSNE, trustworthiness

    inputs, codes = features[INPUTS][: job.rows], features[OURS][: job.rows]
    k = min(job.neighbours, (len(inputs) - 1) // 2)

    def tsne(rows: np.ndarray) -> np.ndarray:
        perplexity = min(30.0, (len(rows) - 1) / 3)
        begin = "pca" if rows.shape[1] > 1 else "random"
        return TSNE(2, perplexity=perplexity, init=begin, random_state=0).fit_transform(rows)

    found: dict[str, np.ndarray] = {"PCA, 2 components": plane(inputs)(inputs)}
    if codes.shape[1] == 2:
        found["codes"] = codes
    for name, rows in (("t-SNE of inputs", inputs), ("t-SNE of codes", codes)):
        context.progress(name)
        found[name] = tsne(rows)
    return {
        name: {"points": points, "trustworthiness": float(trustworthiness(inputs, points, n_neighbors=k))}
        for name, points in found.items()
    }


def _error(made: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.square(made.astype(np.float64) - wanted).reshape(len(wanted), -1).sum(1).mean())


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-").replace(",", "")
