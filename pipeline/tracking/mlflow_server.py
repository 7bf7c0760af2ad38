"""The only module that talks to MLflow: one tracking server, and how each operation is sent.

Every call names its server and its run; MLflow's active run and other global state are not used. Each operation may be
sent twice: a run is looked up by its `sesame.id` before it is created, and MLflow stores equal metrics, params, tags,
inputs and files once.

Without a server, runs go to a SQLite file in the home. It is set up by one process at a time: several processes that
open a new one at once mostly fail.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tracking import registry
from pipeline.tracking.relocation import relocate
from pipeline.tracking.spool import Operation

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we retry without blocking other operations
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""Set before MLflow is imported, unless set already."""
REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""Error codes of permanent failures."""
METRICS_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100


class RefusedError(Exception):
    """An operation that cannot be sent, now or later."""


def default_uri(home: Path) -> str:
    return f"sqlite:///{home.absolute()}/mlflow/mlflow.db"


def is_refusal(error: Exception) -> bool:
    """Whether a retry is pointless, for an error of a server that was reached."""
    if isinstance(error, RefusedError):
        return True
    return getattr(error, "error_code", None) in REFUSALS


# Without it an experiment's page opens on traces of language-model calls, of which there are none.
KIND = {"mlflow.experimentKind": "custom_model_development"}


class Server:
    """One MLflow server, or the SQLite file that stands in for it. Used by one thread."""

    def __init__(self, home: Path, uri: str | None) -> None:
        self.home = home.absolute()
        self.uri = uri or default_uri(self.home)
        _quiet()
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    @property
    def client(self) -> MlflowClient:
        """Connects on first use, which takes seconds, and longer for a new SQLite file."""
        if self._client is None:
            from mlflow import MlflowClient

            if self.uri.startswith("sqlite:"):
                self.prepare()
            self._client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._client

    @property
    def remote(self) -> bool:
        """Whether files go to a server; otherwise they go to the home."""
        return self.uri.startswith(("http:", "https:"))

    def answers(self) -> bool:
        try:
            self.client.search_experiments(max_results=1)
        except Exception:  # any error means no answer
            return False
        return True

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, created or restored if necessary."""
        if name in self._experiments:
            return self._experiments[name]
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            folder = self.home / "mlflow" / "artifacts" / (re.sub(r"[^\w.-]+", "-", name).strip(".-") or "experiment")
            try:
                experiment_id = self.client.create_experiment(name, None if self.remote else folder.as_uri(), tags=KIND)
            except MlflowException:
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:  # not because another process was faster
                    raise
                experiment_id = experiment.experiment_id
        else:
            experiment_id = experiment.experiment_id
            if experiment.lifecycle_stage != "active":
                self.client.restore_experiment(experiment_id)
        self._experiments[name] = experiment_id
        return experiment_id

    def send(self, operations: list[Operation], runs: dict[str, str]) -> str | None:
        """Send one operation, or several of `metrics` for one run. `runs` maps our ids to MLflow's, and grows.

        Returns the answer to an operation that has one.
        """
        first = operations[0]
        if first["op"] == "run":
            try:
                runs[first["id"]] = self._begin(first, runs)
            except Exception:
                self._experiments.clear()  # it may have been deleted there
                raise
            return None
        if first["id"] not in runs:
            raise RefusedError(f"the run {first['id']} was never begun")
        run = runs[first["id"]]
        match first["op"]:
            case "metrics":
                self._metrics(run, operations)
            case "params":
                self._params(run, first["params"])
            case "tags":
                self._tags(run, first["tags"])
            case "artifact":
                self._artifact(run, self.home / first["path"], first["folder"])
            case "text":
                self.client.log_text(run, first["text"], first["file"])
            case "table":
                self._table(run, first)
            case "dataset":
                self._dataset(run, first)
            case "end":
                self.client.set_terminated(run, first["status"], first["time"])
            case "register":
                return self._register(run, first)
            case other:
                raise RefusedError(f"{other!r} is no operation of this version")
        return None

    def page(self, experiment: str, run: str | None) -> str:
        """The run's page below the server's address; empty if unknown."""
        experiment_id = self._experiments.get(experiment)
        return (
            f"#/experiments/{experiment_id}/runs/{run}?workflowType=machine_learning" if experiment_id and run else ""
        )

    # -- one operation each -------------------------------------------------------------------------------------------

    def _begin(self, operation: Operation, runs: dict[str, str]) -> str:
        experiment, name, tags = self.experiment(operation["experiment"]), operation["id"], dict(operation["tags"])
        if about := operation.get("about_experiment"):
            self.client.set_experiment_tag(experiment, "mlflow.note.content", about)
        if operation["parent"]:
            if operation["parent"] not in runs:
                raise RefusedError(f"the parent {operation['parent']} was never begun")
            tags["mlflow.parentRunId"] = runs[operation["parent"]]
        runs_found = self.client.search_runs([experiment], f"tags.`sesame.id` = '{name}'", max_results=1)
        if not runs_found:
            run = self.client.create_run(experiment, operation["time"], tags, run_name=operation["name"])
            return run.info.run_id
        run_id = runs_found[0].info.run_id
        self.client.update_run(run_id, status="RUNNING")
        self._tags(run_id, tags)
        return run_id

    def _metrics(self, run: str, operations: list[Operation]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, operation["time"], operation["step"])
            for operation in operations
            for name, value in operation["values"].items()
        ]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self.client.log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])

    def _params(self, run: str, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        listed = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(listed), _PARAMS_AT_ONCE):
            self.client.log_batch(run, params=listed[start : start + _PARAMS_AT_ONCE])

    def _tags(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        listed = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(listed), _PARAMS_AT_ONCE):
            self.client.log_batch(run, tags=listed[start : start + _PARAMS_AT_ONCE])

    def _artifact(self, run: str, path: Path, folder: str) -> None:
        if path.is_dir():
            self.client.log_artifacts(run, str(path), folder or None)
        elif path.exists():
            self.client.log_artifact(run, str(path), folder or None)
        else:
            raise RefusedError(f"{path} is no longer there")

    def _table(self, run: str, operation: Operation) -> None:
        """Like `MlflowClient.log_table`, which however appends its rows again when repeated."""
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

        file = operation["file"]
        table = {"columns": operation["columns"], "data": operation["data"]}
        self.client.log_text(run, json.dumps(table, allow_nan=False), file)
        logged = json.loads(self.client.get_run(run).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        entry = {"path": file, "type": "table"}
        if entry not in logged:
            self.client.set_tag(run, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*logged, entry]))

    def _dataset(self, run: str, operation: Operation) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=operation["name"],
            digest=operation["digest"],
            source_type="local",
            source=json.dumps({"uri": operation["source"]}),
            profile=json.dumps(operation["profile"]),
        )
        context = InputTag("mlflow.data.context", operation["context"])
        self.client.log_inputs(run, datasets=[DatasetInput(dataset, [context])])

    def _register(self, run: str, operation: Operation) -> str:
        export = self.home / operation["export"]
        if not export.is_dir():
            raise RefusedError(f"{export} is no longer there")
        request = registry.RegistrationRequest(**operation["request"])
        with (
            self.lock("champion"),
            tempfile.TemporaryDirectory(prefix=".model-", dir=self.home / "mlflow") as scratch,
        ):
            return registry.carry_out(self.client, run, export, request, Path(scratch))

    # -- setting up ---------------------------------------------------------------------------------------------------

    def lock(self, name: str) -> file_lock:
        folder = self.home / "mlflow"
        folder.mkdir(parents=True, exist_ok=True)
        return file_lock(folder / f".{name}.lock")

    def prepare(self) -> None:
        """Migrate the SQLite file to this MLflow's schema, once per file and version, and to where the home is now."""
        import mlflow
        from mlflow.db import upgrade

        database = Path(self.uri.removeprefix("sqlite:///").partition("?")[0])
        database.parent.mkdir(parents=True, exist_ok=True)
        done = database.with_name(f".{database.name}.schema")
        with file_lock(database.with_name(f".{database.name}.lock")):
            ready = done.exists() and done.read_text() == mlflow.__version__
            if not (ready and database.exists() and database.stat().st_size):
                upgrade.main([self.uri], standalone_mode=False)
                done.write_text(mlflow.__version__)
            if self.uri == default_uri(self.home):
                relocate(self.home)


class file_lock:  # noqa: N801 - reads as a function where it is used
    """Hold an exclusive lock on `path` inside the block, waiting for its holder. Ends with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *error: Any) -> None:
        self._file.close()


def _quiet() -> None:
    """To be called before anything imports MLflow."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name, level in (("alembic", logging.WARNING), ("mlflow.store.db.utils", logging.CRITICAL)):
        logging.getLogger(name).setLevel(level)  # the latter prints a traceback for every failure that it also raises
