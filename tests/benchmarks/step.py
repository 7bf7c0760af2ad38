"""Where the time of a training step goes, and what a second worker brings: `python -m tests.benchmarks.step`.

    parts     attention, feed-forward, embeddings, head and loss (forward and backward), optimizer, data, watching
    workers   two workers of one thread beside one of two, in tokens per second

BERT 4 × 256, length 128, batch 32, dropout 0.1, bf16 where the hardware has it, on the made-up rows of `loop`. Data are
prepared on a thread beside the step, so their time is that thread's and not the step's.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from data_prep.corruptions.masking import corrupt
from tests.benchmarks.loop import BATCH, FACTS, LENGTH, MASKING, SPECIALS, rows
from tests.training.group import in_group
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.distributed import Worker, set_up_cpu
from training.loop import Training
from training.objectives import build

STEPS, WARM_UP = 40, 10
SHAPE = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
PARTS = {"BertAttention": "attention", "BertIntermediate": "feed-forward", "BertOutput": "feed-forward"}
PARTS |= {"BertEmbeddings": "embeddings", "BertPreTrainingHeads": "head and loss", "BertPooler": "head and loss"}


class Clock:
    """Seconds by part, between calls that begin and end one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.began: dict[Any, float] = {}

    def follow(self, module: torch.nn.Module, part: str) -> None:
        """Both passes of a module count for a part."""
        passes = ("forward", "backward")
        begin, end = ([self._hook(kind, part, which) for which in passes] for kind in ("begin", "end"))
        module.register_forward_pre_hook(begin[0])
        module.register_forward_hook(end[0])
        module.register_full_backward_pre_hook(begin[1])
        module.register_full_backward_hook(end[1])

    def _hook(self, kind: str, part: str, which: str) -> Any:
        def hook(module: torch.nn.Module, *_: Any) -> None:
            now, key = time.perf_counter(), (id(module), which)
            if kind == "begin":
                self.began[key] = now
            elif key in self.began:
                self.seconds[part] += now - self.began.pop(key)

        return hook

    def around(self, owner: Any, name: str, part: str) -> None:
        """Calls of a method count for a part."""
        inner = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return inner(*arguments, **options)
            finally:
                self.seconds[part] += time.perf_counter() - began

        setattr(owner, name, timed)


def training(worker: Worker, threads: int) -> Training:
    set_up_cpu(threads, worker.local)
    torch.manual_seed(0)
    network = NetworkConfig(architecture="bert", config={**SHAPE, "max_position_embeddings": LENGTH})
    objective = build(ObjectiveConfig(name="masked-lm", options={"sentence": "sop"}), {"model": network}, FACTS, "cpu")
    table = rows()
    corpus = Corpus("made up", MemoryTable(table, len(np.asarray(table["label"]))))
    stream = Stream([corpus], 0, OrderConfig(), lambda r, d: corrupt(r, MASKING, SPECIALS, d))
    config = TrainConfig(global_batch=BATCH, steps=WARM_UP + STEPS, lr=1e-4, log_every=10)
    return Training(objective, stream, config, worker=worker)


def timed(run: Training) -> list[float]:
    """Seconds of every step after the first few."""
    times: list[float] = []
    after = run.objective.after_step

    def note(step: int, steps: int) -> None:
        after(step, steps)
        times.append(time.perf_counter())

    run.objective.after_step = note  # type: ignore[method-assign]
    run.run()
    return np.diff(times)[WARM_UP:].tolist()


def parts() -> None:
    run, clock = training(Worker(), 2), Clock()
    for module in run.engines["model"].module.modules():
        if (part := PARTS.get(type(module).__name__)) is not None:
            clock.follow(module, part)
    clock.around(run.engines["model"], "step", "optimizer and clipping")
    clock.around(run.stream, "read", "data, on its own thread")
    clock.around(run.objective, "collate", "data, on its own thread")
    clock.around(run.monitor, "record", "watching and logging")
    clock.around(run.monitor, "add", "watching and logging")
    began = time.perf_counter()
    run.run()
    total_seconds = time.perf_counter() - began
    print("\n| part | ms a step | share |\n|---|---|---|")
    steps, beside = WARM_UP + STEPS, "data, on its own thread"
    for part, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds / steps * 1e3:.1f} | {seconds / total_seconds:.1%} |")
    rest = total_seconds - sum(seconds for part, seconds in clock.seconds.items() if part != beside)
    print(f"| the rest of the step | {rest / steps * 1e3:.1f} | {rest / total_seconds:.1%} |")
    print(f"| all | {total_seconds / steps * 1e3:.1f} | 100 % |")


def _alone(worker: Worker, threads: int) -> float:
    return statistics.median(timed(training(worker, threads)))


def workers(rounds: int = 3) -> None:
    rates: dict[str, list[float]] = {"one worker, two threads": [], "two workers, one thread each": []}
    for _ in range(rounds):
        for times, (count, threads) in zip(rates.values(), ((1, 2), (2, 1)), strict=True):
            seconds = in_group(count, _alone, threads)[0]
            times.append(BATCH * LENGTH / seconds)
    print("\n| workers | tokens/s | share |\n|---|---|---|")
    medians = {name: statistics.median(times) for name, times in rates.items()}
    first = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"| {name} | {value:,.0f} | {value / first:.1%} |", flush=True)


if __name__ == "__main__":
    asked = sys.argv[1:] or ["parts", "workers"]
    for name in asked:
        {"parts": parts, "workers": workers}[name]()
