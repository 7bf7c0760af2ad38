"""kill -9 of the processes of a real run: worker, controller, raylet, GCS, driver.

    reference:  sesame run ───────────────────────────────────────────────► loss curve, weights
    cycle:      sesame run ─►(kill)─► goes on by itself, or ends ─► sesame resume last ─►(kill)─► … ─► the same

The run trains with two workers on Ray, and "the same" is bit for bit. A kill comes when training has gone on since the
last one, or while processes are starting. Victims are found in the tree of this run's own processes; nothing else is
touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.store.live import WORK
from pipeline.store.store import Store
from tests.faults.base import curve
from tests.pipeline import tiny

VICTIMS = {  # what its command line says
    "worker": "RayTrainWorker",
    "controller": "TrainController",
    "raylet": "/raylet/raylet ",
    "GCS": "/gcs/gcs_server ",
    "driver": "",
}
CHECKPOINTS = 100
"""In a training: kills come one to four of them apart."""
LONGEST_SECONDS = 1200.0
"""That a run may take to the next kill, or to its end, before it counts as hanging."""
MOST_RESUMES = 3
"""For one kill: a GCS that dies is noticed late, so what was resumed may end once more."""
GONE_SECONDS = 75.0
"""That other processes of a run may outlive its driver: Ray's agents try for 60 to tell a GCS that is gone, too."""
EARLY = 0.2
"""Share of kills that do not wait for training to go on."""


@dataclass
class Kill:
    """One kill, and what came of it."""

    victim: str
    step: int = 0
    resumed: int = 0
    """How often the run ended and was resumed before the next kill; 0 where training went on by itself."""
    seconds: float = 0.0
    """To the next record of training, or to its end."""
    left: str = ""
    """Processes that outlived the run by GONE_SECONDS, and were ended here."""
    lost: str = ""


