"""Tracking of flows in MLflow: runs with params, tags, metrics, figures, tables and data sets.

    tracker = Tracker(home, uri, "bert", run_id)
    flow = tracker.run("quickstart", params=recipe)             one parent run per flow run
    stage = tracker.run("pretrain", parent=flow)                 one child run per stage that did work
    stage.metrics({"loss": 4.2}, step=100)
    stage.end("FINISHED")
    unsent = tracker.close(timeout=30)

Every call appends a line to a file and returns; a thread sends the lines (`pipeline.tracking.sender`). A server that is
slow or down never delays the flow: what was not sent is kept and sent by the next tracker of the same home. Importing
this module does not import MLflow, and nothing here waits for it.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import math
import os
import platform
import secrets
import threading
import time as clock
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_prep.legible import masked, safe_values
from pipeline.tracking.metric_name import LONGEST_NAME, metric_name
from pipeline.tracking.mlflow_server import Server
from pipeline.tracking.sender import Sender, recover, send_pending
from pipeline.tracking.spool import Operation, Spool

__all__ = ["TrackedRun", "Tracker", "flatten", "follow", "recover", "send_pending"]

LONGEST_PARAM, LONGEST_TAG = 6000, 5000  # characters that MLflow takes
LONG_PARAMS = "params-long.json"
NOTE = "mlflow.note.content"  # the tag of a description
STATUSES = ("FINISHED", "FAILED", "KILLED")
WITH_TEXT = ("run", "params", "tags", "text", "table", "dataset")  # operations in which addresses may hold secrets


class Tracker:
    """Tracks one flow run. Calls may come from any thread.

    A second tracker of the same `run_id`, later or in another process, continues the same parent run.
    """

    def __init__(self, home: Path, uri: str | None, experiment: str, run_id: str) -> None:
        self.experiment = experiment
        self.run_id = run_id
        self._rooted = False
        self._home = home.absolute()
        self._server = Server(home, uri)
        self._spool = Spool(home, run_id)
        self._sender = Sender(self._spool, self._server)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def run(
        self,
        name: str,
        parent: TrackedRun | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        experiment: str = "",
    ) -> TrackedRun:
        """Begin a run. The first one without a parent is the flow's own: its id is the tracker's `run_id`.

        experiment: a description of the tracker's experiment, Markdown.
        """
        run = TrackedRun(self, self.new_id() if parent or self._rooted else self.run_id)
        self._rooted = True
        own = {
            "sesame.id": run.id,
            "sesame.flow": self.run_id,
            "sesame.host": platform.node(),
            "sesame.pid": os.getpid(),
            "mlflow.user": _user(),
            "mlflow.source.name": "sesame",
            "mlflow.source.type": "LOCAL",
        }
        self.add(
            {
                "op": "run",
                "id": run.id,
                "name": name,
                "parent": parent.id if parent else None,
                "experiment": self.experiment,
                "about_experiment": experiment,
                "time": self.now(),
                "tags": _tags({**own, **(tags or {})}),
            }
        )
        if params:
            run.params(params)
        return run

    def url(self, run: TrackedRun) -> str:
        """The run's page on the server, or the command that shows it."""
        if not self._server.remote:
            return "sesame ui"
        parts = urlsplit(self._server.uri)
        base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")  # without the password
        page = self._server.page(self.experiment, self._sender.sent_so_far().runs.get(run.id))
        return f"{base}/{page}"

    def outcome(self, ask: str) -> str | None:
        """The answer to an operation; None until it was sent."""
        return self._sender.sent_so_far().outcomes.get(ask)

    def close(self, timeout: float = 30.0) -> int:
        """Try to send what is left; returns how many operations were not sent. They are kept."""
        self._sender.close(timeout)
        self._spool.close()
        return self._spool.unsent() + self._spool.lost

    def refused(self) -> list[str]:
        """What the server will not take, each with the reason."""
        return self._spool.refused()

    # -- for runs and the registry ------------------------------------------------------------------------------------

    def add(self, operation: Operation) -> None:
        """Queue one operation: a line in a file."""
        for name in ("path", "export"):  # the home may move before they are sent
            if name in operation and Path(operation[name]).is_relative_to(self._home):
                operation = {**operation, name: str(Path(operation[name]).relative_to(self._home))}
        if operation["op"] in WITH_TEXT:
            operation = safe_values(operation)
        self._spool.append(operation)
        self._sender.start()
        self._sender.wake()

    def new_id(self) -> str:
        return f"{self.run_id}.{secrets.token_hex(6)}"

    @staticmethod
    def now() -> int:
        """Milliseconds since the epoch, as MLflow counts them."""
        return int(clock.time() * 1000)


