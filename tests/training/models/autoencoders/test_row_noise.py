"""Noise named by a row's own values: its definition, its independence of the batch, its distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_prep.rng import GAMMA, absorb, mix
from training.models.autoencoders import row_noise
from training.models.autoencoders.row_noise import digests, normals, uniforms, words


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6), st.integers(0, 2**40), st.integers(0, 9))
def test_the_definition_is_that_of_keyed_draws(values, number, purpose) -> None:
    row = torch.tensor([values], dtype=torch.float32)
    bits = (row + 0.0).numpy().view(np.int32).astype(np.int64).view(np.uint64)[0]
    with np.errstate(over="ignore"):
        digest = mix(bits + GAMMA * (np.arange(len(bits), dtype=np.uint64) + np.uint64(1))).sum(dtype=np.uint64)
    assert digests(row).numpy().view(np.uint64) == digest
    expected = absorb(absorb(digest, purpose), number)
    drawn = words(digests(row), torch.tensor([number]), purpose)
    assert drawn.numpy().view(np.uint64)[0, 0] == expected


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 5), st.integers(0, 99))
def test_a_row_draws_the_same_beside_any_others(rows, count, first, seed) -> None:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
    all_draws = normals(x, first + count)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(normals(x[order], count, first), all_draws[order, first:])
    for row in range(rows):
        assert torch.equal(normals(x[row : row + 1], count, first)[0], all_draws[row, first:])


def test_zero_has_one_digest_and_the_order_of_values_counts() -> None:
    assert digests(torch.tensor([[0.0, 1.0]])) == digests(torch.tensor([[-0.0, 1.0]]))
    assert digests(torch.tensor([[0.0, 1.0]])) != digests(torch.tensor([[1.0, 0.0]]))
    assert digests(torch.arange(20_000.0)[:, None]).unique().numel() == 20_000


@pytest.mark.parametrize("word", [0, -1])
def test_no_bits_give_infinite_noise(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_noise, "words", lambda digest, numbers, purpose=0: torch.full((1, len(numbers)), word))
    draws = normals(torch.zeros(1, 2), 3)
    assert (draws.abs() > 8).all() and torch.isfinite(draws).all()


def test_draws_are_normal_and_unrelated() -> None:
    draws = normals(torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)), 20).numpy()
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    related = np.corrcoef(draws.T)[~np.eye(20, dtype=bool)]
    assert abs(related).max() < 0.11
    near = normals(torch.full((1, 3), 0.5) + torch.tensor([[0.0], [6e-8]]), 5000).numpy()
    assert abs(np.corrcoef(near)[0, 1]) < 0.06  # neighbours in value


def test_uniform_draws_are_those_of_the_row_and_of_the_purpose() -> None:
    rows = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1))
    draws = uniforms(rows, 20, 2)
    assert torch.equal(uniforms(rows[[7, 3]], 20, 2), draws[[7, 3]])
    assert not torch.equal(uniforms(rows, 20, 3), draws)
    assert stats.kstest(draws.numpy().ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(draws.T.numpy())[~np.eye(20, dtype=bool)]).max() < 0.11


@pytest.mark.parametrize(("word", "uniform"), [(0, 0.0), (-1, 1 - 2.0**-24)])
def test_a_uniform_draw_is_never_1(word: int, uniform: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_noise, "words", lambda digest, numbers, purpose=0: torch.full((1, len(numbers)), word))
    assert uniforms(torch.zeros(1, 2), 1, 2).item() == uniform
