"""Tokens per second of corruption, loader and training loop on this machine: `make bench`.

Medians of interleaved rounds; the matrix-product peak of the same cores is measured in the same run, because machines
are noisy and only ratios hold. Text is made up: speed does not depend on what it says.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data_prep.corruptions.masking import MaskingConfig, corrupt
from data_prep.facts import DataFacts
from data_prep.rng import Draws, key
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.shards.writer import ShardWriter
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
from training.data import Corpus, Stream
from training.distributed import Worker, set_up_cpu
from training.engines.plain import PlainEngine
from training.hardware import resolve_precision
from training.models.cpu_kernels import speed_up
from training.models.wrappers import autocast_forward
from training.monitor.peak_flops import measured_matmul
from training.objectives import build

ROWS, LENGTH, BATCH, ROUNDS = 8192, 128, 32, 7
POSITIONS = (0, 10**6, 10**10)  # samples
SPECIALS = Specials(cls=2, sep=3, pad=0, mask=4, unk=1, vocabulary=8192)
FACTS = DataFacts("text", ("input", "segment", "label"), specials=SPECIALS)
MASKING = MaskingConfig(kind="masked-lm")


def rows() -> Rows:
    random = np.random.default_rng(0)
    tokens = random.integers(5, SPECIALS.vocabulary, (ROWS, LENGTH), dtype=np.uint16)
    tokens[:, 0], tokens[:, 64], tokens[:, -1] = SPECIALS.cls, SPECIALS.sep, SPECIALS.sep
    segment = np.tile((np.arange(LENGTH) > 64).astype(np.uint8), (ROWS, 1))
    lengths = np.full(ROWS, LENGTH)
    return {
        "input": Ragged.from_lengths(tokens.ravel(), lengths),
        "segment": Ragged.from_lengths(segment.ravel(), lengths),
        "label": random.integers(0, 2, ROWS).astype(np.uint8),
    }


def corruption(table: Rows) -> Callable[[], int]:
    draws = Draws(key(0, "corrupt"), 0, np.arange(ROWS))

    def run() -> int:
        corrupt(table, MASKING, SPECIALS, draws)
        return ROWS * LENGTH

    return run


def loader(folder: Path) -> Callable[[], int]:
    stream = Stream(
        [Corpus("made up", Shards(folder))], 0, OrderConfig(), lambda r, d: corrupt(r, MASKING, SPECIALS, d)
    )

    def run() -> int:
        for start in range(0, 64 * BATCH, BATCH):
            stream.read(np.arange(start, start + BATCH))
        return 64 * BATCH * LENGTH

    return run


def first_batch(folder: Path, position: int) -> float:
    """Seconds from shards on disk to the batch that begins at a sample, as after a resume."""
    began = time.perf_counter()
    stream = Stream(
        [Corpus("made up", Shards(folder))], 0, OrderConfig(), lambda r, d: corrupt(r, MASKING, SPECIALS, d)
    )
    stream.read(np.arange(position, position + BATCH))
    return time.perf_counter() - began


def training(folder: Path, precision: str) -> tuple[Callable[[], int], float]:
    """Steps of BERT 4 × 256 with dropout as published; and FLOP per token."""
    network = NetworkConfig(
        architecture="bert",
        config={
            "num_hidden_layers": 4,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
            "max_position_embeddings": 128,
        },
    )
    objective = build(ObjectiveConfig(name="masked-lm", options={"sentence": "sop"}), {"model": network}, FACTS, "cpu")
    autocast_forward(objective.network, torch.device("cpu"), precision)
    speed_up(objective.network, precision)  # as the loop does
    engine = PlainEngine(objective.network, TrainConfig(steps=1, global_batch=BATCH), Worker())
    stream = Stream(
        [Corpus("made up", Shards(folder))], 0, OrderConfig(), lambda r, d: corrupt(r, MASKING, SPECIALS, d)
    )
    batches = [objective.collate(stream.read(np.arange(i * BATCH, (i + 1) * BATCH))) for i in range(4)]

    def run() -> int:
        for batch in batches:
            for turn in objective.turns("train", 0):
                weights = turn.weights(batch)
                loss = turn.loss({"model": engine.forward}, batch)
                engine.backward(torch.stack([value / weights[n] for n, value in loss.sums.items()]).sum())
                engine.step(1e-4)
        return len(batches) * BATCH * LENGTH

    return run, objective.flops(batches[0]) / objective.num_units(batches[0])


def rate(run: Callable[[], int]) -> float:
    began = time.perf_counter()
    return run() / (time.perf_counter() - began)


def main() -> None:
    set_up_cpu(None)
    precision = resolve_precision("auto", "cpu")
    table = rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = ShardWriter(folder, ROWS)
        writer.write(table)
        writer.close()
        step, flops = training(folder, precision)
        jobs = {"corruption": corruption(table), "loader": loader(folder), f"training ({precision})": step}
        for job in jobs.values():
            job()
        rates: dict[str, list[float]] = {what: [] for what in jobs}
        for _ in range(ROUNDS):
            for what, job in jobs.items():
                rates[what].append(rate(job))
        resumed = {at: statistics.median(first_batch(folder, at) for _ in range(ROUNDS)) for at in POSITIONS}
    threads = torch.get_num_threads()
    peak = measured_matmul(torch.bfloat16 if precision == "bf16" else torch.float32, threads)
    print(f"{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}")
    print(f"{'matrix product peak':<24}{peak / 1e9:>12,.0f} GFLOP/s")
    for what, speeds in rates.items():
        median = statistics.median(speeds)
        extra = f"  MFU {median * flops / peak:.1%}" if what.startswith("training") else ""
        print(f"{what:<24}{median:>12,.0f} tokens/s{extra}")
    for position, seconds in resumed.items():
        print(f"{f'first batch at {position:,}':<24}{1000 * seconds:>12.1f} ms")


if __name__ == "__main__":
    main()
