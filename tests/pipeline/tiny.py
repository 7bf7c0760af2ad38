"""A whole recipe that runs in seconds, on text made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NOUNS = ["river", "farmer", "senate", "winter", "market", "letter", "mountain", "engine", "garden", "captain"]
VERBS = ["follows", "remembers", "builds", "watches", "carries", "answers"]
ENDS = ["slowly", "at night", "before the harvest", "without a word", "in the valley", "again"]


def corpus(folder: Path, documents: int = 12, sentences: int = 40) -> Path:
    """Text files of made-up English; each document has its favourite words."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for number in range(documents):
        own = random.choice(NOUNS, 4, replace=False)
        lines = [
            f"The {random.choice(own)} {random.choice(VERBS)} the {random.choice(own)} {random.choice(ENDS)}."
            for _ in range(sentences)
        ]
        (folder / f"document-{number:02d}.txt").write_text(" ".join(lines))
    return folder


def labelled(path: Path, rows: int = 160) -> Path:
    """Words tagged by whether they are verbs, as JSON lines with splits."""
    import json

    random = np.random.default_rng(4)
    with path.open("w") as file:
        for number in range(rows):
            words = ["the", random.choice(NOUNS), random.choice(VERBS), "the", random.choice(NOUNS)]
            tags = ["O", "O", "VERB", "O", "O"]
            split = ("train", "train", "validation", "test")[number % 4]
            file.write(json.dumps({"words": [str(w) for w in words], "tags": tags, "split": split}) + "\n")
    return path


def recipe(folder: Path, *, steps: int = 8, workers: int = 1, zero: int | None = None) -> Path:
    """Write the data and a recipe for it; returns the recipe's path."""
    corpus(folder / "texts")
    labelled(folder / "labelled.jsonl")
    path = folder / "tiny.yaml"
    path.write_text(f"""
name: tiny
title: A made-up language
data:
  kind: text
  sources: [{{path: {folder / "texts"}, licence: CC0-1.0}}]
  split: {{validation: 0.2, test: 0.1}}
tokenizer: {{kind: wordpiece, vocabulary: 256, lowercase: true}}
compose: {{kind: sop, length: 32}}
corruption: {{kind: masked-lm}}
network:
  architecture: bert
  config:
    num_hidden_layers: 1
    hidden_size: 32
    num_attention_heads: 2
    intermediate_size: 64
    max_position_embeddings: 32
objective: {{name: masked-lm, options: {{sentence: sop}}}}
train:
  global_batch: 8
  steps: {steps}
  lr: 5e-3
  warmup_steps: 2
  evaluate_every: 4
  evaluate_rows: 16
  log_every: 2
  precision: fp32
downstream:
  - name: verbs
    task: tagging
    data: {{path: {folder / "labelled.jsonl"}, licence: CC0-1.0}}
    labels: [8, 24]
    seeds: 2
    steps: 10
    batch: 4
    length: 32
    lrs: [5e-3]
    validation_rows: 16
    test_rows: 32
    baselines: [majority, unigram, window]
placement: {{workers: {workers}, zero: {"null" if zero is None else zero}, checkpoint_every: 3}}
""")
    return path
