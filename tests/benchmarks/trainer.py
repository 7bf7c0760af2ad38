"""The training loop beside the `Trainer` of transformers, on the same rows of real text: `make bench`.

    python -m tests.benchmarks.trainer speed     tokens per second, side by side, medians of interleaved rounds
    python -m tests.benchmarks.trainer loss      held-out loss after equally many tokens

BERT of 4 layers × 256, length 128, batches of 32 rows, masked language modelling with dropout 0.1 on both sides. Every
measurement is a process of its own on all cores. `Trainer` masks with its own collator and logs every 10 steps, as the
loop does.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.data import prepare, sentences

LENGTH, BATCH, ROUNDS = 128, 32, 3
VOCABULARIES = (8192, 30522)
SHAPE = {
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": LENGTH,
}
PEAK_LR, WARM_UP, WEIGHT_DECAY, EPS = 1e-3, 0.1, 0.01, 1e-6
WAYS = ("loop bf16", "loop fp32", "Trainer fp32", "Trainer bf16")


def make(folder: Path) -> None:
    """Shards of the State of the Union addresses for each vocabulary."""
    from data_prep.tokens.tokenizers import TokenizerConfig, train

    real = sentences(folder / "downloads")
    for vocabulary in VOCABULARIES:
        home, pieces = folder / str(vocabulary), folder / f"tokenizer-{vocabulary}"
        train(TokenizerConfig(kind="wordpiece", vocabulary=vocabulary, lowercase=True), real, pieces)
        text = folder / "text.jsonl"
        with text.open("w") as file:
            for start in range(0, len(real), 40):
                file.write(json.dumps({"text": " ".join(real[start : start + 40])}) + "\n")
        (home / "shards").parent.mkdir(parents=True)
        artifacts = prepare(text, pieces, home, len(os.sched_getaffinity(0)))
        (home / "shards").symlink_to(artifacts.path)


# -- one measurement, in a process of its own -------------------------------------------------------------------------


def one(way: str, folder: Path, vocabulary: int, steps: int, seed: int) -> dict[str, Any]:
    """Train for some steps: the median tokens per second of its last two thirds, and the held-out loss."""
    engine, precision = way.split()
    shards, pieces = folder / str(vocabulary) / "shards", folder / f"tokenizer-{vocabulary}"
    train = _loop if engine == "loop" else _trainer
    times, network = train(shards, pieces, precision, steps, seed)
    pace = np.diff(times)[len(times) // 3 :]
    return {
        "workers/tokens_per_second": BATCH * LENGTH / float(np.median(pace)),
        "loss": held_out_loss(network, shards / "validation", pieces),
    }


def _loop(shards: Path, pieces: Path, precision: str, steps: int, seed: int) -> tuple[list[float], Any]:
    import torch

    from data_prep.corruptions.masking import MaskingConfig, corrupt
    from data_prep.facts import DataFacts
    from data_prep.shards.format import Shards
    from data_prep.tokens.tokenizers import specials as load_specials
    from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
    from training.data import Corpus, Stream
    from training.distributed import set_up_cpu
    from training.loop import Training
    from training.objectives import build

    set_up_cpu(None)
    torch.manual_seed(seed)
    specials = load_specials(pieces)
    objective = build(
        ObjectiveConfig(name="masked-lm"),
        {"model": NetworkConfig(architecture="bert", config=dict(SHAPE))},
        DataFacts("text", ("input",), specials=specials, preprocessor=pieces),
        "cpu",
    )
    times: list[float] = []
    after = objective.after_step

    def timed(step: int, steps: int) -> None:
        after(step, steps)
        times.append(time.perf_counter())

    objective.after_step = timed  # type: ignore[method-assign]
    masking = MaskingConfig(kind="masked-lm")
    stream = Stream(
        [Corpus("text", Shards(shards / "train"))], seed, OrderConfig(), lambda r, d: corrupt(r, masking, specials, d)
    )
    config = TrainConfig.model_validate(
        {
            "global_batch": BATCH,
            "steps": steps,
            "lr": PEAK_LR,
            "warmup_steps": round(WARM_UP * steps),
            "weight_decay": WEIGHT_DECAY,
            "eps": EPS,
            "precision": precision,
        }
    )
    Training(objective, stream, config, seed=seed).run()
    return times, objective.network.model


def _trainer(shards: Path, pieces: Path, precision: str, steps: int, seed: int) -> tuple[list[float], Any]:
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from data_prep.shards.format import Shards
    from data_prep.shards.rows import ragged

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(pieces)
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **more: Any) -> None:
            times.append(time.perf_counter())

    table = Shards(shards / "train")
    tokens = ragged(table.read(np.arange(min(table.rows, steps * BATCH))), "input")
    rows = [{"input_ids": tokens.row(i).tolist()} for i in range(len(tokens.offsets) - 1)]
    network = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SHAPE))
    with tempfile.TemporaryDirectory() as out:
        Trainer(
            network,
            TrainingArguments(
                output_dir=out,
                per_device_train_batch_size=BATCH,
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
            train_dataset=rows,  # type: ignore[arg-type]
            data_collator=DataCollatorForLanguageModeling(tokenizer),
            callbacks=[Clock()],
        ).train()
    return times, network


def held_out_loss(network: Any, shards: Path, pieces: Path, rows: int = 256) -> float:
    """Mean masked-LM loss in fp32 over the same rows, masked alike for everybody."""
    import torch
    from torch.nn import functional as F

    from data_prep.corruptions.masking import MaskingConfig, corrupt
    from data_prep.rng import Draws, key
    from data_prep.shards.format import Shards
    from data_prep.shards.rows import ragged
    from data_prep.tokens.tokenizers import specials as load_specials

    specials, table = load_specials(pieces), Shards(shards)
    numbers = np.arange(min(rows, table.rows))
    masked = corrupt(
        table.read(numbers), MaskingConfig(kind="masked-lm"), specials, Draws(key(0, "held out"), 0, numbers)
    )
    tokens, places, ids = (ragged(masked, name) for name in ("seen", "target_positions", "target_ids"))
    total, count = 0.0, 0
    network.eval()
    with torch.no_grad():
        for row in numbers:
            window = torch.from_numpy(tokens.row(row).astype(np.int64))[None]
            logits = network(window).logits[0, torch.from_numpy(places.row(row).astype(np.int64))]
            wanted = torch.from_numpy(ids.row(row).astype(np.int64))
            total += F.cross_entropy(logits.float(), wanted, reduction="sum").item()
            count += len(wanted)
    return total / count


# -- comparisons ------------------------------------------------------------------------------------------------------


def measure(way: str, folder: Path, vocabulary: int, steps: int, seed: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "one", way, str(folder), str(vocabulary), str(steps), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def speed(folder: Path) -> None:
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores\n")
    print("| vocabulary | way | tokens/s | loop bf16, times |\n|---|---|---|---|")
    for vocabulary in VOCABULARIES:
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(ROUNDS):
            for way in WAYS:
                steps = 60 if way.startswith("loop") else 12
                rates[way].append(measure(way, folder, vocabulary, steps, seed)["workers/tokens_per_second"])
        medians = {way: statistics.median(values) for way, values in rates.items()}
        for way, median in medians.items():
            print(f"| {vocabulary:,} | {way} | {median:,.0f} | {medians[WAYS[0]] / median:.2f} |", flush=True)


def loss(folder: Path, steps: int = 200) -> None:
    print(f"\n| vocabulary | way | held-out loss after {steps * BATCH * LENGTH:,} tokens |\n|---|---|---|")
    for vocabulary in VOCABULARIES:
        for way in WAYS[:3]:
            print(f"| {vocabulary:,} | {way} | {measure(way, folder, vocabulary, steps)['loss']:.4f} |", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["one", way, folder, vocabulary, steps, seed]:
            print(json.dumps(one(way, Path(folder), int(vocabulary), int(steps), int(seed))))
        case asked:
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
                make(Path(name))
                if asked in ([], ["speed"]):
                    speed(Path(name))
                if asked in ([], ["train/loss"]):
                    loss(Path(name))
