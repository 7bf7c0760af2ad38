"""The best state of a network that is trained, by any score, and when to stop looking for a better one."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn


class BestWeights:
    """Keeps what a network has learned when its score was highest; of equal scores, the first.

    Called after some steps, it scores the network and answers whether to go on: not once `patience` scores in a row
    were no better than the best before them (None: always). A score that is no number is no better than any.
    """

    def __init__(self, network: nn.Module, score: Callable[[], float], patience: int | None) -> None:
        learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.names = learned | {name for name, _ in network.named_buffers()}
        self.network, self.score, self.patience = network, score, patience
        self.weights: dict[str, Tensor] = {}
        self.best, self.step, self.since = -math.inf, 0, 0

    def __call__(self, step: int) -> bool:
        score = self.score()
        if score > self.best or not self.weights:
            self.best, self.step, self.since = -math.inf if math.isnan(score) else score, step, 0
            state = self.network.state_dict()
            self.weights = {name: state[name].clone() for name in state.keys() & self.names}
        else:
            self.since += 1
        return self.patience is None or self.since < self.patience

    def restore(self) -> None:
        """Give the network the weights that are kept."""
        self.network.load_state_dict(self.weights, strict=False)
