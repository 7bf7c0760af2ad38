"""Systems of text by the real command: a run that was killed and goes on learns what a whole run does, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.flows.test_end_to_end import SESAME, environment, sesame
from tests.flows.test_interruption import checkpoints
from tests.pipeline import tiny

pytestmark = pytest.mark.slow

SYSTEMS = ["gpt"]
STEPS, EVERY = 40, 5


def arguments(system: str, texts: Path) -> list[str]:
    settings = {
        "data.sources": f"[{{path: {texts}, licence: CC0-1.0}}]", "data.split.validation": 0.2,
        "tokenizer.vocabulary": 400, "downstream": "[]",
        "train.steps": STEPS, "train.global_batch": 8, "train.precision": "fp32", "train.log_every": 1,
        "train.evaluate_every": 20, "train.evaluate_rows": 8, "placement.checkpoint_every": EVERY,
        "placement.threads": 1,
    }  # fmt: skip
    return ["run", system, "--scale", "tiny", *(f"--set={name}={value}" for name, value in settings.items())]


def curves(home: Path) -> list[dict[str, float]]:
    """What the run of a home left of each step, but for times."""
    [file] = (home / "home" / "store").glob("pretrain-*/**/metrics.jsonl")
    records = map(json.loads, file.read_text().splitlines())
    return [
        {k: v for k, v in record.items() if k.split("/")[0] in ("step", "train", "validation")} for record in records
    ]


def killed(home: Path, command: list[str]) -> int:
    """A run ended by SIGKILL behind a checkpoint; the step of that."""
    process = subprocess.Popen(
        [*SESAME, *command], cwd=home, env=environment(home), process_group=0, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
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


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_kill_does_not_show(system: str, tmp_path: Path) -> None:
    texts, homes = tiny.corpus(tmp_path / "texts"), {}
    for name in ("one", "killed"):
        homes[name] = tmp_path / name
        homes[name].mkdir()
    command = arguments(system, texts)
    sesame(homes["one"], *command)
    whole = curves(homes["one"])
    assert [record["step"] for record in whole] == list(range(1, STEPS + 1))
    assert whole[-1]["train/loss"] < whole[0]["train/loss"]
    step = killed(homes["killed"], command)
    assert EVERY <= step < STEPS
    sesame(homes["killed"], "resume", "last")
    assert curves(homes["killed"]) == whole
