"""The job `curves`: layer-wise pretraining and fine-tuning, compared with training the same depth end to end.

The recipe's network was trained as a stack of machines, unrolled and fine-tuned (Hinton & Salakhutdinov 2006). Its
rivals train for as many steps on the same rows, but end to end from random weights, with other units or another
optimizer. Curves are validation errors during training; the table has test errors at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from data_prep.corruptions.noise import scaled
from data_prep.rng import key
from data_prep.settings import Settings
from data_prep.shards.rows import Rows
from pipeline.artifact import MODEL
from pipeline.downstream.config import JobConfig, Problem, kind_problems, objective_problems, training_settings
from pipeline.downstream.rows import flat, rows_of
from pipeline.reports.report import Figure, Report, Table
from training.config import Optimizer
from training.monitor.names import VALIDATION

if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.stage import Context

VERSION = 1
READS = ("pretrained", "shards")
ERROR = f"{VALIDATION}squared-error"
SHOWN = 12  # images in a grid
Curve = list[tuple[int, float]]


class RivalConfig(Settings):
    """Training end to end, to compare with."""

    name: str = Field(min_length=1)
    """What the curve is called."""
    activation: Literal["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"]
    """Between layers."""
    optimizer: Optimizer
    """The optimizer."""
    lr: float = Field(gt=0)
    """Peak learning rate."""


class Config(JobConfig):
    """Error over the steps of layer-wise pretraining, compared with training the same depth end to end."""

    task: Literal["curves"]
    """Which job it is."""
    ours: str = "pretrained"
    """Name of the recipe's own curve."""
    rivals: list[RivalConfig] = Field(min_length=1)
    """Other ways to train, with as many steps."""


def needs(recipe: Any, job: Config) -> Iterator[Problem]:
    """A stack of restricted Boltzmann machines."""
    yield from kind_problems(recipe, job, ("table", "images"))
    yield from objective_problems(recipe, job, "rbm")


def settings(recipe: Any, job: Config, downloads: Path) -> dict[str, Any]:
    """The recipe's training settings."""
    return training_settings(recipe)


def run(
    job: Config, settings: dict[str, Any], inputs: Mapping[str, Artifact], out_dir: Path, context: Context
) -> Report:
    """Train the rivals and compare their errors with the recipe's, over the steps and at the end.

    inputs: `pretrained`, an auto-encoder in `model/` with the log of its training; `shards`, column `input` [R, *shape]
    of the splits train, validation and test. Errors are squared, summed over a row's values and averaged over rows, of
    values in 0 … 1 or as the transform made them (Hinton & Salakhutdinov 2006, figure 2 and its supplement).
    """
    from pipeline.downstream.train_in_memory import rebuilt
    from pipeline.reports import images

    train, held_out, test = (rows_of(inputs["shards"], split) for split in ("train", "validation", "test"))
    unseen = scaled(np.asarray(test["input"]))
    models, curves = _trained(job, settings, inputs["pretrained"], train, held_out, context)
    reconstructed = {name: rebuilt(model, unseen) for name, model in models.items()}
    errors = {name: _error(rows, unseen) for name, rows in reconstructed.items()}
    error_of_mean = _error(scaled(np.asarray(train["input"])).mean(0)[None], unseen)
    folder, figures = out_dir / "figures", [Figure("error over the steps", "curves.png")]
    images.error_curves(curves, phases(settings), error_of_mean, folder / "curves.png")
    if unseen.ndim == 4:
        sample = np.linspace(0, len(unseen) - 1, SHOWN).astype(int)
        images.image_grid(
            {"input": unseen[sample], **{name: rows[sample] for name, rows in reconstructed.items()}},
            folder / "rebuilt.png",
        )
        figures.append(Figure("rebuilt", "rebuilt.png"))
    return _report(job, settings, len(unseen), errors, error_of_mean, curves, figures)


