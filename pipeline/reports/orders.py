"""Whether one arm of a comparison is better than another, beyond what seeds make of it.

All arms of a seed read the same split of the data, so an arm's effect can be separated from the seed's: a value is

    x[arm, seed] = mean[arm] + effect[seed] + residual

(a randomised block design; with two arms it is the paired t-test). The residuals' standard deviation s has
(arms − 1)(seeds − 1) degrees of freedom, and the difference of two arms is beyond the spread where it exceeds

    margin = t · s · √(2 / seeds),    t: the 97.5 % quantile of Student's distribution

which is a 95 % interval of each difference by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Values = Mapping[str, Mapping[int, float]]
"""By arm, then by seed."""
HOLDS, REVERSED, OPEN = "holds", "is reversed", "cannot be told"
LEVEL = 0.95


@dataclass(frozen=True)
class Block:
    """The part of the values that can be compared: arms with values, and the seeds that all of these have.

    table: [arms, seeds].
    """

    arms: list[str]
    seeds: list[int]
    table: np.ndarray

    def means(self) -> dict[str, float]:
        return dict(zip(self.arms, self.table.mean(1).tolist(), strict=True))

    def margin(self) -> float:
        """How large a difference of two arms must be; infinite where there are fewer than two seeds or arms."""
        num_arms, num_seeds = self.table.shape
        freedom = (num_arms - 1) * (num_seeds - 1)
        if freedom < 1:
            return math.inf
        from scipy.stats import t

        centred = self.table - self.table.mean(1, keepdims=True) - self.table.mean(0) + self.table.mean()
        spread = math.sqrt(float(np.square(centred).sum()) / freedom)
        return float(t.ppf((1 + LEVEL) / 2, freedom)) * spread * math.sqrt(2 / num_seeds)


@dataclass(frozen=True)
class Order:
    """An order of two arms that was claimed, and what became of it. gain: by how much `first` is the better one."""

    first: str
    second: str
    gain: float
    margin: float

    @property
    def outcome(self) -> str:
        if abs(self.gain) <= self.margin:
            return OPEN
        return HOLDS if self.gain > 0 else REVERSED


def block_of(values: Values) -> Block:
    """What can be compared. Arms without any value are left out, then seeds that an arm lacks."""
    arms = [arm for arm, of_arm in values.items() if of_arm]
    shared = set.intersection(*(set(values[arm]) for arm in arms)) if arms else set()
    seeds = sorted(shared)
    table = np.array([[values[arm][seed] for seed in seeds] for arm in arms], dtype=float)
    return Block(arms, seeds, table.reshape(len(arms), len(seeds)))


def pairs_of(orders: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Every (better, worse) that orders, each with the best first, claim."""
    return list(dict.fromkeys(pair for order in orders for pair in itertools.combinations(order, 2)))


def judged(block: Block, pairs: Iterable[tuple[str, str]], higher_is_better: bool) -> list[Order]:
    """What became of claims (better, worse) about arms of a block; claims about other arms are left out."""
    if not block.seeds:
        return []
    means, margin, sign = block.means(), block.margin(), 1 if higher_is_better else -1
    return [
        Order(first, second, sign * (means[first] - means[second]), margin)
        for first, second in pairs
        if first in means and second in means
    ]
