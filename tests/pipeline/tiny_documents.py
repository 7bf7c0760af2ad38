"""A recipe with a job on unusual documents, small enough to run in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.pipeline import tiny

STEPS = 300


def other_kind(path: Path, count: int = 40) -> Path:
    """Documents of other words, as JSON lines, and one that is none."""
    import json

    random = np.random.default_rng(5)
    with path.open("w") as file:
        for _ in range(count):
            words = random.choice(list("bcdfgklmnpqrstvz"), (4, 6))
            file.write(
                json.dumps({"text": " ".join(" ".join(f"{number}o" for number in row) + "." for row in words)}) + "\n"
            )
        file.write('{"text": 5}\n')
    return path


def recipe(folder: Path, job: str = "", **sections: str) -> Path:
    """Write the data and a recipe for it; returns the recipe's path. job: more of its settings, `name: value, …`."""
    tiny.corpus(folder / "texts", documents=30)
    other_kind(folder / "other.jsonl")
    settings = "words: 20, documents: 20, draws: 2, threshold_documents: 60, shown: 2, rounds: 4"
    given = {
        "data": f"{{kind: text, sources: [{{path: {folder / 'texts'}}}], split: {{validation: 0.15, test: 0.15}},"
        " clean: {max_rejects: 1}}",
        "tokenizer": "{kind: wordpiece, vocabulary: 256, lowercase: true}",
        "compose": "{kind: packed, length: 32}",
        "corruption": "{kind: masked-lm, rate: 0.25}",
        "network": "{architecture: bert, config: {num_hidden_layers: 1, hidden_size: 48, num_attention_heads: 2,"
        " intermediate_size: 96, max_position_embeddings: 32, hidden_dropout_prob: 0.0,"
        " attention_probs_dropout_prob: 0.0}}",
        "objective": "{name: masked-lm}",
        "train": f"{{global_batch: 16, steps: {STEPS}, lr: 1e-2, warmup_steps: 10, log_every: 20, precision: fp32}}",
        "downstream": f"[{{name: unusual, task: document-anomaly, {settings}{', ' * bool(job)}{job}}}]",
        "placement": "{threads: 1}",
        **sections,
    }
    path = folder / "tiny-documents.yaml"
    path.write_text("\n".join(["name: tiny-documents", *(f"{name}: {value}" for name, value in given.items())]) + "\n")
    return path
