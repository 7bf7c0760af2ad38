"""Word vectors beside gensim's, on the same rows of the same words: `python -m tests.benchmarks.word2vec TEXTS GENSIM`.

TEXTS is a folder of .txt files. GENSIM is a Python that has gensim (a peer, and no dependency): it trains in a process
of its own, on one thread, as this does. Speeds are words of the text (before subsampling) a second of the processor,
all threads added up, the median of turns that alternate; scores are those of several seeds, on the lists that gensim's
package holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from training.config import NetworkConfig, ObjectiveConfig, OrderConfig, TrainConfig
from training.data import Corpus, MemoryTable, Stream
from training.loop import Training
from training.objectives import build

ROW = 256  # words
SETTINGS = {"window": 5, "negatives": 5, "subsample": 1e-3}
THEIRS = """
import json, logging, random, sys, time
from gensim.models import KeyedVectors, Word2Vec
from gensim.test.utils import datapath

def scores(vectors):
    pairs = {n: vectors.evaluate_word_pairs(datapath(n)) for n in ("wordsim353.tsv", "simlex999.txt")}
    accuracy = vectors.evaluate_word_analogies(datapath("questions-words.txt"), restrict_vocab=30000)[0]
    correlations = {name: [float(result[1].statistic), float(result[2])] for name, result in pairs.items()}
    return {**correlations, "questions-words.txt": [float(accuracy), 0.0]}

class Shuffled:  # in each pass anew, as ours; in the order of the books CBOW's scores differ by a half
    def __init__(self, lines, seed):
        self.lines, self.random = lines, random.Random(seed)

    def __iter__(self):
        return iter(self.random.sample(self.lines, len(self.lines)))

request = json.loads(sys.argv[1])
if "vectors" in request:
    print(json.dumps({"scores": scores(KeyedVectors.load_word2vec_format(request["vectors"], binary=True))}))
else:
    lines = [line.split() for line in open(request["rows"])]
    model = Word2Vec(vector_size=request["size"], sg=request["sg"], min_count=1, window=5, negative=5, sample=1e-3,
                     workers=1, seed=request["seed"], alpha=request["alpha"], min_alpha=request["alpha"] * 1e-4)
    model.build_vocab(lines)
    began = time.process_time()
    shuffled = Shuffled(lines, request["seed"])
    model.train(shuffled, total_examples=len(lines), epochs=request["epochs"])
    seconds = time.process_time() - began
    print(json.dumps({"seconds": seconds, "scores": scores(model.wv) if request["scores"] else {}}))
"""


def theirs(python: str, **request: Any) -> dict[str, Any]:
    """What gensim's process answers."""
    done = subprocess.run([python, "-c", THEIRS, json.dumps(request)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(folder: Path, tokenizer: Path) -> Ragged:
    """The words of all texts with ids in the vocabulary, in rows; unknown ones are left out, as gensim does."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob("*.txt"))]
    config = TokenizerConfig(kind="word", vocabulary=60_000, lowercase=True, roles=["pad", "unk"])
    train(config, (line for text in texts for line in text.splitlines()), tokenizer)
    opened = load(tokenizer)
    ids = [np.array(opened.encode(text, add_special_tokens=False).ids, np.uint32) for text in texts]
    words = [part[part > 1] for part in ids]
    return Ragged.from_rows([row for part in words for row in np.split(part, range(ROW, len(part), ROW))], np.uint32)


def ours(rows: Ragged, tokenizer: Path, out: Path | None, request: dict[str, Any], batch: int, clip: float) -> float:
    """Seconds of training; exports to `out`, if given."""
    torch.manual_seed(request["seed"])
    model = "skip-gram" if request["sg"] else "cbow"
    facts = DataFacts("text", ("input",), specials=specials(tokenizer), preprocessor=tokenizer, length=ROW)
    section = ObjectiveConfig(name="word2vec", options={**SETTINGS, "model": model})
    network = NetworkConfig(architecture="word-vectors", config={"size": request["size"]})
    config = TrainConfig(
        steps=request["epochs"] * len(rows) // batch, global_batch=batch, lr=request["alpha"], optimizer="sgd",
        weight_decay=0.0, clip=clip, precision="fp32", log_every=200,
    )  # fmt: skip
    stream = Stream([Corpus("texts", MemoryTable({"input": rows}, len(rows)))], request["seed"], OrderConfig())
    training = Training(build(section, {"model": network}, facts, "cpu"), stream, config, seed=request["seed"])
    began = time.process_time()
    training.run()
    seconds = time.process_time() - began
    if out is not None:
        training.export(out)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("gensim", help="a Python that has gensim")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32, help=f"rows of {ROW} words in a step")
    parser.add_argument("--clip", type=float, default=20.0, help="largest norm of a row's gradient in a step")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=5, help="of three epochs each, for speeds")
    parser.add_argument("--models", nargs="+", default=["skip-gram", "cbow"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, lines = Path(folder) / "tokenizer", Path(folder) / "rows.txt"
        rows = rows_of(chosen.texts, tokenizer)
        vocabulary = np.array(specials(tokenizer).texts)
        lines.write_text("".join(f"{' '.join(vocabulary[rows.row(row)])}\n" for row in range(len(rows))))
        print(f"{len(rows.values):,} words in {len(rows):,} rows, vocabulary {len(vocabulary):,}", flush=True)
        for model in chosen.models:
            request = {"sg": int(model == "skip-gram"), "size": chosen.size, "alpha": 0.025, "rows": str(lines)}
            compare(model, request, rows, tokenizer, chosen)


def compare(model: str, request: dict[str, Any], rows: Ragged, tokenizer: Path, chosen: argparse.Namespace) -> None:
    """Print speeds and scores of one model."""
    setting = chosen.batch, chosen.clip
    speeds: dict[str, list[float]] = {"gensim": [], "sesame": []}
    for _ in range(chosen.turns):
        run = {**request, "seed": 1, "epochs": 3}
        speeds["gensim"].append(3 * len(rows.values) / theirs(chosen.gensim, **run, scores=False)["seconds"])
        speeds["sesame"].append(3 * len(rows.values) / ours(rows, tokenizer, None, run, *setting))
    if chosen.turns:
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        print(model, {name: f"{value:,.0f} words/s" for name, value in medians.items()}, end=" ")
        print(f"ratio {medians['sesame'] / medians['gensim']:.2f}", flush=True)
    for seed in range(1, chosen.seeds + 1):
        request = {**request, "seed": seed, "epochs": chosen.epochs}
        out = tokenizer.parent / f"{model}-{seed}"
        ours(rows, tokenizer, out, request, *setting)
        print(model, "seed", seed, "sesame", theirs(chosen.gensim, vectors=str(out / "vectors.bin"))["scores"])
        print(model, "seed", seed, "gensim", theirs(chosen.gensim, **request, scores=True)["scores"], flush=True)


if __name__ == "__main__":
    main()
