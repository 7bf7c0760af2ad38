"""Runs the tiny flow in the process of the test."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from flows import pretrain
from pipeline import dag, runs
from pipeline.home import Home
from pipeline.recipe.load import load
from pipeline.stage import Context
from pipeline.store.live import WORK
from pipeline.tracking.tracking import Tracker
from tests.flows.tiny_flow import nodes
from tests.pipeline import tiny
from tests.pipeline.tracked import DEAD
from training import launch


def client_of(url: str) -> AbstractContextManager[object]:
    """In this block Prefect's clients ask the server at `url`, with the password of the tests' server."""
    return temporary_settings(
        {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: os.environ.get("PREFECT_API_AUTH_STRING", "")}
    )


def basic(auth: str) -> str:
    """The value of the header `Authorization` for NAME:PASSWORD."""
    return f"Basic {base64.b64encode(auth.encode()).decode()}"


class Runner:
    """A home of its own, and no MLflow unless a test says where. `ended`: what was closed at the end of runs."""

    def __init__(self, folder: Path, server: str, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir(exist_ok=True)
        self.recipe = str(tiny.recipe(folder))
        self.home = Home(folder / "home")
        self.server, self.patch = server, patch
        self.ended: list[str] = []
        for name, value in {"PREFECT_HOME": str(folder), "DS_ACCELERATOR": "cpu", "MLFLOW_TRACKING_URI": DEAD}.items():
            patch.setenv(name, value)
        patch.setattr(pretrain, "MLFLOW_TIMEOUT", 0.1)
        close = Tracker.close
        patch.setattr(Tracker, "close", lambda *arguments: (self.ended.append("tracker"), close(*arguments))[1])
        patch.setattr(launch, "stop_ray", lambda: self.ended.append("Ray"))

    def run(
        self,
        work: Callable[[Context], None] = lambda context: None,
        settings: tuple[str, ...] = (),
        api: str = "",
        retries: int = 5,
    ) -> runs.Run:
        self.patch.setattr(dag, "nodes", nodes(work))
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}), client_of(api or self.server):
            return pretrain.run(self.home, load(self.recipe, None, settings), (self.recipe, None, settings))

    def states(self) -> list[str]:
        """Of all runs, as Prefect has them."""
        return [run["state"]["type"] for run in self.in_prefect("flow_runs")]

    def stages(self) -> set[tuple[str, str]]:
        """(name, state's name) of the stages of all runs, as Prefect has them."""
        return {(task["name"], task["state"]["name"]) for task in self.in_prefect("task_runs")}

    def in_prefect(self, what: str) -> list[dict[str, Any]]:
        """All `flow_runs` or `task_runs` of this runner, as Prefect's server tells them."""
        asked = json.dumps({"flow_runs": {"name": {"any_": [self.recipe]}}}).encode()
        headers = {"Content-Type": "application/json", "Authorization": basic(os.environ["PREFECT_API_AUTH_STRING"])}
        request = urllib.request.Request(f"{self.server}/{what}/filter", asked, headers)
        return json.load(urllib.request.urlopen(request, timeout=30))

    def has_nothing_but(self, artifacts: int) -> None:
        """So many artifacts, all whole: nothing of other attempts, of their work, or of files half-written."""
        store = self.home.store()
        stored = store.list()
        assert len(stored) == artifacts and not [problem for artifact in stored for problem in store.verify(artifact)]
        assert {path.name for path in store.home.iterdir()} == {WORK, *(artifact.key for artifact in stored)}
        for artifact in stored:
            names = {path.name for path in (store.home / artifact.key).iterdir()}
            assert names == {"manifest.json", artifact.manifest["attempt"]}
        assert {path.name for path in (store.home / WORK).iterdir()} <= {artifact.key for artifact in stored}
        assert not list(self.home.runs.glob(".*"))
