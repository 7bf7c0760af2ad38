"""The folder of a trained network, by whatever name a user has for it."""

from __future__ import annotations

import os
from pathlib import Path

from data_prep.errors import UserError
from data_prep.sources.catalogue.networks import NETWORKS
from pipeline import runs
from pipeline.artifact import Artifact
from pipeline.home import Home
from pipeline.stages.pretrain import MODEL
from pipeline.store.store import Store


def model_folder(name: str) -> Path:
    """The folder that `transformers`, or another library that made it, opens.

    name: that folder, an artifact's folder or key, a run (its pretraining's network), a registered model (NAME is its
    champion, NAME@VERSION any version), or a package with a network in it. UserError, with all that it is not, where it
    is none of them.
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
    store = home.store()
    looked: list[str] = []
    for look in (_by_key, _by_run, _by_registry):
        try:
            artifact = look(home, store, name)
        except UserError as error:
            looked.append(str(error).rstrip("."))
        else:
            if not any(file.startswith(f"{MODEL}/") for file in artifact.manifest["files"]):
                raise UserError(f"{artifact.key}: holds no model; name an artifact of pretraining, or its run.")
            return store.check_whole(artifact).path / MODEL
    raise UserError(
        f"{name!r} names no network: there is no such folder; {'; '.join(looked)}; packages: {', '.join(NETWORKS)}."
    )


def _by_key(home: Home, store: Store, name: str) -> Artifact:
    return store.resolve(name)


def _by_run(home: Home, store: Store, name: str) -> Artifact:
    run = runs.find(home.runs, name)
    if "pretrain" not in run.stages:
        raise UserError(f"the run {run.run_id} has no trained network; it is {run.status}")
    return store.resolve(run.stages["pretrain"].artifact)


def _by_registry(home: Home, store: Store, name: str) -> Artifact:
    """The artifact of a registered version. A home without MLflow's database has no models."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None and not (home.path / "mlflow" / "mlflow.db").exists():
        raise UserError("no model is registered")
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.registry import Registry

    model, _, version = name.partition("@")
    registry = Registry(home.path, uri)
    try:
        held = registry.version(model, version) if version else registry.champion(model)
    except MlflowException:
        held = None
    if held is None or not held.artifact:
        raise UserError(f"no model is registered as {name!r}")
    return store.resolve(held.artifact)
