"""Routing of tokens to experts (Switch: Fedus et al. 2021, arXiv:2101.03961, section 2; Mesh TensorFlow's moe.py).

    p = softmax(router · x)        in fp32; the token goes to its likeliest expert e, whose output it takes p_e times
    C = max(4, min(T, ⌊T · factor / E⌋))      tokens of a group of T that each of E experts has room for
    first come, first served       of a group's tokens, in order; for the others the layer's output is 0

    balance = E · Σ_e f_e · P_e    f: share of a group's tokens that chose e, before any is dropped; P: mean of p_e.
                                   1 where both are even; only P has a gradient
    z       = (log Σ_e exp logit_e)², mean over tokens (ST-MoE: Zoph et al. 2022, arXiv:2202.08906, section 3.1)

Padding is no token: it is not routed, has no room kept for it, and counts nowhere. Groups are whole rows, so nothing
here depends on how a step is divided among workers.

N tokens, G groups, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.models.experts.config import FEWEST


@dataclass(frozen=True)
class Groups:
    """The tokens of a batch, padding left out, in groups of consecutive rows."""

    places: Tensor  # [N], flat b·L + l
    group: Tensor  # [N], ascending
    sizes: Tensor  # [G] tokens of each

    @classmethod
    def of(cls, is_token: Tensor, rows: int) -> Groups:
        """is_token: bool [B, L]. rows: of a group; the last one may have fewer."""
        number = torch.arange(len(is_token), device=is_token.device) // rows
        places = is_token.flatten().nonzero()[:, 0]
        sizes = torch.zeros(-(-len(is_token) // rows), dtype=torch.long, device=is_token.device)
        return cls(places, number[places // is_token.shape[1]], sizes.index_add_(0, number, is_token.sum(1)))


class Routes(NamedTuple):
    """Where N tokens go, and statistics of it. Sums are over tokens, or groups."""

    expert: Tensor  # [N]
    gate: Tensor  # [N] fp32, the probability of that expert
    is_kept: Tensor  # [N] bool
    balance: Tensor  # summed over groups; has a gradient
    z: Tensor  # summed over tokens; has a gradient
    entropy: Tensor  # of p, in nats, summed over tokens
    chosen: Tensor  # [E] tokens that chose each expert, before any is dropped


def capacity(sizes: Tensor, experts: int, factor: float) -> Tensor:
    """Tokens that an expert has room for in groups of `sizes` tokens; factor 0: all of them."""
    if factor == 0:
        return sizes
    return torch.minimum(sizes, (sizes.double() * factor / experts).long()).clamp(min=FEWEST)


def route(logits: Tensor, groups: Groups, factor: float) -> Routes:
    """logits: fp32 [N, E]. factor: of the capacity."""
    p = logits.softmax(-1)
    gate, expert = p.max(-1)
    chosen = F.one_hot(expert, p.shape[-1])  # [N, E]
    by_group = chosen.new_zeros(len(groups.sizes), p.shape[-1]).index_add_(0, groups.group, chosen)
    before = chosen.cumsum(0) - chosen  # tokens of the same choice that come first, those of other groups, too
    before_group = by_group.cumsum(0) - by_group
    place = (before - before_group[groups.group]).gather(1, expert[:, None])[:, 0]
    sizes = groups.sizes[:, None].clamp(min=1)
    mean_p = p.new_zeros(by_group.shape).index_add(0, groups.group, p) / sizes
    with torch.no_grad():
        entropy = -(p * logits.log_softmax(-1)).sum()
    return Routes(
        expert=expert,
        gate=gate,
        is_kept=place < capacity(groups.sizes, p.shape[-1], factor)[groups.group],
        balance=p.shape[-1] * (by_group / sizes * mean_p).sum(),
        z=logits.logsumexp(-1).square().sum(),
        entropy=entropy,
        chosen=by_group.sum(0),
    )
