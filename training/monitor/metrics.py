"""The records of a run while it trains, and when it gives up.

    every step      an update whose gradient is not finite is skipped, by all workers; too many in a row end the run
    every record    means over the steps since the last one: losses (by source too), gradient norm, throughput, padding;
                    tokens seen, time left, the slowest worker, spikes of the loss

Numbers stay on the device until a record is due, and travel between workers in one sum. What is counted is in the
checkpoint, so that a resumed run reports what the uninterrupted one would have reported.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from data_prep.errors import UserError
from training.config import TrainConfig, WatchConfig
from training.distributed import Worker
from training.monitor import names
from training.objective import Loss

T = TypeVar("T")
STATE = "watch/"  # of the names that this state has in a checkpoint
MEMORY = 64  # losses that a spike stands out from: a new level is learned after half of them
WARM_UP = 20  # losses before one can be a spike
NORMAL = 1.4826  # standard deviations of a normal distribution per median absolute deviation
FLOOR = 1e-3  # of the loss: least standard deviation, for losses that hardly vary
SLOW = 0.25  # of a step: how far the slowest worker may lag before it is reported


class Workload(NamedTuple):
    """This worker's part of a step: tokens and padded positions of its rows, and floating-point operations."""

    tokens: int = 0
    positions: int = 0
    flops: float = 0.0

    def plus(self, other: Workload) -> Workload:
        return Workload(self.tokens + other.tokens, self.positions + other.positions, self.flops + other.flops)


@dataclass
class History:
    """Counts over the whole run; the same on every worker."""

    tokens: float = 0.0  # seen by all workers up to the last record
    skipped: float = 0.0  # updates
    in_a_row: float = 0.0
    since: float = 0.0  # the step of the first of them
    spikes: float = 0.0


