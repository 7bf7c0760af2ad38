"""Images changed by keyed draws: pure on batches, exact where nothing is interpolated, smooth and bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corruptions import warp as module
from data_prep.corruptions.warp import AugmentConfig, augment
from data_prep.rng import Draws
from data_prep.shards.rows import Rows

ALL = AugmentConfig(translate=2, rotate=15, scale=0.2, elastic=0.8)


def _changed(pictures: np.ndarray, config: AugmentConfig, draws: Draws) -> np.ndarray:
    return np.asarray(augment({"input": pictures}, config, draws)["input"])


def _pictures(count: int, seed: int = 0, channels: int = 1, kind: type = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, 9, 12)).astype(np.uint8)
    return pixels if kind is np.uint8 else (pixels / 255).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 5), st.permutations(range(12)))
def test_a_row_depends_on_its_own_draws_alone(size: int, epoch: int, order: list[int]) -> None:
    rows, draws = _pictures(12, channels=3), Draws(5, epoch, np.arange(12))
    whole = _changed(rows, ALL, draws)
    places = np.array(order)
    parts = [places[start : start + size] for start in range(0, 12, size)]
    split = [_changed(rows[part], ALL, draws.take(part)) for part in parts]
    assert np.array_equal(np.concatenate(split), whole[places])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, draws = _pictures(20), Draws(5, 0, np.arange(20))
    whole = _changed(rows, ALL, draws)
    monkeypatch.setattr(module, "CHUNK", 300)
    assert np.array_equal(_changed(rows, ALL, draws), whole)


def test_epochs_samples_and_keys_differ() -> None:
    rows = np.repeat(_pictures(1), 4, 0)
    base = _changed(rows, ALL, Draws(5, 0, np.arange(4)))
    assert len({picture.tobytes() for picture in base}) == 4
    assert not np.array_equal(_changed(rows, ALL, Draws(5, 1, np.arange(4))), base)
    assert not np.array_equal(_changed(rows, ALL, Draws(6, 0, np.arange(4))), base)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_type_shape_and_other_columns_stay(kind: type) -> None:
    pictures = _pictures(6, kind=kind)
    before = pictures.copy()
    rows: Rows = {"input": pictures, "label": np.arange(6)}
    augmented = augment(rows, ALL, Draws(5, 0, np.arange(6)))
    warped = np.asarray(augmented["input"])
    assert warped.dtype == kind and warped.shape == pictures.shape
    assert augmented["label"] is rows["label"]
    assert np.array_equal(pictures, before)
    assert warped.min() >= 0 and warped.max() <= pictures.max()


def test_nothing_asked_is_nothing_done() -> None:
    rows: Rows = {"input": _pictures(3)}
    assert augment(rows, AugmentConfig(), Draws(5, 0, np.arange(3))) is rows


def test_a_whole_shift_moves_pixels_and_brings_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "_either_way", lambda draws, draw, position=0: np.full((len(draws), 1), 1.0 - position * 2)
    )
    pictures = _pictures(2)
    shifted = _changed(pictures, AugmentConfig(translate=2), Draws(5, 0, np.arange(2)))
    assert np.array_equal(shifted[:, :, 2:, :-2], pictures[:, :, :-2, 2:])  # 2 down, 2 to the left
    assert not shifted[:, :, :2].any() and not shifted[:, :, :, -2:].any()


def test_a_half_turn_is_a_flip_of_both_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_either_way", lambda draws, draw, position=0: np.ones((len(draws), 1)))
    pictures = _pictures(2, kind=np.float32)
    turned = _changed(pictures, AugmentConfig(rotate=180), Draws(5, 0, np.arange(2)))
    assert np.allclose(turned, pictures[:, :, ::-1, ::-1], atol=1e-4)


def test_size_makes_things_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_either_way", lambda draws, draw, position=0: np.ones((len(draws), 1)))
    picture = np.zeros((1, 1, 21, 21), np.float32)
    picture[:, :, 8:13, 8:13] = 1
    enlarged = _changed(picture, AugmentConfig(scale=0.5), Draws(5, 0, np.arange(1)))
    assert enlarged.sum() == pytest.approx(1.5**2 * picture.sum(), rel=0.05)


def test_bending_is_as_strong_as_asked_and_smooth() -> None:
    draws = Draws(5, 0, np.arange(4000))
    x, _ = module._places(12, 12, AugmentConfig(elastic=0.8), draws)
    moved = x.reshape(-1, 12, 12) - np.arange(12)
    assert moved[:, 0, 0].std() == pytest.approx(0.8, rel=0.05)  # a point of the coarse grid
    assert abs(moved.mean()) < 0.02
    assert np.abs(np.diff(moved, axis=2)).mean() < 0.5 * np.abs(moved).mean()


def test_what_cannot_be_done_is_refused() -> None:
    pictures = _pictures(3)
    with pytest.raises(ValueError, match="images are"):
        augment({"input": np.zeros((3, 4), np.float32)}, ALL, Draws(5, 0, np.arange(3)))
    with pytest.raises(ValueError, match="as many samples"):
        augment({"input": pictures}, ALL, Draws(5, 0, np.arange(2)))
    with pytest.raises(ValueError, match="corrupted already"):
        augment({"input": pictures, "seen": pictures}, ALL, Draws(5, 0, np.arange(3)))
