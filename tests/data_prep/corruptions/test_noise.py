"""Noise: its definition, exact counts, the same bits whatever the batch, and its distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from data_prep.corruptions import noise as module
from data_prep.corruptions.noise import NoiseConfig, add_noise
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows, concat, take

KINDS = ("gaussian", "masking", "salt-and-pepper")
KEY = key(1, "corrupt", "test")


def drawn(sample: np.ndarray, epoch: int = 0) -> Draws:
    return Draws(KEY, epoch, sample)


def seen_of(values: np.ndarray, config: NoiseConfig, epoch: int = 0) -> np.ndarray:
    return np.asarray(add_noise({"input": values}, config, drawn(np.arange(len(values)), epoch))["seen"])


@st.composite
def inputs(draw) -> np.ndarray:
    """Tables and images of 1 … 9 rows, in float32 or bytes."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = draw(st.integers(1, 9))
    if draw(st.booleans()):
        return rng.integers(0, 256, (rows, *shape), np.uint8)
    return rng.normal(size=(rows, *shape)).astype(np.float32)


@given(inputs(), st.sampled_from(KINDS), st.floats(0, 1), st.data())
def test_noise_does_not_depend_on_the_batch(values, kind, level, data):
    config = NoiseConfig(kind=kind, level=level)
    rows, draws = {"input": values}, drawn(np.arange(len(values)))
    whole = np.asarray(add_noise(rows, config, draws)["seen"])
    cut = data.draw(st.integers(0, len(values)))
    parts = [np.arange(cut), np.arange(cut, len(values))]
    joined = concat([add_noise(take(rows, part), config, draws.take(part)) for part in parts])
    assert np.asarray(joined["seen"]).tobytes() == whole.tobytes()
    order = np.array(data.draw(st.permutations(range(len(values)))))
    turned = add_noise(take(rows, order), config, draws.take(order))["seen"]
    assert np.asarray(turned).tobytes() == whole[order].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_does_not_depend_on_how_many_values_are_worked_on_at_a_time(kind, monkeypatch):
    values = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    whole = seen_of(values, NoiseConfig(kind=kind, level=0.4))
    monkeypatch.setattr(module, "CHUNK", 15)
    assert seen_of(values, NoiseConfig(kind=kind, level=0.4)).tobytes() == whole.tobytes()


@given(inputs(), st.sampled_from(KINDS), st.floats(0, 1))
def test_the_clean_example_stays_as_it_is(values, kind, level):
    before = values.copy()
    rows = {"input": values, "label": np.arange(len(values))}
    noisy = add_noise(rows, NoiseConfig(kind=kind, level=level), drawn(np.arange(len(values))))
    assert set(rows) == {"input", "label"} and noisy["input"] is values and noisy["label"] is rows["label"]
    assert (values == before).all()
    assert np.asarray(noisy["seen"]).dtype == np.float32 and np.asarray(noisy["seen"]).shape == values.shape
    assert not np.shares_memory(np.asarray(noisy["seen"]), values)


@given(st.integers(1, 60), st.floats(0, 1), st.sampled_from(("masking", "salt-and-pepper")))
def test_exactly_the_share_asked_for_is_spoiled(size, level, kind):
    clean = np.full((5, size), 0.5, np.float32)
    seen = seen_of(clean, NoiseConfig(kind=kind, level=level))
    assert ((seen != clean).sum(1) == round(level * size)).all()
    assert set(np.unique(seen)) <= ({0.0, 0.5} if kind == "masking" else {0.0, 0.5, 1.0})


def test_every_value_is_as_likely_to_be_chosen_and_salt_as_likely_as_pepper():
    clean = np.full((4000, 10), 0.5, np.float32)
    seen = seen_of(clean, NoiseConfig(kind="salt-and-pepper", level=0.3))
    by_place = (seen != 0.5).sum(0)
    assert stats.chisquare(by_place).pvalue > 1e-3
    assert stats.binomtest(int((seen == 1).sum()), 12_000).pvalue > 1e-3
    together = np.corrcoef((seen != 0.5).T)[~np.eye(10, dtype=bool)]
    assert together.mean() == pytest.approx(-1 / 9, abs=0.01)  # drawn without putting back


def test_gaussian_noise_is_gaussian():
    clean = np.random.default_rng(0).random((500, 40), np.float32)
    noise = (seen_of(clean, NoiseConfig(kind="gaussian", level=0.5)) - clean) / 0.5
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.03
    again = (seen_of(clean, NoiseConfig(kind="gaussian", level=0.5), epoch=1) - clean) / 0.5
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 0.03


def test_gaussian_noise_follows_its_definition():
    bits = drawn(np.array([3])).bits(module.GAUSSIAN, 2)[0] >> np.uint64(12)
    expected = 0.25 * stats.norm.ppf((float(bits) + 0.5) / 2**52)
    seen = add_noise(
        {"input": np.zeros((1, 5), np.float32)}, NoiseConfig(kind="gaussian", level=0.25), drawn(np.array([3]))
    )
    assert np.asarray(seen["seen"])[0, 2] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_no_bits_give_infinite_noise(word, monkeypatch):
    monkeypatch.setattr(Draws, "bits", lambda self, draw, position, row: np.full((len(row), len(position)), word, "u8"))
    seen = seen_of(np.zeros((2, 3), np.float32), NoiseConfig(kind="gaussian", level=1))
    assert (np.abs(seen) > 8).all() and np.isfinite(seen).all()


def test_pictures_are_spoiled_on_the_scale_from_0_to_1():
    picture = np.full((3, 1, 20, 20), 51, np.uint8)
    assert np.abs(seen_of(picture, NoiseConfig(kind="gaussian", level=0.1)) - 0.2).std() < 0.1
    assert set(np.unique(seen_of(picture, NoiseConfig(kind="salt-and-pepper", level=0.5)))) == {
        np.float32(0), np.float32(51) / np.float32(255), np.float32(1)
    }  # fmt: skip


def test_the_ends_of_salt_and_pepper_can_be_set():
    seen = seen_of(np.zeros((50, 8), np.float32), NoiseConfig(kind="salt-and-pepper", level=1, low=-3, high=2))
    assert set(np.unique(seen)) == {-3, 2}


def test_no_rows_are_fine():
    assert seen_of(np.zeros((0, 3), np.float32), NoiseConfig(kind="masking", level=0.5)).shape == (0, 3)


def test_what_does_not_fit_is_refused():
    rows: Rows = {"input": np.ones((2, 3), np.float32)}
    config = NoiseConfig(kind="masking", level=0.5)
    with pytest.raises(ValueError, match=r"(?<![\d.,])2 rows need as many samples, not 3"):
        add_noise(rows, config, drawn(np.arange(3)))
    noisy = add_noise(rows, config, drawn(np.arange(2)))
    with pytest.raises(ValueError, match="corrupted already"):
        add_noise(noisy, config, drawn(np.arange(2)))
    with pytest.raises(ValidationError, match=r"at most 1, not 1\.5"):
        NoiseConfig(kind="masking", level=1.5)
    assert NoiseConfig(kind="gaussian", level=1.5).level == 1.5
