"""What is fine-tuned for a task: an encoder under a linear layer, or a network that writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from data_prep.errors import UserError
from pipeline.downstream.fine_tune.heads import Layout, Shape, module_of
from training.inference import opening
from training.objectives.fine_tuning import FineTuning, Pooling
from training.objectives.writing import Writing

Learner: TypeAlias = FineTuning | Writing


def open_source(folder: Path, shape: Shape) -> Any:
    """The network of a folder, to be trained: a `TaskEncoder`, or where answers are written a `TrainableWriter`.

    UserError if the folder's network does not write and is to.
    """
    module = opening.module_of(folder)
    if not shape.written:
        return module.open_trainable(folder)
    if not hasattr(module, "open_writer"):
        raise UserError(f"{folder}: its network does not write; name a decoder, or an encoder with one.")
    return module.open_writer(folder)


def learner_of(
    source: Any,
    shape: Shape,
    layout: Layout,
    pooling: Pooling,
    frozen: bool = False,
    weights: np.ndarray | None = None,
    layer_decay: float = 1.0,
) -> Learner:
    """The objective that trains what `open_source` opened. frozen, weights, layer_decay: see `FineTuning`."""
    if shape.written:
        return Writing(source, layout.max_answer)
    outputs, paired = module_of(shape).outputs(shape), shape.paired
    return FineTuning(
        source, shape.head, outputs, pooling, weights=weights, frozen=frozen, layer_decay=layer_decay, paired=paired
    )


def num_weights(network: nn.Module) -> tuple[int, int]:
    """How many weights are learned, and how many there are."""
    numbers = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(number for number, learned in numbers if learned), sum(number for number, _ in numbers)
