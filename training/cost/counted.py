"""The cost of an objective on rows of its `example`: parameters, operations of a step, memory of both passes.

    example ─► corruption ─► drawn ─► collate ─► prepare ─► each turn's loss and its gradient

Large networks are built on PyTorch's meta device, where nothing is allocated. Small ones, and those that compute with
their weights as they are built, are built here. Parameters are those of all players, each counted once. Operations are
what the objective says a batch takes, or are counted in its turns (forward and backward passes).

Memory of transformers follows from formulas (`training.cost.memory`). Of all others the tensors that both passes have
at once are counted as PyTorch makes and frees them. That is what a GPU's allocator is asked for; on the CPU, kernels
have buffers of their own, and a worker is timed and watched instead (`training.cost.step_benchmark`).
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data_prep import corruptions
from data_prep.corruptions import CorruptionConfig
from data_prep.corruptions.base import Corruption
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials
from training.config import NetworkConfig, ObjectiveConfig
from training.cost.transformer import Transformer, shape_of
from training.objective import AnyTurn, Batch, Objective, loss_of
from training.objectives import build

VALUES = 1 << 20  # most that rows of a counted step have: more of them take proportionally more
ROWS = 8  # of which a row's units, targets and operations are the mean
FEW = 1 << 26  # parameters of a network that is counted on real tensors, which autocast knows, and not on meta ones
STEPS = 1000  # that phases divide, for their shares


@dataclass(frozen=True)
class Cost:
    """The cost of an objective, and of one worker's micro-batch."""

    parameters: int  # of all players
    unit: str  # what input is counted in
    row_units: float  # of a row, padding included
    row_targets: float  # of a row, that are projected on the vocabulary
    row_flops: float  # of forward and backward passes; 0: not known
    activations: float  # bytes that both passes hold at once, besides weights and their gradients; 0 with a shape
    shape: Transformer | None  # of the transformer that reads tokens, if that is what is trained
    beside: tuple[Transformer, ...] = ()  # those that read the same tokens in the same network (a generator)
    idle: int = 0  # of the parameters, those that do not process a given token: other experts
    experts: int = 0  # of the parameters, those of experts