class TrackedRun:
    """One run. As a context it ends itself: FINISHED, FAILED by an exception, KILLED by an interruption."""

    def __init__(self, tracker: Tracker, local_id: str) -> None:
        self.tracker = tracker
        self.id = local_id
        self._dropped = {"sesame.nonfinite": 0, "sesame.nonnumeric": 0}
        self._ended = False

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None:
            self.end("FINISHED")
        else:
            self.end("FAILED" if issubclass(kind, Exception) else "KILLED")

    def metrics(self, values: Mapping[str, Any], step: int, time: float | None = None) -> None:
        """Numbers at one step; `time` in seconds since the epoch, by default now.

        MLflow stores neither infinities nor texts: such values are left out and counted in the run's tags.
        """
        numbers: dict[str, float] = {}
        for name, value in values.items():
            if not isinstance(value, Real) or isinstance(value, bool):
                self._drop("sesame.nonnumeric")
                continue
            number = _float(value)
            if math.isfinite(number):
                numbers[metric_name(name)] = number
            else:
                self._drop("sesame.nonfinite")
        if numbers:
            stamp = self.tracker.now() if time is None else int(time * 1000)
            self._add("metrics", values=numbers, step=int(step), time=stamp)

    def record(self, record: Mapping[str, Any]) -> None:
        """Log the metrics of a training record, which has `step` and `time` among the numbers."""
        values = {name: value for name, value in record.items() if name not in ("step", "time")}
        self.metrics(values, record["step"], record.get("time"))

    def params(self, params: Mapping[str, Any]) -> None:
        """Log nested values under dotted names, which cannot change later; long values go to an artifact."""
        short, long = {}, {}
        for name, value in flatten(params).items():
            key = metric_name(name)
            if len(value) <= LONGEST_PARAM and len(name) <= LONGEST_NAME:
                short[key] = value
            else:
                long[name] = value
                short[key] = f"({len(value)} characters, in {LONG_PARAMS})"
        if short:
            self._add("params", params=short)
        if long:
            self.text(json.dumps(long, indent=2, ensure_ascii=False), LONG_PARAMS)

    def describe(self, description: str) -> None:
        """Set the description on the run's page, Markdown; it replaces an earlier one."""
        self.tags({NOTE: description})

    def tags(self, tags: Mapping[str, Any]) -> None:
        self._add("tags", tags=_tags(tags))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file, or the contents of a folder, below `folder`. It must stay until it was sent."""
        self._add("artifact", path=str(Path(path).absolute()), folder=folder)

    def text(self, text: str, file: str) -> None:
        """Log a text as an artifact named `file`."""
        self._add("text", text=text, file=file)

    def table(self, columns: Sequence[str], data: Sequence[Sequence[Any]], file: str) -> None:
        """Log a table as an artifact named `file` (*.json), which MLflow shows and `mlflow.load_table` reads.

        data: rows, each with a text, number, flag or None per column; numbers that are not finite become None. A second
        table of the same name replaces the first. ValueError for a malformed table.
        """
        if not file.endswith(".json"):
            raise ValueError(f"a table's file ends in .json, not as {file!r} does")
        if len(set(columns)) < len(columns):
            raise ValueError(f"{file}: two columns have one name among {', '.join(columns)}")
        wrong = next((row for row in data if len(row) != len(columns)), None)
        if wrong is not None:
            raise ValueError(f"{file}: a row has {len(wrong)} cells, not one for each of {len(columns)} columns")
        cells = [[_cell(value) for value in row] for row in data]
        self._add("table", columns=list(columns), data=cells, file=file)

    def dataset(self, name: str, digest: str, source: str, context: str, profile: Mapping[str, Any]) -> None:
        """Log data that the run read. digest: identifies it (36 characters are kept); context: what it was used for."""
        self._add("dataset", name=name, digest=digest[:36], source=source, context=context, profile=dict(profile))

    def end(self, status: str = "FINISHED") -> None:
        """End the run as FINISHED, FAILED or KILLED. Only the first call counts."""
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        if self._ended:
            return
        self._ended = True
        dropped = {name: count for name, count in self._dropped.items() if count}
        if dropped:
            self.tags(dropped)
        self._add("end", status=status, time=self.tracker.now())

    def _add(self, op: str, **values: Any) -> None:
        self.tracker.add({"op": op, "id": self.id, **values})

    def _drop(self, tag: str) -> None:
        self._dropped[tag] += 1
        if self._dropped[tag] == 1:  # logged at once; the count is logged at the end
            self.tags({tag: 1})


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` as `{"a.b": "1"}`; text as it is, other values as JSON."""
    flat: dict[str, str] = {}
    for name, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


@functools.lru_cache(maxsize=4096)
def follow(path: Path, callback: Callable[[dict[str, Any]], None], stop: threading.Event, every: float = 0.2) -> None:
    """Call `callback` with each record of a growing file of JSON lines, from its start, until `stop` is set.

    The file may be created later, and removed to start over. Lines present when `stop` is set are still read;
    incomplete ones are not.
    A step may come again (a run that went on from a checkpoint): the last record of a step is the one that counts.
    """
    position = 0
    while True:
        last = stop.is_set()
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < position:  # restarted
                position = 0
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                record = _record(line)
                if record is not None:
                    callback(record)
        if last:
            return
        stop.wait(every)


def _record(line: bytes) -> dict[str, Any] | None:
    """A parsed record; None for a torn line, and for anything that is not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


def _tags(tags: Mapping[str, Any]) -> dict[str, str]:
    texts = {
        name: masked(value if isinstance(value, str) else json.dumps(value, default=str))  # before it is cut
        for name, value in tags.items()
    }
    return {name: t if len(t) <= LONGEST_TAG else t[: LONGEST_TAG - 1] + "…" for name, t in texts.items()}


def _cell(value: Any) -> str | int | float | bool | None:
    """A value as a JSON scalar."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = _float(value)
        return number if math.isfinite(number) else None
    return str(value)


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return str(os.getuid())