def _trained(
    job: Config, settings: dict[str, Any], pretrained: Artifact, train: Rows, held_out: Rows, context: Context
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """The recipe's network and its rivals, and their curves, by name."""
    from pipeline.downstream.train_in_memory import trained
    from pipeline.records import read_records
    from training.inference.networks.arrays import open_model
    from training.job import METRICS

    models = {job.ours: open_model(pretrained.path / MODEL)}
    values = models[job.ours].values
    curves = {job.ours: curve(read_records(pretrained.path / METRICS), values)}
    for number, rival in enumerate(job.rivals):

        def progress(done: float, number: int = number, name: str = rival.name) -> None:
            context.progress(name, (number + done) / len(job.rivals))

        seed = key(settings["seed"], f"{job.name} {rival.name}") >> 1
        network = trained(changed(settings, rival), train, seed, context, held_out, progress)
        models[rival.name], curves[rival.name] = network.model, curve(network.records, values)
    return models, curves


def _error(reconstructed: np.ndarray, target: np.ndarray) -> float:
    """Squared error of rows [N, *shape], summed over a row's values, averaged over rows."""
    return float(np.square(flat(reconstructed - target).astype(np.float64)).sum(1).mean())


def _report(
    job: Config,
    settings: dict[str, Any],
    num_rows: int,
    errors: Mapping[str, float],
    error_of_mean: float,
    curves: Mapping[str, Curve],
    figures: list[Figure],
) -> Report:
    best = min(job.rivals, key=lambda rival: errors[rival.name]).name
    worst = max(job.rivals, key=lambda rival: errors[rival.name]).name
    ways = [
        (job.ours, settings["network"].get("config", {}).get("activation", "relu"), optimizer_of(settings)),
        *((rival.name, rival.activation, rival.optimizer) for rival in job.rivals),
    ]
    rows = [
        [name, units, optimizer, f"{errors[name]:.4g}", f"{errors[name] / error_of_mean:.2f}"]
        for name, units, optimizer in ways
    ]
    return Report(
        title=job.name,
        about=f"{settings['train']['steps']:,} steps each; squared error summed over a row's values, of {num_rows:,} "
        f"test rows. The mean of the training rows alone has {error_of_mean:.4g}. The rates of the rivals are the "
        "recipe's choice.",
        tables=[Table("Ways to train", ["training", "units", "optimizer", "test error", "of the mean's"], rows)],
        figures=figures,
        verdict=f"After as many steps {job.ours} has an error of {errors[job.ours]:.3g} on unseen rows, {worst} one "
        f"of {errors[worst]:.3g}, {best} one of {errors[best]:.3g}.",
        numbers={
            "error/mean_of_rows": error_of_mean,
            **{f"error/{name.lower().replace(' ', '-').replace(',', '')}": value for name, value in errors.items()},
        },
        notes={"task": job.task, "errors": errors, "mean": error_of_mean, "curves": curves},
    )


def changed(config: dict[str, Any], rival: RivalConfig) -> dict[str, Any]:
    """The recipe's settings, changed to the rival's."""
    options = {name: value for name, value in config["objective"].get("options", {}).items() if name == "loss"}
    network = {**config["network"].get("config", {}), "activation": rival.activation}
    return {
        **config,
        "network": {**config["network"], "config": network},
        "objective": {"name": "autoencoder", "options": options},
        "train": {**config["train"], "optimizer": rival.optimizer, "lr": rival.lr},
    }


def curve(records: list[dict[str, Any]], values: int) -> Curve:
    """(step, error summed over a row's values) of each evaluation on held-out rows."""
    return [(record["step"], values * record[ERROR]) for record in records if ERROR in record]


def phases(config: dict[str, Any]) -> dict[str, int]:
    """Last step of each phase of the recipe's training, by name."""
    from training.config import ObjectiveConfig
    from training.objectives.arrays.rbm import RbmOptions, shares

    objective = ObjectiveConfig.model_validate(config["objective"])
    machines = len(config["network"].get("config", {}).get("hidden", [])) + 1
    ends, done = {}, 0
    for phase in shares(config["train"]["steps"], machines, RbmOptions(**objective.options).pretraining):  # type: ignore[arg-type]
        done += phase.steps
        ends[phase.name] = done
    return ends


def optimizer_of(config: dict[str, Any]) -> str:
    return str(config["train"].get("optimizer", "adamw"))
