"""The job `codes`: reconstruction of unseen rows from codes, compared with PCA of the same size; maps of the codes.

Rows are network inputs: images in 0 … 1, or the transformed columns of a table. Errors are squared and summed over the
values of a row. Probes (`pipeline.downstream.probes`) are fitted on codes of training rows and scored on test rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.corruptions.noise import scaled
from data_prep.errors import UserError
from pipeline.artifact import MODEL
from pipeline.downstream.config import JobConfig, Problem, kind_problems
from pipeline.downstream.probes import knn_accuracy, linear_accuracy
from pipeline.downstream.rows import are_classes, flat, plane, rows_of
from pipeline.reports.report import Figure, Report, Table

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "shards", "corpus")
SHOWN = 12  # images in a grid
OURS, PCA, INPUTS = "auto-encoder", "PCA", "inputs"


class Config(JobConfig):
    """Reconstruction of unseen rows from codes, compared with PCA of the same size; a map of the codes."""

    task: Literal["codes"]
    """Which job it is."""
    neighbours: int = Field(default=15, ge=1)
    """Number of nearest neighbours that trustworthiness is computed from."""
    rows: int = Field(default=2000, ge=100)
    """Maximum number of test rows in the maps; t-SNE is slow."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Arrays."""
    return kind_problems(recipe, job, ("table", "images"))


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """None: the result only depends on the artifacts."""
    return {}


