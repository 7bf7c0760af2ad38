"""Settings of a mixture of experts, and conflicts with them; read without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from data_prep.settings import Settings
from training.config import NetworkConfig, PlacementConfig
from training.models.text.architectures import line_of

Problem = tuple[str, str]
FEWEST = 4  # tokens that an expert has room for, however few are to be routed
UNLIMITED = 1 << 20  # tokens: expert_capacity of an exported config, more than any row needs
STACKS = ("encoder", "decoder")
_REPLACED = ("router_ignore_padding_tokens", "add_router_probs")


class RoutingConfig(Settings):
    """How tokens are divided among the experts of a layer, where the network has any (Fedus et al. 2021)."""

    capacity: float = Field(default=1.25, ge=0)
    """Tokens that an expert has room for in training, per even share of a group's tokens; 0: all of them."""
    evaluation_capacity: float = Field(default=2.0, ge=0)
    """The same for held-out rows."""
    group: int = Field(default=1, ge=1)
    """Consecutive rows whose tokens are routed together: they share the experts' room, and their use is balanced."""


def has_experts(network: NetworkConfig) -> bool:
    """Whether the network's architecture has layers of experts."""
    return line_of(network.architecture).experts


def routing_problems(routing: RoutingConfig, network: NetworkConfig) -> Iterator[Problem]:
    """Problems: settings of routing without experts, and settings of experts that would have no effect."""
    if not has_experts(network):
        if routing != RoutingConfig():
            text = f"{network.architecture!r} has no experts to route tokens to"
            yield "objective.options.routing", f"{text}; leave it out, or use a network that has them"
        return
    config = network.config
    if "expert_capacity" in config:
        text = "is the room of an expert in whatever row; here it follows from the tokens of a group"
        yield "network.config.expert_capacity", f"{text}: set objective.options.routing.capacity"
    for name in _REPLACED:
        if config.get(name):
            yield f"network.config.{name}", "is of the library's router, and another is trained here; leave it out"
    if config.get("router_dtype", "float32") != "float32":
        yield (
            "network.config.router_dtype",
            f"found {config['router_dtype']!r}; routers compute in float32: leave it out",
        )
    experts = config.get("num_experts", 8)
    if isinstance(experts, int) and experts < 2:
        yield "network.config.num_experts", f"found {experts}; a mixture has 2 or more, and a dense network is a t5"
    for name in ("router_aux_loss_coef", "router_z_loss_coef", "router_jitter_noise"):
        if isinstance(value := config.get(name, 0.0), int | float) and value < 0:
            yield f"network.config.{name}", f"found {value:g}; allowed: 0 or more"
    yield from _sparse_layers(config)


def _sparse_layers(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Numbers of layers with experts of which the library would make others: every n-th layer has them."""
    in_encoder = config.get("num_layers", 12)
    layers = {"encoder": in_encoder, "decoder": config.get("num_decoder_layers", 12)}
    if layers["decoder"] is None:
        layers["decoder"] = in_encoder
    for stack, of_stack in layers.items():
        sparse = config.get(f"num_sparse_{stack}_layers", 3)
        if isinstance(of_stack, int) and isinstance(sparse, int) and (sparse < 1 or of_stack % sparse):
            text = f"{sparse} layers with experts do not divide the {of_stack} layers of the {stack}"
            yield f"network.config.num_sparse_{stack}_layers", f"{text}; every n-th layer has them"


def placement_problems(placement: PlacementConfig, network: NetworkConfig) -> Iterator[Problem]:
    """Placements under which experts cannot be trained."""
    size = placement.expert_parallel
    if not has_experts(network):
        if size > 1:
            text = f"{network.architecture!r} has no experts to divide among {size} workers"
            yield "placement.expert_parallel", f"{text}; set it to 1"
        return
    if placement.zero == 3:
        yield "placement.zero", ZERO_3
    experts = network.config.get("num_experts", 8)
    if size > 1 and isinstance(experts, int) and experts % size:
        yield "placement.expert_parallel", f"{size} workers cannot have equal parts of {experts} experts"


ZERO_3 = (
    "3 divides every weight among all workers, which a mixture of experts does not allow (nor does DeepSpeed's); "
    "set it to 2, and placement.expert_parallel to divide the experts"
)
