"""The cluster that a published system would need: GPUs on which it fits, and days.

A worker keeps what `training.cost.memory` says, with one row at a time. Experts are divided among all workers and never
gathered (Lepikhin et al. 2020, arXiv:2006.16668); everything else as ZeRO divides it. Days are operations divided by
the share of their peak that GPUs reach:
 30 to 50 % in the literature (Narayanan et al. 2021, arXiv:2104.04473, table 1: 44 to 52 % on
A100s; Chowdhery et al. 2022, arXiv:2204.02311, table 3: 21 to 46 %), a quarter less with recomputed activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from data_prep.errors import UserError
from pipeline.estimate.published_systems import System
from training.config import PlacementConfig
from training.cost.memory import RESERVED, Batch, Memory, memory
from training.cost.transformer import BF16, FP32, RECOMPUTED, BiLSTM

GPU_BYTES = {"H200": 141e9, "H100": 80e9, "A100": 80e9, "L40S": 48e9, "L4": 24e9, "V100": 32e9, "T4": 16e9}
USABLE = 0.94  # of them: the rest is the driver's, the context's and the libraries'
HOST_BYTES = 250e9  # of a node's memory, for each of its GPUs (NVIDIA DGX H100: 2 TB for eight)
UTILISATION = (0.3, 0.5)
MOST = 16_384
DAY = 86_400


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind, the placement of training on them, and the memory of each."""

    gpus: int
    gpu: str
    placement: PlacementConfig
    memory: Memory

    @property
    def fits(self) -> bool:
        return self.memory.total <= USABLE * GPU_BYTES[self.gpu] and self.memory.host <= HOST_BYTES

    def days(self, flops: float, peak: float, utilisation: float) -> float:
        recomputed = RECOMPUTED if self.placement.activation_checkpointing else 1.0
        return flops * recomputed / (self.gpus * peak * utilisation) / DAY


def smallest(system: System, gpu: str, offload: bool = False) -> Cluster:
    """The fewest GPUs, a power of two, on which the system fits, in the cheapest placement."""
    count = 1
    while count <= MOST:
        if cluster := placed(system, gpu, count, offload):
            return cluster
        count *= 2
    raise UserError(f"{system.name}: does not fit on {MOST:,} GPUs of kind {gpu}; choose one with more memory.")


def placed(system: System, gpu: str, gpus: int, offload: bool = False) -> Cluster | None:
    """The cheapest placement that fits on this number of GPUs; None if there is none."""
    for placement in _placements(gpus, offload):
        cluster = Cluster(gpus, gpu, placement, _memory(system, placement))
        if cluster.fits:
            return cluster
    return None


def _placements(gpus: int, offload: bool) -> Iterator[PlacementConfig]:
    """Cheapest first: plain, then more division, then recomputation, then the host's memory."""
    base = PlacementConfig(workers=gpus, device="cuda", micro_batch=1)
    stages = [None] if gpus == 1 else [None, 1, 2, 3]
    for recompute in (False, True):
        for stage in stages:
            yield base.model_copy(update={"zero": stage, "activation_checkpointing": recompute})
    if offload:
        for offloaded in ({}, {"offload_parameters": "cpu"}):
            update = {"zero": 3, "offload_optimizer": "cpu", "activation_checkpointing": True, **offloaded}
            yield base.model_copy(update=update)


def _memory(system: System, placement: PlacementConfig) -> Memory:
    network = system.network
    if isinstance(network, BiLSTM):
        return _recurrent(network, system.length, placement)
    dense = replace(network, experts=1)
    targets = round(system.length * system.predicted)
    of_dense = memory(dense, dense.parameters(), Batch(1, system.length, targets), placement, "bf16")
    if network.experts == 1:
        return of_dense
    # Of the experts other than the first, which is in the dense part: weights, gradients, moments.
    share = (network.parameters() - dense.parameters()) / placement.workers * FP32 * RESERVED
    return replace(
        of_dense,
        weights=of_dense.weights + share,
        gradients=of_dense.gradients + share,
        moments=of_dense.moments + 2 * share * (placement.offload_optimizer is None),
        host=of_dense.host + (2 * share / RESERVED if placement.offload_optimizer else 0.0),
    )


def _recurrent(network: BiLSTM, length: int, placement: PlacementConfig) -> Memory:
    """128 rows of `length` words a worker, as published; states as of any network of that many parameters."""
    words = 128 * length
    states = network.parameters() * FP32 * RESERVED
    # Four gates, the cell and its tanh in each direction, and projections; highway layers; windows of characters.
    recurrent = 2 * network.layers * (6 * network.cells + 2 * network.projection)
    features = network.features * (4 * network.highways + network.word_length)
    logits = 2 * network.sampled
    stage, workers = placement.zero or 0, placement.workers
    return Memory(
        process=0.0,
        weights=states / (workers if stage >= 3 else 1),
        gradients=states / (workers if stage >= 2 else 1),
        moments=2 * states / (workers if stage >= 1 else 1),
        buffers=placement.zero_settings.reduce_bucket_size * FP32 * RESERVED if stage else 0.0,
        activations=words * ((recurrent + features) * BF16 + logits * (BF16 + 2 * FP32)) * RESERVED,
    )