class _Rows(NamedTuple):
    """Training and test rows as network inputs, with their classes."""

    train: np.ndarray  # float32 [N, *shape]
    test: np.ndarray  # float32 [M, *shape]
    labels: np.ndarray  # [N] from 0; −1: none
    truth: np.ndarray  # [M]

    @property
    def have_classes(self) -> bool:
        return are_classes(self.labels, self.truth)


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Encode unseen rows; compare reconstruction, probes and maps with those of as many principal components.

    inputs: `pretrained`, an auto-encoder in `model/`; `shards`, columns `input` [R, *shape] and `label` [R] of the
    splits train and test; `corpus`, for names of classes. Errors are squared and summed over a row's values; accuracies
    and trustworthiness (Venna & Kaski 2001) are in 0 … 1; kNN as in Wu et al. 2018, section 3.4. UserError where rows
    are too few for as many components as the code has numbers.
    """
    from pipeline.reports import images
    from training.inference.networks.arrays import open_model

    train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")
    train_rows, test_rows = (scaled(np.asarray(rows["input"])) for rows in (train, test))
    rows = _Rows(train_rows, test_rows, np.asarray(train["label"]), np.asarray(test["label"]))
    model = open_model(inputs["pretrained"].path / MODEL)
    features, rebuilt = _features(job, model, rows, context)
    measured = _measured(features, rebuilt, rows, context)
    figures, folder = [], out_dir / "figures"
    if test_rows.ndim == 4:
        sample = np.linspace(0, len(test_rows) - 1, SHOWN).astype(int)
        grids = {"input": test_rows, **rebuilt}
        images.image_grid({name: images_of[sample] for name, images_of in grids.items()}, folder / "rebuilt.png")
        figures.append(Figure("rebuilt", "rebuilt.png"))
    neighbours = min(job.neighbours, (min(job.rows, len(test_rows)) - 1) // 2)
    maps = _maps(job, {name: test_features for name, (_, test_features) in features.items()}, neighbours, context)
    points = {f"{name} (trustworthiness {trust:.3f})": places for name, (places, trust) in maps.items()}
    labels = rows.truth[: job.rows] if rows.have_classes else None
    images.maps(points, labels, inputs["corpus"].summary["classes"], folder / "maps.png")
    trusted = {name: trust for name, (_, trust) in maps.items()}
    figures.append(Figure("maps", "maps.png"))
    return _report(job, rows, features[OURS][0].shape[1], measured, trusted, neighbours, figures)


def _features(
    job: Config, model: Any, rows: _Rows, context: Context
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
    """Features of (training rows [N, D], test rows [M, D]) by name, and the reconstructed test rows."""
    from sklearn.decomposition import PCA as Components  # noqa: N811 - the name is ours here

    from pipeline.downstream.train_in_memory import encoded, rebuilt

    context.progress("encoding")
    codes, unseen_codes = flat(encoded(model, rows.train)), flat(encoded(model, rows.test))
    by_ours = rebuilt(model, rows.test)
    size, values = codes.shape[1], rows.train[0].size
    if size > min(len(rows.train), values):
        raise UserError(f"downstream.{job.name}: PCA has no {size} components of {len(rows.train)} rows of {values}.")
    context.progress("fitting PCA")
    pca = Components(size, svd_solver="full").fit(flat(rows.train))
    components = pca.transform(flat(rows.train)), pca.transform(flat(rows.test))
    features = {
        OURS: (codes, unseen_codes),
        PCA: components,
        INPUTS: (flat(rows.train), flat(rows.test)),
    }
    return features, {OURS: by_ours, PCA: pca.inverse_transform(components[1]).reshape(rows.test.shape)}


def _measured(
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    rebuilt: Mapping[str, np.ndarray],
    rows: _Rows,
    context: Context,
) -> dict[str, dict[str, float]]:
    """Errors, and accuracies of probes where rows have classes, by name of the features."""
    measured: dict[str, dict[str, float]] = {
        name: {"error": _error(reconstructed, rows.test)} for name, reconstructed in rebuilt.items()
    }
    if rows.have_classes:
        for name, (train_features, test_features) in features.items():
            context.progress(f"probing {name}")
            neighbours = max(1, min(200, len(train_features) // 10))
            scores = {
                "knn": knn_accuracy(train_features, rows.labels, test_features, rows.truth, neighbours),
                "linear": linear_accuracy(train_features, rows.labels, test_features, rows.truth),
            }
            measured.setdefault(name, {}).update(scores)
    return measured


def _report(
    job: Config,
    rows: _Rows,
    size: int,
    measured: Mapping[str, Mapping[str, float]],
    trusted: Mapping[str, float],
    neighbours: int,
    figures: list[Figure],
) -> Report:
    ratio = measured[OURS]["error"] / measured[PCA]["error"]
    probed = "knn" in measured[OURS]
    columns = ["features", "error", *(["kNN accuracy", "linear accuracy"] if probed else [])]
    too_many = f", as rows are too few for {job.neighbours}" if neighbours < job.neighbours else ""
    return Report(
        title=job.name,
        about=f"{size} numbers a row; {len(rows.train):,} training rows, {len(rows.test):,} test rows, on which "
        "everything here is measured. Error: squared, summed over the values. Trustworthiness says how far the "
        f"{neighbours} nearest neighbours on a map were neighbours before{too_many}.",
        tables=[Table("Features", columns, [[name, *_cells(scores, probed)] for name, scores in measured.items()])],
        figures=figures,
        verdict=f"With {size} numbers a row the auto-encoder's error on unseen rows is {ratio:.2f} times PCA's.",
        numbers={
            "error/ratio": ratio,
            **{f"{what}/{_slug(name)}": value for name, scores in measured.items() for what, value in scores.items()},
            **{f"trustworthiness/{_slug(name)}": trust for name, trust in trusted.items()},
        },
        notes={"task": job.task, "features": measured, "trustworthiness": trusted},
    )


def _cells(measured: Mapping[str, float], probed: bool) -> list[str]:
    error = f"{measured['error']:.4g}" if "error" in measured else "–"
    return [error, f"{measured['knn']:.3f}", f"{measured['linear']:.3f}"] if probed else [error]


def _maps(
    job: Config, features: Mapping[str, np.ndarray], neighbours: int, context: Context
) -> dict[str, tuple[np.ndarray, float]]:
    """Maps [M, 2] of test rows and their trustworthiness: two principal components, t-SNE of inputs and of codes."""
    from sklearn.manifold import TSNE, trustworthiness

    inputs, codes = features[INPUTS][: job.rows], features[OURS][: job.rows]

    def tsne(rows: np.ndarray) -> np.ndarray:
        perplexity = min(30.0, (len(rows) - 1) / 3)
        begin = "pca" if rows.shape[1] > 1 else "random"
        return TSNE(2, perplexity=perplexity, init=begin, random_state=0).fit_transform(rows)

    points_of: dict[str, np.ndarray] = {"PCA, 2 components": plane(inputs)(inputs)}
    if codes.shape[1] == 2:
        points_of["codes"] = codes
    for name, rows in (("t-SNE of inputs", inputs), ("t-SNE of codes", codes)):
        context.progress(name)
        points_of[name] = tsne(rows)
    return {
        name: (points, float(trustworthiness(inputs, points, n_neighbors=neighbours)))
        for name, points in points_of.items()
    }


def _error(reconstructed: np.ndarray, target: np.ndarray) -> float:
    return float(np.square(reconstructed.astype(np.float64) - target).reshape(len(target), -1).sum(1).mean())


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-").replace(",", "")
