"""The memory that a training worker needs, part by part.

    process        interpreter and libraries
    weights        4 bytes a parameter; gradients 4, Adam's moments 8. ZeRO 1, 2 and 3 divide moments, gradients and
                   weights, in this order, by the workers (Rajbhandari et al. 2020, arXiv:1910.02054, section 5);
                   offload moves them to the host (Ren et al. 2021, arXiv:2101.06840; Rajbhandari et al. 2021,
                   arXiv:2104.07857)
    buffers        what sums gradients over workers, and what DeepSpeed 0.19 copies on the way
    activations    what the backward pass needs (`training.cost.transformer`), the loss head's logits, weights in bf16

On a GPU it is what PyTorch's allocator has reserved, which follows from the network's shape (`memory`) or is counted
(`counted_memory`). On the CPU it is anonymous resident memory, in which malloc's heap counts whole: kernels have
buffers of their own, and blocks of many sizes leave gaps. No formula knows them, so a trial is watched
(`watched_memory`); `python -m tests.benchmarks.plan_recipes` compares what follows with what is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.config import PlacementConfig
from training.cost.transformer import BF16, FP32, MASK, Transformer, expert_activations, layer_activations

if TYPE_CHECKING:
    from training.cost.counted import Cost

MiB = 1 << 20
# Anonymous bytes of a process that is about to take its first step, beyond those of a trial: Ray's library; Prefect,
# MLflow and what earlier stages of the flow have left.
PROCESS = {"worker": 0, "ray": 73 * MiB, "flow": 140 * MiB}
ARENA = 64 * MiB  # the largest block that glibc keeps for a thread, and how many threads of gloo keep one
THREADS = 4
SUM_BUCKET = (1 << 23) * FP32  # `training.engines.plain`
RESERVED = 1.1  # of what a GPU's allocator has reserved, per byte in use


@dataclass(frozen=True)
class Batch:
    """What a worker takes at once: `rows` of `length` tokens, of which `targets` are predicted in all."""

    rows: int
    length: int
    targets: int


@dataclass(frozen=True)
class Memory:
    """Bytes by part; `host` is what a GPU's worker keeps in the host's memory or, with NVMe, on its disk."""

    process: float
    weights: float
    gradients: float
    moments: float
    buffers: float
    activations: float
    host: float = 0.0

    @property
    def total(self) -> float:
        return self.process + self.weights + self.gradients + self.moments + self.buffers + self.activations


def memory(
    shape: Transformer,
    parameters: int,
    batch: Batch,
    placement: PlacementConfig,
    precision: str,
    beside: Sequence[Transformer] = (),
    experts: int = 0,
) -> Memory:
    """The memory of a worker's GPU at its peak; `parameters` are all of the network's.

    beside: other transformers that read the same rows; what is predicted is counted once. experts: those of the
    parameters that `expert_parallel` divides.
    """
    size = float(parameters * FP32)
    here = size - experts * FP32 * (1 - 1 / placement.expert_parallel)
    checkpointing = placement.activation_checkpointing
    divided = placement.expert_parallel
    activation_bytes = activations(shape, batch, precision, checkpointing, divided) + sum(
        activations(other, replace(batch, targets=0), precision, checkpointing) for other in beside
    )
    states = _states(size, placement, here)
    host = 0.0
    if placement.offload_optimizer:
        host += states["moments"] + 2 * size / placement.workers  # with the weights and gradients of the update
        states["moments"] = 0.0
        if placement.zero == 3:
            states["gradients"] = 0.0
    if placement.offload_parameters:
        host += states["weights"]
        states["weights"] = 0.0
    return _reserved(states, _gpu_buffers(here, placement), activation_bytes, host)


def counted_memory(cost: Cost, placement: PlacementConfig, optimizer: str, accumulated: bool) -> Memory:
    """The memory of a worker's GPU at its peak, for networks whose activations follow from no formula."""
    size = float(cost.parameters * FP32)
    states = _states_of(cost, placement, optimizer)
    return _reserved(states, _gpu_buffers(size, placement) + (size if accumulated else 0.0), cost.activations)


@dataclass(frozen=True)
class Trial:
    """What was seen of a worker on the CPU; bytes of the whole network, whatever number of layers was watched."""

    process: float  # when its networks are built, without their weights
    working: float  # beyond the process, at the peak
    placement: PlacementConfig
    share: float = 1.0  # of the micro-batch's rows
    growth: float = 0.0  # beyond the peak, in more steps


def watched_memory(
    cost: Cost, placement: PlacementConfig, optimizer: str, accumulated: bool, process: str, trial: Trial
) -> Memory:
    """The memory of a worker on the CPU at its peak, by a trial. process: one of PROCESS.

    Activations are whatever is neither state nor a copy of it, including libraries' buffers and gaps of the heap.
    """
    states, tried = (_states_of(cost, where, optimizer) for where in (placement, trial.placement))
    size = float(cost.parameters * FP32)
    known = sum(tried.values()) + _cpu_buffers(size, trial.placement)
    activation_bytes = max(trial.working - known, 0.0) / trial.share + trial.growth
    buffers = _cpu_buffers(size, placement) + (size if accumulated else 0.0)
    return Memory(trial.process + PROCESS[process], **states, buffers=buffers, activations=activation_bytes)


