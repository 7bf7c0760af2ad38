"""Likelihoods are those of lm-evaluation-harness: ids of continuations, truncation, windows, units."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from data_prep.errors import UserError
from tests.training.inference import writers
from training.inference.likelihood import Likelihood, TextLikelihood, bits_per_byte, num_words, windows

Writer = Callable[[str], Path]
each = pytest.mark.parametrize("architecture", writers.DECODERS)


def naive(network: Any, context: list[int], continuation: list[int], most: int) -> float:
    """One request alone, as the harness writes it down."""
    inputs = (context + continuation)[-(most + 1) :][:-1]
    with torch.no_grad():
        log_p = torch.log_softmax(network(input_ids=torch.tensor([inputs])).logits[0].double(), -1)
    return log_p[-len(continuation) :].gather(1, torch.tensor(continuation)[:, None]).sum().item()


def naive_windows(tokens: list[int], prefix: int, most: int) -> list[tuple[list[int], list[int]]]:
    """Rolling windows with one token of context, made disjoint."""
    first = min(most, len(tokens))
    pairs = [([prefix, *tokens[: first - 1]], tokens[:first])]
    predicted = first
    while predicted < len(tokens):
        count = min(len(tokens) - predicted, most)
        end = predicted + count
        pairs.append((tokens[end - most - 1 : end - 1], tokens[end - count : end]))
        predicted += count
    return [(inputs[: len(inputs) - (len(targets) - 1)], targets) for inputs, targets in pairs]


@each
def test_continuations_are_scored_as_one_by_one(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    likelihood = Likelihood(model)
    ids = torch.randint(3, model.specials.vocabulary, (90,), generator=torch.Generator().manual_seed(0)).tolist()
    pairs = [
        (ids[:5], ids[5:6]), (ids[:5], ids[7:8]), (ids[:20], ids[20:29]), ([1], ids[:3]),
        (ids[:62], ids[62:66]), (ids[:80], ids[80:90]), (ids[:1], ids[:writers.POSITIONS]),
    ]  # fmt: skip
    together = likelihood.continuations(pairs)
    for (context, continuation), scored in zip(pairs, together, strict=True):
        value = naive(model.network, context, continuation, writers.POSITIONS)
        assert scored.log_likelihood == pytest.approx(value, abs=2e-4)
        assert scored.tokens == len(continuation)
        assert scored.cut == max(0, len(context) + len(continuation) - writers.POSITIONS - 1)
    assert [scored.cut for scored in together] == [0, 0, 0, 0, 1, 25, 0]
    again = likelihood.continuations(pairs[::-1])[::-1]  # whatever shares their batch
    assert [scored.log_likelihood for scored in again] == pytest.approx(
        [scored.log_likelihood for scored in together], abs=1e-5
    )


@each
def test_texts_are_scored_in_the_windows_of_the_harness(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    texts = ["a cat", "the dog sat on a log and " * 12, "é中 \n\n on", "the cat sat on a mat " * 20]
    likelihoods = Likelihood(model).texts(texts)
    theirs = AutoTokenizer.from_pretrained(writer(architecture))
    assert {len(theirs(text)["input_ids"]) > writers.POSITIONS for text in texts} == {True, False}
    for text, scored in zip(texts, likelihoods, strict=True):
        tokens = theirs(text, add_special_tokens=False)["input_ids"]
        parts = naive_windows(tokens, model.bos, writers.POSITIONS)
        value = sum(naive(model.network, *pair, writers.POSITIONS) for pair in parts)
        assert scored.log_likelihood == pytest.approx(value, rel=1e-5)
        assert (scored.tokens, scored.words, scored.num_bytes) == (
            len(tokens),
            len(re.split(r"\s+", text)),
            len(text.encode()),
        )
    whole = sum(likelihoods, TextLikelihood())
    nats = -sum(scored.log_likelihood for scored in likelihoods)
    assert whole.bits_per_byte == pytest.approx(nats / math.log(2) / sum(len(text.encode()) for text in texts))
    assert whole.nats_per_token == pytest.approx(nats / sum(scored.tokens for scored in likelihoods))
    assert whole.word_perplexity == pytest.approx(math.exp(nats / sum(scored.words for scored in likelihoods)))


@given(length=st.integers(0, 60), most=st.integers(1, 20))
@settings(deadline=None)
def test_each_token_is_predicted_once_and_windows_are_full(length: int, most: int) -> None:
    tokens = list(range(length))
    parts = list(windows(length, most))
    assert [token for _, begin, end in parts for token in tokens[begin:end]] == tokens
    given_tokens = [-1, *tokens]
    mine = [(given_tokens[first + 1 : begin + 1], tokens[begin:end]) for first, begin, end in parts]
    assert mine == (naive_windows(tokens, -1, most) if length else [])


def test_bits_per_byte_is_pinned() -> None:
    # 256 equally likely bytes cost ln 256 nats each, and 8 bits
    assert bits_per_byte(10 * math.log(256), 10) == pytest.approx(8.0)
    assert bits_per_byte(math.log(2), 1) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="without bytes"):
        bits_per_byte(1.0, 0)
    assert [num_words(text) for text in ("", "a", "a b", " a\n\nb ")] == [1, 1, 2, 4]  # empty words at the ends


@each
def test_spaces_that_end_a_context_are_the_continuations(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    likelihood = Likelihood(model, begins=False)
    theirs = AutoTokenizer.from_pretrained(writer(architecture))

    def ids(text: str) -> list[int]:
        return theirs(text, add_special_tokens=False)["input_ids"]

    for context, continuation in (
        ("the cat", " sat"),
        ("the cat ", "sat"),
        ("the cat  ", " sat on"),
        ("the m", "e at"),
    ):
        whole, start = ids(context + continuation), len(ids(context.rstrip()))
        assert likelihood.pair(context, continuation) == (whole[:start], whole[start:])
    assert likelihood.pair("the cat ", "sat") == likelihood.pair("the cat", " sat")
    assert likelihood.pair("", " sat") == ([model.bos], ids(" sat"))  # nothing is given but what texts begin with
    assert Likelihood(model).pair("the cat", " sat")[0] == [model.bos, *ids("the cat")]
    with pytest.raises(UserError, match="makes nothing of 'nd' after 'the a'"):  # one token with the context's last
        likelihood.pair("the a", "nd")
    with pytest.raises(UserError, match="70 tokens has no room in 64 positions"):
        likelihood.continuations([([1], [5] * 70)])


def test_what_predicts_no_text_is_refused(writer: Writer) -> None:
    with pytest.raises(UserError, match="those of decoders"):
        Likelihood(writers.opened(writer("t5")))
