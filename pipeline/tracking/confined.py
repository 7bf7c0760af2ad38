"""MLflow's server for one folder of artifacts: nothing elsewhere can be named or reached through it.

MLflow lets its clients choose where an experiment's files lie, and then reads and writes them there as the server's
user. Here a location that a client names must be below the folder, and so must every place whose files are asked for,
however it came into the database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LOCAL = ("", "file")
REFERENCES = ("runs", "models")  # resolved by MLflow to a location that is asked about again
PROXIED = "mlflow-artifacts"  # below the folder, by way of the server
NOT_SERVED = re.compile(r"/(gateway|(ajax-)?api/[\d.]+/(jobs|mlflow/(assistant|gateway|webhooks)))\b")
"""Paths of what is no tracking: a chat that runs commands, calls of other services in this user's name, jobs."""


def is_below(location: str, folder: str) -> bool:
    """Whether a location, a path or an address, is `folder` itself or below it, whatever links lead there."""
    parts = urlsplit(location)
    scheme = parts.scheme.lower()
    if "\0" in location or ".." in _unquoted(location).replace("\\", "/").split("/"):
        return False
    if scheme in REFERENCES:
        return True
    if scheme == PROXIED:
        return not parts.netloc
    if scheme not in LOCAL:
        return location == folder or location.startswith(folder.rstrip("/") + "/")
    if urlsplit(folder).scheme.lower() not in LOCAL or parts.netloc or (scheme and (parts.query or parts.fragment)):
        return False
    return _path(location).is_relative_to(_path(folder))


def _unquoted(text: str) -> str:
    while (once := unquote(text)) != text:
        text = once
    return text


def _path(location: str) -> Path:
    is_address = urlsplit(location).scheme.lower() == "file"
    return Path(unquote(urlsplit(location).path) if is_address else location).resolve()


def create_app(database: str, artifacts: str, default_root: str = f"{PROXIED}:/") -> Any:
    """MLflow's server as an ASGI application, to be put behind a guard: it asks nobody for a password.

    database: SQLAlchemy's address of it. artifacts: the folder, or an address such as s3://bucket/folder. default_root:
    where new experiments put their files; the default is by way of the server. To be called once in a process, before
    MLflow's server is imported.
    """
    os.environ["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] = "true"  # it lets in all pages of this machine
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"
    from mlflow.server import constants, handlers

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.REGISTRY_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: default_root,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    _confine_repositories(artifacts)
    _confine_stores(artifacts)
    handlers.initialize_backend_stores(database, database, default_root)
    from mlflow.server.fastapi_app import app
    from starlette.responses import PlainTextResponse

    async def tracking_alone(scope: Any, receive: Any, send: Any) -> None:
        is_other = scope["type"] == "http" and NOT_SERVED.match(scope["path"])
        await (PlainTextResponse("not served\n", 404) if is_other else app)(scope, receive, send)

    return tracking_alone


def _confine_repositories(artifacts: str) -> None:
    """Files are only read, listed, written and deleted below the folder: every repository of files is made here."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as registry

    def confined(repository: Callable[..., Any]) -> Callable[..., Any]:
        def make(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
            if not is_below(artifact_uri, artifacts):
                raise MlflowException("these files are not below this server's folder", PERMISSION_DENIED)
            return repository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

        return make

    for scheme, repository in list(registry.get_registered_artifact_repositories().items()):
        registry.register(scheme, confined(repository))


def _confine_stores(artifacts: str) -> None:
    """No location elsewhere gets into the database."""
    from mlflow.exceptions import MlflowException
    from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS
    from mlflow.server import handlers
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as ModelStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    def check(what: str, location: str) -> None:
        if not is_below(location, artifacts):
            raise MlflowException.invalid_parameter_value(f"{what} must be below this server's folder of artifacts")

    class ConfinedTracking(TrackingStore):
        def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> Any:
            if artifact_location:
                check("artifact_location", artifact_location)
            return super().create_experiment(name, artifact_location, tags)

    class ConfinedModels(ModelStore):
        def create_model_version(self, name: str, source: str, *arguments: Any, **options: Any) -> Any:
            if source not in _PROMPT_SOURCE_PLACEHOLDERS:  # of prompts, which have no files
                check("source", source)
            return super().create_model_version(name, source, *arguments, **options)

    for scheme in DATABASE_ENGINES:
        handlers._tracking_store_registry.register(
            scheme, lambda store_uri, artifact_uri: ConfinedTracking(store_uri, artifact_uri)
        )
        handlers._model_registry_store_registry.register(scheme, lambda store_uri: ConfinedModels(store_uri))
