"""Texts a second of `sesame embed` beside others.

    python -m tests.benchmarks.downstream.embedding_speed FILE [FOLDER] [--rounds 3]

    embed                  windows of 4,096 texts, batches of like lengths; in fp32, and in bf16
    pipeline               `feature-extraction` of transformers, a text at a time, as it is by default; and 32 at once
    sentence-transformers  its `encode`, 32 at once, sorted by length; left out where it is not installed

FILE: texts, one a line, of mixed lengths; `--rounds N` (3) turns. FOLDER: a network as sentence-transformers writes it
(default: the package minilm). All take the same texts to vectors of length 1, cut at the same length; turns alternate,
and medians are compared. Vectors in fp32 must be equal to 1e-4.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, pipeline
from transformers.utils import logging

from data_prep.labelled.rows import Reading
from flows.checkpoint import model_folder
from flows.inference.embedder import open_network, options_of
from training.inference.embedding import normalized

ROUNDS, BATCH, MOST = 3, 32, 2000
UNSET = dict.fromkeys(("pooling", "normalize", "layer", "length"))
Embed = Callable[[Sequence[str]], np.ndarray]


def ours(folder: Path, file: Path, precision: str) -> Embed:
    """`sesame embed` of a file, without writing the vectors."""
    network = open_network(str(folder), options_of(**UNSET, precision=precision))
    return lambda texts: np.concatenate([window.vectors for window in network.windows(file, Reading())])


def by_pipeline(folder: Path, length: int, batch: int) -> Embed:
    """Means of what the pipeline gives for the tokens of each text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    features = pipeline("feature-extraction", model=model, tokenizer=tokenizer, device="cpu")
    options = {"truncation": True, "max_length": length}

    def embed(texts: Sequence[str]) -> np.ndarray:
        sizes = [len(ids) for ids in tokenizer(list(texts), **options)["input_ids"]]
        given = features(list(texts), batch_size=batch, return_tensors=True, tokenize_kwargs=options)
        return normalized(np.stack([rows[0][:n].mean(0).numpy() for rows, n in zip(given, sizes, strict=True)]))

    return embed


def by_sentence_transformers(folder: Path, length: int) -> Embed:
    from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

    model: Any = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = length
    return lambda texts: model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, normalize_embeddings=True)


def main(arguments: list[str]) -> int:
    """See the module."""
    rounds = int(arguments[arguments.index("--rounds") + 1]) if "--rounds" in arguments else ROUNDS
    file, *others = [each for each in arguments if not each.startswith("--") and each != str(rounds)]
    logging.set_verbosity_error()
    texts = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()][:MOST]
    folder = model_folder(others[0] if others else "minilm")
    length = open_network(str(folder), options_of(**UNSET, precision="fp32")).embedder.length or 512
    same = Path(file).with_suffix(".timed.txt")  # one text a line and no other
    same.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    systems = {
        "embed, fp32": ours(folder, same, "fp32"),
        "embed, bf16": ours(folder, same, "bf16"),
        f"pipeline, {BATCH} at once": by_pipeline(folder, length, BATCH),
        "pipeline": by_pipeline(folder, length, 1),
    }
    if find_spec("sentence_transformers") is not None:
        systems["sentence-transformers"] = by_sentence_transformers(folder, length)
    vectors = {name: embed(texts[:64]) for name, embed in systems.items() if not name.startswith("embed")}
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, embed in systems.items():
            began = time.perf_counter()
            vectors[name] = embed(texts)
            seconds[name].append(time.perf_counter() - began)
    same.unlink()
    first = next(iter(systems))
    print(f"{len(texts):,} texts, {torch.get_num_threads()} threads, torch {torch.__version__}, {rounds} rounds")
    for name, times in seconds.items():
        ratio = statistics.median(times) / statistics.median(seconds[first])
        off = float(np.abs(vectors[name] - vectors[first]).max())
        rate = len(texts) / statistics.median(times)
        print(f"{name:24} {rate:8.1f} texts/s   {ratio:5.2f} times the time of {first}   vectors differ by {off:.1e}")
        if "bf16" not in name and off > 1e-4:
            print(f"{name}: other vectors than {first}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
