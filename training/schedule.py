"""Learning rate by step: linear warm-up, then one of four shapes."""

from __future__ import annotations

import math

from training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of optimizer step `step` (counted from 0).

    The warm-up reaches the peak at step `warmup_length`; those that come down reach 0, or the share `lr_end` of the
    peak, just after the last step, so that no step is spent at a rate of zero. `warmup-stable-decay` (Hu et al. 2024,
    section 4) stays at the peak until the last `decay_steps`, so that a run can be prolonged from before them, or
    annealed from any of its checkpoints.
    """
    warmup = config.warmup_length
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "warmup-stable-decay":
        return config.lr * min(1.0, (config.steps - step) / (config.decay_steps + 1))
    progress = (step - warmup) / max(1, config.steps - warmup)
    if config.schedule == "linear":
        height = max(0.0, 1.0 - progress)
    else:
        height = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return config.lr * (config.lr_end + (1.0 - config.lr_end) * height)
