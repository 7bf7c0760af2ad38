"""Layer by layer and then all at once, beside other ways to train a network as deep (Hinton & Salakhutdinov 2006).

The recipe's network was trained as a stack of machines, unrolled and fine-tuned. Its rivals have as many steps, on the
same rows, all of them for the whole network: from random weights, with other units or another optimizer. Curves are of
validation rows, as training went on; the table is of test rows, at its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions.noise import scaled
from data_prep.rng import key
from pipeline.artifact import Artifact
from pipeline.downstream.job import flat, rows_of
from pipeline.downstream.train_in_memory import rebuilt, trained
from pipeline.recipe.jobs.autoencoders import CurvesConfig, RivalConfig
from pipeline.reports import pictures as array_figures
from pipeline.stage import Context
from pipeline.stages.pretrain import METRICS, MODEL, read_records
from training.monitor.names import VALIDATION

ERROR = f"{VALIDATION}squared-error"
SHOWN = 12  # pictures in a grid
Curve = list[tuple[int, float]]


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    from training.models.autoencoder import open_model

    job = CurvesConfig.model_validate(config["job"])
    train, held_out, test = (rows_of(inputs["shards"], split) for split in ("train", "validation", "test"))
    unseen = scaled(np.asarray(test["input"]))
    ours = inputs["pretrained"]
    models = {job.ours: open_model(ours.path / MODEL)}
    values = models[job.ours].values
    curves = {job.ours: curve(read_records(ours.path / METRICS), values)}
    for number, rival in enumerate(job.rivals):

        def told(done: float, number: int = number, name: str = rival.name) -> None:
            context.progress(name, (number + done) / len(job.rivals))

        seed = key(config["seed"], f"{job.name} {rival.name}") >> 1
        found = trained(changed(config, rival), train, seed, context, held_out, told)
        models[rival.name], curves[rival.name] = found.model, curve(found.records, values)

    made = {name: rebuilt(model, unseen) for name, model in models.items()}
    errors = {name: float(np.square(flat(of - unseen).astype(np.float64)).sum(1).mean()) for name, of in made.items()}
    mean = scaled(np.asarray(train["input"])).mean(0)
    errors_of_mean = float(np.square(flat(mean[None] - unseen).astype(np.float64)).sum(1).mean())
    figures, shown = out_dir / "figures", {"error over the steps": "curves.png"}
    array_figures.error_curves(curves, phases(config), errors_of_mean, figures / "curves.png")
    if unseen.ndim == 4:
        some = np.linspace(0, len(unseen) - 1, SHOWN).astype(int)
        pictures = {"input": unseen[some], **{name: of[some] for name, of in made.items()}}
        array_figures.picture_grid(pictures, figures / "rebuilt.png")
        shown["rebuilt"] = "rebuilt.png"
    best = min(job.rivals, key=lambda rival: errors[rival.name]).name
    worst = max(job.rivals, key=lambda rival: errors[rival.name]).name
    return {
        "title": job.name,
        "task": job.task,
        "about": f"{config['train']['steps']:,} steps each; squared error summed over a row's values, of "
        f"{len(unseen):,} test rows. The mean of the training rows alone has {errors_of_mean:.4g}. The rates of the "
        "rivals are the recipe's choice.",
        "heads": ["training", "units", "optimizer", "test error", "of the mean's"],
        "rows": [
            [name, units, optimizer, f"{errors[name]:.4g}", f"{errors[name] / errors_of_mean:.2f}"]
            for name, units, optimizer in [
                (job.ours, config["network"]["config"].get("activation", "relu"), optimizer_of(config)),
                *((rival.name, rival.activation, rival.optimizer) for rival in job.rivals),
            ]
        ],
        "figures": shown,
        "verdict": f"After as many steps {job.ours} has an error of {errors[job.ours]:.3g} on unseen rows, {worst} one "
        f"of {errors[worst]:.3g}, {best} one of {errors[best]:.3g}.",
        "found": {"errors": errors, "mean": errors_of_mean, "curves": curves},
        "summary": {
            "error_of_mean": errors_of_mean,
            **{f"{name.lower().replace(' ', '-').replace(',', '')}_error": value for name, value in errors.items()},
        },
    }


def changed(config: dict[str, Any], rival: RivalConfig) -> dict[str, Any]:
    """The recipe, trained all at once and in the rival's way."""
    options = {name: value for name, value in config["objective"]["options"].items() if name == "loss"}
    network = {**config["network"]["config"], "activation": rival.activation}
    return {
        **config,
        "network": {**config["network"], "config": network},
        "objective": {"name": "autoencoder", "options": options},
        "train": {**config["train"], "optimizer": rival.optimizer, "lr": rival.lr},
    }


def curve(records: list[dict[str, Any]], values: int) -> Curve:
    """(step, error summed over a row's values) wherever held-out rows were looked at."""
    return [(record["step"], values * record[ERROR]) for record in records if ERROR in record]


def phases(config: dict[str, Any]) -> dict[str, int]:
    """Each phase of the recipe's own training, and the step at which it is over."""
    from training.config import ObjectiveConfig
    from training.objectives.rbm import RbmOptions, shares

    objective = ObjectiveConfig.model_validate(config["objective"])
    machines = len(config["network"]["config"].get("hidden", [])) + 1
    found, done = {}, 0
    for phase in shares(config["train"]["steps"], machines, RbmOptions(**objective.options).pretraining):  # type: ignore[arg-type]
        done += phase.steps
        found[phase.name] = done
    return found


def optimizer_of(config: dict[str, Any]) -> str:
    return str(config["train"].get("optimizer", "adamw"))
