"""The training loop beside others, on the same rows of real text: `make bench`.

    python -m tests.benchmarks.loops speed     tokens per second, side by side, medians of interleaved rounds
    python -m tests.benchmarks.loops loss      held-out loss after equally many tokens

    --networks bert,gpt --vocabularies 8192,30522 --lengths 128,512,2048 --ways … --rounds 3

BERT with dropout as published, and GPT-2 without, both of 4 layers × 256, 4,096 tokens a step. The others:

* `plain`: what a person writes who knows PyTorch, after nanoGPT. Windows of one array of tokens, a network in bf16 by
  autocast, fused AdamW, clipping, a cosine. The GPT is a module of its own with PyTorch's causal attention, leaner than
  that of transformers and equal to it (asserted); BERT is that of transformers.
* `compiled`: the same by torch.compile.
* `Trainer` of transformers, with its collators.

Every measurement is a process of its own on all cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.data import sentences
from tests.benchmarks.networks import assert_equal_networks, lean_gpt, reference, settings

TOKENS = 4096  # a step
PEAK_LR, WARM_UP, WEIGHT_DECAY, EPS, CLIP = 1e-3, 0.1, 0.01, 1e-6, 1.0
WAYS = ("ours bf16", "ours fp32", "plain bf16", "compiled bf16", "Trainer bf16", "Trainer fp32")
STEPS = {"ours": 40, "plain": 25, "compiled": 25, "Trainer": 12}
HELD_OUT = 32_768  # tokens


# -- data -------------------------------------------------------------------------------------------------------------


def make(folder: Path, vocabularies: list[int], lengths: list[int]) -> None:
    """One array of tokens for each vocabulary, and shards of rows of each length: the State of the Union addresses."""
    from transformers import AutoTokenizer

    from data_prep.shards.rows import Ragged
    from data_prep.shards.writer import ShardWriter
    from data_prep.tokens.tokenizers import TokenizerConfig, train
    from data_prep.tokens.tokenizers import specials as load_specials

    text = sentences(folder / "downloads")
    for vocabulary in vocabularies:
        pieces = folder / f"tokenizer-{vocabulary}"
        train(TokenizerConfig(kind="wordpiece", vocabulary=vocabulary, lowercase=True), text, pieces)
        encode, specials = AutoTokenizer.from_pretrained(pieces), load_specials(pieces)
        ids = encode(text, add_special_tokens=False)["input_ids"]
        tokens = np.concatenate([np.asarray(row, np.uint16) for row in ids])
        np.save(folder / f"held-out-{vocabulary}.npy", tokens[:HELD_OUT])
        tokens = tokens[HELD_OUT:]
        np.save(folder / f"train-{vocabulary}.npy", tokens)
        for length in lengths:
            inside = tokens[: len(tokens) // (length - 2) * (length - 2)].reshape(-1, length - 2)
            rows = np.pad(inside, ((0, 0), (1, 1)))
            rows[:, 0], rows[:, -1] = specials.cls, specials.sep
            writer = ShardWriter(folder / f"shards-{vocabulary}-{length}", len(rows))
            writer.write({"input": Ragged.from_rows(rows, np.uint16)})
            writer.close()


# -- one measurement, in a process of its own -------------------------------------------------------------------------


def measured(
    way: str, network: str, folder: Path, vocabulary: int, length: int, steps: int, seed: int
) -> dict[str, Any]:
    """Train for some steps: the median tokens per second of its last two thirds, MFU, and the held-out loss."""
    from training.monitor.peak_flops import measured_matmul

    loop, precision = way.split()
    train = {"ours": _ours, "plain": _plain, "compiled": _plain, "Trainer": _trainer}[loop]
    times, model, flops = train(loop, network, folder, vocabulary, length, precision, steps, seed)
    import torch

    pace = float(np.median(np.diff(times)[len(times) // 3 :]))
    peak = measured_matmul(torch.bfloat16 if precision == "bf16" else torch.float32, torch.get_num_threads())
    loss = held_out_loss(model, network, folder, vocabulary, length)
    return {"tokens_per_second": TOKENS / pace, "mfu": flops / pace / peak, "loss": loss}


def _ours(
    loop: str, network: str, folder: Path, vocabulary: int, length: int, precision: str, steps: int, seed: int
) -> tuple[list[float], Any, float]:
    import torch

    from data_prep.corruptions import build as corruption
    from data_prep.corruptions import config_of
    from data_prep.facts import DataFacts
    from data_prep.shards.reader import Shards
    from data_prep.tokens.tokenizers import specials as load_specials
    from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
    from training.data import Corpus, Stream
    from training.distributed import set_up_cpu
    from training.loop import Training
    from training.objectives import build

    set_up_cpu(None)
    torch.manual_seed(seed)
    pieces = folder / f"tokenizer-{vocabulary}"
    specials = load_specials(pieces)
    architecture, task, split = ("gpt2", "gpt", "none") if network == "gpt" else ("bert", "masked-lm", "masked-lm")
    objective: Any = build(
        ObjectiveConfig(name=task),
        {"model": NetworkConfig(architecture=architecture, config=settings(network, length))},
        DataFacts("text", ("input",), specials=specials, preprocessor=pieces, length=length),
        "cpu",
    )
    times: list[float] = []
    flops: list[float] = []
    after, collate = objective.after_step, objective.collate

    def timed(step: int, steps: int) -> None:
        after(step, steps)
        times.append(time.perf_counter())

    def counted(rows: Any) -> Any:
        batch = collate(rows)
        if not flops:
            flops.append(objective.flops(batch) * TOKENS / objective.num_units(batch))
        return batch

    objective.after_step, objective.collate = timed, counted
    shards = Shards(folder / f"shards-{vocabulary}-{length}")
    stream = Stream([Corpus("text", shards)], seed, OrderConfig(), corruption(config_of({"kind": split}), specials))
    config = TrainConfig.model_validate(
        {
            "global_batch": TOKENS // length,
            "steps": steps,
            "lr": PEAK_LR,
            "warmup_steps": round(WARM_UP * steps),
            "weight_decay": WEIGHT_DECAY,
            "eps": EPS,
            "clip": CLIP,
            "precision": precision,
        }
    )
    Training(objective, stream, config, seed=seed).run()
    return times, objective.network.model, flops[0]


def _plain(
    loop: str, network: str, folder: Path, vocabulary: int, length: int, precision: str, steps: int, seed: int
) -> tuple[list[float], Any, float]:
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    model = lean_gpt(length, vocabulary) if network == "gpt" else reference(network, length, vocabulary)
    run = torch.compile(model) if loop == "compiled" else model
    batches = (next_tokens if network == "gpt" else masked)(folder, vocabulary, length, seed)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LR, weight_decay=WEIGHT_DECAY, eps=EPS, fused=True)
    times: list[float] = []
    for step in range(steps):
        seen, wanted = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = run(seen)
            logits = output if isinstance(output, torch.Tensor) else output.logits
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), wanted.view(-1), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter())
    return times, model, 0.0


def rate(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine to 0."""
    warm = round(WARM_UP * steps)
    if step < warm:
        return PEAK_LR * (step + 1) / warm
    return PEAK_LR * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def next_tokens(folder: Path, vocabulary: int, length: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Windows of the array of tokens, and the same one token later."""
    import torch

    tokens = np.load(folder / f"train-{vocabulary}.npy", mmap_mode="r")
    random = np.random.default_rng(seed)
    while True:
        starts = random.integers(0, len(tokens) - length - 1, TOKENS // length)
        rows = np.stack([tokens[start : start + length + 1] for start in starts]).astype(np.int64)
        yield torch.from_numpy(rows[:, :-1]).contiguous(), torch.from_numpy(rows[:, 1:]).contiguous()


def masked(folder: Path, vocabulary: int, length: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Windows of which 15 % of the tokens are to be predicted: 80 % [MASK], 10 % random, 10 % as they are."""
    import torch
    from transformers import AutoTokenizer

    mask = AutoTokenizer.from_pretrained(folder / f"tokenizer-{vocabulary}").mask_token_id
    generator = torch.Generator().manual_seed(seed)
    for rows, _ in next_tokens(folder, vocabulary, length, seed):
        chosen = torch.rand(rows.shape, generator=generator) < 0.15
        fate = torch.rand(rows.shape, generator=generator)
        seen = rows.masked_fill(chosen & (fate < 0.8), mask)
        noise = torch.randint(0, vocabulary, rows.shape, generator=generator)
        seen = torch.where(chosen & (fate >= 0.9), noise, seen)
        yield seen, rows.masked_fill(~chosen, -100)


def _trainer(
    loop: str, network: str, folder: Path, vocabulary: int, length: int, precision: str, steps: int, seed: int
) -> tuple[list[float], Any, float]:
    from transformers import (
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **more: Any) -> None:
            times.append(time.perf_counter())

    tokens = np.load(folder / f"train-{vocabulary}.npy")
    batch = TOKENS // length
    windows = tokens[: steps * batch * length].reshape(-1, length)
    tokenizer = AutoTokenizer.from_pretrained(folder / f"tokenizer-{vocabulary}")
    model = reference(network, length, vocabulary)
    with tempfile.TemporaryDirectory() as out:
        Trainer(
            model,
            TrainingArguments(
                output_dir=out,
                per_device_train_batch_size=batch,
                max_steps=steps,
                learning_rate=PEAK_LR,
                warmup_steps=round(WARM_UP * steps),
                weight_decay=WEIGHT_DECAY,
                adam_epsilon=EPS,
                bf16=precision == "bf16",
                use_cpu=True,
                seed=seed,
                report_to=[],
                save_strategy="no",
                logging_steps=10,
                disable_tqdm=True,
            ),
            train_dataset=[{"input_ids": row.tolist()} for row in windows],  # type: ignore[arg-type]
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=network != "gpt"),
            callbacks=[Clock()],
        ).train()
    return times, model, 0.0


