"""What is written is what `transformers` writes, and depends on neither batch nor neighbours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from data_prep.errors import UserError
from tests.training.inference import writers
from training.inference.generation.decoding import Decoding
from training.inference.generation.generate import Completion, Generator
from training.inference.generation.sampling import drawn, next_tokens
from training.inference.generation.steps import Steps

Writer = Callable[[str], Path]
NETWORKS = [*writers.DECODERS, *writers.PAIRS]
each = pytest.mark.parametrize("architecture", NETWORKS)
NEW = 16


def prompts(model: Any, lengths: tuple[int, ...] = (3, 9, 5, 9, 1)) -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(5, model.specials.vocabulary - 8, length).tolist() for length in lengths]


def written(model: Any, rows: list[list[int]], decoding: Decoding, batch: int = 16) -> list[Completion]:
    by_prompt = {completion.prompt: completion for completion in Generator(model, decoding, batch).write(rows)}
    return [by_prompt[number] for number in range(len(rows))]


def theirs(model: Any, row: list[int], **options: Any) -> list[int]:
    ids = torch.tensor([row])
    out = model.network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, pad_token_id=0, do_sample=False, **options
    )[0].tolist()
    out = out[1:] if model.architecture.encoder_decoder else out[len(row) :]
    return out[: out.index(model.eos)] if model.eos in out else out


@pytest.mark.parametrize("batch", [1, 4])
@each
def test_the_likeliest_token_each_time_is_theirs(architecture: str, batch: int, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    rows = prompts(model)
    completions = written(model, rows, Decoding(max_new_tokens=NEW), batch)
    assert [completion.ids for completion in completions] == [theirs(model, row) for row in rows]
    for completion in completions:
        assert completion.ended == ("length" if len(completion.ids) == NEW else "eos")


@pytest.mark.parametrize(
    ("architecture", "penalty"),
    [("gpt2", 1.0), ("gpt2", 0.6), ("gpt2", -0.5), ("llama", 1.0), ("t5", 0.6), ("switch_transformers", 0.6)],
)
def test_beam_search_is_theirs(architecture: str, penalty: float, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    rows = prompts(model)
    completions = written(model, rows, Decoding(max_new_tokens=NEW, beams=4, length_penalty=penalty), 4)
    assert [completion.ids for completion in completions] == [
        theirs(model, row, num_beams=4, length_penalty=penalty) for row in rows
    ]
    assert [completion.ids for completion in completions] != [
        completion.ids for completion in written(model, rows, Decoding(max_new_tokens=NEW))
    ]


def test_texts_end_in_several_ways(writer: Writer) -> None:
    """Or the tests above would not see what happens when a text ends before its neighbours."""
    model = writers.opened(writer("gpt2"))
    rows = prompts(model, (3, 9, 5, 9, 1, 30, 60))
    greedy = written(model, rows, Decoding(max_new_tokens=NEW))
    texts_with = Counter(token for completion in greedy for token in set(completion.ids))
    last = next(token for token, texts in texts_with.items() if texts < len(rows) - 1)  # that not all texts have
    ended = written(replace(model, eos=last), rows, Decoding(max_new_tokens=NEW))
    assert {"eos", "length"} <= {completion.ended for completion in ended}
    for completion, whole in zip(ended, greedy, strict=True):
        cut = whole.ids.index(last) if last in whole.ids else len(whole.ids)
        assert completion.ids == whole.ids[:cut]
    assert greedy[-1].ended == "positions" and len(greedy[-1].ids) == writers.POSITIONS - 60 + 1


@pytest.mark.parametrize("architecture", writers.DECODERS)
def test_texts_begin_where_others_have_ended(
    architecture: str, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = writers.opened(writer(architecture))
    rows = prompts(model, (3, 9, 30, 5, 9, 1, 40, 12, 60, 2))
    greedy = [theirs(replace(model, eos=-1), row) for row in rows[:-2]]
    last = Counter(token for ids in greedy for token in set(ids)).most_common(1)[0][0]
    ending, joins = replace(model, eos=last), 0
    joined = Steps.joined

    def counted(steps: Steps, *arguments: Any) -> Steps:
        nonlocal joins
        joins += 1
        return joined(steps, *arguments)

    monkeypatch.setattr(Steps, "joined", counted)
    for decoding in (Decoding(max_new_tokens=NEW), Decoding(max_new_tokens=NEW, temperature=1.5, top_k=20)):
        alone = [completion.ids for completion in written(ending, rows, decoding, 1)]
        assert len({len(ids) for ids in alone}) > 2
        assert [completion.ids for completion in written(ending, rows, decoding, 4)] == alone
    assert joins >= 2


@each
def test_a_seed_names_the_text_whatever_the_batch(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    rows = prompts(model)
    decoding = Decoding(max_new_tokens=NEW, temperature=1.3, top_k=40, top_p=0.95, seed=5)
    whole = [completion.ids for completion in written(model, rows, decoding)]
    for batch in (1, 2, 5):
        assert [completion.ids for completion in written(model, rows, decoding, batch)] == whole
    assert [completion.ids for completion in written(model, rows[:3], decoding)] == whole[:3]
    other = [completion.ids for completion in written(model, rows, replace(decoding, seed=6))]
    assert all(first != second for first, second in zip(whole, other, strict=True))
    same = [completion.ids for completion in written(model, [rows[1], rows[1]], decoding)]
    assert same[0] != same[1]  # a prompt's number is part of the name of its draws


def test_tokens_are_drawn_from_the_distribution() -> None:
    logits = torch.randn(1, 12, generator=torch.Generator().manual_seed(0)) * 2
    many = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for decoding in (
        Decoding(temperature=1.0), Decoding(temperature=0.5), Decoding(top_k=3), Decoding(top_p=0.8),
        Decoding(temperature=1.5, top_k=8, top_p=0.9), Decoding(top_k=99), Decoding(top_p=1e-9),
    ):  # fmt: skip
        warped = logits / (decoding.temperature or 1)
        if decoding.top_k is not None:
            warped = TopKLogitsWarper(min(decoding.top_k, 12))(None, warped)  # type: ignore[arg-type]
        if decoding.top_p is not None:
            warped = TopPLogitsWarper(decoding.top_p)(None, warped)  # type: ignore[arg-type]
        wanted = warped.softmax(-1)[0]
        tokens = drawn(logits.expand(len(many), -1), decoding, many)
        share = torch.bincount(tokens, minlength=12) / len(many)
        assert (share - wanted).abs().max() < 0.015
        assert not share[wanted == 0].any()
    assert next_tokens(logits, Decoding(), np.array([0]), np.array([0])).item() == logits.argmax().item()


def test_numbers_at_the_ends_draw_tokens_that_there_are() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    ends = torch.tensor([0.0, 0.25, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    assert drawn(logits.expand(4, -1), Decoding(temperature=1.0), ends).tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 1e-300, 5e-324])
def test_in_the_limit_of_temperature_the_likeliest_token_is_drawn(temperature: float) -> None:
    logits = torch.tensor([[3.0, -torch.inf, 3.0001, -50.0]])
    ends = torch.tensor([0.0, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    for decoding in (Decoding(temperature=temperature), Decoding(temperature=temperature, top_k=2, top_p=0.9)):
        assert drawn(logits.expand(3, -1), decoding, ends).tolist() == [2, 2, 2]
    assert set(drawn(logits.expand(3, -1), Decoding(temperature=1e308), ends).tolist()) == {0, 2, 3}


@each
def test_texts_of_prompts_are_those_of_their_ids(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    given = ["the cat", "a dog and", "[EOS] on"]
    seen: dict[int, list[str]] = {}
    generator = Generator(model, Decoding(max_new_tokens=8))
    by_prompt = {
        completion.prompt: completion
        for completion in generator.complete(given, lambda number, text: seen.setdefault(number, []).append(text))
    }
    rows = [model.prompt_ids(prompt) for prompt in given]
    assert model.eos in rows[2]  # a special token that is spelt is meant
    if model.architecture.causal:
        assert all(row[0] == model.bos for row in rows)
        assert model.prompt_ids("[BOS]") == [model.bos]
    else:
        assert all(row[-1] == model.eos for row in rows)
    for number, row in enumerate(rows):
        text = by_prompt[number].text
        assert text == model.text_after(row, by_prompt[number].ids)
        if model.architecture.causal:
            assert model.tokenizer.decode(row) + text == model.tokenizer.decode([*row, *by_prompt[number].ids])
        if text:
            assert seen[number][-1] == text


def test_a_text_ends_before_what_it_is_to_stop_at(writer: Writer) -> None:
    model = writers.opened(writer("gpt2"))
    whole = next(Generator(model, Decoding(max_new_tokens=NEW)).complete(["the cat"])).text
    stop = next(character for character in whole[3:] if character.strip())
    completion = next(Generator(model, Decoding(max_new_tokens=NEW, stop=(stop,))).complete(["the cat"]))
    assert completion.ended == "stop" and completion.text == whole[: whole.index(stop)]


@pytest.mark.parametrize("end", ["", "never"])
def test_what_is_told_of_a_text_is_never_taken_back(end: str, writer: Writer) -> None:
    """Also while it may yet become a text to stop at, of several tokens."""
    model = writers.opened(writer("gpt2"))
    whole = next(Generator(model, Decoding(max_new_tokens=NEW)).complete(["the cat"])).text.rstrip("\ufffd")
    stop = whole[-4:] + end
    told: list[str] = []
    generator = Generator(model, Decoding(max_new_tokens=NEW, stop=(stop,)))
    completion = next(generator.complete(["the cat"], lambda _, text: told.append(text)))
    assert completion.ended == ("length" if end else "stop") and len(told) == len(completion.ids)
    assert all(after.startswith(before) for before, after in pairwise(told))
    assert told[-1] == completion.text and (end or completion.text == whole[: whole.index(stop)])


@pytest.mark.parametrize("architecture", writers.PAIRS)
def test_sentinels_stay_in_the_text_and_other_special_tokens_do_not(architecture: str, writer: Writer) -> None:
    model = writers.opened(writer(architecture))
    first, second = model.specials.sentinels[:2]
    cat, dog = model.plain_ids("cat"), model.plain_ids("dog")
    written = [first, *cat, second, model.pad, *dog, model.eos]
    assert model.text_after([5], written) == "<extra_id_0>cat<extra_id_1>dog"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_new_tokens": 0}, "max-new-tokens: 0 tokens are no text"),
        ({"temperature": 0.0}, "temperature: 0 is no temperature above 0; leave it out"),
        ({"temperature": float("nan")}, "temperature: nan is no temperature"),
        ({"top_k": 0}, "top-k: nothing can be drawn from 0 tokens"),
        ({"top_p": 1.5}, "top-p: 1.5 is no probability"),
        ({"beams": 0}, "beams: 0 is no number"),
        ({"beams": 4, "temperature": 1.0}, "beams: beam search takes the likeliest"),
        ({"beams": 4, "stop": (".",)}, "stop: beam search ends at"),
        ({"seed": -1}, "seed: -1 does not lie between"),
        ({"seed": 1}, "seed: nothing is drawn without temperature"),
        ({"length_penalty": 0.6}, "length-penalty: 0.6 belongs to beams"),
        ({"beams": 2, "length_penalty": 1000.0}, "length-penalty: 1000 does not lie between -5 and 5"),
        ({"beams": 2, "length_penalty": float("nan")}, "length-penalty: nan does not lie"),
        ({"stop": (".", "")}, "stop: an empty text stands at the beginning"),
        ({"stop": ("\udcff",)}, r"stop: '.udcff' holds half of a surrogate pair or a byte"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], text: str, writer: Writer) -> None:
    with pytest.raises(UserError, match=text):
        Generator(writers.opened(writer("gpt2")), Decoding(**settings))


def test_prompts_that_cannot_be_completed_are_refused(writer: Writer) -> None:
    generator = Generator(writers.opened(writer("gpt2")), Decoding())
    with pytest.raises(UserError, match="prompt 2 is empty"):
        generator.prompt_ids(["a", " \n"])
    with pytest.raises(UserError, match=r"prompt 1 has \d+ tokens, and the network has 64 positions"):
        generator.prompt_ids(["the cat sat " * 40])
    with pytest.raises(UserError, match="batch: 0"):
        Generator(generator.model, Decoding(), 0)
