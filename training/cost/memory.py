"""The memory that a training worker needs, part by part.

    process        interpreter and libraries
    weights        4 bytes a parameter; gradients 4, Adam's moments 8. ZeRO 1, 2 and 3 divide moments, gradients and
                   weights, in this order, by the workers (Rajbhandari et al. 2020, arXiv:1910.02054, section 5);
                   offload moves them to the host (Ren et al. 2021, arXiv:2101.06840; Rajbhandari et al. 2021,
                   arXiv:2104.07857)
    buffers        what sums gradients over workers, and what DeepSpeed 0.19 copies on the way
    activations    what the backward pass needs (`training.cost.transformer`), the loss head's logits, weights in bf16

On the CPU it is anonymous resident memory at its peak, in which malloc's heap counts whole: blocks of many sizes leave
gaps. On a GPU it is what PyTorch's allocator has reserved. The constants were measured with these versions of the
libraries; `python -m tests.benchmarks.plan` compares them with what is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from training.config import PlacementConfig
from training.cost.transformer import BF16, FP32, MASK, Transformer, expert_activations, layer_activations

if TYPE_CHECKING:
    from training.cost.counted import Cost

MiB = 1 << 20
# Anonymous bytes of a process that has taken its first step, beside all tensors.
PROCESS = {"worker": 313 * MiB, "ray": 386 * MiB, "flow": 424 * MiB}
OTHER_PROCESS = {"worker": 282 * MiB, "ray": 335 * MiB, "flow": 422 * MiB}  # with other libraries than those of text
DEEPSPEED = 204 * MiB  # its modules, among them torch's compiler
GAPS = {"bf16": 1.4, "fp32": 1.5}  # heap per byte of activations, and the same under DeepSpeed
GAPS_DEEPSPEED = {"bf16": 1.4, "fp32": 1.9}
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
    accumulated: bool = False  # more than one of them makes a step


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
    device: str,
    process: str = "worker",
    beside: Sequence[Transformer] = (),
    experts: int = 0,
) -> Memory:
    """The memory of one worker at its peak; `parameters` are all of the network's, `process` is one of PROCESS.

    beside: other transformers that read the same rows; what is predicted is counted once. experts: those of the
    parameters that `expert_parallel` divides.
    """
    size = float(parameters * FP32)
    here = size - experts * FP32 * (1 - 1 / placement.expert_parallel)
    checkpointing = placement.activation_checkpointing
    divided = placement.expert_parallel
    activation_bytes = activations(shape, batch, precision, device, checkpointing, divided) + sum(
        activations(other, replace(batch, targets=0), precision, device, checkpointing) for other in beside
    )
    states = _states(size, placement, here)
    if device == "cuda":
        host = 0.0
        if placement.offload_optimizer:
            host += states["moments"] + 2 * size / placement.workers  # with the weights and gradients of the update
            states["moments"] = 0.0
            if placement.zero == 3:
                states["gradients"] = 0.0
        if placement.offload_parameters:
            host += states["weights"]
            states["weights"] = 0.0
        buffers = _gpu_buffers(here, placement)
        inside = {
            name: value * RESERVED
            for name, value in {**states, "buffers": buffers, "activations": activation_bytes}.items()
        }
        return Memory(process=0.0, **inside, host=host)
    base = PROCESS[process] + (0 if placement.zero is None else DEEPSPEED)
    buffers = _cpu_buffers(here, placement, batch, shape.vocabulary * shape.hidden * FP32)
    gaps = GAPS if placement.zero is None else GAPS_DEEPSPEED
    return Memory(process=base, **states, buffers=buffers, activations=activation_bytes * gaps[precision])


def counted_memory(
    cost: Cost,
    placement: PlacementConfig,
    optimizer: str,
    accumulated: bool,
    process: str = "worker",
    peak: float | None = None,
    share: float = 1.0,
) -> Memory:
    """The memory of one worker at its peak, for networks whose activations follow from no formula.

    peak: bytes of a worker on the CPU that was watched with that share of the rows; what is no state there is told
    as activations, for convolutions on the CPU need several times what their tensors hold. None: of a GPU.
    """
    size = float(cost.parameters * FP32)
    here = size - cost.experts * FP32 * (1 - 1 / placement.expert_parallel)
    states = _states(size, placement, here)
    if optimizer == "sgd":
        states["moments"] = 0.0
    accumulated_gradients = size if accumulated else 0.0
    if peak is None:
        inside = {
            **states,
            "buffers": _gpu_buffers(size, placement) + accumulated_gradients,
            "activations": cost.activations,
        }
        return Memory(process=0.0, **{name: value * RESERVED for name, value in inside.items()})
    extra = 0 if placement.zero is None else DEEPSPEED
    remaining = max(peak - OTHER_PROCESS["worker"] - extra - sum(states.values()), 0.0)
    return Memory(
        process=OTHER_PROCESS[process] + extra, **states, buffers=accumulated_gradients, activations=remaining / share
    )


def activations(
    shape: Transformer, batch: Batch, precision: str, device: str, checkpointing: bool, expert_parallel: int = 1
) -> float:
    """Bytes that a forward pass leaves for the backward pass, and what that one needs for a layer at a time."""
    element = BF16 if precision == "bf16" else FP32
    wide = batch.rows * batch.length * shape.hidden
    layer = layer_activations(shape, batch.rows, batch.length, precision, device)
    # A decoder beside an encoder takes the targets alone, and attends twice: half a layer more.
    crossing = shape.decoder_layers * 1.5 * batch.targets / (batch.rows * batch.length) if shape.decoder_layers else 0.0
    layers = (shape.layers + crossing) * (wide * element if checkpointing else layer)
    layers += layer if checkpointing else 0
    tokens = batch.rows * batch.length + (batch.targets if shape.decoder_layers else 0)
    # Layers of experts are the same share of both stacks.
    layers += shape.sparse_depth / shape.depth * expert_activations(shape, tokens * shape.layers, precision)
    embedding = wide * (FP32 + MASK + element)
    # On a GPU logits are cast to fp32, and so is their gradient; on the CPU they become it in place.
    logits = batch.targets * shape.vocabulary * (element if device == "cpu" else element + 2 * FP32)
    square = batch.rows * shape.heads * batch.length * shape.seen(batch.length) if device == "cpu" else 0
    working = (2 * batch.rows * batch.length * shape.feed_forward + 6 * wide + 4 * square) * element
    cast = 0
    if precision == "bf16":  # autocast's copies of the weights, which the backward pass needs, too
        cast = (shape.layer_matrices * (1 if checkpointing else shape.depth) + shape.vocabulary * shape.hidden) * BF16
        others = 2 * shape.hidden * shape.feed_forward * (shape.experts / expert_parallel - 1)  # than a token's expert
        cast += others * (min(shape.sparse_depth, 1) if checkpointing else shape.sparse_depth) * BF16
    return layers + embedding + logits + working + cast


def _states(size: float, placement: PlacementConfig, here: float | None = None) -> dict[str, float]:
    """here: bytes of the weights that this worker has of all, where it lacks experts of others."""
    stage, workers = placement.zero or 0, placement.workers
    here = size if here is None else here
    return {
        "weights": here / (workers if stage >= 3 else 1),
        "gradients": size / workers if stage >= 2 else here,
        "moments": 2 * size / (workers if stage >= 1 else 1),
    }


def _cpu_buffers(size: float, placement: PlacementConfig, batch: Batch, largest: float) -> float:
    """Copies beside the states: `largest` is the largest parameter's size.

    Offload frees nothing here, where the host's memory is the device's; it adds its own buffers.
    """
    workers = placement.workers
    accumulated_gradients = size if batch.accumulated else 0.0  # gradients while activations are at their most
    if not placement.zero:
        return accumulated_gradients + (min(size, SUM_BUCKET) if workers > 1 else 0.0)
    bucket = min(size, placement.zero_settings.reduce_bucket_size * FP32)
    if placement.zero == 3:
        # Each worker's part of the weights twice more, whole weights while a step lasts, gradients in the bucket and
        # out of it; with several workers what a collective takes in and puts out.
        offloaded = 2 * size / workers if placement.offload_optimizer else 0.0
        return size / workers + 2 * size + bucket * (2.4 if workers == 1 else 4.3) + offloaded
    # The part that this worker updates, apart from the whole, and its gradients; gradients until the bucket is full.
    buffers = 2 * size / workers + 0.5 * size + bucket
    arena_bytes = size if workers > 1 and size < ARENA else 0.0  # by each of gloo's threads, until its next collective
    if placement.offload_optimizer:
        return buffers + 2 * size / workers + 2 * largest + THREADS / 2 * arena_bytes
    return buffers + THREADS * arena_bytes


def _gpu_buffers(size: float, placement: PlacementConfig) -> float:
    """DeepSpeed's buckets have their full size there, whatever the network's."""
    chosen = placement.zero_settings
    if not placement.zero:
        return min(size, SUM_BUCKET) if placement.workers > 1 else 0.0
    overlap = chosen.overlap_comm if chosen.overlap_comm is not None else placement.zero == 3
    bucket = chosen.reduce_bucket_size * FP32
    if placement.zero == 3:
        live = min(size, (chosen.max_live_parameters + chosen.prefetch_bucket_size) * FP32)
        # What Adam updates, beside the weights.
        updated_weights = 0.0 if placement.offload_optimizer else size / placement.workers
        return bucket + live + updated_weights
    return bucket * (2 if overlap else 1) + size / placement.workers + min(size, bucket)