def held_out_loss(model: Any, network: str, folder: Path, vocabulary: int, length: int) -> float:
    """Mean loss in fp32 over the same windows, masked alike for everybody."""
    import torch
    from torch.nn import functional as F

    from data_prep.tokens.tokenizers import specials

    mask = specials(folder / f"tokenizer-{vocabulary}").mask
    assert mask is not None
    tokens = np.load(folder / f"held-out-{vocabulary}.npy").astype(np.int64)
    windows = torch.from_numpy(tokens[: len(tokens) // length * length].reshape(-1, length))
    generator = torch.Generator().manual_seed(0)
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for window in windows:
            if network == "gpt":
                seen, wanted = window[:-1], window[1:]
            else:
                chosen = torch.rand(length, generator=generator) < 0.15
                seen, wanted = window.masked_fill(chosen, mask), window.masked_fill(~chosen, -100)
            output = model(seen[None])
            logits = output if isinstance(output, torch.Tensor) else output.logits
            total += F.cross_entropy(logits[0].float(), wanted, ignore_index=-100, reduction="sum").item()
            count += int((wanted >= 0).sum())
    return total / count


# -- comparisons ------------------------------------------------------------------------------------------------------


def measure(
    way: str, network: str, folder: Path, vocabulary: int, length: int, steps: int, seed: int
) -> dict[str, Any]:
    arguments = [way, network, str(folder), str(vocabulary), str(length), str(steps), str(seed)]
    command = [sys.executable, "-m", __spec__.name, "one", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def speed(folder: Path, asked: argparse.Namespace) -> None:
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores\n")
    print("| network | vocabulary | row | way | tokens/s | ours in bf16, times | MFU |\n|---|---|---|---|---|---|---|")
    for network in asked.networks:
        for vocabulary in asked.vocabularies:
            for length in asked.lengths:
                results: dict[str, list[dict[str, Any]]] = {way: [] for way in asked.ways}
                for seed in range(asked.rounds):
                    for way in asked.ways:
                        steps = STEPS[way.split()[0]]
                        results[way].append(measure(way, network, folder, vocabulary, length, steps, seed))
                _print(f"| {network} | {vocabulary:,} | {length:,} |", results)


def _print(head: str, results: dict[str, list[dict[str, Any]]]) -> None:
    medians = {way: statistics.median(result["tokens_per_second"] for result in rows) for way, rows in results.items()}
    first = next(iter(medians.values()))
    for way, median in medians.items():
        mfu = statistics.median(result["mfu"] for result in results[way])
        share = f"{mfu:.0%}" if mfu else ""
        print(f"{head} {way} | {median:,.0f} | {first / median:.2f} | {share} |", flush=True)


def loss(folder: Path, asked: argparse.Namespace, steps: int = 200) -> None:
    print(f"\n| network | vocabulary | way | held-out loss after {steps * TOKENS:,} tokens |\n|---|---|---|---|")
    for network in asked.networks:
        for vocabulary in asked.vocabularies:
            for way in asked.ways:
                result = measure(way, network, folder, vocabulary, asked.lengths[0], steps, 0)
                print(f"| {network} | {vocabulary:,} | {way} | {result['loss']:.4f} |", flush=True)


def main() -> None:
    def listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
        return lambda text: [kind(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "loss"])
    parser.add_argument("--networks", type=listed(str), default=["bert", "gpt"])
    parser.add_argument("--vocabularies", type=listed(int), default=[8192, 30522])
    parser.add_argument("--lengths", type=listed(int), default=[128, 512, 2048])
    parser.add_argument("--ways", type=listed(str), default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    assert_equal_networks()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        make(Path(name), asked.vocabularies, asked.lengths)
        if asked.what != "loss":
            speed(Path(name), asked)
        if asked.what != "speed":
            loss(Path(name), asked)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["one", way, network, folder, vocabulary, length, steps, seed]:
            result = measured(way, network, Path(folder), int(vocabulary), int(length), int(steps), int(seed))
            print(json.dumps(result))
        case _:
            main()
