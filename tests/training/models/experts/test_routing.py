"""Routing as Switch defines it: room, who is dropped, balance and z-loss, by hand and against a few plain lines."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.models.experts.routing import Groups, capacity, route


def groups_of(*rows: int, width: int = 0, together: int = 1) -> Groups:
    """Rows of so many tokens, padded on the right."""
    width = width or max(rows)
    return Groups.of(torch.arange(width) < torch.tensor(rows)[:, None], together)


def towards(*experts: int, number: int = 2, margin: float = 2.0) -> torch.Tensor:
    """Logits of tokens that choose these experts."""
    return margin * torch.nn.functional.one_hot(torch.tensor(experts), number).float()


@pytest.mark.parametrize(
    ("tokens", "experts", "factor", "wanted"),
    [
        (1024, 128, 1.25, 10),  # the paper's group
        (1024, 128, 2.0, 16),
        (60, 8, 1.25, 9),  # rounded down, where DeepSpeed rounds up
        (1024, 1024, 1.0, 4),  # at least 4
        (16, 2, 8.0, 16),  # at most all
        (3, 2, 1.0, 4),
        (77, 8, 0.0, 77),  # no limit
    ],
)
def test_the_room_of_an_expert(tokens: int, experts: int, factor: float, wanted: int) -> None:
    assert capacity(torch.tensor([tokens]), experts, factor).tolist() == [wanted]


def test_first_come_first_served_in_each_group() -> None:
    crowd = [0] * 7 + [1] + [0] * 2
    routes = route(towards(*crowd, *crowd), groups_of(10, 10), 1.0)  # room for 5
    of_group = [True] * 5 + [False] * 2 + [True] + [False] * 2
    assert routes.is_kept.tolist() == 2 * of_group
    together = route(towards(*crowd, *crowd), groups_of(10, 10, together=2), 1.0)  # room for 10
    assert together.is_kept.tolist() == [True] * 11 + [False] * 6 + [True] + [False] * 2
    assert routes.chosen.tolist() == together.chosen.tolist() == [18, 2]
    assert route(towards(*crowd, *crowd), groups_of(10, 10), 0.0).is_kept.all()


def test_padding_is_no_token() -> None:
    groups = groups_of(3, 0, 5, width=8, together=2)
    assert groups.places.tolist() == [0, 1, 2, 16, 17, 18, 19, 20]
    assert groups.group.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert groups.sizes.tolist() == [3, 5]


def test_the_balance_is_one_where_experts_are_used_evenly() -> None:
    even = route(towards(0, 1, 2, 3, number=4), groups_of(4), 1.0)
    assert even.balance.item() == pytest.approx(1.0)
    uniform = route(torch.zeros(8, 4), groups_of(8), 1.0)  # p is even, and ties go to the first
    assert uniform.balance.item() == pytest.approx(1.0) and uniform.chosen.tolist() == [8, 0, 0, 0]
    collapsed = route(towards(0, 0, 0, 0, number=4, margin=50.0), groups_of(4), 1.0)
    assert collapsed.balance.item() == pytest.approx(4.0)


def test_the_balance_by_hand_before_tokens_are_dropped_and_by_group() -> None:
    logits = towards(0, 0, 0, 1, 1, 1, 1, 1, 1, 1)
    p = math.exp(2) / (math.exp(2) + 1)
    routes = route(logits, groups_of(4, 6), 0.1)
    first = 2 * (0.75 * (3 * p + 1 - p) / 4 + 0.25 * (p + 3 * (1 - p)) / 4)
    assert not routes.is_kept.all()
    assert routes.balance.item() == pytest.approx(first + 2 * p, rel=1e-6)


def test_the_z_loss_and_the_entropy_by_hand() -> None:
    routes = route(torch.tensor([[0.0, 0.0], [3.0, 1.0]]), groups_of(2), 0.0)
    assert routes.z.item() == pytest.approx(math.log(2) ** 2 + math.log(math.e**3 + math.e) ** 2, rel=1e-6)
    p = math.e**2 / (math.e**2 + 1)
    assert routes.entropy.item() == pytest.approx(math.log(2) - p * math.log(p) - (1 - p) * math.log(1 - p), rel=1e-6)


def test_what_has_a_gradient() -> None:
    """The gate and P, not the choice: the balance's gradient is that of E·Σ f·P with f as a number."""
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    routes = route(logits, groups_of(12), 1.0)
    (gradient,) = torch.autograd.grad(routes.balance, logits, retain_graph=True)
    f = routes.chosen / 12
    (wanted,) = torch.autograd.grad(3 * (f * logits.softmax(-1).mean(0)).sum(), logits)
    torch.testing.assert_close(gradient, wanted)
    (gradient,) = torch.autograd.grad(routes.gate.sum(), logits)
    (wanted,) = torch.autograd.grad(logits.softmax(-1).gather(1, routes.expert[:, None]).sum(), logits)
    torch.testing.assert_close(gradient, wanted)
    assert not routes.entropy.requires_grad


@given(
    rows=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    together=st.integers(1, 3),
    experts=st.integers(2, 5),
    factor=st.sampled_from([0.0, 0.5, 1.0, 1.25, 2.0]),
    seed=st.integers(0, 99),
)
def test_it_is_what_plain_code_makes_it(rows: list[int], together: int, experts: int, factor: float, seed: int) -> None:
    logits = torch.randn(sum(rows), experts, generator=torch.Generator().manual_seed(seed))
    routes = route(logits, groups_of(*rows, width=12, together=together), factor)
    kept, balance, start = [], 0.0, 0
    for first in range(0, len(rows), together):
        size = sum(rows[first : first + together])
        p = logits[start : start + size].softmax(-1)
        choice = p.argmax(-1).tolist()
        room = size if factor == 0 else max(4, min(size, int(size * factor / experts)))
        taken = [0] * experts
        for expert in choice:
            kept.append(taken[expert] < room)
            taken[expert] += 1
        balance += experts * sum(choice.count(e) / size * p[:, e].mean().item() for e in range(experts))
        start += size
    assert routes.is_kept.tolist() == kept
    assert routes.balance.item() == pytest.approx(balance, rel=1e-4)
    assert routes.chosen.sum().item() == sum(rows)
