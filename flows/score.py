"""`sesame score`, and the Prefect flow `score`, which scores the new rows of some files, each once.

    files ─► rows that the ledger does not have yet ─► scores and alarms, committed ─► drift ─► MLflow, the hook
                                                                      after drift ─► retraining ─► the hook

The ledger is held until all is reported, so that a second pass at the same time cannot report it, too; retraining has
a lock of its own, so that passes go on meanwhile.

The flow is scheduled like any other (`prefect.yaml`). What it commits does not depend on who is notified: MLflow may be
down. Rows are scored once and reported at least once: a pass reports all that was committed and not reported yet, also
by passes that were killed, and marks it in the ledger once MLflow and the hook were notified. A hook that fails is
logged, and not tried again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.sources.archives import SourceFile
from data_prep.sources.files import find
from data_prep.sources.records import first_line
from flows.boundary import flow, task
from flows.machine.environment import prepare
from flows.show.outputs import check_output, written_whole
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.scoring import champion, score_files
from pipeline.scoring.champion import DETECTOR
from pipeline.scoring.detector import FILE, Detector, name_of
from pipeline.scoring.detectors import open_any
from pipeline.scoring.drift import SCORE, Drift
from pipeline.scoring.ledger import SETTLED_SECONDS, Ledger, ScoringPass, mark_told, retraining_held
from pipeline.scoring.score_files import Tally
from pipeline.tracking.tracking import Tracker

log = logging.getLogger("sesame.score")
HOOK_SECONDS = 60.0
MLFLOW_SECONDS = 60.0


def detector_of(model: str, home: Home) -> Path:
    """The folder of a detector, given as a folder, as a recipe with a champion, or as an artifact's key."""
    path = Path(model).expanduser()
    if (in_use := champion.champion(home.detectors, model)) is not None:
        path = Path(in_use.folder)
        if not path.exists():
            raise UserError(f"the detector in use of {model}, {path}, is gone; run its recipe again.")
    for folder in (path, path / DETECTOR):
        if (folder / FILE).is_file():
            return folder
    if path.exists():
        raise UserError(f"{model} holds no detector; give the artifact of an anomaly job, or its folder {DETECTOR}.")
    try:
        folder = home.store().resolve(model).path / DETECTOR
    except UserError as error:
        raise UserError(f"{model!r} is no recipe that has a detector, no folder, and no key: {error}") from None
    if not (folder / FILE).is_file():
        raise UserError(
            f"{model} holds no detector: it is no anomaly job, or too few normal rows were held out for a threshold, "
            "as its report says."
        )
    return folder


def to_file(model: Path, files: Sequence[str], out: Path, downloads: Path, progress: Callable[[str], None]) -> Tally:
    """Score all rows of some files into one Arrow file, which is written completely or not at all."""
    detector, tally = open_any(model), Tally()
    sources = score_files.files_of(detector, files, downloads)
    check_output(out, (file.uri for file in sources))

    def batches() -> Any:
        for number, file in enumerate(sources, 1):
            for batch in score_files.score_file(detector, file, tally):
                yield batch
                progress(f"file {number} of {len(sources)}, {tally.rows:,} rows, {tally.alarms:,} alarms")

    with written_whole(out) as draft:
        score_files.write(draft, batches())
    return tally


def left_out(model: Path, files: Sequence[str]) -> str:
    """What of folders and globs is not scored, in words."""
    return score_files.left_out(open_any(model), files)


@task("score new rows")
def score_new(
    model: Path, name: str, files: list[str], held: Ledger, downloads: Path, settled_seconds: float = SETTLED_SECONDS
) -> ScoringPass:
    """Score and commit the rows that the ledger does not have; returns what is to be reported now."""
    detector = open_any(model)
    sources = [file for path in files for file in _files_now(detector, path, downloads)]
    return held.to_tell(held.score(detector, name, sources, settled_seconds), name)


