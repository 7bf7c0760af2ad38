"""Settings of experts that cannot be meant are named before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from training.config import NetworkConfig, PlacementConfig
from training.config import placement_problems as placement_alone
from training.models.experts.config import RoutingConfig, placement_problems, routing_problems

SPARSE = {"num_layers": 4, "num_decoder_layers": 2, "num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1}


def switch(**config: Any) -> NetworkConfig:
    return NetworkConfig(architecture="switch_transformers", config=SPARSE | config)


def test_what_fits_has_no_problem() -> None:
    assert list(routing_problems(RoutingConfig(capacity=0.0), switch(num_experts=4))) == []
    assert list(routing_problems(RoutingConfig(), NetworkConfig(architecture="t5"))) == []
    assert list(placement_problems(PlacementConfig(workers=4, zero=2, expert_parallel=2), switch())) == []
    assert list(placement_problems(PlacementConfig(zero=3), NetworkConfig(architecture="t5"))) == []


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("network.config.expert_capacity", switch(expert_capacity=64)),
        ("network.config.router_dtype", switch(router_dtype="bfloat16")),
        ("network.config.add_router_probs", switch(add_router_probs=True)),
        ("network.config.router_ignore_padding_tokens", switch(router_ignore_padding_tokens=True)),
        ("network.config.num_experts", switch(num_experts=1)),
        ("network.config.router_aux_loss_coef", switch(router_aux_loss_coef=-0.1)),
        ("network.config.num_sparse_encoder_layers", switch(num_sparse_encoder_layers=3)),
        ("network.config.num_sparse_decoder_layers", switch(num_sparse_decoder_layers=0)),
        ("network.config.num_sparse_decoder_layers", switch(num_decoder_layers=None, num_sparse_decoder_layers=3)),
        ("objective.options.routing", NetworkConfig(architecture="t5")),
    ],
)
def test_a_network_that_would_be_another(path: str, network: NetworkConfig) -> None:
    ((setting, text),) = routing_problems(RoutingConfig(group=2), network)
    assert setting == path and len(text) > 20


@pytest.mark.parametrize(
    ("path", "placement", "network"),
    [
        ("placement.zero", {"workers": 2, "zero": 3}, switch()),
        ("placement.expert_parallel", {"workers": 3, "zero": 2, "expert_parallel": 3}, switch(num_experts=8)),
        ("placement.expert_parallel", {"workers": 2, "zero": 2, "expert_parallel": 2}, NetworkConfig()),
    ],
)
def test_a_placement_that_experts_do_not_allow(path: str, placement: dict[str, Any], network: NetworkConfig) -> None:
    ((setting, text),) = placement_problems(PlacementConfig(**placement), network)
    assert setting == path and len(text) > 20


@pytest.mark.parametrize(
    "placement",
    [
        {"workers": 2, "expert_parallel": 2},
        {"workers": 2, "zero": 0, "expert_parallel": 2},
        {"workers": 3, "zero": 2, "expert_parallel": 2},
        {"workers": 4, "zero": 2, "expert_parallel": 2, "min_workers": 2},
    ],
    ids=str,
)
def test_experts_are_divided_under_zero_1_and_2_among_a_fixed_number(placement: dict[str, Any]) -> None:
    ((path, _),) = placement_alone(PlacementConfig(**placement))
    assert path == "expert_parallel"
