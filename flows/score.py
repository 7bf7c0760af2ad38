"""`sesame score`, and the Prefect flow `score`, which scores what is new in some files, each row once.

    files ─► rows that the book does not have yet ─► scores and alarms, committed ─► drift ─► MLflow, the hook

The flow is scheduled like any other (`prefect.yaml`). What it commits does not depend on who hears of it: MLflow may be
away, and a hook that fails is told of and not tried again.
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

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from data_prep.errors import UserError
from flows.environment import prepare
from pipeline import promotion, scoring
from pipeline.detector import FILE, name_of
from pipeline.detectors import AnyDetector, open_any
from pipeline.drift import SCORE
from pipeline.home import Home
from pipeline.promotion import DETECTOR
from pipeline.recipe import load
from pipeline.score_book import Book, Scored
from pipeline.scoring import Tally
from pipeline.tracking import Tracker

log = logging.getLogger("sesame.score")
HOOK_SECONDS = 60.0
MLFLOW_SECONDS = 60.0


def detector_of(model: str, home: Home) -> Path:
    """The folder of a detector: one that is given, the champion of a recipe, or an artifact's."""
    given = Path(model).expanduser()
    if (chosen := promotion.champion(home.detectors, model)) is not None:
        given = Path(chosen.folder)
    for folder in (given, given / DETECTOR):
        if (folder / FILE).is_file():
            return folder
    if given.exists():
        raise UserError(f"{model} holds no detector; give the artifact of an anomaly job, or its folder {DETECTOR}.")
    found = home.store().resolve(model).path / DETECTOR
    if not (found / FILE).is_file():
        raise UserError(f"{model} is no anomaly job, so it holds no detector; `sesame runs` shows what was made.")
    return found


def to_file(model: Path, files: Sequence[str], out: Path, downloads: Path, progress: Callable[[str], None]) -> Tally:
    """Score all rows of some files into one Arrow file, which is there whole or not at all."""
    detector, tally = open_any(model), Tally()
    found = scoring.files_of(detector, files, downloads)
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")

    def batches() -> Any:
        for number, file in enumerate(found, 1):
            for batch in scoring.score_file(detector, file, tally):
                yield batch
                progress(f"file {number} of {len(found)}, {tally.rows:,} rows, {tally.alarms:,} alarms")

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scoring.write(draft, batches())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return tally


@task(name="score new rows", cache_policy=NO_CACHE, persist_result=False)
def score_new(model: Path, name: str, files: list[str], book: Path, downloads: Path) -> Scored:
    """Score and commit what the book does not have."""
    detector = open_any(model)
    with Book.held(book) as held:
        return held.score(detector, name, scoring.files_of(detector, files, downloads))


@flow(name="score", persist_result=False)
def score(
    model: str,
    files: list[str],
    book: str,
    hook: str | None = None,
    psi_limit: float = 0.25,
    least_rows: int = 100,
    retrain: str | None = None,
    settings: list[str] | None = None,
) -> dict[str, Any]:
    """Score rows that are new in `files`, each once, into the folder `book`, and tell of alarms and drift.

    hook: a command that is given what happened as JSON on its standard input, if there is an alarm, drift (PSI above
    `psi_limit` in any column, of at least `least_rows` new rows), a row that could not be read or a file that changed.
    retrain, settings: a recipe that is run after drift; its detector becomes the champion of that recipe's name if it
    does as well as the one before.
    """
    home = Home.find()
    prepare(home.prefect)
    folder = detector_of(model, home)
    name = name_of(folder)
    began = time.time()
    scored = score_new(folder, name, files, Path(book).expanduser(), home.downloads)
    told = account(open_any(folder), name, scored, psi_limit, least_rows)
    told["seconds"] = round(time.time() - began, 3)
    _track(home, told)
    if retrain and told["drifted"]:
        told["retrained"] = retrained(home, retrain, settings or [])
        told["news"].append(told["retrained"])
    if hook and told["news"]:
        told["hook"] = call_hook(hook, told)
    return told