def _files_now(detector: Detector, path: str, downloads: Path) -> list[SourceFile]:
    """The files of a path; a folder or glob may have none yet."""
    try:
        return score_files.files_of(detector, [path], downloads)
    except UserError:
        listing = find(path)
        is_asked_for = listing.names_them and listing.files
        if not listing.label or is_asked_for or any(detector.readable(file.relative) for file in listing.files):
            raise
        return []


@flow("score")
def score(
    model: str,
    files: list[str],
    ledger: str,
    hook: str | None = None,
    psi_limit: float = 0.25,
    least_rows: int = 100,
    retrain: str | None = None,
    settings: list[str] | None = None,
    settled_seconds: float = SETTLED_SECONDS,
) -> dict[str, Any]:
    """Score the new rows of `files`, each once, into the folder `ledger`, and report alarms and drift.

    hook: a command that gets the outcome as JSON on its standard input if there is an alarm, drift, a row that could
    not be read, and again with the result of retraining.
    psi_limit, least_rows: a column drifted if its PSI is above the limit and above what chance explains for so few
    rows. With fewer new rows than `least_rows`, earlier ones since the last reported drift count, too.
    retrain, settings: a recipe that is run after drift; its detector becomes the champion of that recipe's name if it
    does as well as the one before. If it fails, the flow fails after reporting that, and the next drift retries it.
    One retraining runs at a time: drift that is found meanwhile is reported only.
    settled_seconds: a last row without a line end waits until its file has not been written to for so long.
    """
    home = Home.find()
    prepare(home.prefect)
    folder, ledger_folder = detector_of(model, home), Path(ledger).expanduser()
    name = name_of(folder)
    began = time.time()
    with Ledger.held(ledger_folder) as held:
        scored = score_new(folder, name, files, held, home.downloads, settled_seconds)
        outcome = account(open_any(folder), name, scored, psi_limit, least_rows)
        outcome["seconds"] = round(time.time() - began, 3)
        outcome["left_out"] = score_files.left_out(open_any(folder), files)
        _track(home, outcome)
        if hook and len(outcome["news"]) > len(scored.waiting):  # a row that is being written is nobody's trouble yet
            outcome["hook"] = call_hook(hook, outcome)
        mark_told(ledger_folder, scored.parts, outcome["drifted"])
    if retrain and outcome["drifted"]:
        with retraining_held(ledger_folder) as is_ours:
            if is_ours:
                _retrain(home, retrain, settings or [], outcome, hook)
            else:
                outcome["news"].append(f"{retrain} is being retrained already")
    return outcome


def account(detector: Detector, name: str, scored: ScoringPass, psi_limit: float, least_rows: int) -> dict[str, Any]:
    """The outcome of a pass as plain values; `news` describes in words what a person should know."""
    tally, recent = scored.tally, scored.recent(name, least_rows)
    drift: dict[str, Drift] = {}
    if any(part.tally.rows for part in scored.parts if part.detector == name):
        drift = detector.baseline.drift(recent.counts)
    drifted = (
        [column for column, values in drift.items() if values.beyond(psi_limit)] if recent.rows >= least_rows else []
    )
    news = []
    if tally.alarms:
        news.append(f"{tally.alarms:,} alarms in {tally.rows:,} new rows")
    if drifted:
        worst = max(drifted, key=lambda column: drift[column].psi)
        limit = max(psi_limit, drift[worst].chance)
        news.append(f"{worst} drifted: PSI {drift[worst].psi:.2f} of {recent.rows:,} rows, more than {limit:.2f}")
    if tally.rejected:
        news.append(f"{tally.rejected:,} rows could not be read")
    if tally.lost:
        news.append(f"{len(tally.lost):,} files were lost, wholly or from some row on: {'; '.join(tally.lost[:3])}")
    news += [f"{size:,} bytes of {file} wait for a line end" for file, size in scored.waiting.items()]
    return {
        "detector": name,
        "rows": tally.rows,
        "alarms": tally.alarms,
        "rejected": tally.rejected,
        "files": [part.file for part in scored.parts],
        "replaced": scored.replaced,
        "known": scored.known,
        "waiting": scored.waiting,
        "drifted": bool(drifted),
        "drift_rows": recent.rows if drift else 0,
        "drift": {column: values._asdict() for column, values in drift.items()},
        "news": news,
    }


