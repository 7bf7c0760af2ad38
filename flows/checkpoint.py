"""The folder of a trained network, by whatever name a user has for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from data_prep.errors import UserError
from data_prep.sources.catalogue.networks import NETWORKS
from pipeline import runs
from pipeline.artifact import Artifact
from pipeline.downstream.fine_tune.job import FINE_TUNED
from pipeline.home import Home
from pipeline.stages.pretrain import MODEL
from pipeline.store.store import Store

REGISTERED = "models:/"  # before the name of a registered model, as MLflow writes it
Look = Callable[[Home, Store, str], Path]
_NOT_FINE_TUNED = "holds no fine-tuned network; name a job that fine-tunes"


class UnusableError(UserError):
    """What a name means is known, and cannot be used: nothing else is looked for."""


def model_folder(name: str) -> Path:
    """The folder that `transformers`, or another library that made it, opens.

    name: that folder, an artifact's folder or key, a run (its pretraining's network), a registered model (see
    `_registered`), or a package with a network in it. UserError, with all that it is not, where it is none of them.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path / MODEL if (path / MODEL).is_dir() else path
    if path.exists():
        raise UserError(f"{name}: is a file; name the folder of a network.")
    home = Home.find()
    if name in NETWORKS:
        from data_prep.sources.networks import network

        return network(name, home.downloads)
    holding = "holds no model; name an artifact of pretraining, or its run"

    def of_run(home: Home, store: Store, name: str) -> Path:
        run = runs.find(home.runs, name)
        if "pretrain" not in run.stages:
            raise UserError(f"the run {run.run_id} has no trained network; it is {run.status}")
        return _kept(store, store.resolve(run.stages["pretrain"].artifact), MODEL, holding)

    folder, looked = _first(home, name, MODEL, holding, of_run)
    if folder is None:
        packages = ", ".join(NETWORKS)
        raise UserError(f"{name!r} names no network: there is no such folder; {looked}; packages: {packages}.")
    return folder


def fine_tuned_folder(name: str) -> Path:
    """The folder of a fine-tuned network (`pipeline.downstream.fine_tune.exported`).

    name: itself, the folder or key of a job's artifact, a run, as RUN or RUN/JOB, or a registered model. UserError
    where it is none of them.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path / FINE_TUNED if (path / FINE_TUNED).is_dir() else path
    folder, looked = _first(Home.find(), name, FINE_TUNED, _NOT_FINE_TUNED, _job_of_run)
    if folder is None:
        raise UserError(f"{name}: no folder; {looked}.")
    return folder


def _job_of_run(home: Home, store: Store, name: str) -> Path:
    name, _, job = name.partition("/")
    stages = runs.find(home.runs, name).stages
    kept = [stage for stage, record in stages.items() if (Path(record.path) / FINE_TUNED).is_dir()]
    if job in kept or (not job and len(kept) == 1):
        return Path(stages[job or kept[0]].path) / FINE_TUNED
    if job in stages:
        raise UnusableError(f"{name}/{job}: {_NOT_FINE_TUNED}.")
    listed = ", ".join(f"{name}/{stage}" for stage in kept) or "none of its jobs kept a fine-tuned network"
    raise UnusableError(f"{name}: name one of its jobs: {listed}.")


def _first(home: Home, name: str, kept: str, holding: str, of_run: Look) -> tuple[Path | None, str]:
    """The folder `kept` of what the name means, or None and, as clauses, all that it does not."""

    def by_key(home: Home, store: Store, name: str) -> Path:
        return _kept(store, store.resolve(name), kept, holding)

    def by_registry(home: Home, store: Store, name: str) -> Path:
        return _kept(store, store.resolve(_registered(home, name)), kept, holding)

    store, looked = home.store(), []
    looks: tuple[Look, ...] = (by_registry,) if name.startswith(REGISTERED) else (by_key, of_run, by_registry)
    for look in looks:
        try:
            return look(home, store, name), ""
        except UnusableError:
            raise
        except UserError as error:
            looked.append(str(error).rstrip("."))
    return None, "; ".join(looked)


def _kept(store: Store, artifact: Artifact, kept: str, holding: str) -> Path:
    if not any(file.startswith(f"{kept}/") for file in artifact.manifest["files"]):
        raise UnusableError(f"{artifact.key}: {holding}.")
    return store.check_whole(artifact).path / kept


def _registered(home: Home, name: str) -> str:
    """The key of a registered version's artifact. A home without MLflow's database has no models.

    name: NAME is the champion, NAME@ALIAS or NAME@VERSION any version, each also after models:/, where NAME/VERSION
    means the same.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not (home.path / "mlflow" / "mlflow.db").exists():
        raise UserError("no model is registered")
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.registry import Registry

    model = name.removeprefix(REGISTERED)
    if name.startswith(REGISTERED) and "@" not in model:
        model = model.replace("/", "@", 1)
    model, _, version = model.partition("@")
    registry = Registry(home.path, uri)
    try:
        if not version:
            held = registry.champion(model)
        elif version.isdecimal():
            held = registry.version(model, version)
        else:
            held = registry.with_alias(model, version)
    except MlflowException:
        held = None
    if held is None or not held.artifact:
        raise UserError(f"no model is registered as {name!r}")
    return held.artifact
