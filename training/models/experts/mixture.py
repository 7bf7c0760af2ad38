"""All layers of experts of a network together: their inputs before a pass, and their statistics after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.models.experts.config import UNLIMITED, RoutingConfig
from training.models.experts.layer import ExpertLayer, Passage, with_routing
from training.models.experts.routing import Groups


class Mixture:
    """The layers of experts in a new model of `transformers`, which are put in place of the library's.

    Outside of `passing` no token is dropped, and neither is any by the model that others open: the room that its config
    says an expert has is more than any row needs.
    """

    def __init__(self, model: Any, routing: RoutingConfig) -> None:
        self.routing, self.passage = routing, Passage()
        self.layers = list(with_routing(model, self.passage))
        for config in (model.config, model.encoder.config, model.decoder.config):
            config.expert_capacity = UNLIMITED

    @property
    def names(self) -> list[str]:
        """Of its layers, as `statistics` has them."""
        return [layer.name for layer in self.layers]

    @property
    def num_experts(self) -> int:
        """Of each layer."""
        return self.layers[0].num_experts

    def num_layers(self, stack: str) -> int:
        """Layers of experts in a stack."""
        return sum(layer.stack == stack for layer in self.layers)

    def num_groups(self, rows: int) -> int:
        """Groups of a batch."""
        return -(-rows // self.routing.group)

    @contextmanager
    def passing(self, is_token: Mapping[str, Tensor], training: bool) -> Iterator[None]:
        """Inside, a batch is routed of which each stack sees `is_token` [B, L], with the room that experts have.

        After a pass in training, groups stay as they are: activations may be computed again in the backward pass.
        """
        self.passage.groups = {stack: Groups.of(mask.bool(), self.routing.group) for stack, mask in is_token.items()}
        self.passage.factor = self.routing.capacity if training else self.routing.evaluation_capacity
        self.passage.training = training
        self.passage.routes.clear()
        yield
        if not training:
            self.passage.groups = {}

    def statistics(self) -> dict[str, Tensor]:
        """Of the last pass, summed over layers and tokens, or groups: `balance` and by stack `z`, with gradients;
        `entropy`, `dropped`; and `chosen` [layers, E], the tokens that chose each expert."""
        routes = {layer: self.passage.routes[layer.name] for layer in self.layers}
        z = {f"z_{stack}": sum(r.z for layer, r in routes.items() if layer.stack == stack) for stack in self.stacks}
        return {
            **z,  # type: ignore[dict-item]
            "balance": torch.stack([r.balance for r in routes.values()]).sum(),
            "entropy": torch.stack([r.entropy for r in routes.values()]).sum(),
            "dropped": torch.stack([(~r.is_kept).sum() for r in routes.values()]).sum(),
            "chosen": torch.stack([r.chosen for r in routes.values()]),
        }

    @property
    def stacks(self) -> list[str]:
        """Those that have such layers."""
        return list(dict.fromkeys(layer.stack for layer in self.layers))

    # -- weights ------------------------------------------------------------------------------------------------------

    def idle(self, module: nn.Module) -> int:
        """Those of a module's multiply-add parameters that do not process a given token: all experts' except one's."""
        own = {id(submodule) for submodule in module.modules()}
        inside = [layer for layer in self.layers if id(layer) in own]
        return sum(self.num_of_expert(layer) * (layer.num_experts - 1) for layer in inside)

    def num_parameters(self) -> int:
        """Parameters of all experts."""
        return sum(self.num_of_expert(layer) * layer.num_experts for layer in self.layers)

    def num_of_expert(self, layer: ExpertLayer) -> int:
        """Parameters of one expert."""
        return sum(parameter.numel() for parameter in next(iter(layer.experts.values())).parameters())

    def divide(self, group: dist.ProcessGroup) -> list[nn.Parameter]:
        """Divide the experts among the workers of a group; returns the parameters that this one has and others lack."""
        return [parameter for layer in self.layers for parameter in layer.divide(group)]

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Inside, this worker has all experts, and runs them by itself. All workers enter together."""
        with ExitStack() as stack:
            for layer in self.layers:
                stack.enter_context(layer.gathered())
            yield
