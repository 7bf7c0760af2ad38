"""Learning rate by step: linear warm-up, then one of three shapes."""

from __future__ import annotations

import math

from training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (counted from 0).

    The warm-up reaches the peak at step `warmup_steps`; `linear` and `cosine` come down to reach 0 just after the
    last step, so that no step is spent at a rate of zero.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * max(0.0, 1.0 - done)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
