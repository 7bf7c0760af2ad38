"""DeepSpeed with the interface of an engine: ZeRO stages 0 to 3, with or without offload.

Three habits of DeepSpeed are worked around here and nowhere else: on a CPU its communication layer compiles a
shared-memory kernel that training never uses; it averages gradients over ranks and micro-batches where our loss is
already a global mean; and its own Adam compiles for minutes where PyTorch's fused one is as fast.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from training.config import PlacementConfig, TrainConfig
from training.distributed import Worker
from training.engines import experts, offload
from training.engines.checkpoint_state import WEIGHT, Piece, buffers, optimizer_state
from training.engines.plain import adamw, optimizer_bytes, replicated_pieces, set_rate


def load_deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed for this device and attach it to the process group (one is made if there is none)."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")  # a launcher's; a lone process has none
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    import deepspeed

    if device.type == "cpu":
        import_module("deepspeed.comm.torch")
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_initialized():
        dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    deepspeed.init_distributed(dist_backend=backend, verbose=False)
    return deepspeed


def settings(
    config: TrainConfig,
    placement: PlacementConfig,
    module: nn.Module,
    micro_batches: int,
    worker: Worker,
) -> dict[str, Any]:
    """DeepSpeed's own configuration."""
    rows = max(1, config.global_batch // (micro_batches * worker.world))  # for its book-keeping
    chosen = placement.zero_settings
    offloaded = offload.settings(placement, module, worker.world)
    zero = {
        "stage": placement.zero,
        "overlap_comm": chosen.overlap_comm,
        "contiguous_gradients": chosen.contiguous_gradients,
        "reduce_bucket_size": chosen.reduce_bucket_size,
        "allgather_bucket_size": chosen.allgather_bucket_size,
        "sub_group_size": chosen.sub_group_size,
        "stage3_prefetch_bucket_size": chosen.prefetch_bucket_size,
        "stage3_param_persistence_threshold": chosen.param_persistence_threshold,
        "stage3_max_live_parameters": chosen.max_live_parameters,
        **offloaded.pop("zero_optimization"),
    }
    if zero["overlap_comm"] is None and worker.device.type == "cpu":
        zero["overlap_comm"] = False  # cores that communicate do not compute: 8 % slower with it
    return {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": micro_batches,
        "train_batch_size": rows * micro_batches * worker.world,
        "gradient_clipping": config.clip if placement.zero else 0.0,  # in stage 0 we clip: see `step`
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
        **offloaded,
    }


class DeepSpeedEngine:
    """One player under DeepSpeed."""

    def __init__(
        self,
        module: nn.Module,
        config: TrainConfig,
        placement: PlacementConfig,
        worker: Worker,
        micro_batches: int,
    ) -> None:
        self.deepspeed = load_deepspeed(worker.device)
        module = module.to(worker.device)
        if placement.expert_parallel > 1:
            experts.divide(module, placement.expert_parallel)
        self.engine: Any
        self.engine, self.optimizer, _, _ = self.deepspeed.initialize(
            model=module,
            optimizer=experts.with_groups_of_experts(adamw(module, config, worker.device), placement.expert_parallel),
            config=settings(config, placement, module, micro_batches, worker),
            dist_init_required=False,
        )
        self.module: nn.Module = self.engine.module
        self.forward: Callable[..., Any] = self.engine
        self.stage = placement.zero
        self.clip = config.clip
        self.worker = worker

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed will average over the ranks what is to be summed.
        self.engine.backward(loss * self.worker.world, scale_wrt_gas=False)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()  # counts the micro-batch; updates nothing yet

    def step(self, lr: float) -> float:
        set_rate(self.optimizer, lr)
        if self.stage == 0:  # DeepSpeed would keep the norm to itself, and update with any
            norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip or math.inf))
            if not math.isfinite(norm):
                self.module.zero_grad(set_to_none=True)  # without gradients, an update changes nothing
            self.engine.step()
            return norm
        self.engine.step()  # stages 1 to 3 skip an update whose norm is not finite
        return float(self.engine.get_global_grad_norm())

    def pieces(self, changing: bool = False) -> Iterator[list[Piece]]:
        if self.stage == 0:
            yield replicated_pieces(self.module, self.optimizer, self.worker, changing)
            return
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        yield from (self._pieces_of_3 if self.stage == 3 else self._pieces_of_1_and_2)(names, changing)
        yield buffers(self.module) if changing or self.worker.leads else []

    def _pieces_of_1_and_2(self, names: dict[nn.Parameter, str], changing: bool) -> Iterator[list[Piece]]:
        """Of each parameter group laid out flat, this rank's consecutive part."""
        zero: Any = self.optimizer
        for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            kinds = {WEIGHT: flat.detach(), **optimizer_state(zero.optimizer, flat, changing)}
            pieces = []
            for parameter in group:
                name, mapping = names.pop(parameter), parameter._hp_mapping
                if mapping is not None:  # some of it is here
                    in_fp32, in_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
                    pieces.append(Piece(name, in_parameter.start, _narrow(kinds, in_fp32.start, in_fp32.numel)))
            yield pieces
        if changing:
            zero.update_lp_params()
        frozen = [Piece(name, 0, {WEIGHT: parameter.data}) for parameter, name in names.items()]
        yield frozen if changing or self.worker.leads else []

    def _pieces_of_3(self, names: dict[nn.Parameter, str], changing: bool) -> Iterator[list[Piece]]:
        """Of each parameter this rank's part, by sub-groups: of those on a disk, one is in memory at a time."""
        zero: Any = self.optimizer
        if changing:
            zero.checkpoint_event_prologue()  # gives back what is gathered
        for number, group in enumerate(zero.fp16_groups):
            swapped = zero._swappable_optimizer_subgroup(number)
            if swapped:
                zero._optimizer_states_and_gradient_swap_in(number)
            flat = zero.fp32_partitioned_groups_flat[number]
            kinds = {WEIGHT: flat.detach(), **optimizer_state(zero.optimizer, flat, changing)}
            offsets = [zero.grad_position[zero.get_param_id(parameter)][1] for parameter in group]
            pieces = [self._part(names.pop(p), p, kinds, offset) for p, offset in zip(group, offsets, strict=True)]
            yield [piece for piece in pieces if piece]
            if changing:
                zero._reassign_or_swap_out_partitioned_parameters(number)
            if swapped and changing:
                zero._optimizer_states_and_gradient_swap_out(number)
            elif swapped:
                zero._release_swap_buffers(number)
        frozen = [self._part(name, p, {WEIGHT: p.ds_tensor.data}, 0) for p, name in names.items()]  # type: ignore[attr-defined]
        yield [piece for piece in frozen if piece]
        if changing:
            zero.checkpoint_event_epilogue()  # gathers again those that stay whole

    def _part(self, name: str, parameter: Any, kinds: dict[str, Tensor], offset: int) -> Piece | None:
        """This rank's part of a parameter under ZeRO-3, which lies at `offset` in `kinds`; the last ones are padded."""
        size = parameter.partition_numel()
        start = self.worker.rank * size
        num_held = min(size, parameter.ds_numel - start)
        return Piece(name, start, _narrow(kinds, offset, num_held)) if num_held > 0 else None

    @contextmanager
    def whole(self) -> Iterator[None]:
        if self.stage == 3:
            parameters = list(self.module.parameters())
            with self.deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
                yield
        else:
            module: Any = self.module
            with module.all_experts() if hasattr(module, "all_experts") else nullcontext():
                yield

    def bytes_held(self) -> dict[str, int]:
        parameters = sum(_held(p).numel() * _held(p).element_size() for p in self.module.parameters())
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        return {"parameters": parameters, "optimizer": optimizer_bytes(inner)}


def _narrow(kinds: dict[str, Tensor], start: int, size: int) -> dict[str, Tensor]:
    return {kind: value.narrow(0, start, size) if value.ndim else value for kind, value in kinds.items()}


def _held(parameter: Tensor) -> Tensor:
    """The part of a parameter that stays on this rank (under ZeRO-3 its partition)."""
    return getattr(parameter, "ds_tensor", parameter)
