"""A layer of experts in networks of `transformers`, routed as in training (`training.models.experts.routing`).

The experts are the library's, under its names; the routing is ours. The library's drops tokens by one fixed number,
counts padding, multiplies what experts are given by the router's noise, and under autocast its router is in bf16.

    tokens ─► router ─► sorted by expert ─► each expert its own ─► back in order, times the gate

Experts may be divided among workers: each of them keeps a run of consecutive ones, and sends the others' tokens to
those who have them and gets them back (Lepikhin et al. 2020, arXiv:2006.16668, section 3.2). What is computed is the
same, so an expert gets the tokens of all workers, and its gradient is that of all their rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.cpu_kernels import spare_rows
from training.models.experts.config import STACKS
from training.models.experts.routing import Groups, Routes, route

SCALE = 0.1  # of initial weights: truncated normal of variance 0.1 / inputs (Fedus et al. 2021, section 2.4)
CUT = 2.0  # standard deviations


@dataclass
class Passage:
    """What the layers of a network need to know about the current batch, and the statistics that they report."""

    groups: dict[str, Groups] = field(default_factory=dict)  # by stack; none: all are tokens, and none is dropped
    factor: float = 0.0  # of the capacity
    training: bool = False  # whether the layers are; what is left of another mode's batch is not used
    routes: dict[str, Routes] = field(default_factory=dict)  # by layer


class ExpertLayer(nn.Module):
    """In place of the library's feed-forward layer of experts, with its weights."""

    def __init__(self, mlp: Any, stack: str, name: str, passage: Passage) -> None:
        super().__init__()
        self.router, self.experts = mlp.router, mlp.experts
        self.num_experts = len(mlp.experts)
        self.jitter = float(mlp.router.jitter_noise)
        self.stack, self.name, self.passage = stack, name, passage
        self.group: dist.ProcessGroup | None = None  # of the workers among whom the experts are divided
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim == 2:
                deviation = (SCALE / parameter.shape[1]) ** 0.5
                nn.init.trunc_normal_(parameter, 0.0, deviation, -CUT * deviation, CUT * deviation)

    def forward(self, hidden: Tensor) -> Tensor:
        flat = hidden.flatten(0, -2)
        groups, factor = self._groups(hidden)
        tokens = flat[groups.places]
        routes = route(self._logits(tokens), groups, factor)
        self.passage.routes[self.name] = routes
        kept = routes.is_kept.nonzero()[:, 0]
        made = self._of_experts(tokens[kept], routes.expert[kept]) * routes.gate[kept, None]
        out = torch.zeros_like(flat).index_add(0, groups.places[kept], made.to(flat.dtype))
        return out.view(hidden.shape)

    def _groups(self, hidden: Tensor) -> tuple[Groups, float]:
        """How the batch that passes is routed, and the factor of the capacity; without limit where nothing is given."""
        groups = self.passage.groups.get(self.stack) if self.passage.training == self.training else None
        if groups is not None:
            return groups, self.passage.factor
        everywhere = torch.ones(hidden.shape[:-1], dtype=torch.bool, device=hidden.device)
        return Groups.of(everywhere, rows=1), 0.0

    def _logits(self, tokens: Tensor) -> Tensor:
        """fp32 [N, E], whatever the precision around it. In training the router's input is noisy (section 2.4)."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            if self.training and self.jitter:
                tokens = tokens * torch.empty_like(tokens).uniform_(1 - self.jitter, 1 + self.jitter)
            return self.router.classifier(tokens)

    def _of_experts(self, tokens: Tensor, expert: Tensor) -> Tensor:
        """What its expert makes of each of N tokens."""
        order = expert.argsort(stable=True)
        counts = expert.bincount(minlength=self.num_experts)
        tokens = tokens[order]
        made = self._run(tokens, counts.tolist()) if self.group is None else self._run_divided(tokens, counts)
        return torch.zeros_like(made).index_copy(0, order, made)

    def _run(self, tokens: Tensor, counts: list[int]) -> Tensor:
        """Tokens sorted by expert through the experts that are here, `counts` of them each.

        All experts run, on no tokens if need be: whether a weight has a gradient must not depend on how a step is cut.
        """
        made = []
        for expert, part in zip(self.experts.values(), tokens.split(counts), strict=True):
            made.append(expert(F.pad(part, (0, 0, 0, spare_rows(len(part), part.device))))[: len(part)])
        return torch.cat(made)

    def _run_divided(self, tokens: Tensor, counts: Tensor) -> Tensor:
        """The same where each worker of the group has some of the experts."""
        workers, here = dist.get_world_size(self.group), len(self.experts)
        received = torch.empty_like(counts)
        dist.all_to_all_single(received, counts, group=self.group)
        by_worker = received.view(workers, here)
        sent = counts.view(workers, here).sum(1).tolist()
        arriving = by_worker.sum(1).tolist()
        tokens = cast(Tensor, _Exchange.apply(tokens, sent, arriving, self.group))
        number = torch.arange(here, device=counts.device).repeat(workers)  # they arrive by worker, then by expert
        order = number.repeat_interleave(received).argsort(stable=True)
        made = self._run(tokens[order], by_worker.sum(0).tolist())
        made = torch.zeros_like(made).index_copy(0, order, made)
        return cast(Tensor, _Exchange.apply(made, arriving, sent, self.group))

    # -- divided among workers ----------------------------------------------------------------------------------------

    def divide(self, group: dist.ProcessGroup) -> list[nn.Parameter]:
        """Keep this worker's share of the experts; returns their parameters, which other workers do not have."""
        self.group = group
        share = self.num_experts // dist.get_world_size(group)
        first = dist.get_rank(group) * share
        for number in [*range(first), *range(first + share, self.num_experts)]:
            del self.experts[f"expert_{number}"]
        return list(self.experts.parameters())

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Inside, all experts are here, and no other worker is needed to run them. All of the group enter together."""
        if self.group is None:
            yield
            return
        group, own = self.group, dict(self.experts.items())
        share = len(own)
        template = next(iter(own.values()))
        gathered = {}
        for number in range(self.num_experts):
            name = f"expert_{number}"
            expert = own[name] if name in own else copy.deepcopy(template)
            for parameter in expert.parameters():
                dist.broadcast(parameter.data, group=group, group_src=number // share)
            gathered[name] = expert
        self.experts.clear()
        self.experts.update(gathered)
        self.group = None
        try:
            yield
        finally:
            self.experts.clear()
            self.experts.update(own)
            self.group = group


class _Exchange(torch.autograd.Function):
    """Sends each worker of a group its run of consecutive rows, and takes theirs."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], arriving: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.back = (arriving, sent, group)
        out = rows.new_empty(sum(arriving), *rows.shape[1:])
        dist.all_to_all_single(out, rows.contiguous(), arriving, sent, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None, None]:
        sent, arriving, group = ctx.back
        return cast(Tensor, _Exchange.apply(grads[0], sent, arriving, group)), None, None, None


def with_routing(model: Any, passage: Passage) -> Iterator[ExpertLayer]:
    """Put layers of this module in place of the library's in a new model."""
    for stack in STACKS:
        for number, block in enumerate(getattr(model, stack).block):
            feed_forward = block.layer[-1]
            if hasattr(feed_forward.mlp, "experts"):
                feed_forward.mlp = ExpertLayer(feed_forward.mlp, stack, f"{stack}-{number}", passage)
                yield feed_forward.mlp
