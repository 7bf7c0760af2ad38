"""Tokens a second of `sesame generate` beside `transformers`.

    python -m tests.benchmarks.downstream.generate [FOLDER …]

    same length    16 prompts of 32 tokens, all of them go on for as long as they may
    several        48 prompts of 4 to 60 tokens, whose texts end after 1 to 96 tokens, in batches of 16

The same network in fp32 by the same attention, the same tokens; without a folder, networks of the recipe gpt's shapes
with random weights. Runs of both alternate, and medians are compared. In the second case texts end at lengths that are
drawn beforehand: a token that a text has at its length counts as its [EOS], for both.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging

from data_prep.shards.rows import Specials
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Generator, _Text
from training.inference.language_model import LanguageModel, open_language_model
from training.models.cpu_kernels import gelu_in_one_pass
from training.models.text.architectures import architecture_of, longest

ROUNDS, BATCH, NEW = 5, 16, 96
SHAPES = {
    "tiny": {"n_layer": 2, "n_embd": 128, "n_head": 2, "n_positions": 256, "vocab_size": 4096},
    "small": {"n_layer": 4, "n_embd": 256, "n_head": 4, "n_positions": 256, "vocab_size": 8192},
}


def network(shape: dict[str, int]) -> LanguageModel:
    """A GPT-2 of random weights, without a tokenizer."""
    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
    model.set_attn_implementation("sdpa")
    gelu_in_one_pass(model)  # as `open_language_model` does
    special = Specials(shape["vocab_size"], pad=0)
    line = architecture_of("gpt2")
    return LanguageModel(model, None, special, line, longest(model.config), None, None, torch.device("cpu"))  # type: ignore[arg-type]


class _Lengths(StoppingCriteria):
    """Row i ends after `lengths[i]` new tokens."""

    def __init__(self, lengths: list[int], given: int) -> None:
        self.ends = torch.tensor(lengths) + given

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> Any:
        return input_ids.shape[1] >= self.ends


class _Ends(Generator):
    """Text i ends after `lengths[i]` tokens."""

    lengths: list[int]

    def _ended(self, text: _Text) -> Any:
        return "length" if len(text.ids) == self.lengths[text.number] else None


def ours(model: LanguageModel, rows: list[list[int]], lengths: list[int]) -> list[list[int]]:
    generator = _Ends(model, Decoding(max_new_tokens=NEW), BATCH)
    generator.lengths = lengths
    by_prompt = {completion.prompt: completion.ids for completion in generator.write(rows)}
    return [by_prompt[number] for number in range(len(rows))]


def unchanged(model: LanguageModel) -> LanguageModel:
    """With the forward passes of `transformers` alone."""
    network = copy.deepcopy(model.network)
    for module in network.modules():
        module.__dict__.pop("forward", None)
    return replace(model, network=network)


def theirs(model: LanguageModel, rows: list[list[int]], lengths: list[int]) -> list[list[int]]:
    """In batches of like lengths, padded on the left, which is how they are fastest."""
    by_prompt: dict[int, list[int]] = {}
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        width = max(len(rows[number]) for number in batch)
        ids, mask = (torch.zeros(len(batch), width, dtype=torch.long) for _ in range(2))
        for place, number in enumerate(batch):
            ids[place, width - len(rows[number]) :] = torch.tensor(rows[number])
            mask[place, width - len(rows[number]) :] = 1
        stop = StoppingCriteriaList([_Lengths([lengths[number] for number in batch], width)])
        out = model.network.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=0, stopping_criteria=stop
        )
        for place, number in enumerate(batch):
            by_prompt[number] = out[place, width : width + lengths[number]].tolist()
    return [by_prompt[number] for number in range(len(rows))]


def measured(model: LanguageModel, rows: list[list[int]], lengths: list[int]) -> str:
    """Medians of both, and of their ratio round by round."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    texts: dict[str, list[list[int]]] = {}
    models = {"ours": model, "theirs": unchanged(model)}
    runs: dict[str, Callable[..., list[list[int]]]] = {"ours": ours, "theirs": theirs}
    for number in range(ROUNDS + 1):
        for name, run in runs.items() if number % 2 else reversed(runs.items()):
            began = time.perf_counter()
            texts[name] = run(models[name], rows, lengths)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    tokens = sum(map(len, texts["ours"]))
    same = sum(map(list.__eq__, texts["ours"], texts["theirs"]))
    rates = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    return (
        f"{tokens:,} tokens: ours {rates['ours']:,.0f} a second, transformers {rates['theirs']:,.0f}, "
        f"ratio {ratio:.2f}; {same} of {len(rows)} texts the same"
    )


def main() -> None:
    torch.set_num_threads(int(torch.get_num_threads()))
    logging.set_verbosity_error()
    models = {name: network(shape) for name, shape in SHAPES.items()}
    if sys.argv[1:]:
        models = {path: replace(open_language_model(Path(path)), eos=None) for path in sys.argv[1:]}
    for name, model in models.items():
        model = replace(model, tokenizer=_Silent())  # type: ignore[arg-type]
        random, vocabulary = np.random.default_rng(0), model.specials.vocabulary
        room = (model.length or NEW + 60) - NEW
        equal = [random.integers(5, vocabulary, min(32, room)).tolist() for _ in range(BATCH)]
        print(f"{name}, same length: {measured(model, equal, [NEW] * BATCH)}", flush=True)
        sizes, lengths = random.integers(4, min(61, room + 1), 3 * BATCH), random.integers(1, NEW + 1, 3 * BATCH)
        several = [random.integers(5, vocabulary, size).tolist() for size in sizes]
        print(f"{name}, several: {measured(model, several, lengths.tolist())}", flush=True)


class _Silent:
    """A tokenizer of which only tokens are wanted."""

    def decode(self, ids: list[int]) -> str:
        return ""


if __name__ == "__main__":
    main()
