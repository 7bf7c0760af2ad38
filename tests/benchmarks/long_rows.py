"""Time and memory of long rows: block-sparse attention beside full attention, the same network but for that.

    python -m tests.benchmarks.long_rows [--lengths 512,1024,2048,4096] [--tokens 4096] [--repeats 3]

One training step (forward, backward) of masked language modelling on `--tokens` tokens, cut into rows of each length,
so that all but attention costs the same. The two networks take turns, and the fastest step of each counts. Memory is
what the forward pass keeps for the backward pass, counted. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from data_prep.corruptions import build as corruption
from data_prep.corruptions import config_of
from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Specials
from training.config import NetworkConfig, ObjectiveConfig
from training.models.cpu_kernels import speed_up
from training.models.wrappers import autocast_forward
from training.objectives import build

SPECIALS = Specials(4096, pad=0, unk=1, cls=2, sep=3, mask=4)
KINDS = {"block-sparse": "block_sparse", "full": "original_full"}


def objective(kind: str, length: int, block: int) -> Any:
    """A network of 2 layers, 128 wide, with 2 heads."""
    config = {
        "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512,
        "max_position_embeddings": length, "block_size": block, "num_random_blocks": 3, "attention_type": kind,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    network = NetworkConfig(architecture="big_bird", config=config)
    facts = DataFacts("text", ("input",), specials=SPECIALS, length=length)
    torch.manual_seed(0)
    built: Any = build(ObjectiveConfig(name="masked-lm"), {"model": network}, facts, "cpu")
    autocast_forward(built.network, torch.device("cpu"), "bf16")
    speed_up(built.network, "bf16")
    return built


def batch_of(built: Any, rows: int, length: int) -> Any:
    tokens = np.random.default_rng(0).integers(5, SPECIALS.vocabulary, (rows, length))
    corrupt = corruption(config_of({"kind": "masked-lm"}), SPECIALS)
    return built.collate(corrupt({"input": Ragged.from_rows(tokens, np.uint16)}, Draws(0, 0, np.arange(rows))))


def step(built: Any, batch: Any) -> tuple[float, float]:
    """Seconds of a step, and MB that its forward pass keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    built.network.zero_grad()
    began = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = built._loss(built.networks(), batch).sums["mlm"]
    loss.backward()
    return time.perf_counter() - began, sum(kept.values()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,1024,2048,4096")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--block", type=int, default=32)
    chosen = parser.parse_args()
    print("| length | block-sparse, s | full, s | ratio | block-sparse, MB | full, MB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for length in map(int, chosen.lengths.split(",")):
        networks = {name: objective(kind, length, chosen.block) for name, kind in KINDS.items()}
        batches = {name: batch_of(built, max(1, chosen.tokens // length), length) for name, built in networks.items()}
        steps: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
        for _ in range(chosen.repeats + 1):  # the first one plans its products
            for name, built in networks.items():
                steps[name].append(step(built, batches[name]))
        seconds = {name: min(taken for taken, _ in measured[1:]) for name, measured in steps.items()}
        megabytes = {name: measured[-1][1] for name, measured in steps.items()}
        cells = [
            f"{values['block-sparse']:.{digits}f} | {values['full']:.{digits}f} | "
            f"{values['full'] / values['block-sparse']:.2f}"
            for values, digits in ((seconds, 2), (megabytes, 0))
        ]
        print(f"| {length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
