"""What training will need, before it starts: parameters and memory per worker.

Memory of a worker that keeps fp32 weights with Adam: 4 bytes a parameter for weights, 4 for gradients, 8 for the two
moments; ZeRO stages 1, 2 and 3 divide moments, gradients and weights, in this order, by the number of workers
(Rajbhandari et al. 2020, section 3). Activations come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.dag import Planned
from pipeline.recipe import Recipe
from training.config import PlacementConfig

WEIGHTS, GRADIENTS, MOMENTS = 4, 4, 8  # bytes per parameter


def lines(recipe: Recipe, item: Planned, planned: Sequence[Planned]) -> list[str]:
    """What is worth knowing about a stage before it runs."""
    if item.node.name == "shards" and item.artifact:
        train = item.artifact.summary["train"]
        return [f"{train['rows']:,} rows, {train['tokens']:,} tokens, {train['padding_share']:.1%} padding"]
    if item.node.name == "pretrain":
        return _pretraining(recipe, planned)
    return []


def memory_per_worker(parameters: int, placement: PlacementConfig) -> dict[str, int]:
    """Bytes that a worker's device keeps for weights, gradients and moments."""
    stage = placement.zero or 0
    workers = placement.workers
    moments = parameters * MOMENTS // (workers if stage >= 1 else 1)
    weights = parameters * WEIGHTS // (workers if stage >= 3 else 1)
    return {
        "weights": 0 if placement.offload_parameters else weights,
        "gradients": parameters * GRADIENTS // (workers if stage >= 2 else 1),
        "moments": 0 if placement.offload_optimizer else moments,
    }


def count_parameters(recipe: Recipe, vocabulary: int) -> int:
    """Parameters of the network, built without memory for them."""
    import torch

    from training import networks

    config: Any = networks.text_config(recipe.network, vocabulary, 0)
    sentence = recipe.objective.options.get("sentence", "none") != "none"
    with torch.device("meta"):
        model = networks.masked_lm(config, sentence)
    return sum(parameter.numel() for parameter in model.parameters())


def _pretraining(recipe: Recipe, planned: Sequence[Planned]) -> list[str]:
    by_name = {item.node.name: item for item in planned}
    made = by_name["tokenizer"].artifact
    vocabulary = made.summary["vocabulary"] if made else recipe.tokenizer.vocabulary
    parameters = count_parameters(recipe, vocabulary)
    train, placement = recipe.train, recipe.placement
    samples = train.steps * train.global_batch
    short = train.longer_from * train.global_batch
    tokens = short * recipe.compose.length + (samples - short) * (train.longer.length if train.longer else 0)
    memory = memory_per_worker(parameters, placement)
    zero = "plain PyTorch" if placement.zero is None else f"ZeRO-{placement.zero}"
    found = [
        f"{parameters:,} parameters; {train.steps:,} steps of {train.global_batch:,} rows, at most {tokens:,} tokens",
        f"{placement.workers} worker{'s' if placement.workers > 1 else ''}, {zero}: "
        f"{sum(memory.values()) / 2**20:,.0f} MiB each before activations "
        f"({', '.join(f'{name} {size / 2**20:,.0f}' for name, size in memory.items())})",
    ]
    shards = by_name["shards"].artifact
    if shards:
        found.append(f"{short / shards.summary['train']['rows']:.2f} passes over the shards")
    return found
