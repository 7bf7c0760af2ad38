"""The weights of the best score come back, and training ends where patience does."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.monitor.early_stopping import BestWeights


def asked(scores: list[float], patience: int | None) -> tuple[BestWeights, nn.Module, int]:
    """Of a network whose weight is the step, scored until it says stop; how often it was."""
    network = nn.Linear(1, 1)
    network.bias.requires_grad_(False)
    left = iter(scores)
    best = BestWeights(network, lambda: next(left), patience)
    for step in range(1, len(scores) + 1):
        with torch.no_grad():
            network.weight.fill_(step)
        if not best(step):
            return best, network, step
    return best, network, len(scores)


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, math.nan]), min_size=1, max_size=9), st.none() | st.integers(1, 4))
def test_the_first_of_the_best_scores_is_kept_and_patience_counts_from_it(
    scores: list[float], patience: int | None
) -> None:
    best, network, taken = asked(scores, patience)
    seen = [-1.0 if math.isnan(score) else score for score in scores[:taken]]
    first = seen.index(max(seen)) + 1
    best.restore()
    assert best.step == first == network.weight.item()  # type: ignore[operator]
    assert taken == (len(scores) if patience is None else min(len(scores), first + patience))
    assert best.weights.keys() == {"weight"}, "what is not learned is not copied"


def test_statistics_of_batches_come_back_too() -> None:
    network, scores = nn.BatchNorm1d(2), iter([1.0, 0.0])
    best = BestWeights(network, lambda: next(scores), None)
    best(1)
    network(torch.randn(8, 2))
    best(2)
    best.restore()
    assert network.running_mean is not None and network.running_mean.tolist() == [0.0, 0.0]