def _reserved(states: Mapping[str, float], buffers: float, activation_bytes: float, host: float = 0.0) -> Memory:
    parts = {**states, "buffers": buffers, "activations": activation_bytes}
    return Memory(process=0.0, **{name: value * RESERVED for name, value in parts.items()}, host=host)


def activations(
    shape: Transformer, batch: Batch, precision: str, checkpointing: bool, expert_parallel: int = 1
) -> float:
    """Bytes that a forward pass leaves for the backward pass, and what that one needs for a layer at a time."""
    element = BF16 if precision == "bf16" else FP32
    wide = batch.rows * batch.length * shape.hidden
    layer = layer_activations(shape, batch.rows, batch.length, precision, "cuda")
    # The decoder of an encoder-decoder processes only the targets, and attends twice: half a layer more.
    crossing = shape.decoder_layers * 1.5 * batch.targets / (batch.rows * batch.length) if shape.decoder_layers else 0.0
    layers = (shape.layers + crossing) * (wide * element if checkpointing else layer)
    layers += layer if checkpointing else 0
    tokens = batch.rows * batch.length + (batch.targets if shape.decoder_layers else 0)
    # Layers of experts are the same share of both stacks.
    layers += shape.sparse_depth / shape.depth * expert_activations(shape, tokens * shape.layers, precision)
    embedding = wide * (FP32 + MASK + element)
    logits = batch.targets * shape.vocabulary * (element + 2 * FP32)  # cast to fp32, and so is their gradient
    working = (2 * batch.rows * batch.length * shape.feed_forward + 6 * wide) * element
    cast = 0
    if precision == "bf16":  # autocast's copies of the weights, which the backward pass needs, too
        cast = (shape.layer_matrices * (1 if checkpointing else shape.depth) + shape.vocabulary * shape.hidden) * BF16
        others = 2 * shape.hidden * shape.feed_forward * (shape.experts / expert_parallel - 1)  # than a token's expert
        cast += others * (min(shape.sparse_depth, 1) if checkpointing else shape.sparse_depth) * BF16
    return layers + embedding + logits + working + cast


def _states_of(cost: Cost, placement: PlacementConfig, optimizer: str) -> dict[str, float]:
    size = float(cost.parameters * FP32)
    states = _states(size, placement, size - cost.experts * FP32 * (1 - 1 / placement.expert_parallel))
    return states if optimizer == "adamw" else {**states, "moments": 0.0}  # rows and columns are next to nothing


def _states(size: float, placement: PlacementConfig, here: float | None = None) -> dict[str, float]:
    """here: bytes of the weights that this worker has of all, where it lacks experts of others."""
    stage, workers = placement.zero or 0, placement.workers
    here = size if here is None else here
    return {
        "weights": here / (workers if stage >= 3 else 1),
        "gradients": size / workers if stage >= 2 else here,
        "moments": 2 * size / (workers if stage >= 1 else 1),
    }


def _cpu_buffers(size: float, placement: PlacementConfig) -> float:
    """Copies besides the states. Offload frees nothing here, where the host's memory is the device's."""
    workers = placement.workers
    if not placement.zero:
        return min(size, SUM_BUCKET) if workers > 1 else 0.0
    bucket = min(size, placement.zero_settings.reduce_bucket_size * FP32)
    offloaded = 2 * size / workers if placement.offload_optimizer else 0.0
    if placement.zero == 3:
        # Each worker's part of the weights twice more, whole weights while a step lasts, gradients in the bucket and
        # out of it; with several workers what a collective takes in and puts out.
        return size / workers + 2 * size + bucket * (2.4 if workers == 1 else 4.3) + offloaded
    # The part that this worker updates, apart from the whole, and its gradients; gradients until the bucket is full;
    # what each of gloo's threads keeps until its next collective.
    kept = THREADS * size if workers > 1 and size < ARENA else 0.0
    return 2 * size / workers + 0.5 * size + bucket + offloaded + (kept / 2 if offloaded else kept)


def _gpu_buffers(size: float, placement: PlacementConfig) -> float:
    """DeepSpeed's buckets have their full size there, whatever the network's."""
    chosen = placement.zero_settings
    if not placement.zero:
        return min(size, SUM_BUCKET) if placement.workers > 1 else 0.0
    overlap = chosen.overlap_comm if chosen.overlap_comm is not None else placement.zero == 3
    bucket = chosen.reduce_bucket_size * FP32
    if placement.zero == 3:
        live = min(size, (chosen.max_live_parameters + chosen.prefetch_bucket_size) * FP32)
        # What Adam updates, besides the weights.
        updated_weights = 0.0 if placement.offload_optimizer else size / placement.workers
        return bucket + live + updated_weights
    return bucket * (2 if overlap else 1) + size / placement.workers + min(size, bucket)