@dataclass
class Kills:
    """All kills below a folder, in one recipe."""

    folder: Path
    steps: int
    seed: int = 0
    say: Callable[[str], None] = print
    done: list[Kill] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.home = self.folder / "home"
        self.log = self.folder / "log"
        self.every = max(2, self.steps // CHECKPOINTS)
        text = tiny.recipe(self.folder, workers=2, zero=2, steps=self.steps).read_text()
        head, _, tail = text.partition("downstream:")
        _, _, placement = tail.partition("placement:")
        placement = placement.replace("checkpoint_every: 3", f"checkpoint_every: {self.every}")
        head = head.replace("evaluate_every: 4", f"evaluate_every: {self.steps // 4}")
        self.recipe = self.folder / "kills.yaml"
        self.recipe.write_text(f"{head}placement:{placement}")
        self.run: psutil.Popen | None = None
        self.family: dict[int, psutil.Process] = {}
        self._last: Kill | None = None

    def carry_out(self, kills: int, in_a_row: int = 5) -> list[Kill]:
        """So many kills, a few in each training. Whatever happens, nothing of the runs is left."""
        try:
            return self._carry_out(kills, in_a_row)
        finally:
            self._sweep()

    def _carry_out(self, kills: int, in_a_row: int) -> list[Kill]:
        began = time.monotonic()
        self._start("run", str(self.recipe))
        self._wait(lambda: False)
        wanted = self._made()
        self.say(f"undisturbed: {len(wanted['curve'])} records in {time.monotonic() - began:.0f} s")
        victims: list[str] = []
        while len(victims) < kills:
            victims += self.random.sample(list(VICTIMS), len(VICTIMS))
        for first in range(0, kills, in_a_row):
            self._forget()
            self._cycle(victims[first : min(first + in_a_row, kills)], wanted)
        return self.done

    # -- a training and its kills -------------------------------------------------------------------------------------

    def _cycle(self, victims: list[str], wanted: dict[str, Any]) -> None:
        self._last = None
        self._start("run", str(self.recipe))
        mine: list[Kill] = []
        try:
            for name in victims:
                mine.append(Kill(name))
                self._kill(mine[-1])
            self._wait(lambda: False)
            values = self._made()
            lost = "" if values == wanted else _difference(values, wanted)
        except AssertionError as error:
            lost = f"{error} {self.log.read_text(errors='replace')[-2000:]}"
            self._sweep()
        for kill in mine:
            kill.lost = lost
            self.say(f"{kill}")
        self.done += mine
        self.say(f"{len(mine)} kills: {lost or 'the curve and the weights are those of the undisturbed run'}")

    def _kill(self, kill: Kill) -> None:
        """Wait for the moment, kill, and wait until training has gone on."""
        if self.random.random() >= EARLY:
            step = self._step() + self.random.randint(self.every, 4 * self.every)
            assert self._wait(lambda: self._step() >= step), "training is over before the last kill: take more --steps"
        victims: list[psutil.Process] = []
        assert self._wait(lambda: bool(self._victims(kill.victim, victims))), f"there is no {kill.victim} to kill"
        kill.step, lines, began = self._step(), self._lines(), time.monotonic()
        self.random.choice(victims).kill()
        self._last = kill
        self._wait(lambda: self._lines() > lines)
        kill.seconds = time.monotonic() - began

    def _wait(self, reached: Callable[[], bool]) -> bool:
        """Until it is reached, and True, or the run is done, and False. A run that ends otherwise is resumed."""
        assert self.run is not None
        until = time.monotonic() + LONGEST_SECONDS
        while not reached():
            self._look()
            code = self.run.poll()
            if code is not None:
                left = self._wait_for_the_others()
                if self._last is None:
                    assert (code, left) == (0, ""), f"undisturbed, it ends with {code} and leaves {left or 'nobody'}"
                    return False
                self._last.left = left or self._last.left
                if code == 0:
                    return False
                self._last.resumed += 1
                assert self._last.resumed <= MOST_RESUMES, f"the run fails with {code}, however often it is resumed"
                self._harm_snapshots()
                self._start("resume", "last")
                until = time.monotonic() + LONGEST_SECONDS
            assert time.monotonic() < until, f"it neither goes on nor ends in {LONGEST_SECONDS:.0f} s"
            time.sleep(0.05)
        return True

    def _made(self) -> dict[str, Any]:
        store = Store(self.home / "store")
        [artifact] = [candidate for candidate in store.list() if candidate.stage == "pretrain"]
        assert not (problems := store.verify(artifact)), problems
        return {"digest": artifact.output_digest, "curve": curve(artifact)}

    def _forget(self) -> None:
        """Delete what training made, and all that was made of it."""
        store = Store(self.home / "store")
        for artifact in store.list():
            if artifact.stage in ("pretrain", "report"):
                store.delete(artifact.key)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _start(self, *arguments: str) -> None:
        environment = {**os.environ, "SESAME_HOME": str(self.home)}
        for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "SESAME_STORE"):
            environment.pop(name, None)
        with self.log.open("ab") as log:
            self.run = psutil.Popen(
                [sys.executable, "-m", "flows.cli", *arguments],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.family = {}

    def _look(self) -> None:
        """Remember this run's processes, for those that outlive it have no parent by which to know them."""
        assert self.run is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.run.children(recursive=True):
                self.family.setdefault(process.pid, process)

    def _victims(self, name: str, victims: list[psutil.Process]) -> list[psutil.Process]:
        """Fills `found` with the living processes of that name."""
        assert self.run is not None
        victims[:] = [self.run] if name == "driver" else []
        if name != "driver":
            victims += [process for process in self._alive() if VICTIMS[name] in _command(process)]
        return victims

    def _alive(self) -> list[psutil.Process]:
        return [p for p in self.family.values() if p.is_running() and _command(p)]

    def _wait_for_the_others(self) -> str:
        """Until all of the run's processes are gone; those that have to be ended."""
        until = time.monotonic() + GONE_SECONDS
        while alive := self._alive():
            if time.monotonic() > until:
                left = "; ".join(f"{p.pid} {_command(p).strip()[:100]}" for p in alive)
                self._sweep()
                return left
            time.sleep(0.1)
        return ""

    def _sweep(self) -> None:
        """End what is left of this run."""
        self._look()
        for process in [*([self.run] if self.run else []), *self._alive()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    # -- what training has done ---------------------------------------------------------------------------------------

    def _records(self) -> list[dict[str, Any]]:
        records = []
        for path in (self.home / "store" / WORK).glob("pretrain-*/metrics.jsonl"):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    records.append(json.loads(line))
        return records

    def _lines(self) -> int:
        return len(self._records())

    def _step(self) -> int:
        records = self._records()
        return records[-1]["step"] if records else 0

    def _harm_snapshots(self) -> None:
        """Cut Ray's own files about the run short: it writes them in place, and a kill may do the same."""
        for path in (self.home / "store" / WORK).glob("pretrain-*/ray/**/*.json"):
            os.truncate(path, path.stat().st_size // 2)


def _command(process: psutil.Process) -> str:
    """Empty for one that is gone or a zombie."""
    try:
        return " ".join(process.cmdline()) + " "
    except psutil.Error:
        return ""


def _difference(values: dict[str, Any], wanted: dict[str, Any]) -> str:
    steps = {record["step"]: record for record in wanted["curve"]}
    for record in values["curve"]:
        other = steps.pop(record["step"], {})
        differences = [
            f"{name} {record.get(name)} instead of {other.get(name)}"
            for name in sorted({*record, *other})
            if record.get(name) != other.get(name)
        ]
        if differences:
            return f"step {record['step']} differs: {', '.join(differences)}"
    return f"steps {sorted(steps)[:5]} are missing" if steps else "the weights differ"


def table(kills: list[Kill]) -> str:
    """Tried, survived and lost, by victim."""
    lines = [f"{'victim':12}{'tried':>6}{'survived':>10}{'lost':>6}{'went on by itself':>19}{'seconds':>9}"]
    for name in [*VICTIMS, "all"]:
        ones = [kill for kill in kills if name in (kill.victim, "all")]
        lost, alone = sum(bool(k.lost) for k in ones), sum(not k.resumed for k in ones)
        seconds = sum(k.seconds for k in ones) / max(len(ones), 1)
        lines.append(f"{name:12}{len(ones):6}{len(ones) - lost:10}{lost:6}{alone:19}{seconds:9.0f}")
    return "\n".join(lines)
