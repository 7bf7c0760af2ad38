"""Systems of text by the real command: two workers with ZeRO-2 learn what one does, and a kill does not show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.flows.end_to_end.test_quickstart import SESAME, environment, sesame
from tests.flows.trouble.test_interruption import checkpoints
from tests.pipeline import tiny
from tests.pipeline.test_adaptation import carried_out
from tests.training.group import in_group
from training import launch
from training.distributed import Worker
from training.job import METRICS, Job, train

pytestmark = pytest.mark.slow

STEPS, EVERY = 20, 4
TWO = {"placement.workers": 2}
ZERO = {**TWO, "placement.zero": 2}
# Groups are whole rows of one worker. Each worker draws its own jitter of routers.
SWITCH = {"objective.options.routing.group": 8, "network.config.router_jitter_noise": 0.0}
ADAM = {"train.optimizer": "adamw", "train.lr": 1e-3}
ROUNDING, FLIPS = 1e-5, 2e-2  # of losses; rounding may send a token to another expert
# A recipe, what it needs beside `settings`, and its placement.
SYSTEMS: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    **{name: (name, {}, ZERO) for name in ("gpt", "roberta", "electra", "elmo", "bart", "mass")},
    # ZeRO divides Adam's state; AdaFactor's factors are of whole matrices, and plain gradient descent has none.
    "t5": ("t5", {}, TWO),
    "t5 by Adam": ("t5", ADAM, ZERO),
    "word2vec": ("word2vec", {}, TWO),
    "switch": ("switch", SWITCH | ADAM, ZERO),
    "switch, experts divided": ("switch", SWITCH | ADAM, {**ZERO, "placement.expert_parallel": 2}),
}


def settings(texts: Path, more: Mapping[str, Any]) -> list[str]:
    given = {
        "data.sources": f"[{{path: {texts}, licence: CC0-1.0}}]", "data.split.validation": 0.2,
        "tokenizer.vocabulary": 400, "downstream": "[]",
        "train.steps": STEPS, "train.global_batch": 16, "train.precision": "fp32", "train.log_every": 1,
        "train.evaluate_every": 10, "train.evaluate_rows": 16, "placement.checkpoint_every": EVERY,
        "placement.threads": 1, **more,
    }  # fmt: skip
    return [f"{name}={value}" for name, value in given.items()]


def curves(folder: Path) -> list[dict[str, float]]:
    """What a pretraining left of each step, but for times."""
    records = map(json.loads, (folder / METRICS).read_text().splitlines())
    return [
        {k: v for k, v in record.items() if k.split("/")[0] in ("step", "train", "validation")} for record in records
    ]


def losses(curve: list[dict[str, float]]) -> dict[str, float]:
    """Losses of training and of evaluation by their names and steps."""
    return {f"{k} {record['step']}": v for record in curve for k, v in record.items() if k.endswith("/loss")}


def trained(home: Path, server: str, *command: str) -> list[dict[str, float]]:
    """Curves of what the command pretrained. server: the address of Prefect."""
    done = sesame(home, *command, "--json", PREFECT_API_URL=server)
    stage = json.loads(done.stdout.strip().splitlines()[-1])["stages"]["pretrain"]
    assert not stage["reused"]
    return curves(Path(stage["path"]))


def killed(home: Path, server: str, *command: str) -> int:
    """A run ended by SIGKILL behind a checkpoint; the step of that. server: the address of Prefect."""
    process = subprocess.Popen(
        [*SESAME, *command], cwd=home, env=environment(home) | {"PREFECT_API_URL": server}, process_group=0,
        text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 400
    while not checkpoints(home):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate()[1])
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return checkpoints(home)[-1]["step"]


def _trained_by(worker: Worker, job: Job) -> dict[str, Any]:
    return train(job, worker)


def uninterrupted(
    folder: Path, recipe: str, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, float]]:
    """Curves of the recipe's stages without flow and Ray: its workers are a plain group of processes."""

    def in_processes(job: Job, *_: object) -> dict[str, Any]:
        return in_group(job.placement.workers, _trained_by, job)[0]

    with monkeypatch.context() as patch:
        patch.setattr(launch, "run", in_processes)
        return curves(carried_out(folder, recipe, *given)["pretrain"].path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_neither_two_workers_nor_a_kill_show(
    system: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, more, placement = SYSTEMS[system]
    given = settings(tiny.corpus(tmp_path / "texts"), more)
    placed = [*given, *(f"{name}={value}" for name, value in placement.items())]
    alone = uninterrupted(tmp_path / "one", recipe, given, monkeypatch)
    whole = uninterrupted(tmp_path / "two", recipe, placed, monkeypatch)
    assert [record["step"] for record in whole] == list(range(1, STEPS + 1))
    assert whole[-1]["train/loss"] < whole[0]["train/loss"]
    assert losses(whole[:2]) == pytest.approx(losses(alone[:2]), rel=0, abs=ROUNDING)
    assert losses(whole) == pytest.approx(losses(alone), rel=0, abs=FLIPS if recipe == "switch" else ROUNDING)

    home = tmp_path / "killed"
    home.mkdir()
    step = killed(home, server, "run", recipe, *(f"--set={setting}" for setting in placed))
    assert EVERY <= step < STEPS
    resumed = trained(home, server, "resume", "last")
    assert resumed == whole
