"""Engines: each holds one player, that is its network and optimizer, and sums gradients over the workers.

Two engines answer the same few calls. `PlainEngine` is plain PyTorch and sums gradients over the workers; the
DeepSpeed engine (`training.engines.deepspeed`) partitions optimizer state, gradients and parameters (ZeRO 1, 2, 3;
Rajbhandari et al. 2020). The loss that arrives is already divided by its global weight, so both of them *sum*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from data_prep.errors import UserError
from training.config import TrainConfig
from training.distributed import Worker
from training.engines.checkpoint_state import WEIGHT, Piece, buffers, optimizer_state

RATE_SHARE = "rate_share"  # of groups of parameters
SUM_BUCKET = 1 << 23  # gradient elements summed in one call


class Engine(Protocol):
    """One player's network and optimizer."""

    module: nn.Module
    forward: Callable[..., Any]

    def backward(self, loss: Tensor) -> None:
        """Add this micro-batch's gradients."""
        ...

    def step(self, lr: float) -> float:
        """Sum gradients over the workers, clip, update, clear; returns the norm before clipping.

        Where the norm is not finite, nothing is updated: not a weight, not a moment. It is the same on every worker.
        """
        ...

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]:
        """The state between two steps, as views in groups; a group is valid until the next is asked for.

        What this rank is to write; with `changing`, all that it holds, to be filled: once every group has been taken,
        the network is what was filled in. All ranks call it together.
        """
        ...

    def whole(self) -> AbstractContextManager[None]:
        """Inside, rank 0 sees every parameter whole."""
        ...

    def bytes_held(self) -> dict[str, int]:
        """Bytes of `parameters` and `optimizer` state that this rank keeps between steps."""
        ...


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and other vectors do not (BERT, original code).

    A network may have `rate_shares`: by name, the shares of the learning rate at which some parameters learn.
    """
    shares: Mapping[str, float] = getattr(module, "rate_shares", {})
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((_dimensions(parameter) < 2, shares.get(name, 1.0)), []).append(parameter)
    return [
        {"params": groups[is_vector, share], "weight_decay": 0.0 if is_vector else weight_decay, RATE_SHARE: share}
        for is_vector, share in sorted(groups)
    ]


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of an optimizer its share of the learning rate; all of it where none is set, as in older
    checkpoints."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(RATE_SHARE, 1.0)


def adamw(module: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with one fused kernel per group."""
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=device.type in ("cpu", "cuda"),
    )


