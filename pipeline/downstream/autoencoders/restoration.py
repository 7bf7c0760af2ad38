"""What a denoising auto-encoder restores, and whether it has better features than a plain one (Vincent et al. 2010).

Networks of every kind of noise, and plain ones, are trained anew by the recipe's budget: those of one seed begin with
the same weights and see the same pictures in the same order, so their differences are paired. Test pictures are spoilt
by keyed draws, the same ones for everybody. A linear classifier then tells what the code of a clean picture knows.

    PSNR = 10 · log₁₀(255² / mean squared error), over all test pictures, rounded to 8 bits as a file would hold them
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions.noise import NoiseConfig, add_noise, scaled
from data_prep.corruptions.none import NoneConfig
from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows
from pipeline.artifact import Artifact
from pipeline.downstream.job import are_classes, flat, mean_and_spread, rows_of
from pipeline.downstream.probes import linear_accuracy
from pipeline.downstream.train_in_memory import encoded, rebuilt, trained
from pipeline.recipe.jobs.autoencoders import RestorationConfig
from pipeline.reports import pictures as array_figures
from pipeline.stage import Context
from pipeline.stages.pretrain import MODEL

SHOWN = 10  # pictures in a grid
PLAIN = "plain"
LARGEST_BYTE = 255


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.models.autoencoder import open_model

    job = RestorationConfig.model_validate(config["job"])
    own = NoiseConfig.model_validate(config["corruption"])
    train, test = rows_of(inputs["shards"], "train"), rows_of(inputs["shards"], "test")
    clean = scaled(np.asarray(test["input"]))
    noises = {named(noise): noise for noise in (own, *job.others)}
    noisy = {name: spoilt(test, noise, config["seed"]) for name, noise in noises.items()}
    probe = _Probe(train, test, f"downstream.{job.name}")

    pretrained = open_model(inputs["pretrained"].path / MODEL)
    restored = {named(own): rebuilt(pretrained, noisy[named(own)])}
    kinds = {PLAIN: NoneConfig(), **noises}
    found: dict[str, dict[str, list[float]]] = {
        kind: {"restored": [], "by_plain": [], "accuracy": []} for kind in kinds
    }
    for seed in range(job.seeds):
        for number, (kind, noise) in enumerate(kinds.items()):
            context.progress(f"{kind}, seed {seed}", (seed * len(kinds) + number) / (job.seeds * len(kinds)))
            asked = {**config, "corruption": noise.model_dump(mode="json")}
            model = trained(asked, train, key(config["seed"], f"{job.name} seed {seed}") >> 1, context).model
            found[kind]["accuracy"].append(probe.accuracy(model))
            if kind == PLAIN:
                for name, pictures in noisy.items():
                    found[name]["by_plain"].append(psnr(rebuilt(model, pictures), clean))
                continue
            made = rebuilt(model, noisy[kind])
            found[kind]["restored"].append(psnr(made, clean))
            restored.setdefault(kind, made)

    before = {kind: psnr(pictures, clean) for kind, pictures in noisy.items()}
    figures = out_dir / "figures"
    some = np.linspace(0, len(clean) - 1, SHOWN).astype(int)
    grid = {"clean": clean[some]}
    for kind in noises:
        grid |= {kind: noisy[kind][some], f"restored ({kind.split()[0]})": restored[kind][some]}
    array_figures.picture_grid(grid, figures / "restored.png")
    array_figures.bars(
        {kind: {"noisy": before[kind], "restored": float(np.mean(found[kind]["restored"]))} for kind in noises},
        "What is restored of test pictures", "PSNR (dB)", figures / "psnr.png",
    )  # fmt: skip
    accuracies = {kind: np.array(one["accuracy"]) for kind, one in found.items()}
    gain = {kind: accuracies[kind] - accuracies[PLAIN] for kind in noises}
    best = max(noises, key=lambda kind: gain[kind].mean())
    own_gain = float(np.mean(found[named(own)]["restored"])) - before[named(own)]
    return {
        "title": job.name,
        "task": job.task,
        "about": f"{job.seeds} networks of each kind, trained on {len(probe.labels):,} pictures for the steps of the "
        f"recipe; measured on {len(clean):,} test pictures. PSNR in dB, of 8-bit pictures. Linear accuracy: of "
        "logistic regression on codes of clean pictures. Mean ± standard deviation over the seeds; gains are paired.",
        "heads": ["trained with", "PSNR noisy", "restored", "by the plain one", "linear accuracy", "gain over plain"],
        "rows": [
            [PLAIN, "–", "–", "–", mean_and_spread(accuracies[PLAIN]), "–"],
            *(
                [
                    kind,
                    f"{before[kind]:.2f}",
                    mean_and_spread(found[kind]["restored"], 2),
                    mean_and_spread(found[kind]["by_plain"], 2),
                    mean_and_spread(accuracies[kind]),
                    mean_and_spread(gain[kind]),
                ]
                for kind in noises
            ),
        ],
        "figures": {"noisy, restored, clean": "restored.png", "PSNR": "psnr.png"},
        "verdict": f"Of {named(own)} noise the network restores {own_gain:.1f} dB; the best features are learned with "
        f"{best} noise: linear accuracy {accuracies[best].mean():.3f} against {accuracies[PLAIN].mean():.3f} of plain "
        f"ones, better with {int((gain[best] > 0).sum())} of {job.seeds} seeds.",
        "found": {kind: {**one, "before": before.get(kind)} for kind, one in found.items()},
        "summary": {
            **{f"{_slug(kind)}_accuracy": float(one.mean()) for kind, one in accuracies.items()},
            **{f"{_slug(kind)}_psnr_noisy": before[kind] for kind in noises},
            **{f"{_slug(kind)}_psnr_restored": float(np.mean(found[kind]["restored"])) for kind in noises},
        },
    }


class _Probe:
    """Linear classifiers on codes of clean rows."""

    def __init__(self, train: Rows, test: Rows, where: str) -> None:
        self.labels, self.truth = np.asarray(train["label"]), np.asarray(test["label"])
        if not are_classes(self.labels, self.truth):
            raise UserError(f"{where}: the probe needs pictures with labels of a few classes; set data.images.labels.")
        self.train, self.test = (scaled(np.asarray(rows["input"])) for rows in (train, test))

    def accuracy(self, model: Any) -> float:
        return linear_accuracy(
            flat(encoded(model, self.train)), self.labels, flat(encoded(model, self.test)), self.truth
        )


def spoilt(rows: Rows, noise: NoiseConfig, seed: int) -> np.ndarray:
    """float32: test rows as the network is given them, with noise keyed by the row."""
    draws = Draws(key(seed, "restoration", named(noise)), 0, np.asarray(rows["row"]))
    return np.asarray(add_noise({"input": rows["input"]}, noise, draws)["seen"])


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """See above; both float [N, C, H, W], clipped to 0 … 1."""

    def as_bytes(pictures: np.ndarray) -> np.ndarray:
        return np.rint(LARGEST_BYTE * np.clip(pictures, 0, 1).astype(np.float64))

    error = np.square(as_bytes(made) - as_bytes(wanted)).mean()
    return float(10 * np.log10(LARGEST_BYTE**2 / max(error, 1e-12)))


def named(noise: NoiseConfig) -> str:
    """What people call it."""
    return f"{noise.kind} {noise.level:g}"


def _slug(kind: str) -> str:
    return kind.replace(" ", "-")
