"""Peak memory of a worker by ZeRO stage, offload and activation checkpointing: `python -m tests.benchmarks.memory`.

Each variant trains a BERT for a few steps in processes of its own. Its peak is the most anonymous memory (/proc's
RssAnon, sampled) beyond what the process had before the network was built: weights, gradients, optimizer, activations,
buffers, and what the allocator keeps. Held is what stays between steps by the engine's own count. On CPU workers host
memory is the device's memory, so offload to cpu saves nothing here; to a disk it does.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from data_prep.corruptions.masking import corrupt
from data_prep.rng import Draws
from data_prep.shards.rows import Rows
from tests.benchmarks.loop import FACTS, MASKING, ROWS, SPECIALS, rows
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, PlacementConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker, set_up_cpu
from training.engines.deepspeed import load_deepspeed
from training.engines.offload import own_folders
from training.loop import Training
from training.objectives import build

MIB = 2**20
NVME: dict[str, Any] = {"offload_optimizer": "nvme", "zero_settings": {"sub_group_size": 4_000_000}}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain PyTorch": {},
    "plain, activations recomputed": {"activation_checkpointing": True},
    "ZeRO-0": {"zero": 0},
    "ZeRO-1": {"zero": 1},
    "ZeRO-2": {"zero": 2},
    "ZeRO-2, optimizer on cpu": {"zero": 2, "offload_optimizer": "cpu"},
    "ZeRO-3": {"zero": 3},
    "ZeRO-3, activations recomputed": {"zero": 3, "activation_checkpointing": True},
    "ZeRO-3, optimizer on cpu": {"zero": 3, "offload_optimizer": "cpu"},
    "ZeRO-3, optimizer and parameters on cpu": {"zero": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
    "ZeRO-3, optimizer on disk": {"zero": 3, **NVME},
    "ZeRO-3, optimizer and parameters on disk": {"zero": 3, **NVME, "offload_parameters": "nvme"},
    "the same, activations recomputed": {
        "zero": 3, **NVME, "offload_parameters": "nvme", "activation_checkpointing": True,
    },
}  # fmt: skip


def anonymous() -> int:
    """Bytes of anonymous memory that this process has in RAM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell RssAnon")


class Peak:
    """The most anonymous memory inside the block, looked at every few milliseconds."""

    def __enter__(self) -> Peak:
        self.start = self.bytes = anonymous()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.003):
            self.bytes = max(self.bytes, anonymous())

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()


def masked(table: Rows, draws: Draws) -> Rows:
    return corrupt(table, MASKING, SPECIALS, draws)


@own_folders()
def trained(worker: Worker, placement: dict[str, Any], layers: int, hidden: int, batch: int) -> dict[str, float]:
    """Train three steps; MiB and seconds of this worker."""
    set_up_cpu(1)
    load_deepspeed(worker.device)
    chosen = PlacementConfig.model_validate({"workers": worker.world, **placement})
    table = rows()
    config = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 128,
    }
    began = time.perf_counter()
    with Peak() as peak:
        objective = build(
            ObjectiveConfig(name="masked-lm", options={"sentence": "sop"}),
            {"model": NetworkConfig(config=config)},
            FACTS,
            "cpu",
        )
        parameters = sum(p.numel() for p in objective.network.parameters())
        training = Training(
            objective=objective,
            stream=Stream([Corpus("made up", MemoryTable(table, ROWS))], 0, OrderConfig(block=8, window=4), masked),
            config=TrainConfig(global_batch=batch, steps=3, precision="fp32"),
            placement=chosen,
            worker=worker,
        )
        summary = training.run()
    held = summary["bytes_held"][worker.rank]["model"]
    return {
        "parameters": parameters,
        "peak": (peak.bytes - peak.start) / MIB,
        "held": (held["parameters"] + held["optimizer"]) / MIB,
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32, help="rows of 128 tokens per step, all workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="variants whose name contains this")
    chosen = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread a worker")
    heads = [f"{n} worker{'s' if n > 1 else ''}: peak (held), MiB" for n in chosen.workers]
    print(f"| variant | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, placement in VARIANTS.items():
            if chosen.only not in name:
                continue
            cells = []
            for world in chosen.workers:
                settings = {**placement, "offload": {"folder": folder}}
                results = in_group(world, trained, settings, chosen.layers, chosen.hidden, chosen.batch)
                worst = max(results, key=lambda result: result["peak"])
                cells.append(f"{worst['peak']:,.0f} ({worst['held']:,.0f})")
                parameters = worst["parameters"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"{parameters / 1e6:.1f} M parameters, {parameters * 4 / MIB:,.0f} MiB in fp32")


if __name__ == "__main__":
    main()