def optimizer_of(module: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that `train.optimizer` names."""
    if rows_with_gradients(module) and (config.optimizer != "sgd" or config.weight_decay):
        setting = f"{config.optimizer} with weight_decay {config.weight_decay:g}"
        raise UserError(
            f"train.optimizer: {setting} changes every row of a table in each step, and this network's few have "
            "gradients; set it to sgd and weight_decay to 0."
        )
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameter_groups(module, config.weight_decay), lr=config.lr)
    if config.optimizer == "adafactor":  # not foreach, which makes copies of all parameters at once
        return torch.optim.Adafactor(parameter_groups(module, config.weight_decay), lr=config.lr, foreach=False)
    return adamw(module, config, device)


def rows_with_gradients(module: nn.Module) -> list[nn.Parameter]:
    """Tables whose gradients are sparse: rows that took part, and no others."""
    kinds = nn.Embedding | nn.EmbeddingBag
    tables = [table for table in module.modules() if isinstance(table, kinds) and table.sparse]
    return [table.weight for table in tables]  # type: ignore[misc]


def optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the optimizer's own tensors (for Adam: both moments)."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )


def is_player(module: nn.Module) -> bool:
    """Whether the network has parameters to train."""
    return any(parameter.requires_grad for parameter in module.parameters())


def weights(module: nn.Module) -> list[Piece]:
    """All parameters, without anything of an optimizer."""
    return [Piece(name, 0, {WEIGHT: parameter.data}) for name, parameter in module.named_parameters()]


def share(pieces: list[Piece], worker: Worker, changing: bool) -> list[Piece]:
    """Of pieces that every rank holds, those that this one writes; with `changing`, all."""
    return pieces if changing else pieces[worker.rank :: worker.world]


def replicated_pieces(
    module: nn.Module, optimizer: torch.optim.Optimizer, worker: Worker, changing: bool
) -> list[Piece]:
    """Pieces where every rank holds everything: each writes its share of the parameters."""
    trained = {p for group in optimizer.param_groups for p in group["params"]}
    pieces = [
        Piece(name, 0, {WEIGHT: p.data, **(optimizer_state(optimizer, p, changing) if p in trained else {})})
        for name, p in module.named_parameters()
    ] + buffers(module)
    return share(pieces, worker, changing)


def _dimensions(parameter: Tensor) -> int:
    shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 keeps the true shape aside
    return len(shape)


class PlainEngine:
    """Plain PyTorch: every rank holds everything."""

    def __init__(self, module: nn.Module, config: TrainConfig, worker: Worker) -> None:
        self.module = module.to(worker.device)
        self.forward: Callable[..., Any] = self.module
        self.optimizer = optimizer_of(self.module, config, worker.device)
        self.clip = config.clip
        self.worker = worker
        self.tables = rows_with_gradients(self.module)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, lr: float) -> float:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        _sum_rows(self.tables, self.worker)
        tables = set(self.tables)
        whole = [p for p in parameters if p not in tables]
        if self.worker.world > 1:
            _sum_gradients(whole)
        limit = self.clip if self.clip > 0 else float("inf")
        norms = [torch.nn.utils.clip_grad_norm_(whole, limit)] if whole else []
        norms += [_clip_rows(table, limit) for table in self.tables]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        set_rate(self.optimizer, lr)
        size = float(norm)  # waits for the device, here or later
        if math.isfinite(size):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return size

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]:
        yield replicated_pieces(self.module, self.optimizer, self.worker, changing)

    def whole(self) -> AbstractContextManager[None]:
        return nullcontext()

    def bytes_held(self) -> dict[str, int]:
        parameters = sum(p.numel() * p.element_size() for p in self.module.parameters())
        return {"parameters": parameters, "optimizer": optimizer_bytes(self.optimizer)}


class FrozenEngine:
    """Holds a network that is not trained: on the device and in checkpoints, but without an optimizer."""

    def __init__(self, module: nn.Module, worker: Worker) -> None:
        self.module = module.to(worker.device)
        self.forward: Callable[..., Any] = self.module
        self.worker = worker

    def backward(self, loss: Tensor) -> None:
        raise TypeError("a network without anything to train takes no turn")

    def step(self, lr: float) -> float:
        raise TypeError("a network without anything to train takes no turn")

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]:
        yield share([*weights(self.module), *buffers(self.module)], self.worker, changing)

    def whole(self) -> AbstractContextManager[None]:
        return nullcontext()

    def bytes_held(self) -> dict[str, int]:
        return {"parameters": sum(p.numel() * p.element_size() for p in self.module.parameters()), "optimizer": 0}


def _sum_rows(tables: Iterable[nn.Parameter], worker: Worker) -> None:
    """Gather the rows of sparse gradients from all workers, in order of rank, and add those of the same row."""
    for table in tables:
        gradient = _once_each(_no_rows(table) if table.grad is None else table.grad)
        if worker.world > 1:
            own = [0.0] * worker.world
            own[worker.rank] = float(gradient._nnz())
            counts = [int(count) for count in worker.sum(own)]
            indices = torch.cat(worker.rows(gradient.indices()[0], counts))[None]
            values = torch.cat(worker.rows(gradient.values(), counts))
            gradient = torch.sparse_coo_tensor(indices, values, table.shape, check_invariants=False).coalesce()
        table.grad = gradient


def _once_each(gradient: Tensor) -> Tensor:
    """A sparse gradient with each row once, in order; one that has them so already is not copied."""
    ids = gradient._indices()[0]
    if bool((ids[1:] > ids[:-1]).all()):
        values = gradient._values()
        return torch.sparse_coo_tensor(ids[None], values, gradient.shape, is_coalesced=True, check_invariants=False)
    return gradient.coalesce()


def _no_rows(table: nn.Parameter) -> Tensor:
    indices, values = torch.empty((1, 0), dtype=torch.long), torch.empty((0, *table.shape[1:]), dtype=table.dtype)
    return torch.sparse_coo_tensor(indices, values, table.shape, device=table.device, check_invariants=False)


def _clip_rows(table: nn.Parameter, limit: float) -> Tensor:
    """Scale rows of a sparse gradient that are longer than `limit` down to it; the whole norm before that."""
    rows = table.grad.values()  # type: ignore[union-attr]
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    longer = torch.nonzero(norms[:, 0] > limit)[:, 0]
    if len(longer):
        rows[longer] *= limit / norms[longer]
    return torch.linalg.vector_norm(norms)


def _sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum gradients over the workers, in buckets, in the same order everywhere."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.grad.numel()
        if size >= SUM_BUCKET:
            _sum_bucket(bucket)
            bucket, size = [], 0
    if bucket:
        _sum_bucket(bucket)


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
