"""What a run tells of itself, and that a gradient that is not finite changes nothing, on any engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.shards.rows import take
from tests.training import tiny
from tests.training.group import in_group
from training.config import OrderConfig, PlacementConfig, TrainConfig, WatchConfig
from training.data import Corpus, Stream
from training.distributed import Worker
from training.evaluation import collated
from training.loop import Training
from training.monitor.metrics import WARM_UP, Monitor, Workload
from training.monitor.names import padding_of
from training.objective import Batch, Loss, Networks

TIMES = (
    "workers/tokens_per_second",
    "progress/seconds_left",
    "workers/mfu",
    "workers/slowest_rank",
    "workers/slowest_rank_seconds",
)  # differ between runs


def poison(training: Training, steps: Sequence[int], rank: int, value: float = math.nan) -> Training:
    """Make the losses of some steps (counted from 1, of this run) worthless on one worker."""
    objective: Any = training.objective
    losses = objective._loss
    calls = 0

    def loss(networks: Networks, batch: Batch) -> Loss:
        nonlocal calls
        if not training.engines["model"].module.training:
            return losses(networks, batch)
        calls += 1
        loss = losses(networks, batch)
        bad = (calls - 1) // training.split.num_parts + 1 in steps and training.worker.rank == rank
        return Loss({n: v * value for n, v in loss.sums.items()}, loss.metrics) if bad else loss

    objective._loss = loss
    return training


def weights(training: Training) -> dict[str, torch.Tensor]:
    with training.engines["model"].whole():
        return {n: p.detach().clone() for n, p in training.objective.networks()["model"].named_parameters()}


# -- gradients that are not finite ------------------------------------------------------------------------------------


def _poisoned(worker: Worker, engines: Sequence[int | None]) -> dict[Any, Any]:
    """Three steps, of which the second has no finite gradient, on the last worker alone."""
    results: dict[Any, Any] = {}
    for zero in engines:
        for micro_batch in (None, 5):
            records: list[dict[str, Any]] = []
            placement = PlacementConfig(workers=worker.world, zero=zero, micro_batch=micro_batch)  # type: ignore[arg-type]
            run = tiny.training(worker, dropout=0.0, placement=placement, steps=4, log=records.append)
            states: list[dict[str, torch.Tensor]] = []
            stepped = run.monitor.stepped

            def watched(*what: Any, run: Training = run, states: list[Any] = states, stepped: Any = stepped) -> None:
                states.append(weights(run))
                stepped(*what)

            run.monitor.stepped = watched  # type: ignore[method-assign]
            value = math.nan if micro_batch else math.inf
            poison(run, [2], worker.world - 1, value).run()
            results[zero, micro_batch] = {
                "losses": [r.get("train/loss") for r in records if "progress/tokens_seen" in r],
                "skipped": [r.get("progress/skipped_updates", 0) for r in records if "progress/tokens_seen" in r],
                "norms": [r["train/grad_norm"] for r in records if "train/grad_norm" in r],
                "warnings": [r.get("warnings") for r in records if "progress/tokens_seen" in r],
                "moved": [any(not torch.equal(a[n], b[n]) for n in a) for a, b in pairwise(states)],
                "weights": states[-1],
            }
    return results


@pytest.fixture(scope="module")
def poisoned_alone() -> dict[Any, Any]:
    return _poisoned(Worker(), [None])


def test_an_update_without_a_finite_gradient_is_skipped(poisoned_alone: dict[Any, Any]) -> None:
    for result in poisoned_alone.values():
        assert result["moved"] == [False, True, True]
        assert result["skipped"] == [0, 1, 1, 1]
        assert [loss is None for loss in result["losses"]] == [False, True, False, False]  # no mean of nothing
        assert [math.isfinite(norm) for norm in result["norms"]] == [True, False, True, True]
        assert result["warnings"][1] == ["the gradient of step 2 is not finite: its update is skipped"]
        assert result["warnings"][0] is result["warnings"][2] is None


def test_every_engine_skips_it_alike(poisoned_alone: dict[Any, Any]) -> None:
    wanted = poisoned_alone[None, None]
    results = in_group(2, _poisoned, [None, 2, 3])
    for case, result in results[0].items():
        assert result["moved"] == [False, True, True], case
        assert result["skipped"] == [0, 1, 1, 1], case
        for loss, other in zip(result["losses"], wanted["losses"], strict=True):
            assert (loss is None) == (other is None) and (loss is None or loss == pytest.approx(other, abs=5e-6)), case
        finite = [norm for norm in result["norms"] if math.isfinite(norm)]
        assert finite == pytest.approx([n for n in wanted["norms"] if math.isfinite(n)], rel=1e-4), case
        for name, weight in wanted["weights"].items():  # moments too: they show in the steps that follow
            torch.testing.assert_close(result["weights"][name], weight, atol=1e-4, rtol=0)
        if case[0] != 3:
            for name, weight in result["weights"].items():
                assert torch.equal(results[1][case]["weights"][name], weight), (case, name)


def test_too_many_in_a_row_end_the_run_with_a_sentence() -> None:
    placement = PlacementConfig(watch=WatchConfig(max_skips=3))
    ended = poison(tiny.training(placement=placement), [2, 3, 5, 6, 7, 8], 0)
    with pytest.raises(UserError) as error:
        ended.run()
    assert str(error.value) == (
        "training: the last 3 updates, since step 5, were skipped because their gradients were not finite; lower "
        "train.lr (0.003), lower train.clip (1) or look at the data (samples 96 to 167)."
    )
    survivor = poison(tiny.training(placement=placement), [2, 3, 5, 6, 8, 9], 0)
    assert survivor.run()["progress/skipped_updates"] == 6


def _too_many(worker: Worker) -> str:
    placement = PlacementConfig(workers=2, zero=2, watch=WatchConfig(max_skips=2))
    with pytest.raises(UserError) as error:
        poison(tiny.training(worker, placement=placement, precision="bf16"), [3, 4], 1).run()
    return str(error.value)


def test_all_workers_give_up_together() -> None:
    messages = in_group(2, _too_many)
    assert messages[0] == messages[1]
    assert "since step 3" in messages[0] and "set train.precision to fp32" in messages[0]


# -- records ----------------------------------------------------------------------------------------------------------


def test_tokens_padding_and_time_left() -> None:
    records: list[dict[str, Any]] = []
    run = tiny.training(steps=5, log_every=2, log=records.append)
    tokens, positions = [], []
    for step in range(5):
        batch = run.objective.collate(run.stream.read(np.arange(step * 24, step * 24 + 24)))
        tokens.append(int(batch["attention_mask"].sum()))
        positions.append(batch["attention_mask"].numel())
    run.run()
    progress = [record for record in records if "progress/tokens_seen" in record]
    assert [record["step"] for record in progress] == [2, 4, 5]
    assert [record["progress/tokens_seen"] for record in progress] == [sum(tokens[:n]) for n in (2, 4, 5)]
    assert [record["workers/padding"] for record in progress] == pytest.approx(
        [1 - sum(tokens[a:b]) / sum(positions[a:b]) for a, b in ((0, 2), (2, 4), (4, 5))]
    )
    assert padding_of(records, "tokens") == pytest.approx(1 - sum(tokens) / sum(positions))
    assert padding_of([{"step": 2}], "tokens") is None
    assert (
        progress[0]["progress/seconds_left"]
        > progress[1]["progress/seconds_left"]
        > progress[2]["progress/seconds_left"]
        == 0
    )


def _resumed(worker: Worker, folder: Path, zero: int | None) -> list[list[dict[str, Any]]]:
    """Records of a run with skipped updates and of the same run in two parts, cut between two records."""
    placement = PlacementConfig(workers=worker.world, zero=zero, checkpoint_every=6)  # type: ignore[arg-type]
    runs = []
    for parts in ([(12, 0)], [(8, 0), (12, 6)]):
        records: list[dict[str, Any]] = []
        for until, begins in parts:
            where = folder if len(parts) > 1 else None
            run = tiny.training(worker, placement=placement, checkpoints=where, log_every=4, log=records.append)
            poison(run, [step - begins for step in (3, 6, 7) if step > begins], 0)
            run.stop = lambda run=run, until=until: until < 12 and run.watchdog.step == until
            summary = run.run()
            assert summary["step"] == until and summary["stopped"] == (until < 12)
            if until < 12:  # as if it had been killed: the checkpoint before it counts
                run.worker.barrier()
                if worker.leads:
                    [last] = folder.glob("step-00000008-*")
                    last.rename(folder / "gone")
                run.worker.barrier()
        runs.append(
            [
                {n: v for n, v in r.items() if n not in (*TIMES, "warnings")}
                for r in records
                if "progress/tokens_seen" in r
            ]
        )
    return runs


@pytest.mark.parametrize("zero", [None, 2])
def test_a_run_that_goes_on_tells_the_same(tmp_path: Path, zero: int | None) -> None:
    uninterrupted, resumed = in_group(2, _resumed, tmp_path, zero)[0]
    assert [record["step"] for record in uninterrupted] == [4, 8, 12]
    assert [record["progress/skipped_updates"] for record in uninterrupted] == [1, 3, 3]
    assert resumed == [
        uninterrupted[0],
        uninterrupted[1],
        uninterrupted[1],
        uninterrupted[2],
    ]  # the record of step 8 tells of step 5 on, twice


def test_on_another_number_of_workers_the_counts_go_on(tmp_path: Path) -> None:
    first_records = in_group(2, _first_part, tmp_path)[0]
    records: list[dict[str, Any]] = []
    uninterrupted: list[dict[str, Any]] = []
    tiny.training(dropout=0.0, log_every=4, checkpoints=tmp_path, log=records.append).run()
    tiny.training(dropout=0.0, log_every=4, log=uninterrupted.append).run()
    resumed = [*first_records, *(r for r in records if "progress/tokens_seen" in r)]
    for record, wanted in zip(resumed, (r for r in uninterrupted if "progress/tokens_seen" in r), strict=True):
        for name in ("step", "progress/tokens_seen", "workers/padding", "train/loss", "train/mlm_accuracy"):
            assert record[name] == pytest.approx(wanted[name], abs=1e-5), (record["step"], name)


def _first_part(worker: Worker, folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    placement = PlacementConfig(workers=2)
    run = tiny.training(worker, dropout=0.0, placement=placement, checkpoints=folder, log_every=4, log=records.append)
    run.stop = lambda: run.watchdog.step == 6
    run.run()
    return records


# -- spikes -----------------------------------------------------------------------------------------------------------


def spikes(losses: Sequence[float], phase_at: Callable[[int], str] = lambda step: "") -> tuple[float, list[str]]:
    watch = Monitor(WatchConfig(), TrainConfig(steps=len(losses)), Worker(), phase_at=phase_at)
    watch._look_for_spikes(list(losses), len(losses))
    return watch.history.spikes, watch.warnings


def test_a_spike_of_the_loss_is_told() -> None:
    noise = np.random.default_rng(0)
    calm = list(5 * np.exp(-np.arange(200) / 100) + 0.1 * noise.standard_normal(200))
    assert spikes(calm) == (0, [])
    count, warnings = spikes([*calm[:150], 4.0, 7.5, *calm[152:]])
    assert count == 2
    assert len(warnings) == 1 and warnings[0].startswith("the loss of step 152 is 7.500, after 1.")
    assert spikes([*calm[: WARM_UP - 2], 50.0]) == (0, [])  # too early to tell
    assert spikes([*calm[:100], math.nan, *calm[100:]]) == (0, [])  # a skipped update is told of elsewhere


def test_a_new_level_is_learned() -> None:
    noise = np.random.default_rng(1).standard_normal(400)
    count, _ = spikes(list(np.where(np.arange(400) < 200, 2.0, 3.0) + 0.05 * noise))
    assert 0 < count < 40


def test_a_phase_has_a_level_of_its_own() -> None:
    noise = 0.05 * np.random.default_rng(2).standard_normal(200)
    levels = list(np.where(np.arange(200) < 100, -9.0, 0.1) + noise)  # of the first, steps 1 to 100
    assert spikes(levels, lambda step: "machine" if step < 100 else "all") == (0, [])
    assert spikes(levels)[0]  # had they been one
    levels[150] = 5.0
    _, warnings = spikes(levels, lambda step: "machine" if step < 100 else "all")
    assert warnings[0].startswith("the loss of step 151 is 5.000, after 0.")


# -- the slowest worker -----------------------------------------------------------------------------------------------


SLEEP = 0.5  # seconds


def _slow(worker: Worker, zero: int | None) -> list[dict[str, Any]]:
    import time

    records: list[dict[str, Any]] = []
    placement = PlacementConfig(workers=3, zero=zero)  # type: ignore[arg-type]
    run = tiny.training(worker, placement=placement, steps=8, log_every=4, log=records.append)
    losses = run.objective._loss  # type: ignore[attr-defined]

    def slow(networks: Networks, batch: Batch) -> Loss:
        if worker.rank == 1:
            time.sleep(SLEEP)
        return losses(networks, batch)

    run.objective._loss = slow  # type: ignore[attr-defined]
    run.run()
    return [record for record in records if "progress/tokens_seen" in record]


@pytest.mark.alone
@pytest.mark.parametrize("zero", [None, 2])
def test_the_slowest_worker_is_named(zero: int | None) -> None:
    for record in in_group(3, _slow, zero)[0]:
        assert record["workers/slowest_rank"] == 1
        assert record["workers/slowest_rank_seconds"] == pytest.approx(SLEEP, rel=0.5)
        if record["step"] == 4:
            [warning] = record["warnings"]
            assert warning.startswith("worker 1 is ") and "s a step slower than the others" in warning
        else:
            assert "warnings" not in record  # told once


# -- losses by source -------------------------------------------------------------------------------------------------

SOURCES = ["books", "web"]


def _mixture(worker: Worker, micro_batch: int | None, log: Any) -> Training:
    """Two corpora, the first, which is `web`, three times as large."""
    placement = PlacementConfig(workers=worker.world, micro_batch=micro_batch)
    run = tiny.training(worker, dropout=0.0, placement=placement, steps=4, log_every=2, log=log)
    corpora = [Corpus("a", tiny.table(300, seed=3), 3.0), Corpus("b", tiny.table(100, seed=4), 1.0)]
    run.stream = Stream(corpora, tiny.SEED, OrderConfig(block=8, window=4), tiny.masked, sources=[1, 0])
    run.monitor.sources = SOURCES
    return run


def _by_source(worker: Worker, micro_batch: int | None) -> list[dict[str, float]]:
    records: list[dict[str, Any]] = []
    _mixture(worker, micro_batch, records.append).run()
    return [record for record in records if "progress/tokens_seen" in record]


def test_the_loss_of_each_source_is_told() -> None:
    run = _mixture(Worker(), None, lambda record: None)
    turn: Any = run.objective.turns("train", 0)[0]
    wanted = dict.fromkeys(SOURCES, 0.0)
    rows = run.stream.read(np.arange(24))
    batch = collated(run.objective, rows)
    with torch.no_grad():
        loss = turn.loss(run.forwards, batch)
        for number, source in enumerate(SOURCES):  # each source's rows alone
            alone = collated(run.objective, take(rows, np.flatnonzero(np.asarray(rows["source"]) == number)))
            weights = turn.weights(alone)
            wanted[source] = sum(float(v) / weights[n] for n, v in turn.loss(run.forwards, alone).sums.items())
    watch = run.monitor
    watch.add(loss.sums["mlm"], loss, batch["source"])
    watch.turned(turn.weights(batch), 1.0)
    watch.start(0, 0.0)
    watch.stepped(1, True, Workload(1, 1, 1.0))
    values, _ = watch.record(1)
    assert {name: values[f"train/loss/{name}"] for name in SOURCES} == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted["books"] - wanted["web"]) > 1e-4
    share = float((batch["source"] == 1).float().mean())
    assert 0.6 < share < 0.9  # three of four


def test_losses_by_source_are_the_same_on_any_number_of_workers() -> None:
    alone = _by_source(Worker(), None)
    names = [f"train/loss/{name}" for name in SOURCES]
    for by_source in (_by_source(Worker(), 5), in_group(3, _by_source, 3)[0]):
        for record, wanted in zip(by_source, alone, strict=True):
            assert [record[name] for name in names] == pytest.approx([wanted[name] for name in names], abs=1e-5)
    assert all(math.isfinite(record[name]) for record in alone for name in names)


def test_one_corpus_has_no_sources() -> None:
    records: list[dict[str, Any]] = []
    tiny.training(steps=2, log=records.append).run()
    assert not any(name.startswith("train/loss/") for record in records for name in record)
