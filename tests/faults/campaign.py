"""Chooses faults, lets them happen one after another, and says what came of each.

A round begins with an empty folder. One to three runs in it meet a fault each; after each of them nothing half-made may
be visible. Then a run without a fault must succeed and make, byte for byte, what a run makes that nothing disturbed.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults import damage
from tests.faults.base import Base, quick
from tests.faults.forks import Ended, forked
from tests.faults.operations import Fault, Operation, Operations
from tests.faults.report import AT_ANY_TIME, BETWEEN, Report, Traced, Tried
from tests.faults.scenarios import Resumed, Scenario, all_scenarios

ENDS = (("killed at a random time", 2), ("file too large", 2), ("killed, file too large", 1))
"""Kinds of that, and how often they are drawn. The kernel cuts a write short at a limit of file sizes, whoever writes:
it is how native code meets a full disk."""


@dataclass(frozen=True)
class Injection:
    """A fault at a traced operation, or one of ENDS with its seconds or bytes."""

    fault: Fault | None = None
    end: str = ""
    amount: float = 0.0

    @property
    def kind(self) -> str:
        return self.fault.kind if self.fault else self.end


class Campaign:
    """Faults for all scenarios below `folder`, on memory if it lies there."""

    def __init__(self, folder: Path, seed: int = 0, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.random, self.say = folder, random.Random(seed), say
        self.log = folder / "log"
        self.report = Report()
        self.rounds = 0
        self._chosen: Counter[str] = Counter()
        (folder / "base").mkdir(parents=True)
        self.base = Base(folder / "base")

    def run(self, injections: int, harms: int, most: int = 3, only: Sequence[str] = ()) -> Report:
        """About so many injections, at most `most` in a round; and harms between two runs.

        Every class of every scenario at least once, if there are enough of them; else those that come seldom first.
        """
        gc.collect()
        gc.freeze()  # or every forked process touches, and so copies, every object
        with quick():
            ended = forked(lambda tell: self.base.make(), self.log)
            assert ended.succeeded, ended
            self.base.find()
            scenarios = [scenario for scenario in all_scenarios(self.base) if not only or scenario.name in only]
            for scenario in scenarios:
                self._trace(scenario)
            began = time.monotonic()
            plans = {scenario.name: self._plan(self.report.traced[scenario.name]) for scenario in scenarios}
            each = injections // len(scenarios)
            needed = {name: self._coverage(plan, self.report.traced[name], each) for name, plan in plans.items()}
            share = max(0, injections - sum(map(len, needed.values()))) // len(scenarios)
            for scenario in scenarios:
                more = self._drawn(plans[scenario.name], share)
                self._carry_out(scenario, needed[scenario.name], more, most)
            kinds = (
                damage.all_damage(self.base, next(scenario for scenario in scenarios if isinstance(scenario, Resumed)))
                if harms
                else []
            )
            for number, harmed in enumerate(kinds):
                self._harm(harmed, range(number, number + harms // len(kinds)))
        self.report.seconds = time.monotonic() - began
        return self.report

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _trace(self, scenario: Scenario) -> None:
        """Run and note the operations. What is made must be what is made without tracing them: see `visible`."""
        if isinstance(scenario, Resumed):
            self._end_early(scenario)
        root = self._root(scenario)
        ended = self._forked(scenario, root, _tell_seen, Operations(root))
        assert ended.succeeded, f"{scenario.name}: {ended}"
        outcome = scenario.outcome(root)
        assert not (visible := scenario.visible(root)), visible
        self._remove(root)
        seen = [Operation(*values) for values in ended.reported["seen"]]
        self.report.traced[scenario.name] = Traced(seen, outcome, ended.seconds)
        classes = Counter(operation.kind for operation in seen)
        self.say(f"{scenario.name}: {len(seen)} operations in {ended.seconds:.2f} s: {dict(classes)}")

    def _end_early(self, scenario: Resumed) -> None:
        """Leave what a run leaves that is killed soon after its second checkpoint."""
        root = self._root(scenario)
        ended = self._forked(
            scenario, root, lambda tell, operations: tell(seen=[tuple(o) for o in operations.seen]), Operations(root)
        )
        marks = [
            n
            for n, operations in enumerate(ended.reported["seen"])
            if operations[0] == "replace" and "checkpoint.json" in operations[2]
        ]
        shutil.rmtree(root)
        root = self._root(scenario)
        fault = Fault(marks[1] + 3)
        ended = self._forked(scenario, root, lambda tell, operations: None, Operations(root, fault))
        assert ended.signal == signal.SIGKILL
        scenario.ended = root

    def _plan(self, traced: Traced) -> list[Injection]:
        """Every fault there could be at the traced operations."""
        plan = []
        for at, operation in enumerate(traced.operations, 1):
            halves = ("part",) if operation.has_parts else ()
            plan += [Fault(at, None, when) for when in ("before", "after", *halves)]
            plan += [Fault(at, error) for error in (errno.EIO, errno.ENOSPC, errno.EACCES)]
            plan += [Fault(at, errno.EIO, "after")]
            plan += [Fault(at, errno.ENOSPC, half) for half in halves]
            plan += [Fault(at, errno.ENOSPC, lasting="full"), Fault(at, errno.EIO, lasting="gone")]
        return [Injection(fault) for fault in plan]

    def _coverage(self, plan: list[Injection], traced: Traced, most: int) -> list[Injection]:
        """One fault for each class of the operations, the classes that were chosen least often first."""
        by_class: dict[str, list[Injection]] = defaultdict(list)
        for injection in plan:
            assert injection.fault
            by_class[traced.operations[injection.fault.at - 1].kind].append(injection)
        names = sorted(by_class, key=lambda name: self._chosen[name])[:most]
        self._chosen.update(names)
        return [self.random.choice(by_class[name]) for name in names]

    def _drawn(self, plan: list[Injection], count: int) -> list[Injection]:
        """As many of each kind, and some at any time."""
        if not count:
            return []
        by_kind: dict[str, list[Injection]] = defaultdict(list)
        for injection in plan:
            by_kind[injection.kind].append(injection)
        kinds = [*by_kind, *(name for name, often in ENDS for _ in range(often))]
        chosen = []
        for number in range(count):
            kind = kinds[number % len(kinds)]
            if kind in by_kind:
                chosen.append(self.random.choice(by_kind[kind]))
            else:
                amount = self.random.random() if "time" in kind else 2.0 ** self.random.uniform(4, 16)
                chosen.append(Injection(None, kind, amount))
        self.random.shuffle(chosen)
        return chosen

    # -- carrying out -------------------------------------------------------------------------------------------------

    def _carry_out(self, scenario: Scenario, needed: list[Injection], more: list[Injection], most: int) -> None:
        """The first fault of a round is certain to strike, so those that are needed are alone in one."""
        began, before = time.monotonic(), len(self.report.tried)
        for injection in needed:
            self._round(scenario, [injection])
        while more:
            count = self.random.randint(1, most)
            self._round(scenario, more[:count])
            more = more[count:]
        tried, seconds = len(self.report.tried) - before, time.monotonic() - began
        self.say(f"{scenario.name}: {tried} faults in {seconds:.0f} s, {seconds / max(tried, 1):.2f} s each")

    def _round(self, scenario: Scenario, injections: Sequence[Injection]) -> None:
        root = self._root(scenario)
        self.log.write_bytes(b"")
        lost = ""
        struck: list[Tried] = []
        for injection in injections:
            trial, failed = self._inject(scenario, root, injection)
            struck += [trial] if trial else []
            self.report.missed += not trial
            lost = lost or failed or self._problem(scenario, root)
        if not lost:
            ended = self._forked(scenario, root, lambda tell, operations: None)
            lost = "" if ended.succeeded else f"a rerun fails: {ended.error or f'signal {ended.signal}'}"
        lost = lost or self._problem(scenario, root) or self._difference(scenario, root)
        if lost:
            kinds = ", then ".join(
                f"{trial.kind} at {trial.operation.site} ({trial.operation.name})" for trial in struck
            )
            self.say(f"LOST in {scenario.name}: {kinds}: {lost}\n{self._said()}\n(left at {root})")
        else:
            self._remove(root)
        for trial in struck:
            trial.lost = lost
        self.report.tried += struck

    def _inject(self, scenario: Scenario, root: Path, injection: Injection) -> tuple[Tried | None, str]:
        """Run with a fault. What struck, if it did; and what is wrong with how the run ended."""
        traced = self.report.traced[scenario.name]
        fault, kind = injection.fault, injection.kind
        if fault:
            ended = self._forked(scenario, root, lambda tell, operations: None, Operations(root, fault))
            if "struck" not in ended.reported:
                return None, "" if ended.succeeded else f"a run that met no fault fails: {ended}"
            operation = Operation(*ended.reported["struck"])
            if fault.when == "part" and not operation.has_parts:
                kind = replace(fault, when="before").kind
        else:
            operation = Operation(AT_ANY_TIME, "(anywhere)", "")
            if "time" in kind:
                after = injection.amount * traced.seconds
                ended = self._forked(scenario, root, lambda tell, operations: None, kill_after=after)
            else:
                limit = int(injection.amount), "killed" in kind
                ended = self._forked(scenario, root, lambda tell, operations: None, limit=limit)
            if ended.succeeded:
                return None, ""
        wrong = f"it hangs: {ended}" if ended.signal == signal.SIGALRM else ""
        return Tried(scenario.name, kind, operation), wrong

    def _forked(
        self,
        scenario: Scenario,
        root: Path,
        then: Callable[[Callable[..., None], Operations], None],
        operations: Operations | None = None,
        kill_after: float | None = None,
        limit: tuple[int, bool] | None = None,
    ) -> Ended:
        def work(tell: Callable[..., None]) -> None:
            if limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL if limit[1] else signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit[0], resource.RLIM_INFINITY))
            if operations is None:
                scenario.run(root, Operations(root))
                return
            operations._struck = lambda operation: tell(struck=tuple(operation))
            with operations.installed():
                scenario.run(root, operations)
            then(tell, operations)

        return forked(work, self.log, kill_after)

    def _harm(self, harmed: damage.Harmed, rounds: range) -> None:
        """Harm one file of what a run left, and run again; by round, in all ways in turn."""
        began = time.monotonic()
        left = self._root(harmed.scenario)
        ended = forked(lambda tell: harmed.leave(left, Operations(left)), self.log)
        assert ended.succeeded, ended
        wanted = self.report.traced[harmed.scenario.name].outcome
        for number in rounds:
            root = self._next_root()
            for path in left.parent.glob(f"{left.name}*"):
                copy = path.with_name(path.name.replace(left.name, root.name))
                shutil.copytree(path, copy) if path.is_dir() else shutil.copyfile(path, copy)
            files = [p for p in sorted(harmed.among(root).rglob("*")) if p.is_file() and p.stat().st_size]
            file, harm = self.random.choice(files), list(damage.HARMS)[number % len(damage.HARMS)]
            damage.HARMS[harm](file, self.random)
            lost = self._after_harm(harmed, root, file, harm, wanted)
            self.report.tried.append(Tried(harmed.name, harm, Operation(BETWEEN, str(file.parent), file.name), lost))
            if lost:
                self.say(f"LOST: {harmed.name}, {file} {harm}: {lost}\n{self._said()}")
            else:
                self._remove(root)
        self.say(f"{harmed.name}: {len(rounds)} in {time.monotonic() - began:.0f} s")

    def _after_harm(self, harmed: damage.Harmed, root: Path, file: Path, harm: str, wanted: Any) -> str:
        self.log.write_bytes(b"")
        try:
            harmed.before(root, file, harm)
            ended = forked(lambda tell: harmed.scenario.run(root, Operations(root)), self.log)
            if not ended.succeeded:
                return f"a rerun fails: {ended.error or f'signal {ended.signal}'}"
            return harmed.difference(root, file, wanted, self._said())
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _problem(self, scenario: Scenario, root: Path) -> str:
        try:
            problems = scenario.visible(root)
        except Exception as error:
            return f"what is there cannot be read: {type(error).__name__}: {error}"
        return f"half-made and visible: {'; '.join(problems)}" if problems else ""

    def _difference(self, scenario: Scenario, root: Path) -> str:
        try:
            outcome = scenario.outcome(root)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        wanted = self.report.traced[scenario.name].outcome
        differences = [
            f"{name} is {outcome[name]}, not {wanted[name]}" for name in wanted if outcome[name] != wanted[name]
        ]
        return f"something else is made: {'; '.join(differences)}" if differences else ""

    def _said(self) -> str:
        """The end of what forked processes printed."""
        return self.log.read_text(errors="replace")[-3000:]

    def _root(self, scenario: Scenario) -> Path:
        root = self._next_root()
        scenario.prepare(root)
        return root

    def _next_root(self) -> Path:
        self.rounds += 1
        root = self.folder / "rounds" / f"{self.rounds:05d}"
        root.parent.mkdir(exist_ok=True)
        return root

    @staticmethod
    def _remove(root: Path) -> None:
        """With what stands beside it."""
        for path in root.parent.glob(f"{root.name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tell_seen(tell: Callable[..., None], operations: Operations) -> None:
    tell(seen=[tuple(operation) for operation in operations.seen])


def folder_on_memory() -> Path:
    """Where thousands of small files cost least."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp"))
