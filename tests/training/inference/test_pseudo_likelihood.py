"""The surprise of tokens under a masked LM: against masking them by hand, in any batch and order, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, offsets_of, ragged
from data_prep.tokens import tokenizers
from data_prep.tokens.compose import compose
from data_prep.tokens.corpus import TokenCorpus
from data_prep.tokens.tokenizers import TokenizerConfig
from tests.training import tiny
from training.inference.pseudo_likelihood import AROUND, PseudoLikelihood, by_document, mean_by_row

CPU = torch.device("cpu")
SPECIALS = tiny.SPECIALS


def network(seed: int = 0, kind: str = "BertForMaskedLM") -> Any:
    """Of so large weights that tokens differ much."""
    import transformers

    torch.manual_seed(seed)
    shape: dict[str, Any] = tiny.NETWORK.config
    config = transformers.BertConfig(**shape, vocab_size=SPECIALS.vocabulary, initializer_range=0.5)
    config._attn_implementation = "eager"
    return getattr(transformers, kind)(config).eval()


def scorer(length: int = 16, rounds: int = 3, model: torch.nn.Module | None = None) -> PseudoLikelihood:
    return PseudoLikelihood(model or network(), SPECIALS, length, rounds, CPU)


def corpus(rows: Sequence[Sequence[np.ndarray]]) -> TokenCorpus:
    """Documents of sentences of token ids."""
    sentences = [np.asarray(sentence, np.uint16) for document in rows for sentence in document]
    ids = np.concatenate(sentences)
    return TokenCorpus(
        ids,
        np.ones(len(ids), bool),
        offsets_of([len(sentence) for sentence in sentences]),
        offsets_of([len(document) for document in rows]),
    )


def documents(lengths: Sequence[Sequence[int]], seed: int = 0) -> TokenCorpus:
    """Random ids, in sentences of these lengths."""
    random = np.random.default_rng(seed)
    return corpus(
        [[random.integers(5, SPECIALS.vocabulary, num_tokens) for num_tokens in document] for document in lengths]
    )


def only(rows: TokenCorpus, order: Sequence[int]) -> TokenCorpus:
    """Some of the documents."""
    sentences = [range(*rows.document_offsets[number : number + 2]) for number in order]
    starts = rows.sentence_offsets
    return corpus([[rows.tokens[starts[i] : starts[i + 1]] for i in document] for document in sentences])


def by_hand(model: torch.nn.Module, window: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Surprise and entropy of the tokens of one window, each round a forward of its own, without padding."""
    surprise, entropy = np.zeros(len(window)), np.zeros(len(window))
    for turn in range(min(rounds, len(window))):
        places = list(range(turn, len(window), rounds))
        seen = window.astype(np.int64).copy()
        seen[places] = SPECIALS.mask
        row = torch.tensor([[SPECIALS.cls, *seen.tolist(), SPECIALS.sep]])
        with torch.no_grad():
            output = model(input_ids=row)
        logits = output.logits if "logits" in output else output.prediction_logits
        for place in places:
            p = torch.softmax(logits[0, place + 1].double(), -1).numpy()
            surprise[place], entropy[place] = -np.log(p[window[place]]), -(p * np.log(p)).sum()
    return surprise, entropy


