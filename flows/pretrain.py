"""The Prefect flow `pretrain`: ingest → tokenizer → shards → pretrain → downstream jobs → report.

Every stage is a task. Tasks of stored artifacts end in the state "Reused"; the others run in this process or, where a
stage asks for workers, on Ray. The flow is deployed and scheduled like any other (`prefect.yaml`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed

from data_prep.errors import UserError
from data_prep.findings import Finding, refuse
from data_prep.legible import masked
from flows import starting
from flows.boundary import flow, task
from flows.machine.environment import prepare
from flows.machine.signals import terminations_as_interrupts
from pipeline import dag, gate, runs, side_by_side
from pipeline.artifact import Artifact
from pipeline.execute import Execution
from pipeline.home import Home
from pipeline.recipe.load import load, namesake
from pipeline.recipe.recipe import Experiment, Recipe
from pipeline.reports import findings
from pipeline.tracking.tracking import Tracker
from training import launch

log = logging.getLogger("sesame.flows")
# Seconds that the end of a run waits for MLflow, and that of an interrupted one; the rest is sent by the next run.
MLFLOW_TIMEOUT, MLFLOW_TIMEOUT_INTERRUPTED = 120.0, 10.0
PREFECT_SECONDS = 20.0  # that the end waits for Prefect's server, too; a dead one of ours is started again meanwhile


class Observer(Protocol):
    """Is notified of the stages of a run, as `flows.show.console.StageProgress` is."""

    def start(self, name: str) -> None: ...

    def callback(self, name: str) -> Callable[..., None]: ...

    def end(self, name: str, status: Any, detail: str = "") -> None: ...


class NullObserver:
    """Ignores all notifications but warnings, which it logs."""

    def start(self, name: str) -> None: ...

    def callback(self, name: str) -> Callable[..., None]:
        return lambda message, done=None, warning="": log.warning("%s: %s", name, warning) if warning else None

    def end(self, name: str, status: Any, detail: str = "") -> None: ...


@dataclass
class Session:
    """State of a flow run. It is no parameter of the flow, because Prefect stores parameters."""

    home: Home
    recipe: Experiment
    observer: Observer = field(default_factory=NullObserver)
    record: runs.Run | None = None
    error: BaseException | None = None  # what ended the run
    execution: Execution | None = None
    ending: ExitStack = field(default_factory=ExitStack)  # what holds until Prefect knows the end
    told_findings: set[str] = field(default_factory=set)
    telling: threading.Lock = field(default_factory=threading.Lock)


_session: ContextVar[Session] = ContextVar("session")


@flow("pretrain", flow_run_name="{recipe}")
def pretrain(recipe: str, scale: str | None = None, settings: list[str] | None = None) -> dict[str, Any]:
    """Run a recipe, by name or path, at a scale, with `path.to.key=value` settings.

    A deployment sets up its own session, and first trains the networks that the recipe names and that are not stored;
    `run` prepares one.
    """
    session = _session.get(None)
    if session is not None:
        return _carry_out_all(session)
    home = Home.find()
    prepare(home.prefect)
    settings = settings or []
    loaded = load(recipe, scale, settings)
    for earlier in starting.to_train(loaded, settings, home):
        _carry_out_in(Session(home, earlier))
    if network := starting.stored_settings(loaded, settings, home):
        loaded = load(recipe, scale, [*settings, *network])
    return _carry_out_in(Session(home, loaded))


def _carry_out_in(session: Session) -> dict[str, Any]:
    """Make all nodes of a session, which is the one that stages find."""
    token = _session.set(session)
    try:
        return _carry_out_all(session)
    finally:
        _session.reset(token)


def run(
    home: Home,
    recipe: Experiment,
    asked: tuple[str, str | None, Sequence[str]],
    observer: Observer | None = None,
) -> runs.Run:
    """Run a loaded recipe's flow to its end and return its record.

    asked: the recipe's name or path, scale and settings as the user gave them. Raises what a stage raised, after
    everything is recorded.
    """
    prepare(home.prefect)
    session = Session(home, recipe, observer or NullObserver())
    token = _session.set(session)
    unreached = None
    try:
        with session.ending:
            name, scale, settings = asked
            pretrain(masked(name), scale, list(map(masked, settings)))  # Prefect stores and shows them
    except (httpx.HTTPError, RuntimeError) as error:
        if error is session.error or _http_error_in(error) is None:
            raise
        unreached = error
    finally:
        _session.reset(token)
    if unreached is not None:
        _without_prefect(session, unreached)
    assert session.record is not None
    return session.record


def _http_error_in(error: BaseException) -> httpx.HTTPError | None:
    """The HTTP error of Prefect's server, bare or as Prefect wraps it before a flow begins."""
    return next((cause for cause in (error, error.__cause__) if isinstance(cause, httpx.HTTPError)), None)


def _without_prefect(session: Session, error: Exception) -> None:
    """Handle a failed server. Stages do not need it, so a run that is done remains done."""
    if session.error is not None:
        raise session.error
    http_error = _http_error_in(error)
    what_happened = (
        f"answered {http_error.response.status_code}" if isinstance(http_error, httpx.HTTPStatusError) else "went away"
    )
    problem = f"Prefect's server at {os.environ.get('PREFECT_API_URL')} {what_happened}"
    if session.record is None or session.record.status != runs.DONE:
        if what_happened == "answered 401":
            raise UserError(f"{problem}; set PREFECT_API_AUTH_STRING to NAME:PASSWORD of that server.") from error
        raise UserError(f"{problem}; start it again, or unset PREFECT_API_URL, and run this again.") from error
    log.warning("%s: the run is done, but Prefect was not told so", problem)


