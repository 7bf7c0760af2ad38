"""Published systems against the figures their authors give."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from pipeline.estimate import cluster
from pipeline.estimate.published_systems import SYSTEMS
from pipeline.recipe.load import load
from training.monitor.peak_flops import GPU_PEAKS


@pytest.mark.parametrize("name", SYSTEMS)
def test_parameters_are_the_published_number(name: str) -> None:
    system = SYSTEMS[name]
    assert system.network.parameters() == pytest.approx(system.published, rel=0.03)


def test_operations_are_the_published_number() -> None:
    # Brown et al. 2020, table D.1: 3.14e23, without attention's own.
    assert SYSTEMS["gpt3-175b"].flops() == pytest.approx(3.14e23, rel=0.04)
    # Fedus et al. 2021, table 9: 890 billion per sequence.
    switch = SYSTEMS["switch-1.6t"]
    assert 512 * switch.network.forward_flops(512, switch.predicted) == pytest.approx(890e9, rel=0.04)


def test_experts_cost_memory_and_no_operations() -> None:
    from dataclasses import replace

    sparse = SYSTEMS["switch-1.6t"].network
    dense = replace(sparse, experts=1)
    assert sparse.parameters() > 500 * dense.parameters()
    assert sparse.forward_flops(512) == dense.forward_flops(512)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("offload", [False, True])
def test_the_smallest_cluster_fits_and_half_of_it_does_not(name: str, offload: bool) -> None:
    smallest = cluster.smallest(SYSTEMS[name], "H100", offload)
    assert smallest.fits
    if smallest.gpus > 1:
        assert cluster.placed(SYSTEMS[name], "H100", smallest.gpus // 2, offload) is None


def test_days_are_operations_through_what_a_cluster_does() -> None:
    system = SYSTEMS["bert-340m"]
    smallest = cluster.smallest(system, "H100")
    assert (smallest.gpus, smallest.placement.zero, smallest.placement.activation_checkpointing) == (1, None, False)
    assert smallest.days(system.flops(), 1e15, 0.5) == pytest.approx(system.flops() / 0.5e15 / 86_400)
    assert smallest.days(system.flops(), 1e15, 0.3) > smallest.days(system.flops(), 1e15, 0.5)


def test_recomputation_costs_a_third_more() -> None:
    system = SYSTEMS["gpt3-175b"]
    smallest = cluster.smallest(system, "H100")
    assert smallest.placement.activation_checkpointing
    assert smallest.days(3e20, 1e15, 1.0) == pytest.approx(3e20 * 4 / 3 / smallest.gpus / 1e15 / 86_400)


def test_what_fits_nowhere_is_said() -> None:
    with pytest.raises(UserError, match="gpt3-175b: does not fit on 16,384 GPUs of kind T4"):
        cluster.smallest(SYSTEMS["gpt3-175b"], "T4")


def test_every_kind_of_gpu_has_a_size_and_a_peak() -> None:
    assert set(cluster.GPU_BYTES) == set(GPU_PEAKS)


def test_systems_whose_objective_is_there_say_so() -> None:
    assert {name for name, system in SYSTEMS.items() if system.lacks} == {"elmo-94m", "switch-1.6t"}
    for system in SYSTEMS.values():
        if system.recipe:
            name, _, scale = system.recipe.split()
            load(name, scale)