def _retrain(home: Home, recipe: str, settings: list[str], outcome: dict[str, Any], hook: str | None) -> None:
    """Retrain and report the result; a failure is reported, then raised."""
    failure = None
    try:
        result = retrained(home, recipe, settings)
    except Exception as error:
        failure, result = error, f"retraining failed: {first_line(error)}"
        log.error("%s: %s", recipe, result)
    outcome["retrained"] = result
    outcome["news"].append(result)
    if hook:
        outcome["hook"] = call_hook(hook, {**outcome, "news": [result]})
    if failure is not None:
        raise failure


def retrained(home: Home, recipe: str, settings: list[str]) -> str:
    """Run a recipe on the current data and let its detector challenge the champion; returns the result in words."""
    from flows import pretrain

    loaded = load(recipe, None, settings)
    before, others = champion.champion(home.detectors, loaded.name), _others(home, loaded.name)
    pretrain.run(home, loaded, (recipe, None, settings))
    after = champion.champion(home.detectors, loaded.name)
    if changed := {name for name, note in _others(home, loaded.name).items() if note != others.get(name)}:
        return f"retrained, but it reads something else than the detector in use: it is {', '.join(sorted(changed))}"
    if after is None:
        raise UserError(
            f"{recipe} made no detector to use: it needs a job of task anomaly (of text: document-anomaly) and "
            "rows held out."
        )
    if before is None or after.folder != before.folder:
        return f"retrained, the new champion: {after.why}"
    return f"retrained, the champion stays: {before.why}"


def _others(home: Home, name: str) -> dict[str, str]:
    """The notes on champions that read something else than the one of that name."""
    return {path.stem: path.read_text() for path in home.detectors.glob(f"{name}@*.json")}


def call_hook(command: str, outcome: dict[str, Any]) -> str:
    """Run a user's command with the outcome on its standard input; returns how it ended."""
    try:
        done = subprocess.run(
            shlex.split(command),
            input=json.dumps(outcome),
            text=True,
            capture_output=True,
            timeout=HOOK_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:  # a value: quotes that are not closed
        log.warning("the hook %s did not run: %s", command, error)
        return f"did not run: {error}"
    if done.returncode:
        log.warning("the hook %s ended with %d: %s", command, done.returncode, done.stderr.strip()[-500:])
    return f"ended with {done.returncode}"


def _track(home: Home, outcome: dict[str, Any]) -> None:
    """Log the pass as an MLflow run."""
    run_id = f"score-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    tracker = Tracker(home.path, os.environ.get("MLFLOW_TRACKING_URI"), "score", run_id)
    run = tracker.run("score", tags={"detector": outcome["detector"], "news": "; ".join(outcome["news"]) or "none"})
    numbers = {f"scoring/{name}": float(outcome[name]) for name in ("rows", "alarms", "rejected", "seconds")}
    numbers["drift/drifted"] = float(outcome["drifted"])
    if outcome["rows"]:
        numbers["scoring/alarm_share"] = outcome["alarms"] / outcome["rows"]
    if outcome["drift"]:
        numbers["drift/psi_max"] = max(values["psi"] for values in outcome["drift"].values())
        numbers |= {
            f"drift/{kind}_{SCORE}": outcome["drift"][SCORE][kind]
            for kind in ("psi", "ks")
            if SCORE in outcome["drift"]
        }
        lines = [[column, *values.values()] for column, values in outcome["drift"].items()]
        run.table(["column", *Drift._fields], lines, "drift.json")
    run.metrics(numbers, step=0)
    run.text(json.dumps(outcome, indent=1), "account.json")
    run.end("FINISHED")
    tracker.close(MLFLOW_SECONDS)
