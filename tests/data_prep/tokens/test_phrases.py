"""Phrases that are found: those of a plain count of all runs of words, wherever documents are cut into batches."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.shards.rows import offsets_of
from data_prep.tokens import lexicon, phrases
from data_prep.tokens.compose import ComposeConfig
from data_prep.tokens.corpus import TokenCorpus, WordStarts
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.phrases import PhrasesConfig, find, npmi
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train

IDS = 7  # in the vocabulary of the made-up corpora; 5 is punctuation, 6 white space
BLANK, PUNCTUATION = np.arange(IDS) == 6, np.arange(IDS) >= 5


@st.composite
def corpora(draw) -> TokenCorpus:
    documents = draw(st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=6))
    sentences = offsets_of([length for document in documents for length in document])
    total = int(sentences[-1])
    tokens = draw(st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5, 6]), min_size=total, max_size=total))
    words = np.array(draw(st.lists(st.sampled_from([True, True, False]), min_size=total, max_size=total)), bool)
    words[sentences[:-1]] = True
    return TokenCorpus(np.array(tokens, np.uint16), words, sentences, offsets_of([len(each) for each in documents]))


def naive(several: list[TokenCorpus], config: PhrasesConfig) -> dict[tuple[tuple[int, ...], ...], tuple[int, float]]:
    """(occurrences, NPMI) of each phrase's words, from counts of every run of words."""
    counts: Counter[tuple[tuple[int, ...], ...]] = Counter()
    total = 0
    for corpus in several:
        for start, stop in pairwise(corpus.sentence_offsets.tolist()):
            run: list[tuple[int, ...]] = []
            runs = [run]
            bounds = [*(place for place in range(start, stop) if corpus.word_start[place]), stop]
            for first, last in pairwise(bounds):
                ids = corpus.tokens[first:last].tolist()
                solid = [i for i, token in enumerate(ids) if token < 5]
                before, behind = (ids[: solid[0]], ids[solid[-1] + 1 :]) if solid else (ids, [])
                if 5 in before:
                    runs.append(run := [])
                if solid:
                    run.append(tuple(ids[solid[0] : solid[-1] + 1]))
                if 5 in behind:
                    runs.append(run := [])
            for words in runs:
                total += len(words)
                for size in range(1, config.longest + 1):
                    counts.update(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    phrases = {}
    for words, count in counts.items():
        if len(words) > 1 and count >= config.min_count:
            scores = [score(count, counts[words[:cut]], counts[words[cut:]], total) for cut in range(1, len(words))]
            phrases[words] = count, min(scores)
    return phrases


def score(count: int, left: int, right: int, total: int) -> float:
    if count == total:
        return 0.0
    return math.log(count * total / (left * right)) / -math.log(count / total)


@settings(max_examples=200, deadline=None)
@given(st.lists(corpora(), min_size=1, max_size=3), st.integers(2, 3), st.integers(2, 5), st.sampled_from([-0.5, 0.2]))
def test_they_are_those_of_a_plain_count(several: list[TokenCorpus], least: int, longest: int, limit: float) -> None:
    config = PhrasesConfig(min_count=least, npmi=limit, longest=longest)
    learned = find(several, config, BLANK, PUNCTUATION)
    wanted = naive(several, config)
    for phrase in learned.phrases:
        matches = [words for words in wanted if without_blanks(sum(words, ())) == without_blanks(phrase.ids)]
        near = [words for words in matches if len(words) == phrase.words and wanted[words][0] == phrase.count]
        assert any(wanted[words][1] == pytest.approx(phrase.npmi, abs=1e-3) for words in near)
    sure = {words for words, (_, value) in wanted.items() if value > limit + 1e-6}
    assert len(sure) <= len(learned.phrases) <= len([v for _, v in wanted.values() if v > limit - 1e-6])


def without_blanks(ids: tuple[int, ...]) -> list[int]:
    return [token for token in ids if token != 6]


def test_batches_of_documents_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 20, 300)
    sentences = offsets_of(lengths)
    tokens = random.integers(0, IDS, sentences[-1]).astype(np.uint16)
    words = random.random(len(tokens)) < 0.8
    words[sentences[:-1]] = True
    corpus = TokenCorpus(tokens, words, sentences, np.arange(0, 301, 3))
    config = PhrasesConfig(min_count=3, npmi=-0.2)
    whole = find([corpus], config, BLANK, PUNCTUATION)
    assert len(whole.phrases) > 20 and whole.share == 1
    monkeypatch.setattr(phrases, "BATCH", 100)
    assert find([corpus], config, BLANK, PUNCTUATION) == whole
    monkeypatch.setattr(phrases, "MOST_TOKENS", len(tokens) // 3)
    fewer = find([corpus], config, BLANK, PUNCTUATION)
    assert 0.2 < fewer.words / whole.words < 0.5 and 0 < fewer.share < 0.5


def test_npmi_is_one_of_words_that_are_never_apart_and_zero_by_chance() -> None:
    count, part = np.array([50]), np.array([50])
    assert npmi(count, part, part, 1000)[0] == pytest.approx(1)
    assert npmi(np.array([10]), np.array([100]), np.array([100]), 1000)[0] == pytest.approx(0)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "character"])
def test_what_stands_beside_a_phrase_is_not_part_of_it(kind: str, tmp_path: Path) -> None:
    words = [
        "a",
        "walk",
        "day",
        "tree",
        "goes",
        "sees",
        "likes",
        "house",
        "with",
        "far",
        "near",
        "old",
        "new",
        "red",
        "blue",
    ]
    random = np.random.default_rng(1)
    lines = []
    for number in range(600):
        rest = " ".join(random.choice(words, 6))
        lines.append(f"the New York Times, {rest}" if number % 3 else f"{rest} the {random.choice(words)} New. York")
    config = TokenizerConfig(kind=kind, vocabulary=400)  # type: ignore[arg-type]
    train(config, lines, tmp_path)
    tokenizer, special = load(tmp_path), specials(tmp_path)
    encoded = Encoder(tokenizer).encode(pa.array(lines))
    starts = WordStarts(tokenizer)(encoded.values, encoded.offsets)
    corpus = TokenCorpus(encoded.values, starts, encoded.offsets, np.array([0, len(lines)]))
    learned = find([corpus], PhrasesConfig(min_count=50), lexicon.is_blank(special), lexicon.is_punctuation(special))
    texts = {tokenizer.decode(list(phrase.ids)).strip() for phrase in learned.phrases}
    assert "New York Times" in texts and not any("," in text or "." in text for text in texts)
    assert not any(word in text.split() for text in texts for word in words)


def test_phrases_belong_to_the_column_unit_and_exclude_a_lexicon() -> None:
    config = ComposeConfig.model_validate({"kind": "sop", "columns": ["unit"], "phrases": {}})
    assert config.phrases == PhrasesConfig(min_count=20, npmi=0.5, longest=4)
    for wrong, said in (
        ({"phrases": {}}, "'phrases' belongs to the column unit"),
        ({"columns": ["unit"]}, "or phrases: {} to find them"),
        ({"columns": ["unit"], "phrases": {}, "lexicon": "a.txt"}, "leave out one of the two"),
        ({"columns": ["unit"], "phrases": {"npmi": 2}}, "less than or equal to 1"),
        ({"columns": ["unit"], "phrases": {"min_count": 1}}, "greater than or equal to 2"),
    ):
        with pytest.raises(ValidationError, match=said):
            ComposeConfig.model_validate({"kind": "sop", **wrong})
