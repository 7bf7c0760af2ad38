"""Held-out losses of a mixture by source: means over each source's rows alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_prep.rng import Draws, key
from data_prep.shards.order import mixing_weights
from data_prep.shards.rows import Ragged
from data_prep.text.write_shards import _cut_at
from training.config import OrderConfig
from training.data import BatchSplit, Corpus, MemoryTable, Stream
from training.distributed import Worker
from training.evaluation import Evaluation
from training.job import with_source
from training.monitor.watchdog import Watchdog
from training.objective import Loss, Turn


def test_a_row_has_the_source_of_its_first_document() -> None:
    add = with_source(None, [("en", 3), ("ko", 2), ("en", 1)], ["de", "en", "ko"])
    draws = Draws(key(1, "test"), 0, np.arange(6))
    of_documents = np.asarray(add({"document": np.arange(6, dtype=np.uint32)}, draws)["source"])
    assert of_documents.tolist() == [1, 1, 1, 2, 2, 1]
    packed = Ragged.from_lengths(np.array([0, 1, 2, 3, 4, 5], np.uint32), [2, 1, 2, 1])
    assert np.asarray(add({"document": packed}, draws)["source"]).tolist() == [1, 1, 2, 1]


def test_documents_of_two_sources_are_not_composed_together() -> None:
    assert list(_cut_at(range(0, 10), [4, 7, 10])) == [range(0, 4), range(4, 7), range(7, 10)]
    assert list(_cut_at(range(5, 10), [4, 5, 12])) == [range(5, 10)]
    assert list(_cut_at(range(0, 3), [])) == [range(0, 3)]


def test_temperature_is_the_exponent_of_the_papers() -> None:
    """q = n^α / Σ n^α: Conneau et al. 2020, section 3.1, with α = 0.3; multilingual BERT has 0.7."""
    rows = [1_000_000, 10_000, 100]
    for alpha in (0.7, 0.3):
        weights = np.array(mixing_weights(rows, alpha))
        share = np.array(rows) / sum(rows)
        wanted = share**alpha / (share**alpha).sum()
        assert np.allclose(weights / weights.sum(), wanted, rtol=1e-12)
    assert np.allclose(
        np.array(mixing_weights(rows, 0.7)) / sum(mixing_weights(rows, 0.7)), [0.96025, 0.03823, 0.00152], atol=1e-5
    )


class Numbers:
    """Its loss is the mean of the numbers in rows."""

    def drawn(self, rows: Any, draws: Any) -> Any:
        return rows

    def collate(self, rows: Any) -> Any:
        return {"x": torch.from_numpy(rows["input"].values.astype(np.float64))}

    def prepare(self, networks: Any, batch: Any, draws: Any) -> Any:
        return batch

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", lambda batch: {"term": float(len(batch["x"]))}, self.loss)]

    def loss(self, networks: Any, batch: Any) -> Loss:
        by_row = {"term": torch.stack([batch["x"], torch.ones_like(batch["x"])])} if "source" in batch else {}
        return Loss({"term": batch["x"].sum()}, {}, by_row)


@pytest.mark.parametrize("sources", [(), ("de", "en", "ko")])
def test_the_held_out_loss_of_a_source_is_that_of_its_rows(sources: tuple[str, ...]) -> None:
    numbers = np.arange(12, dtype=np.uint32)
    table = MemoryTable({"input": Ragged.from_lengths(numbers, [1] * 12), "document": numbers}, 12)
    transform = with_source(None, [("en", 4), ("ko", 8)], sources) if sources else None
    worker = Worker(device=torch.device("cpu"))
    stream, split = Stream([Corpus("c", table)], 1, OrderConfig(), transform), BatchSplit(5, 1, worker)
    objective: Any = Numbers()
    evaluation = Evaluation(objective, {}, {}, stream, 12, split, worker, Watchdog(None, worker, 0), 1, sources)
    by_source = {"validation/loss/en": 1.5, "validation/loss/ko": 7.5} if sources else {}
    assert evaluation.means("", 0) == {"validation/loss": 5.5, "validation/term": 5.5, **by_source}


class WithMetric(Numbers):
    """Also tells, by row, a metric of twice as much weight."""

    def loss(self, networks: Any, batch: Any) -> Loss:
        loss = super().loss(networks, batch)
        loss.by_row["bits_per_byte"] = torch.stack([batch["x"], torch.full_like(batch["x"], 2.0)])
        return loss


def test_a_metric_of_a_source_is_its_sum_by_its_weight_and_no_part_of_the_loss() -> None:
    numbers = np.arange(12, dtype=np.uint32)
    table = MemoryTable({"input": Ragged.from_lengths(numbers, [1] * 12), "document": numbers}, 12)
    worker = Worker(device=torch.device("cpu"))
    transform = with_source(None, [("en", 4), ("ko", 8)], ("en", "ko"))
    stream, split = Stream([Corpus("c", table)], 1, OrderConfig(), transform), BatchSplit(5, 1, worker)
    objective: Any = WithMetric()
    evaluation = Evaluation(objective, {}, {}, stream, 12, split, worker, Watchdog(None, worker, 0), 1, ("en", "ko"))
    means = evaluation.means("", 0)
    assert (means["validation/bits_per_byte/en"], means["validation/bits_per_byte/ko"]) == (0.75, 3.75)
    assert (means["validation/loss/en"], means["validation/loss"]) == (1.5, 5.5)


class WithPenalty(Numbers):
    """Also has a term that only keeps training in shape."""

    def turns(self, phase: str, step: int) -> list[Turn]:
        def weights(batch: Any) -> dict[str, float]:
            return {"term": float(len(batch["x"])), "balance": 1.0}

        return [Turn("model", weights, self.loss, penalties=("balance",))]

    def loss(self, networks: Any, batch: Any) -> Loss:
        loss = super().loss(networks, batch)
        return Loss({**loss.sums, "balance": torch.tensor(3.0)}, {}, loss.by_row)


def test_a_penalty_is_told_and_is_no_part_of_the_held_out_loss() -> None:
    numbers = np.arange(12, dtype=np.uint32)
    table = MemoryTable({"input": Ragged.from_lengths(numbers, [1] * 12), "document": numbers}, 12)
    worker = Worker(device=torch.device("cpu"))
    transform = with_source(None, [("en", 4), ("ko", 8)], ("en", "ko"))
    stream, split = Stream([Corpus("c", table)], 1, OrderConfig(), transform), BatchSplit(5, 1, worker)
    objective: Any = WithPenalty()
    evaluation = Evaluation(objective, {}, {}, stream, 12, split, worker, Watchdog(None, worker, 0), 1, ("en", "ko"))
    means = evaluation.means("", 0)
    assert (means["validation/loss"], means["validation/term"], means["validation/balance"]) == (5.5, 5.5, 3.0)
    assert (means["validation/loss/en"], means["validation/loss/ko"]) == (1.5, 7.5)
