"""What faults are injected into: each stage on its own, resumed training, remote stores, records, tracking, deletion.

A scenario works in a folder that it alone has. After a failure `visible` says what must not be there, and after a rerun
without a fault `outcome` is compared with that of a run that nothing disturbed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from pyarrow import fs

from data_prep.corpus import unit_cache
from pipeline import dag, runs
from pipeline.artifact import Artifact
from pipeline.store.live import LOCK_SUFFIX, WORK
from pipeline.store.store import MANIFEST, Store
from pipeline.tracking import sender
from pipeline.tracking.mlflow_server import RefusedError, Server
from pipeline.tracking.spool import Spool, spools
from pipeline.tracking.tracking import Tracker
from tests.faults import remote
from tests.faults.base import Base, curve
from tests.faults.operations import Operations
from training.distributed import Worker
from training.engines import checkpoint as checkpoints


class Scenario:
    """See the module. `run` is done in a forked process; the rest is not, and must not train."""

    name: str

    def __init__(self, base: Base) -> None:
        self.base = base

    def prepare(self, root: Path) -> None:
        """What is there before the first run."""
        root.mkdir(parents=True)

    def run(self, root: Path, operations: Operations) -> None:
        """Do the work, or go on with it."""
        raise NotImplementedError

    def visible(self, root: Path) -> list[str]:
        """What is there and should not be, whatever happened; one line each."""
        raise NotImplementedError

    def outcome(self, root: Path) -> Any:
        """What a finished run made, as plain values that must be equal in every run."""
        raise NotImplementedError


class Made(Scenario):
    """One stage, made into a local store by the same code as in a flow."""

    def __init__(self, base: Base, node: str) -> None:
        super().__init__(base)
        self.name = {"verbs": "job"}.get(node, node)
        self.node = base.nodes[node]
        self.key = self.node.stage.key(self.node.config, dag.inputs_of(self.node, base.made))

    def store(self, root: Path, operations: Operations | None = None) -> Store:
        return Store(root / "store")

    def run(self, root: Path, operations: Operations) -> None:
        execution = self.base.execution(root / "home", self.store(root, operations), root / "downloads")
        execution.carry_out(self.node, operations.progress)
        execution.finish("FINISHED")
        execution.tracker.close(0)

    def visible(self, root: Path) -> list[str]:
        store = self.store(root)
        problems = [problem for artifact in store.list() for problem in store.verify(artifact)]
        problems += [f"{artifact!r} is another one" for artifact in store.list() if not self.is_right(artifact)]
        cache = root / "downloads" / unit_cache.FOLDER
        names = [path.name for path in cache.iterdir() if not path.name.startswith(".")] if cache.is_dir() else []
        problems += [f"unit {name} is not whole" for name in names if unit_cache.find(cache, name) is None]
        return problems + [
            f"{checkpoint.folder} is not whole"
            for checkpoint in checkpoints.committed(store.work(self.key) / "checkpoints")
            if checkpoints.damaged(checkpoint, Worker())
        ]

    def is_right(self, artifact: Artifact) -> bool:
        wanted = self.base.made[self.node.name]
        same = artifact.output_digest == wanted.output_digest and curve(artifact) == curve(wanted)
        return artifact.key == self.key and same

    def outcome(self, root: Path) -> Any:
        store = self.store(root)
        artifact = store.get(self.key)
        assert artifact is not None, "a run that succeeded left no artifact"
        store.gc(older_than=-1)
        kept = sorted(store._files.names(self.key))
        assert kept == sorted([MANIFEST, artifact.manifest["attempt"]]), f"gc leaves {kept}"
        locks = [path.name for path in (store.home / WORK).glob(f"*{LOCK_SUFFIX}")]
        assert not locks, f"gc leaves {locks}"
        assert not (again := store.verify(artifact)), again
        return {"digest": artifact.output_digest, "curve": curve(artifact), "unread": _unreadable(root / "home")}


class Resumed(Made):
    """Pretraining that was ended after its second checkpoint, and goes on."""

    def __init__(self, base: Base) -> None:
        super().__init__(base, "pretrain")
        self.name = "pretrain resumed"
        self.ended: Path | None = None
        """Folder to begin with: what a run that was ended left."""

    def prepare(self, root: Path) -> None:
        if self.ended is None:
            super().prepare(root)
        else:
            shutil.copytree(self.ended, root)


class Remote(Made):
    """One stage, made into a store on another file system, and then read on another machine."""

    def __init__(self, base: Base, node: str, kind: str) -> None:
        super().__init__(base, node)
        self.kind = kind
        self.name = f"{node} on {kind}"

    def store(self, root: Path, operations: Operations | None = None) -> Store:
        (root / "remote").mkdir(exist_ok=True)
        system: fs.FileSystem = fs.SubTreeFileSystem(str(root / "remote"), fs.LocalFileSystem())
        if operations is not None:
            system = remote.traced(operations, system, self.kind)
        return Store(system, cache=root / "cache")

    def prepare(self, root: Path) -> None:
        (root / "remote").mkdir(parents=True)

    def run(self, root: Path, operations: Operations) -> None:
        super().run(root, operations)
        system = fs.SubTreeFileSystem(str(root / "remote"), fs.LocalFileSystem())
        artifact = Store(remote.traced(operations, system, self.kind), cache=root / "elsewhere").get(self.key)
        assert artifact is not None
        for name in artifact.manifest["files"]:
            (artifact.path / name).read_bytes()

    def visible(self, root: Path) -> list[str]:
        problems = super().visible(root)
        store = Store(fs.SubTreeFileSystem(str(root / "remote"), fs.LocalFileSystem()), cache=root / "elsewhere")
        for artifact in store.list():
            copied = store.home / ".copies" / artifact.key / artifact.manifest["attempt"]
            if copied.is_dir():
                problems += [
                    f"the copy's {name} is not what was committed"
                    for name, entry in artifact.manifest["files"].items()
                    if not (copied / name).is_file() or (copied / name).stat().st_size != entry["size"]
                ]
        return problems


class Deleted(Made):
    """An artifact that is deleted, with its work, and made again."""

    def __init__(self, base: Base) -> None:
        super().__init__(base, "tokenizer")
        self.name = "delete, make again"

    def run(self, root: Path, operations: Operations) -> None:
        super().run(root, operations)
        self.store(root).delete(self.key)
        super().run(root, operations)


class Recorded(Scenario):
    """The records of flow runs."""

    name = "run records"

    def run(self, root: Path, operations: Operations) -> None:
        with runs.begin(root, self.base.recipe) as run:
            for name, artifact in self.base.made.items():
                run.note(name, artifact, reused=False, seconds=1.0)
                runs.save(root, run)
            run.status = runs.DONE
            runs.save(root, run)

    def visible(self, root: Path) -> list[str]:
        wanted = self.base.recipe.science()
        others = [run.run_id for run in runs.all_runs(root) if runs.recipe_of(root, run).science() != wanted]
        return [f"the recipe of {name} is another one" for name in others]

    def outcome(self, root: Path) -> Any:
        last = runs.find(root, "last")
        assert runs.recipe_of(root, last).science() == self.base.recipe.science()
        return {"status": last.status, "stages": {name: stage.artifact for name, stage in last.stages.items()}}


class Ledger(Server):
    """A tracking server that takes everything and writes down what; what is sent twice counts once."""

    def answers(self) -> bool:
        return True

    def send(self, operations: list[dict[str, Any]], runs: dict[str, str]) -> str | None:
        if operations[0]["op"] == "run":
            runs[operations[0]["id"]] = f"the server's {operations[0]['id']}"
        elif operations[0]["id"] not in runs:
            raise RefusedError(f"the run {operations[0]['id']} was never begun")
        with _beside(self.home.parent, "server").open("a") as file:
            file.writelines(f"\n{json.dumps(operation)}\n" for operation in operations)  # after a torn line, if any
        return None


class Tracked(Scenario):
    """Operations for the tracking server, spooled and then sent."""

    name = "tracking spool"
    STEPS = 12

    def home(self, root: Path) -> Path:
        return root / "home"

    def run(self, root: Path, operations: Operations) -> None:
        number = len(self._acknowledged(root))
        with (
            mock.patch("pipeline.tracking.tracking.Server", Ledger),
            mock.patch("pipeline.tracking.sender.Server", Ledger),
        ):
            tracker = Tracker(self.home(root), None, "tiny", f"run-{number}")
            with tracker.run("flow", params={"lr": 1e-3}) as run:
                for step in range(self.STEPS):
                    run.metrics({"loss": 1 / (step + 1)}, step=step, time=1.0)
            kept = tracker._spool.lost == 0
            tracker.close(0)
            if kept:
                self._acknowledge(root, f"run-{number}")
            sender.send_pending(self.home(root))

    def visible(self, root: Path) -> list[str]:
        sent = self._sent(root)
        begun: set[str] = set()
        for operation in sent:
            if operation["op"] == "run":
                begun.add(operation["id"])
            elif operation["id"] not in begun:
                return [f"{operation} was sent before its run began"]
        return []

    def outcome(self, root: Path) -> Any:
        lacking = set(self._acknowledged(root)) - self.complete_runs(root)
        assert not lacking, f"of {lacking} not all was sent"
        begun = {operation["id"] for operation in self._sent(root) if operation["op"] == "run"}
        ended = {operation["id"] for operation in self._sent(root) if operation["op"] == "end"}
        assert begun == ended, f"{begun - ended} run for ever"
        return {"unsent": sum(spool.unsent() for spool in spools(self.home(root)))}

    def complete_runs(self, root: Path) -> set[str]:
        """The runs whose every step the server was told."""
        metrics = [operation for operation in self._sent(root) if {"id", "step", "values"} <= operation.keys()]
        steps = {(operation["id"], operation["step"]): operation["values"] for operation in metrics}
        wanted = [{"loss": 1 / (step + 1)} for step in range(self.STEPS)]
        return {name for name, _ in steps if [steps.get((name, step)) for step in range(self.STEPS)] == wanted}

    @staticmethod
    def _acknowledge(root: Path, name: str) -> None:
        with _beside(root, "acknowledged").open("a") as file:
            file.write(f"{name}\n")

    @staticmethod
    def _acknowledged(root: Path) -> list[str]:
        path = _beside(root, "acknowledged")
        return path.read_text().split() if path.exists() else []

    @staticmethod
    def _sent(root: Path) -> list[dict[str, Any]]:
        path, operations = _beside(root, "server"), []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):  # torn: it was not answered
                operations += [json.loads(line)] if line else []
        return operations


def _beside(root: Path, what: str) -> Path:
    """A file that no fault reaches."""
    return root.with_name(f"{root.name}.{what}")


def _unreadable(home: Path) -> int:
    """Lines of tracking spools that are torn at their end and not repaired by what follows."""
    count = 0
    for spool in spools(home):
        operations = Spool(home, spool.name).read(0)
        count += not any(operation and operation["op"] == "end" for operation, _ in operations)
    return count


def all_scenarios(base: Base) -> list[Scenario]:
    """All of them."""
    return [
        Made(base, "ingest"),
        Made(base, "tokenizer"),
        Made(base, "shards"),
        Made(base, "pretrain"),
        Resumed(base),
        Made(base, "verbs"),
        Made(base, "report"),
        Remote(base, "ingest", "hdfs"),
        Remote(base, "shards", "s3"),
        Deleted(base),
        Recorded(base),
        Tracked(base),
    ]