@task("stage", task_run_name="{name}")
def carry_out(name: str) -> State[str]:
    """Make one node of the DAG, or find it in the store."""
    session = _session.get()
    assert session.execution is not None
    node = session.execution.nodes[name]
    session.observer.start(name)
    try:
        artifact, reused = session.execution.carry_out(node, session.observer.callback(name))
    except Exception:
        session.observer.end(name, "failed")  # now: others that have begun may go on for long
        raise
    if "pretrain" not in session.execution.artifacts:
        with session.telling:
            _tell_findings(session, name)
    session.observer.end(name, "reused" if reused else "made", artifact.key)
    status = "Reused" if reused else "Made"
    return Completed(data=artifact.key, name=status, message=f"{status} {artifact.key}")


def _tell_findings(session: Session, name: str) -> None:
    """Tell what the node shows to be odd, as warnings. UserError where there is no use in training."""
    assert session.execution is not None
    made, downloads = session.execution.artifacts, session.home.downloads
    known = [*namesake(session.recipe), *_findings(session.recipe, made, downloads)]
    known += map(Finding, session.recipe.remarks())
    for finding in known:
        if not finding.refused and finding.text not in session.told_findings:
            session.told_findings.add(finding.text)
            session.observer.callback(name)("checked", None, warning=finding.text)
    refuse(known)


def _findings(recipe: Experiment, made: Mapping[str, Artifact], downloads: Path) -> list[Finding]:
    return findings.of_recipe(recipe, made, downloads) if isinstance(recipe, Recipe) else []


def _carry_out_all(session: Session) -> dict[str, Any]:
    """Make all nodes in order; the run's record, MLflow and Ray are finished whatever happens."""
    home, recipe = session.home, session.recipe
    nodes, store = dag.nodes(recipe, home.downloads), home.store()
    record = session.record = session.ending.enter_context(runs.begin(home.runs, recipe))
    tracker = Tracker(home.path, os.environ.get("MLFLOW_TRACKING_URI"), recipe.name, record.run_id)
    session.execution = Execution(recipe, store, record, tracker, home.downloads, nodes)
    status = "FAILED"
    try:
        refuse(_findings(recipe, {}, home.downloads))
        with terminations_as_interrupts():  # inside the flow: Prefect has a handler of its own around it
            _carry_out_nodes(session.execution, nodes)
        _propose(session, session.execution)
        record.status, status = runs.DONE, "FINISHED"
    except KeyboardInterrupt as error:
        session.error = error
        record.status, status = runs.INTERRUPTED, "KILLED"
        raise
    except BaseException as error:
        session.error = error
        record.status, record.error = runs.FAILED, masked(str(error))
        raise
    finally:
        _finish(session, session.execution, record, status)
        _do_not_wait_for_prefect(session)
    return record.public()


def _carry_out_nodes(execution: Execution, nodes: Sequence[dag.Node]) -> None:
    """All nodes, as many jobs at once as the placement allows and there is room for."""
    placement = execution.recipe.placement
    most = max(1, min(placement.jobs, sum(node.apart for node in nodes)))
    execution.where = side_by_side.of_placement(placement, most)

    def bytes_of(node: dag.Node) -> int:
        return execution.where.bytes_of(dag.inputs_of(node, execution.artifacts))

    side_by_side.carry_out_all(nodes, execution.where, carry_out, bytes_of, log.warning)


def _do_not_wait_for_prefect(session: Session) -> None:
    """Have Prefect's client give up at once if the server does not answer: by itself it tries for minutes, silently."""
    url, until, has_warned = PREFECT_API_URL.value(), time.monotonic() + PREFECT_SECONDS, False
    while url is not None:
        with suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        if time.monotonic() > until:
            session.ending.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))
            return
        if not has_warned:
            log.warning("Prefect's server at %s does not answer; trying for %.0f s", url, PREFECT_SECONDS)
            has_warned = True
        time.sleep(0.5)


def _propose(session: Session, execution: Execution) -> None:
    """Let the detector that a job proposes take over if it does as well as the one in use."""
    proposed = next(execution.proposed_candidates(gate.DETECTOR), None)
    if proposed is None:
        return
    from pipeline.scoring import champion  # and PyTorch with it

    candidate, folder = proposed
    corpus = execution.artifacts["ingest"].path
    verdict = champion.propose(session.home.detectors, session.recipe.name, candidate, folder, corpus)
    if verdict is not None:
        place = gate.CHAMPION if verdict.promoted else gate.CHALLENGER
        execution.parent.text(f"{place}: {verdict.why}\n", "champion.txt")
        log.info("the detector is the %s: %s", place, verdict.why)


def _finish(session: Session, execution: Execution, record: runs.Run, status: str) -> None:
    """End the run everywhere. Each step is taken even if those before it fail."""

    def close_tracker() -> None:
        record.unsent = execution.tracker.close(MLFLOW_TIMEOUT_INTERRUPTED if status == "KILLED" else MLFLOW_TIMEOUT)
        record.refused = execution.tracker.refused()

    record.seconds = round(time.time() - record.started, 1)
    try:
        with ExitStack() as steps:  # taken from the last to the first
            steps.callback(runs.save, session.home.runs, record)
            steps.callback(close_tracker)
            steps.callback(launch.stop_ray)
            steps.callback(runs.save, session.home.runs, record)  # sending to MLflow may take minutes
            steps.callback(execution.finish, status)
    except Exception as error:
        if session.error is None:
            session.error = error
            raise
        log.warning("the run %s could not be recorded as %s: %s", record.run_id, record.status, error)
