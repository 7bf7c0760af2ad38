"""Files that are harmed between two runs: by a power cut, a bad disk, a careless hand.

What is only kept to save work (checkpoints, units, digests, how far tracking was sent) must cost work and no more: a
rerun succeeds and makes the same. What was committed is named, and after deleting it a rerun makes the same.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from data_prep.errors import UserError
from pipeline import runs
from pipeline.tracking import sender
from pipeline.tracking.spool import spools
from tests.faults.base import Base
from tests.faults.operations import Operations
from tests.faults.scenarios import Made, Recorded, Resumed, Scenario, Tracked
from training.engines.checkpoint import MARKER
from training.job import METRICS


def truncated(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def emptied(path: Path, draw: random.Random) -> None:
    os.truncate(path, 0)


def zeroed(path: Path, draw: random.Random) -> None:
    """As long as it was, but nothing in it: what a power cut makes of a file that was not synced."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def removed(path: Path, draw: random.Random) -> None:
    path.unlink()


HARMS: dict[str, Callable[[Path, random.Random], None]] = {
    harm.__name__: harm for harm in (truncated, emptied, zeroed, flipped, removed)
}


class Harmed:
    """What a scenario's run leaves behind, and what is expected when one of these files is harmed."""

    name: str

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario

    def leave(self, root: Path, operations: Operations) -> None:
        """In a forked process: the run before the harm."""
        self.scenario.run(root, operations)

    def among(self, root: Path) -> Path:
        """The folder of the files that may be harmed."""
        raise NotImplementedError

    def before(self, root: Path, file: Path, harm: str) -> None:
        """What must be noticed, and what a person then does, before the rerun."""

    def difference(self, root: Path, file: Path, wanted: Any, output: str) -> str:
        """What is wrong after the rerun, which `said` this on its standard error."""
        outcome = self.scenario.outcome(root)
        return "" if outcome == wanted else f"{outcome} instead of {wanted}"


class Checkpoints(Harmed):
    """A checkpoint of a run that was ended is named, and the one before it used. The scenario has two of them."""

    name = "checkpoint harmed"

    def __init__(self, resumed: Resumed) -> None:
        super().__init__(resumed)

    def leave(self, root: Path, operations: Operations) -> None:
        """The scenario begins with what such a run left."""

    def among(self, root: Path) -> Path:
        [work] = (root / "store" / ".work").glob("pretrain-????????????????")
        return work

    def difference(self, root: Path, file: Path, wanted: Any, output: str) -> str:
        if file.name == METRICS:  # what it said of the steps before the checkpoint is gone
            outcome = self.scenario.outcome(root)
            return "" if outcome["digest"] == wanted["digest"] else "other weights"
        marked = file.name == MARKER  # white space in it may change, and without it there is no checkpoint
        folder = next(part for part in file.parts if part.startswith("step-"))
        if folder.startswith("step-00000006") and folder not in output and not marked:
            return f"{folder} was not named: {output[-300:]}"
        return super().difference(root, file, wanted, output)


class Cached(Harmed):
    """Units and digests, when the artifact is made again."""

    def __init__(self, base: Base, node: str) -> None:
        super().__init__(Made(base, node))
        self.name = f"unit of {node} harmed"

    def leave(self, root: Path, operations: Operations) -> None:
        super().leave(root, operations)
        shutil.rmtree(root / "store")

    def among(self, root: Path) -> Path:
        return root / "downloads"


class Committed(Harmed):
    """A committed artifact: it is refused or found by `verify`, by name, and made again once it is deleted."""

    def __init__(self, base: Base, node: str) -> None:
        self.made = Made(base, node)
        super().__init__(self.made)
        self.name = f"{node} harmed"

    def among(self, root: Path) -> Path:
        return root / "store" / self.made.key

    def before(self, root: Path, file: Path, harm: str) -> None:
        store = self.made.store(root)
        try:
            artifact = store.get(self.made.key)
        except UserError as error:
            assert str(file) in str(error), f"the error does not name it: {error}"
        else:
            if artifact is None:
                assert (file.name, harm) == ("manifest.json", "removed"), "the artifact is gone"
                return
            assert any(str(file) in problem for problem in store.verify(artifact)), "nobody notices"
        store.delete(self.made.key)


class Records(Harmed):
    """A run's record or recipe: it is named, the others are listed, and the next run is recorded."""

    name = "run record harmed"

    def __init__(self, base: Base) -> None:
        super().__init__(Recorded(base))

    def among(self, root: Path) -> Path:
        return root

    def before(self, root: Path, file: Path, harm: str) -> None:
        listed = runs.all_runs(root)
        others = {path.stem for path in root.glob("*.json") if path != file} - {run.run_id for run in listed}
        assert not others, f"{others} are not listed any more"
        for run in listed:
            try:
                runs.recipe_of(root, run)
            except UserError as error:
                assert str(file) in str(error), f"the error does not name it: {error}"

    def difference(self, root: Path, file: Path, wanted: Any, output: str) -> str:
        return super().difference(root, file, wanted, output) if file.suffix == ".json" else ""


class Spooled(Harmed):
    """Two spools, of which one was sent, and how far."""

    name = "spool harmed"

    def __init__(self, base: Base) -> None:
        self.tracked = Tracked(base)
        super().__init__(self.tracked)

    def leave(self, root: Path, operations: Operations) -> None:
        super().leave(root, operations)
        with mock.patch.object(sender, "send_pending", lambda home: 0):
            super().leave(root, operations)

    def among(self, root: Path) -> Path:
        return root / "home" / "tracking"

    def difference(self, root: Path, file: Path, wanted: Any, output: str) -> str:
        """What stood in the harmed file may be lost; what comes later, or stood elsewhere, is not."""
        names = {name for name in self.tracked.complete_runs(root) if name != file.stem}
        unsent = sum(spool.unsent() for spool in spools(root / "home"))
        missing = {"run-0", "run-1", "run-2"} - {file.stem} - names
        return f"{missing} not told, {unsent} unsent" if missing or unsent else ""


def all_damage(base: Base, resumed: Resumed) -> list[Harmed]:
    """All of them."""
    return [
        Checkpoints(resumed),
        Cached(base, "ingest"),
        Cached(base, "shards"),
        Committed(base, "shards"),
        Committed(base, "pretrain"),
        Records(base),
        Spooled(base),
    ]