def account(detector: AnyDetector, name: str, scored: Scored, psi_limit: float, least_rows: int) -> dict[str, Any]:
    """What a pass came to, as plain values; `news` says in words what a person should hear of."""
    tally = scored.tally
    drift: dict[str, dict[str, float]] = {}
    if tally.rows:
        found = detector.baseline.drift(tally.counts)
        drift = {column: dict(zip(one._fields, map(float, one), strict=True)) for column, one in found.items()}
    worst = max(drift, key=lambda column: drift[column]["psi"], default=None)
    drifted = worst is not None and tally.rows >= least_rows and drift[worst]["psi"] > psi_limit
    news = []
    if tally.alarms:
        news.append(f"{tally.alarms:,} alarms in {tally.rows:,} new rows")
    if drifted and worst is not None:
        news.append(f"{worst} drifted: PSI {drift[worst]['psi']:.2f}, more than {psi_limit:g}")
    if tally.rejected:
        news.append(f"{tally.rejected:,} rows could not be read")
    if scored.changed:
        news.append(f"{', '.join(scored.changed)} changed after being scored, and is left alone")
    return {
        "detector": name,
        "rows": tally.rows,
        "alarms": tally.alarms,
        "rejected": tally.rejected,
        "files": [part.file for part in scored.parts],
        "changed": scored.changed,
        "drifted": drifted,
        "drift": drift,
        "news": news,
    }


def retrained(home: Home, recipe: str, settings: list[str]) -> str:
    """Run a recipe on what its sources hold by now, and let its detector challenge the champion; what came of it."""
    from flows import pretrain

    loaded = load(recipe, None, settings)
    before = promotion.champion(home.detectors, loaded.name)
    pretrain.run(home, loaded, (recipe, None, settings))
    after = promotion.champion(home.detectors, loaded.name)
    if after is None:
        raise UserError(
            f"{recipe} made no detector to promote: it needs a job of task anomaly (of text: document-anomaly) and "
            "rows held out."
        )
    if before is None or after.folder != before.folder:
        return f"retrained, promoted: {after.why}"
    return f"retrained, not promoted: {before.why}"


def call_hook(command: str, told: dict[str, Any]) -> str:
    """Run a user's command with what happened on its standard input; how it ended."""
    try:
        done = subprocess.run(
            shlex.split(command),
            input=json.dumps(told),
            text=True,
            capture_output=True,
            timeout=HOOK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("the hook %s did not run: %s", command, error)
        return f"did not run: {error}"
    if done.returncode:
        log.warning("the hook %s ended with %d: %s", command, done.returncode, done.stderr.strip()[-500:])
    return f"ended with {done.returncode}"


def _track(home: Home, told: dict[str, Any]) -> None:
    """An MLflow run of its own for each pass."""
    run_id = f"score-{time.strftime('%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    tracker = Tracker(home.path, os.environ.get("MLFLOW_TRACKING_URI"), "score", run_id)
    run = tracker.run("score", tags={"detector": told["detector"], "news": "; ".join(told["news"]) or "none"})
    numbers = {name: float(told[name]) for name in ("rows", "alarms", "rejected", "seconds")}
    numbers["drifted"] = float(told["drifted"])
    if told["rows"]:
        numbers["alarm_share"] = told["alarms"] / told["rows"]
        numbers["psi_most"] = max(one["psi"] for one in told["drift"].values())
        numbers |= {f"{kind}_{SCORE}": told["drift"][SCORE][kind] for kind in ("psi", "ks") if SCORE in told["drift"]}
        lines = [[column, one["psi"], one["ks"]] for column, one in told["drift"].items()]
        run.table(["column", "psi", "ks"], lines, "drift.json")
    run.metrics(numbers, step=0)
    run.text(json.dumps(told, indent=1), "account.json")
    run.end("FINISHED")
    tracker.close(MLFLOW_SECONDS)