def price(
    objective: ObjectiveConfig,
    networks: Mapping[str, NetworkConfig],
    data: DataFacts,
    corruption: CorruptionConfig | None,
    rows: int,
    precision: str,
    device: str = "cpu",
) -> Cost:
    """The cost of a recipe's objective with `rows` at once. Raises UserError where networks and data do not fit."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                built = build(objective, networks, data, device)
            real = not transformers_of(built) and num_parameters(built) <= FEW
        except (RuntimeError, NotImplementedError):  # it needs numbers, and meta tensors have none
            real = True
        if real:
            built = build(objective, networks, data, device)
        return cost_of(built, data.specials, corruption, rows, precision)


def cost_of(
    objective: Objective, specials: Specials | None, corruption: CorruptionConfig | None, rows: int, precision: str
) -> Cost:
    """The cost of an objective that is built. Its networks are left in training mode."""
    example_rows = example(objective, ROWS, specials, corruption)
    batch = objective.collate(example_rows)
    shape, *beside = (transformers_of(objective) if specials is not None else []) or [None]
    activations = 0.0
    if shape is None:
        num_tried = max(1, min(rows, VALUES // _row_values(objective)))
        num_fewer = max(1, num_tried // 2)

        def peak(count: int) -> float:
            return _peak(objective, example(objective, count, specials, corruption), precision)

        peak_bytes = peak(num_tried)
        by_row = (peak_bytes - peak(num_fewer)) / (num_tried - num_fewer) if num_tried > num_fewer else peak_bytes
        activations = max(peak_bytes + by_row * (rows - num_tried), 0.0)
    return Cost(
        parameters=num_parameters(objective),
        unit=objective.unit,
        row_units=objective.num_positions(batch) / ROWS,
        row_targets=objective.num_targets(batch) / ROWS,
        row_flops=(objective.flops(batch) or counted_flops(objective, example_rows)) / ROWS,
        activations=activations,
        shape=shape,
        beside=tuple(filter(None, beside)),
        idle=_asked(objective, "idle_parameters"),
        experts=_asked(objective, "expert_parameters"),
    )


def _asked(objective: Objective, method: str) -> int:
    """What the networks that have this method say, summed."""
    return sum(getattr(module, method)() for module in players(objective).values() if hasattr(module, method))


def num_parameters(objective: Objective) -> int:
    """Parameters of all players: frozen networks do not count, and shared parameters count once."""
    return sum({id(p): p.numel() for module in players(objective).values() for p in module.parameters()}.values())


def players(objective: Objective) -> dict[str, nn.Module]:
    """The networks that train, by name."""
    return {
        name: module
        for name, module in objective.networks().items()
        if any(parameter.requires_grad for parameter in module.parameters())
    }


def transformers_of(objective: Objective) -> list[Transformer]:
    """The shapes of the models of `transformers` in the network that trains; none where there are several networks."""
    from transformers import PreTrainedModel

    trained = list(players(objective).values())
    if len(trained) != 1:
        return []
    models = {name: module for name, module in trained[0].named_modules() if isinstance(module, PreTrainedModel)}
    configs: list[Any] = [
        model.config for name, model in models.items() if not any(name.startswith(f"{outer}.") for outer in models)
    ]
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if not all(isinstance(getattr(config, name, None), int) for config in configs for name in needed):
        return []
    return [shape_of(config) for config in configs]


# -- made-up rows -----------------------------------------------------------------------------------------------------


def example(
    objective: Objective, n: int, specials: Specials | None, corruption: CorruptionConfig | None, at: str | None = None
) -> Rows:
    """n made-up rows, corrupted as the recipe says and changed by the objective's own draws.

    at: leave rows that are corrupted at another moment as they are before it, and drawn by nothing.
    """
    rows = objective.example(n)
    draws = Draws(0, 0, np.arange(n))
    if corruption is not None and corruption.kind != "none":
        corrupt = corruptions.build(corruption, specials)
        rows = uncorrupted(rows, corrupt)
        if at is None or corruption.at == at:
            rows = corrupt(rows, draws)
    return rows if at else objective.drawn(rows, draws)


def uncorrupted(rows: Rows, corruption: Corruption) -> Rows:
    """Rows without the columns that corruptions write, and with those that this one needs: every item begins a unit.

    Their length is its `raw_length`, as that of shards, so that what it leaves is as long as the example.
    """
    column = rows["input"] if "input" in rows else rows["seen"]
    if isinstance(column, Ragged):
        column = _of_lengths(column, [corruption.raw_length(length) for length in column.lengths.tolist()])
    columns = {name: value for name, value in rows.items() if name not in corruptions.written()}
    missing = [name for name in corruption.config.needs.columns if name not in rows]
    if isinstance(column, Ragged):
        numbers = np.arange(1, len(column.values) + 1)  # in `unit` all different, in `word_start` none is 0
        columns |= {name: Ragged(numbers, column.offsets) for name in missing}
    return {**columns, "input": column}


def _of_lengths(column: Ragged, lengths: list[int]) -> Ragged:
    """Rows of other lengths: their beginnings, or their items over and over."""
    places = Ragged.from_lengths(np.empty(sum(lengths), bool), lengths).positions()
    row = np.repeat(np.arange(len(lengths)), lengths)
    return Ragged.from_lengths(column.values[column.offsets[row] + places % column.lengths[row]], lengths)


def _row_values(objective: Objective) -> int:
    """Numbers in the largest column of a row."""
    columns = objective.example(1).values()
    return max(1, *(math.prod(np.shape(c.values if isinstance(c, Ragged) else c)) for c in columns))


# -- counting on the networks -----------------------------------------------------------------------------------------


def counted_flops(objective: Objective, rows: Rows) -> float:
    """Operations of a step on rows, forward and backward; of phases that differ, by their shares of the steps."""
    total = 0.0
    phases = objective.phases(STEPS)
    for phase in phases:
        for turn in objective.turns(phase.name, 0):
            counter = FlopCounterMode(display=False)
            _pass(objective, turn, rows, "fp32", counter, _LiveBytes())
            total += counter.get_total_flops() * phase.steps / sum(each_phase.steps for each_phase in phases)
    return float(total)


def _peak(objective: Objective, rows: Rows, precision: str) -> float:
    """Peak bytes without gradients, in the costliest phase."""
    highest = 0.0
    for phase in objective.phases(STEPS):
        for turn in objective.turns(phase.name, 0):
            live = _LiveBytes()
            gradient_bytes = _pass(objective, turn, rows, precision, nullcontext(), live)
            highest = max(highest, live.peak - gradient_bytes)
    return highest


def _pass(objective: Objective, turn: AnyTurn, rows: Rows, precision: str, outer: Any, live: _LiveBytes) -> int:
    """One turn, forward and backward, watched; bytes of the gradients, which are thrown away."""
    nets = {name: module.train() for name, module in objective.networks().items()}
    device = next(p.device for module in players(objective).values() for p in module.parameters())
    batch: Batch = {name: value.to(device) for name, value in objective.collate(rows).items()}
    count = len(next(iter(batch.values())))
    cast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
    with outer, live:
        with torch.no_grad():
            batch = objective.prepare(nets, batch, Draws(0, 0, np.arange(count)))
        with cast:
            paid = sum(loss_of(turn, nets, batch).sums.values())
        paid.backward()  # type: ignore[union-attr]
    del paid, batch
    gradient_bytes = 0
    for module in nets.values():
        gradient_bytes += sum(part.nbytes for part in _dense_parts(p.grad for p in module.parameters()))
        module.zero_grad(set_to_none=True)
    return gradient_bytes


def _dense_parts(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among the values; of a sparse one, its indices and values, for it has no memory of its own."""
    for value in values:
        if not isinstance(value, torch.Tensor):
            continue
        if value.layout == torch.sparse_csr:
            yield from (value.crow_indices(), value.col_indices(), value.values())
        else:
            yield from (value._indices(), value._values()) if value.is_sparse else (value,)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside, until each is freed; `peak` is the most of them at once.

    A meta tensor has no number to branch on; it is taken as 1. What asks is whether a mask is full, and in an example
    it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        gc.collect()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return torch.ones((), dtype=args[0].dtype).item()
        inputs = {id(tensor.untyped_storage()) for tensor in _dense_parts(tree_leaves((args, kwargs)))}
        result = func(*args, **(kwargs or {}))
        for tensor in _dense_parts(tree_leaves(result)):
            self._see(tensor.untyped_storage(), inputs)
        return result

    def _see(self, storage: torch.UntypedStorage, inputs: set[int]) -> None:
        if storage in self._seen or id(storage) in inputs:  # a view, or a result in place
            return
        size = storage.nbytes()
        self._seen.add(storage)
        weakref.finalize(storage, self._freed, size)
        self._now += size
        self.peak = max(self.peak, self._now)

    def _freed(self, size: int) -> None:
        self._now -= size