@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_surprise_is_what_masking_by_hand_gives(rounds: int) -> None:
    """With 100 rounds one token is masked at a time: the pseudo-log-likelihood as it was published."""
    model, rows = network(), documents([[5], [6, 8], [1], [4, 5]])
    surprisals = scorer(rounds=rounds, model=model).surprisals(rows)
    for number in range(len(rows)):
        surprise, entropy = by_hand(model, by_document(rows).row(number), rounds)
        np.testing.assert_allclose(surprisals.surprisal.row(number), surprise, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(surprisals.entropy.row(number), entropy, rtol=1e-4, atol=1e-5)
        assert surprisals.mean()[number] == pytest.approx(surprise.mean(), rel=1e-4)
        assert surprisals.excess()[number] == pytest.approx((surprise - entropy).mean(), rel=1e-3, abs=1e-4)


def test_a_long_document_is_scored_in_windows_of_whole_sentences() -> None:
    model, rows = network(), documents([[3], [6, 5, 7, 33, 2]])
    surprisal, ids = scorer(length=16, model=model).surprisals(rows).surprisal.row(1), by_document(rows).row(1)
    start = 0
    for length in (11, 7, 14, 14, 7):  # a sentence that is longer than a window is cut; its rest is not alone
        surprise, _ = by_hand(model, ids[start : start + length], 3)
        np.testing.assert_allclose(surprisal[start : start + length], surprise, rtol=1e-4, atol=1e-5)
        start += length
    assert start == len(ids)


@lru_cache(1)
def shared() -> torch.nn.Module:
    return network()


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=5),
    st.integers(8, 32),
    st.integers(1, 20),
)
def test_every_token_is_masked_exactly_once_in_rows_that_fit(
    lengths: list[list[int]], length: int, rounds: int
) -> None:
    rows, likelihood = documents(lengths), scorer(length, rounds, shared())
    composed = ragged(compose(rows, likelihood.windows, SPECIALS, 0, "", 0, range(len(rows))).rows, "input")
    masked = np.zeros(len(rows.tokens), int)
    for batch, index in likelihood._batches(composed):
        np.add.at(masked, index, 1)
        assert batch.ids.shape[1] <= length
        assert (rows.tokens[index] == batch.ids[batch.masked]).all()
        tokens = batch.attention.sum(1) - AROUND
        assert (batch.masked.sum(1) <= -(-tokens // rounds)).all() and batch.masked.any(1).all()
    assert (masked == 1).all()


LENGTHS = [[5], [10, 14, 16], [14], [1], [30, 30, 30], [3, 4], [7], [23]]


def test_a_score_depends_on_its_document_alone() -> None:
    likelihood, rows = scorer(), documents(LENGTHS)
    together = likelihood.surprisals(rows).mean()
    alone = [likelihood.surprisals(only(rows, [number])).mean()[0] for number in range(len(rows))]
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(likelihood.surprisals(only(rows, order.tolist())).mean(), together[order], rtol=1e-5)
    assert len(set(np.round(together, 6))) == len(rows), "scores vary"


def test_small_batches_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood, rows = scorer(), documents(LENGTHS)
    expected = likelihood.surprisals(rows)
    monkeypatch.setattr("training.inference.pseudo_likelihood.TOKENS", 16)
    np.testing.assert_allclose(
        likelihood.surprisals(rows).surprisal.values, expected.surprisal.values, rtol=1e-4, atol=1e-5
    )


def test_means_of_rows() -> None:
    assert mean_by_row(Ragged.from_rows([[1.0, 3.0], [5.0]])).tolist() == [2.0, 5.0]
    assert len(mean_by_row(Ragged.from_rows([], np.float32))) == 0


def test_what_training_makes_usual_is_less_surprising() -> None:
    """In the tiny language a word is nearly always followed by the next one."""
    random = np.random.default_rng(3)
    usual = [5 + (start + np.arange(18)) % 43 for start in random.integers(43, size=40)]
    noisy = [np.where(random.random(18) < 0.3, random.integers(5, 48, 18), row) for row in usual]
    usual, noisy, shuffled = (
        corpus([[row] for row in rows]) for rows in (usual, noisy, map(random.permutation, usual))
    )
    run = tiny.training(sentence="none", dropout=0.0, steps=300, global_batch=64, lr=1e-2, warmup_steps=30)
    model: Any = run.objective.networks()["model"].model
    before = scorer(32, 7, model).surprisals(usual).mean()
    run.run()
    likelihood = scorer(32, 7, model)
    after, odd, worst = (likelihood.surprisals(tokens).mean() for tokens in (usual, noisy, shuffled))
    assert after.mean() < 0.7 * before.mean()
    assert (odd > after).mean() > 0.9 and (worst > after).mean() > 0.9
    assert abs(likelihood.surprisals(usual).excess().mean()) < likelihood.surprisals(shuffled).excess().mean()


# -- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a sentence head, as pretraining exports it, with its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    network(kind="BertForPreTraining").save_pretrained(folder)
    texts = ["a b c d e f g h i j k l m n o p q r s t u v w x y z . ,"] * 3
    tokenizers.train(TokenizerConfig(kind="wordpiece", vocabulary=SPECIALS.vocabulary), texts, folder)
    return folder


def test_a_pretrained_folder_is_opened_with_its_masked_lm_head(folder: Path) -> None:
    rows = documents([[9]], seed=2)
    surprisals = PseudoLikelihood.open(folder, 16, 3, CPU).surprisals(rows)
    surprise, _ = by_hand(network(kind="BertForPreTraining"), rows.tokens, 3)
    np.testing.assert_allclose(surprisals.surprisal.values, surprise, rtol=1e-4, atol=1e-5)


def test_random_weights_are_keyed_and_leave_other_draws_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scores = [PseudoLikelihood.open(folder, 16, 3, CPU, seed).surprisals(documents([[9]])).mean() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert scores[0] == scores[1] != scores[2]


def test_folders_that_cannot_be_used_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no masked LM that can be used"):
        PseudoLikelihood.open(tmp_path, 16, 3, CPU)
    with pytest.raises(UserError, match="has 32 positions, and windows are of 64 tokens"):
        PseudoLikelihood.open(folder, 64, 3, CPU)
    with pytest.raises(ValueError, match="nothing is masked"):
        scorer(rounds=0)
