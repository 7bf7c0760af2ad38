"""The job `restoration`: denoising by a denoising auto-encoder, and whether its features beat those of a plain one.

Networks for every kind of noise, and plain ones, are trained anew with the recipe's budget: those of one seed start
from the same weights and see the same images in the same order, so their differences are paired. The noise on test
images is keyed, and the same for all networks. A linear classifier measures the features of clean images (Vincent et
al. 2010).

    PSNR = 10 · log₁₀(255² / mean squared error), over all test images, rounded to 8 bits as a file would hold them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.corruptions.noise import NoiseConfig, add_noise, scaled
from data_prep.corruptions.none import NoneConfig
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows
from pipeline.artifact import MODEL
from pipeline.downstream.config import JobConfig, Problem, kind_problems, objective_problems, training_settings
from pipeline.downstream.probes import linear_accuracy
from pipeline.downstream.rows import are_classes, flat, rows_of
from pipeline.reports.report import Figure, Report, Table
from pipeline.reports.spread import mean_and_spread

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "shards")
SHOWN = 10  # images in a grid
PLAIN = "plain"
LARGEST_BYTE = 255


class Config(JobConfig):
    """What a denoising auto-encoder restores, and whether its features beat those of a plain one."""

    task: Literal["restoration"]
    """Which job it is."""
    others: list[NoiseConfig] = Field(default_factory=list)
    """Other noise to compare with the recipe's."""
    seeds: int = Field(default=3, ge=1)
    """Number of networks of each kind, trained from different seeds."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """Images, noise, and the objective of a plain auto-encoder."""
    yield from objective_problems(recipe, job, "autoencoder")
    yield from kind_problems(recipe, job, ("images",))
    if recipe.corruption.kind == "none":
        yield "corruption.kind", "restoration needs noise; choose gaussian, masking or salt-and-pepper"


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """The recipe's training settings."""
    return training_settings(recipe)


