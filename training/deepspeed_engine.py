"""DeepSpeed behind the engine's few calls: ZeRO stages 0 to 3, with or without offload.

Three habits of DeepSpeed are worked around here and nowhere else: on a CPU its communication layer compiles a
shared-memory kernel that training never uses; it averages gradients over ranks and micro-batches where our loss is
already a global mean; and its own Adam compiles for minutes where PyTorch's fused one is as fast.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from data_prep.errors import UserError
from training.config import PlacementConfig, TrainConfig
from training.distributed import Worker
from training.engine import adamw, optimizer_bytes

TAG = "engine"


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
    config: TrainConfig, placement: PlacementConfig, micro_batches: int, rows: int, worker: Worker
) -> dict[str, Any]:
    """DeepSpeed's own configuration. `rows` is what a worker takes per micro-batch, for its book-keeping."""
    zero: dict[str, Any] = {"stage": placement.zero}
    if worker.device.type == "cpu":
        zero["overlap_comm"] = False  # cores that communicate do not compute: 8 % slower with it
    if placement.offload_optimizer:
        zero["offload_optimizer"] = {"device": placement.offload_optimizer}
    if placement.offload_parameters:
        zero["offload_param"] = {"device": placement.offload_parameters}
    return {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": micro_batches,
        "train_batch_size": rows * micro_batches * worker.world,
        "gradient_clipping": config.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": sys.maxsize,
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
        rows = max(1, config.global_batch // (micro_batches * worker.world))
        module = module.to(worker.device)
        self.engine: Any
        self.engine, self.optimizer, _, _ = self.deepspeed.initialize(
            model=module,
            optimizer=adamw(module, config, worker.device),
            config=settings(config, placement, micro_batches, rows, worker),
            dist_init_required=False,
        )
        self.module: nn.Module = self.engine.module
        self.forward: Callable[..., Any] = self.engine
        self.stage = placement.zero
        self.worker = worker

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed will average over the ranks what is to be summed.
        self.engine.backward(loss * self.worker.world, scale_wrt_gas=False)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()  # counts the micro-batch; updates nothing yet

    def step(self, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.engine.step()
        return float(self.engine.get_global_grad_norm() or 0.0)

    def save(self, folder: Path) -> None:
        self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        path, _ = self.engine.load_checkpoint(str(folder), tag=TAG)
        if path is None:
            raise UserError(f"{folder}: DeepSpeed finds no checkpoint here; choose an earlier one.")

    @contextmanager
    def whole(self) -> Iterator[None]:
        if self.stage == 3:
            parameters = list(self.module.parameters())
            with self.deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
                yield
        else:
            yield

    def bytes_held(self) -> dict[str, int]:
        parameters = sum(_held(p).numel() * _held(p).element_size() for p in self.module.parameters())
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        return {"parameters": parameters, "optimizer": optimizer_bytes(inner)}


def _held(parameter: Tensor) -> Tensor:
    """The part of a parameter that stays on this rank (under ZeRO-3 its partition)."""
    return getattr(parameter, "ds_tensor", parameter)
