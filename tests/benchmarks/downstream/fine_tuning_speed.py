"""Fine-tuning beside `Trainer` with the settings of transformers' run_glue, on the same encoder and rows of SST-2.

    python -m tests.benchmarks.downstream.fine_tuning_speed FOLDER [--network FOLDER] [--rows 2000]
        [--epochs 1] [--rounds 3] [--ways ours fp32,…]

FOLDER holds SST-2 as GLUE has it (`train.tsv`, `dev.tsv`), `--network` an encoder in the format of transformers; by
default it is the package minilm. The others:

* `padded`: run_glue as it is: rows cut at 128 tokens and padded to 128 (`pad_to_max_length`), batches of 32.
* `dynamic`: the same with batches padded to their longest row.

All have AdamW with decay 0.01, a linear schedule, dropout 0.1, batches of 32 and the same rate. Samples per second are
those of all steps but the first WARM_UP; scores are accuracies on rows of `dev.tsv`, by default all. Every measurement
is a process of its own on all cores; rounds alternate between ways, and medians are told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("ours fp32", "padded fp32", "dynamic fp32", "ours bf16", "padded bf16", "dynamic bf16")
BATCH, LENGTH, LR, WINDOW, WARM_UP = 32, 128, 5e-5, 32, 3
Rows = list[tuple[str, int]]


def read(file: Path, most: int) -> Rows:
    """Sentences and labels of a file of SST-2."""
    lines = file.read_text(encoding="utf-8").splitlines()[1:][:most]
    return [(sentence, int(label)) for sentence, label in (line.rsplit("\t", 1) for line in lines)]


# -- one measurement, in a process of its own -------------------------------------------------------------------------


def measured(way: str, network: Path, train: Rows, dev: Rows, epochs: float, seed: int) -> dict[str, Any]:
    """Samples per second, accuracy, the share of padding, and where the time of ours goes."""
    loop, precision = way.split()
    steps = max(WARM_UP + 2, round(epochs * len(train) / BATCH))
    run = _ours if loop == "ours" else _trainer
    times, accuracy, padding, parts = run(loop, precision, network, train, dev, steps, seed)
    speed = BATCH * (len(times) - 1 - WARM_UP) / (times[-1] - times[WARM_UP])
    return {"samples_per_second": speed, "accuracy": accuracy, "padding": padding, "parts": parts}


def _ours(
    loop: str, precision: str, network: Path, train: Rows, dev: Rows, steps: int, seed: int
) -> tuple[list[float], float, float, dict[str, float]]:
    """As a job of the task `classification` trains it and scores it."""
    import torch

    from data_prep.labelled.examples import Example
    from pipeline.downstream.fine_tune.examples import stream_of
    from pipeline.downstream.fine_tune.heads import Layout, Shape, module_of, tokenizer_of
    from pipeline.downstream.fine_tune.learners import learner_of, open_source
    from pipeline.downstream.fine_tune.scoring import scores_of
    from training.config import TrainConfig
    from training.data import MemoryTable
    from training.distributed import set_up_cpu
    from training.loop import Training
    from training.monitor.names import padding_of

    set_up_cpu(None)
    torch.manual_seed(seed)
    shape, layout = Shape("class", ("0", "1")), Layout(LENGTH, 0)
    head, tokenizer = module_of(shape), tokenizer_of(shape, network, framed=False)

    def encoded(rows: Rows) -> Any:
        return head.encode(shape, [Example(text=text, label=label) for text, label in rows], tokenizer, layout)

    rows, held_out = encoded(train), encoded(dev)
    objective = learner_of(open_source(network, shape), shape, layout, "cls")
    times: list[float] = []
    records: list[dict[str, Any]] = []
    objective.after_step = lambda step, steps: times.append(time.perf_counter())  # type: ignore[method-assign]
    table = MemoryTable(rows.rows, len(rows))
    config = TrainConfig.model_validate(
        {"global_batch": BATCH, "steps": steps, "lr": LR, "warmup_steps": 0, "weight_decay": 0.01,
         "precision": precision, "log_every": steps}
    )  # fmt: skip
    stream = stream_of(table, BATCH, seed, WINDOW)
    training = Training(objective, stream, config, seed=seed, log=records.append)
    parts = _clocks(training, objective)
    training.run()
    scores = scores_of(objective.scores, held_out)
    accuracy = float(np.mean([answer == label for answer, (_, label) in zip(_answers(scores), dev, strict=True)]))
    return times, accuracy, padding_of(records, "tokens") or 0.0, _shares(parts, times[-1] - times[0])


def _answers(scores: Any) -> list[int]:
    return scores.values.argmax(-1).tolist()


def _clocks(training: Any, objective: Any) -> dict[str, float]:
    """Seconds of the passes and the update, which are added up from now on."""
    parts = {"forward": 0.0, "backward": 0.0, "update": 0.0}

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **options)
            parts[name] += time.perf_counter() - began
            return result

        return called

    engine = training.engines["model"]
    training.forwards["model"] = clocked("forward", engine.forward)
    engine.backward = clocked("backward", engine.backward)
    engine.step = clocked("update", engine.step)
    return parts


def _shares(parts: dict[str, float], seconds: float) -> dict[str, float]:
    shares = {name: value / seconds for name, value in parts.items()}
    return {**shares, "rest": max(0.0, 1 - sum(shares.values()))}


def _trainer(
    loop: str, precision: str, network: Path, train: Rows, dev: Rows, steps: int, seed: int
) -> tuple[list[float], float, float, dict[str, float]]:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        default_data_collator,
        set_seed,
    )

    set_seed(seed)
    times: list[float] = []
    sizes = np.zeros(2)  # tokens and positions
    padding = "max_length" if loop == "padded" else False
    tokenizer = AutoTokenizer.from_pretrained(network)
    collate: Any = default_data_collator if padding else DataCollatorWithPadding(tokenizer)

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **more: Any) -> None:
            times.append(time.perf_counter())

    def counted(features: Any) -> Any:
        batch = collate(features)
        sizes[:] += float(batch["attention_mask"].sum()), batch["attention_mask"].numel()
        return batch

    def encoded(rows: Rows) -> list[dict[str, Any]]:
        encodings = tokenizer([text for text, _ in rows], padding=padding, max_length=LENGTH, truncation=True)
        return [
            {**{name: encodings[name][place] for name in encodings}, "labels": label}
            for place, (_, label) in enumerate(rows)
        ]

    model = AutoModelForSequenceClassification.from_pretrained(network, num_labels=2)
    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=out, per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, max_steps=steps,
                learning_rate=LR, weight_decay=0.01, bf16=precision == "bf16", use_cpu=True, seed=seed, report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True,
            ),
            train_dataset=encoded(train),  # type: ignore[arg-type]
            data_collator=counted,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
        share = 1 - sizes[0] / sizes[1]
        predicted: Any = trainer.predict(encoded(dev))  # type: ignore[arg-type]
    answers = predicted.predictions.argmax(-1).tolist()
    accuracy = float(np.mean([answer == label for answer, (_, label) in zip(answers, dev, strict=True)]))
    return times, accuracy, float(share), {}


# -- comparison -------------------------------------------------------------------------------------------------------


def measure(way: str, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    arguments = [
        way,
        str(asked.folder),
        str(asked.network),
        str(asked.rows),
        str(asked.dev_rows),
        str(asked.epochs),
        str(seed),
    ]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "one", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def tell(results: dict[str, list[dict[str, Any]]]) -> None:
    """A table of medians; every way beside ours in the same precision."""

    def median(way: str, name: str) -> float:
        return statistics.median(result[name] for result in results[way])

    print("| way | samples/s | ours, times | accuracy | padding |\n|---|---|---|---|---|")
    for way in results:
        ours, speed = f"ours {way.split()[1]}", median(way, "samples_per_second")
        ratio = f"{median(ours, 'samples_per_second') / speed:.2f}" if ours in results else ""
        print(f"| {way} | {speed:,.1f} | {ratio} | {median(way, 'accuracy'):.3f} | {median(way, 'padding'):.0%} |")
    for way in results:
        if parts := results[way][0]["parts"]:
            print(f"\n{way}: " + ", ".join(f"{name} {share:.0%}" for name, share in parts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--dev-rows", type=int, default=872)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as downloads:
        if asked.network is None:
            from data_prep.sources import networks

            asked.network = networks.network("minilm", Path(downloads))
        print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores\n")
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in asked.ways}
        for seed in range(asked.rounds):
            for way in asked.ways:
                results[way].append(measure(way, asked, seed))
                print(f"{way}, round {seed}: {results[way][-1]['samples_per_second']:.1f} samples/s", file=sys.stderr)
        tell(results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["one", way, folder, network, rows, dev_rows, epochs, seed]:
            train = read(Path(folder) / "train.tsv", int(rows))
            dev = read(Path(folder) / "dev.tsv", int(dev_rows))
            print(json.dumps(measured(way, Path(network), train, dev, float(epochs), int(seed))))
        case _:
            main()