class _Scores(NamedTuple):
    """Scores of networks trained with one kind of noise, by seed."""

    restored: list[float]
    """PSNR (dB) of their reconstructions of noisy test images."""
    by_plain: list[float]
    """PSNR (dB) of the reconstructions by networks trained without noise."""
    accuracy: list[float]
    """Accuracy of a linear classifier on codes of clean images."""


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Train networks with each kind of noise and without; measure restoration and linear accuracy of their codes.

    inputs: `pretrained`, a denoising auto-encoder in `model/`; `shards`, columns `input` uint8 [R, C, H, W], `label`
    [R] and `row` [R] of the splits train and test. PSNR is in dB, accuracy in 0 … 1, mean ± standard deviation over
    seeds (Vincent et al. 2010, sections 5 and 6). UserError where images have no labels for the probe.
    """
    from pipeline.downstream.train_in_memory import rebuilt
    from training.inference.networks.arrays import open_model

    own = NoiseConfig.model_validate(settings["corruption"])
    train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")
    clean = scaled(np.asarray(test["input"]))
    noises = {named(noise): noise for noise in (own, *job.others)}
    noisy = {name: corrupted(test, noise, settings["seed"]) for name, noise in noises.items()}
    probe = _Probe(train, test, f"downstream.{job.name}")
    pretrained = open_model(inputs["pretrained"].path / MODEL)
    restored = {named(own): rebuilt(pretrained, noisy[named(own)])}
    scores = _trained(job, settings, noises, noisy, clean, train, probe, restored, context)
    before = {kind: psnr(images, clean) for kind, images in noisy.items()}
    figures = _figures(noisy, restored, clean, before, scores, out_dir / "figures")
    return _report(job, named(own), len(probe.labels), len(clean), before, scores, figures)


def _trained(
    job: Config,
    settings: dict[str, Any],
    noises: Mapping[str, NoiseConfig],
    noisy: Mapping[str, np.ndarray],
    clean: np.ndarray,
    train: Rows,
    probe: _Probe,
    restored: dict[str, np.ndarray],
    context: Context,
) -> dict[str, _Scores]:
    """Scores of new networks by kind of noise. Images restored by the first of each kind are added to `restored`."""
    from pipeline.downstream.train_in_memory import rebuilt, trained

    kinds = {PLAIN: NoneConfig(kind="none"), **noises}
    scores = {kind: _Scores([], [], []) for kind in kinds}
    for seed in range(job.seeds):
        for number, (kind, noise) in enumerate(kinds.items()):
            context.progress(f"{kind}, seed {seed}", (seed * len(kinds) + number) / (job.seeds * len(kinds)))
            config = {**settings, "corruption": noise.model_dump(mode="json")}
            model = trained(config, train, key(settings["seed"], f"{job.name} seed {seed}") >> 1, context).model
            scores[kind].accuracy.append(probe.accuracy(model))
            if kind == PLAIN:
                for name, images in noisy.items():
                    scores[name].by_plain.append(psnr(rebuilt(model, images), clean))
                continue
            reconstructed = rebuilt(model, noisy[kind])
            scores[kind].restored.append(psnr(reconstructed, clean))
            restored.setdefault(kind, reconstructed)
    return scores


def _figures(
    noisy: Mapping[str, np.ndarray],
    restored: Mapping[str, np.ndarray],
    clean: np.ndarray,
    before: Mapping[str, float],
    scores: Mapping[str, _Scores],
    folder: Path,
) -> list[Figure]:
    from pipeline.reports import images

    sample = np.linspace(0, len(clean) - 1, SHOWN).astype(int)
    grid = {"clean": clean[sample]}
    for kind in noisy:
        grid |= {kind: noisy[kind][sample], f"restored ({kind.split()[0]})": restored[kind][sample]}
    images.image_grid(grid, folder / "restored.png")
    images.bars(
        {kind: {"noisy": before[kind], "restored": float(np.mean(scores[kind].restored))} for kind in noisy},
        "What is restored of test images", "PSNR (dB)", folder / "psnr.png",
    )  # fmt: skip
    return [Figure("noisy, restored, clean", "restored.png"), Figure("PSNR", "psnr.png")]


def _report(
    job: Config,
    own: str,
    num_train: int,
    num_test: int,
    before: Mapping[str, float],
    scores: Mapping[str, _Scores],
    figures: list[Figure],
) -> Report:
    """own: the recipe's noise; before: PSNR of noisy images by kind of noise."""
    accuracies = {kind: np.array(of_kind.accuracy) for kind, of_kind in scores.items()}
    gain = {kind: accuracies[kind] - accuracies[PLAIN] for kind in before}
    best = max(before, key=lambda kind: gain[kind].mean())
    own_gain = float(np.mean(scores[own].restored)) - before[own]
    rows = [[PLAIN, "–", "–", "–", mean_and_spread(accuracies[PLAIN]), "–"]]
    for kind in before:
        psnrs = [mean_and_spread(values, 2) for values in (scores[kind].restored, scores[kind].by_plain)]
        rows.append(
            [kind, f"{before[kind]:.2f}", *psnrs, mean_and_spread(accuracies[kind]), mean_and_spread(gain[kind])]
        )
    columns = ["trained with", "PSNR noisy", "restored", "by the plain one", "linear accuracy", "gain over plain"]
    return Report(
        title=job.name,
        about=f"{job.seeds} networks of each kind, trained on {num_train:,} images for the steps of the recipe; "
        f"measured on {num_test:,} test images. PSNR in dB, of 8-bit images. Linear accuracy: of logistic regression "
        "on codes of clean images. Mean ± standard deviation over the seeds; gains are paired.",
        tables=[Table("Kinds of noise", columns, rows)],
        figures=figures,
        verdict=f"Of {own} noise the network restores {own_gain:.1f} dB; the best features are learned with {best} "
        f"noise: linear accuracy {accuracies[best].mean():.3f} against {accuracies[PLAIN].mean():.3f} of plain ones, "
        f"better with {int((gain[best] > 0).sum())} of {job.seeds} seeds.",
        numbers={
            **{f"accuracy/{_slug(kind)}": float(values.mean()) for kind, values in accuracies.items()},
            **{f"psnr_noisy/{_slug(kind)}": before[kind] for kind in before},
            **{f"psnr_restored/{_slug(kind)}": float(np.mean(scores[kind].restored)) for kind in before},
        },
        notes={
            "task": job.task,
            "kinds": {kind: {**of_kind._asdict(), "before": before.get(kind)} for kind, of_kind in scores.items()},
        },
    )


class _Probe:
    """Fits linear classifiers on codes of clean rows."""

    def __init__(self, train: Rows, test: Rows, where: str) -> None:
        self.labels, self.truth = np.asarray(train["label"]), np.asarray(test["label"])
        if not are_classes(self.labels, self.truth):
            raise UserError(f"{where}: the probe needs images with labels of a few classes; set data.images.labels.")
        self.train, self.test = (scaled(np.asarray(rows["input"])) for rows in (train, test))

    def accuracy(self, model: Any) -> float:
        """Accuracy on codes of test rows, fitted on codes of training rows."""
        from pipeline.downstream.train_in_memory import encoded

        return linear_accuracy(
            flat(encoded(model, self.train)), self.labels, flat(encoded(model, self.test)), self.truth
        )


def corrupted(rows: Rows, noise: NoiseConfig, seed: int) -> np.ndarray:
    """float32: test rows as network inputs, with noise keyed by row."""
    draws = Draws(key(seed, "restoration", named(noise)), 0, np.asarray(rows["row"]))
    return np.asarray(add_noise({"input": rows["input"]}, noise, draws)["seen"])


def psnr(restored: np.ndarray, clean: np.ndarray) -> float:
    """PSNR in dB, see the module; both float [N, C, H, W], clipped to 0 … 1."""

    def as_bytes(images: np.ndarray) -> np.ndarray:
        return np.rint(LARGEST_BYTE * np.clip(images, 0, 1).astype(np.float64))

    error = np.square(as_bytes(restored) - as_bytes(clean)).mean()
    return float(10 * np.log10(LARGEST_BYTE**2 / max(error, 1e-12)))


def named(noise: NoiseConfig) -> str:
    """The name of a noise."""
    return f"{noise.kind} {noise.level:g}"


def _slug(kind: str) -> str:
    return kind.replace(" ", "-")