class Monitor:
    """Measures one run on one worker. All workers make the same calls in the same order."""

    def __init__(
        self,
        settings: WatchConfig,
        config: TrainConfig,
        worker: Worker,
        precision: str = "fp32",
        sources: Sequence[str] = (),
        unit: str = "tokens",
        phase_at: Callable[[int], str] = lambda step: "",
    ) -> None:
        self.phase_at = phase_at
        self.settings, self.config, self.worker, self.unit = settings, config, worker, unit
        self.precision, self.sources = precision, list(sources)
        self.history = History()
        self.before: deque[float] = deque(maxlen=MEMORY)  # finite losses of the newest steps
        self.tally, self.step = _Tally(), _Tally()
        self.norm = 0.0
        self.warnings: list[str] = []
        self.reported_slow: int | None = None
        self.busy = _Stopwatch()
        self._begin()

    # -- every step ---------------------------------------------------------------------------------------------------

    def start(self, step: int, peak: float) -> None:
        """Training begins at `step` on workers that compute `peak` operations a second together (0: not known)."""
        self.peak, self.started_at, self.started = peak, step, time.perf_counter()
        self._begin()

    def add(self, paid: Tensor, loss: Loss, source: Tensor | None) -> None:
        """A micro-batch: what was differentiated, the sums behind it and, in a mixture, each row's source [B]."""
        self.step.add("paid", paid)
        for name, value in loss.sums.items():
            self.step.add(f"sum {name}", value)
        for name, (value, weight) in loss.metrics.items():
            self.step.add(f"sum {name}", value)
            self.step.counts[f"weight {name}"] += weight
        if source is not None:
            for name, by_row in loss.by_row.items():  # sums and weights, [2, B]
                into = torch.zeros(2, len(self.sources), dtype=torch.float64, device=source.device)
                self.step.add(f"sources {name}", into.index_add_(1, source, by_row.detach().double()).flatten())

    def turned(self, weights: Mapping[str, float], norm: float) -> bool:
        """A player's turn is over; `weights` are this worker's. Returns whether the update was made (finite `norm`)."""
        for name, weight in weights.items():
            self.step.counts[f"weight {name}"] += weight
            self.step.counts[f"term {name}"] = 1.0
        self.norm = norm
        return math.isfinite(norm)

    def stepped(self, done: int, updated: bool, work: Workload) -> None:
        """Step number `done` is over. UserError if too many in a row were skipped."""
        paid = self.step.sums.pop("paid")
        self.tally.losses.append(paid if updated else paid * math.nan)
        if updated:
            self.tally.merge(self.step)
            self.history.in_a_row = 0
        self.step = _Tally()
        self.tally.counts["tokens"] += work.tokens
        self.tally.counts["positions"] += work.positions
        self.worked = self.worked.plus(work)
        self.steps += 1
        if not updated:
            self._skipped(done)

    def _skipped(self, step: int) -> None:
        history, config = self.history, self.config
        if not history.in_a_row:
            history.since = step
        history.skipped += 1
        history.in_a_row += 1
        self.warnings.append(f"the gradient of step {step:,} is not finite: its update is skipped")
        if history.in_a_row >= self.settings.max_skips:
            first = (int(history.since) - 1) * config.global_batch
            clip = "set train.clip to 1" if config.clip == 0 else f"lower train.clip ({config.clip:g})"
            precision = "" if self.precision == "fp32" else ", set train.precision to fp32"
            raise UserError(
                f"training: the last {int(history.in_a_row)} updates, since step {int(history.since):,}, were skipped "
                f"because their gradients were not finite; lower train.lr ({config.lr:g}), {clip}{precision} or look "
                f"at the data (samples {first:,} to {step * config.global_batch - 1:,})."
            )

    @contextmanager
    def aside(self) -> Iterator[None]:
        """For work other than training: its time is excluded from speeds, but not from the time left."""
        self.busy.stop()
        began = time.perf_counter()
        yield
        self.began += time.perf_counter() - began
        self.busy.start()

    # -- every record -------------------------------------------------------------------------------------------------

    def record(self, done: int) -> tuple[dict[str, float], list[str]]:
        """Means since the last record, over all workers, and warnings; starts the next record."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        own_seconds = [0.0] * self.worker.world
        own_seconds[self.worker.rank] = self.busy.seconds / max(self.steps, 1)
        sizes, local = self.tally.flat()
        totals = self.worker.sum([*local, float(self.worked.tokens), self.worked.flops, *own_seconds])
        totals_by_name = _unflatten(sizes, totals)
        tokens, flops, *own_seconds = totals[len(local) :]
        self.history.tokens += totals_by_name["tokens"][0]
        values = {
            **self._means(totals_by_name),
            names.GRADIENT_NORM: self.norm,
            f"{names.SPEED}{self.unit}{names.PER_SECOND}": tokens / seconds,
            f"{names.PROGRESS}{self.unit}_seen": self.history.tokens,
            names.PADDING: 1.0 - totals_by_name["tokens"][0] / max(totals_by_name["positions"][0], 1.0),
            names.SECONDS_LEFT: self._seconds_left(done),
        }
        if flops and self.peak:
            values[names.MFU] = flops / seconds / self.peak
        self._look_for_spikes(totals_by_name["losses"], done)
        if self.worker.world > 1:
            values |= self._slowest(own_seconds, seconds / max(self.steps, 1))
        values |= {
            name: count
            for name, count in ((names.SKIPPED, self.history.skipped), (names.SPIKES, self.history.spikes))
            if count
        }
        warnings, self.warnings = self.warnings, []
        self.tally = _Tally()
        self._begin()
        return values, warnings

    def _means(self, totals: dict[str, list[float]]) -> dict[str, float]:
        """The mean of every term and metric, the total loss, and the same by source; empty if no update was made."""
        terms = sorted(name.removeprefix("term ") for name in totals if name.startswith("term "))
        if not terms:
            return {}
        summed = [name.removeprefix("sum ") for name in totals if name.startswith("sum ")]
        means = {name: totals[f"sum {name}"][0] / (totals[f"weight {name}"][0] or 1.0) for name in summed}
        by_source: dict[str, float] = defaultdict(float)
        for name in terms:
            sums_and_weights = totals.get(f"sources {name}", [])
            half = len(sums_and_weights) // 2
            sums, weights = sums_and_weights[:half], sums_and_weights[half:]
            for source, total, weight in zip(self.sources, sums, weights, strict=bool(sums_and_weights)):
                if weight:
                    by_source[f"loss/{source}"] += total / weight
        all_means = {"loss": sum(means[name] for name in terms), **means, **by_source}
        return {f"{names.TRAIN}{name}": value for name, value in all_means.items()}

    def _seconds_left(self, done: int) -> float:
        """Seconds to the last step, at the mean speed since this run was started, everything it does included."""
        return (time.perf_counter() - self.started) / max(done - self.started_at, 1) * (self.config.steps - done)

    def _look_for_spikes(self, losses: list[float], done: int) -> None:
        """Losses of the steps up to `done`, each against the median of those before it and how far these scatter.

        A phase has a loss of its own, so nothing from before it counts.
        """
        worst, warning = 0.0, ""
        for step, loss in enumerate(losses, done - len(losses) + 1):
            if step > 1 and self.phase_at(step - 1) != self.phase_at(step - 2):  # steps are counted from 1 here
                self.before.clear()
            if not math.isfinite(loss):
                continue
            if len(self.before) >= WARM_UP:
                usual = _median(self.before)
                scatter = NORMAL * _median([abs(other - usual) for other in self.before]) + FLOOR * abs(usual)
                excess = (loss - usual) / scatter if scatter else 0.0
                if excess > self.settings.spike:
                    self.history.spikes += 1
                    if excess > worst:
                        worst, warning = excess, f"the loss of step {step:,} is {loss:.3f}, after {usual:.3f}"
            self.before.append(loss)
        if warning:
            self.warnings.append(warning)

    def _slowest(self, own_seconds: list[float], seconds: float) -> dict[str, float]:
        """The worker that computes longest between waits for others, and by how many seconds a step."""
        rank = max(range(len(own_seconds)), key=own_seconds.__getitem__)
        lag = own_seconds[rank] - (sum(own_seconds) - own_seconds[rank]) / (len(own_seconds) - 1)
        is_slow = lag > SLOW * seconds
        if is_slow and rank != self.reported_slow:
            self.warnings.append(f"worker {rank} is {lag:.2f} s a step slower than the others ({lag / seconds:.0%})")
        self.reported_slow = rank if is_slow else None
        return {names.SLOWEST_RANK: float(rank), names.SLOWEST_SECONDS: lag}

    def _begin(self) -> None:
        self.began, self.steps, self.worked = time.perf_counter(), 0, Workload()
        self.busy.seconds = 0.0
        self.busy.start()

    # -- in a checkpoint ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """The history of the run, and every worker's share of the next record."""
        names, local = self.tally.flat()
        shares = [torch.tensor(share, dtype=torch.float64) for share in self.worker.gather(local)]
        stacked = _unflatten(names, torch.stack(shares).T.tolist())  # of each name, of each number, of each worker
        state = {f"{STATE}tally/{name}": torch.tensor(values, dtype=torch.float64) for name, values in stacked.items()}
        numbers = {"history": astuple(self.history), "before": list(self.before)}
        return {**{f"{STATE}{n}": torch.tensor(v, dtype=torch.float64) for n, v in numbers.items()}, **state}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore it; on another number of workers, the first one takes all shares."""
        self.history = History(*state[f"{STATE}history"].tolist())
        self.before.extend(state[f"{STATE}before"].tolist())
        self.tally = _Tally()
        for name, values in state.items():
            if name.startswith(f"{STATE}tally/"):
                if values.shape[1] == self.worker.world:
                    mine = values[:, self.worker.rank]
                else:
                    mine = values.sum(1) * self.worker.leads
                self.tally.put(name.removeprefix(f"{STATE}tally/"), mine, self.worker.device)


class _Tally:
    """Numbers that add up over steps and workers: those of the networks on the device, the others on the CPU."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, float] = defaultdict(float)
        self.losses: list[Tensor] = []  # one a step; not finite where the update was skipped

    def add(self, name: str, value: Tensor) -> None:
        value = value.detach().double()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def merge(self, other: _Tally) -> None:
        for name, value in other.sums.items():
            self.add(name, value)
        for name, count in other.counts.items():
            self.counts[name] += count

    def flat(self) -> tuple[list[tuple[str, int]], list[float]]:
        """Names, each with how many numbers it has, and all the numbers; copied from the device at once."""
        losses = {"losses": torch.stack(self.losses).double()} if self.losses else {}
        on_device = {name: value.reshape(-1) for name, value in sorted({**self.sums, **losses}.items())}
        counts = {"tokens": 0.0, "positions": 0.0, **self.counts}
        names = [*((name, len(value)) for name, value in on_device.items()), *((name, 1) for name in sorted(counts))]
        numbers = torch.cat(list(on_device.values())).tolist() if on_device else []
        return names, numbers + [counts[name] for name in sorted(counts)]

    def put(self, name: str, values: Tensor, device: torch.device) -> None:
        """Restore what `flat` gave under a name."""
        if name == "losses":
            self.losses = list(values.to(device))
        elif name.startswith(("sum ", "sources ")):
            self.sums[name] = values.to(device) if name.startswith("sources ") else values.to(device).squeeze(0)
        else:
            self.counts[name] = float(values)


def _unflatten(names: list[tuple[str, int]], numbers: Sequence[T]) -> dict[str, list[T]]:
    by_name: dict[str, list[T]] = {}
    start = 0
    for name, size in names:
        by_name[name] = list(numbers[start : start + size])
        start += size
    return by_name


def _median(values: Iterable[float]) -> float:
    ranked = sorted(values)
    return ranked[len(ranked) // 2]


class _Stopwatch:
    """Adds up the time between `start` and `stop`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.since: float | None = None

    def start(self) -> None:
        self.since = time.perf_counter()

    def stop(self) -> None:
        if self.since is not None:
            self.seconds += time.perf_counter() - self.since
            self.since = None
