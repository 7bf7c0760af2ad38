"""Parameters of views lie where the settings say, are spread evenly there, and are those of the row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.corruptions.views import COLUMNS, NEUTRAL, ViewsConfig, build, unchanged
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows, take

COUNT = 4000


def drawn(count: int = COUNT, epoch: int = 0) -> Draws:
    return Draws(key(3, "corrupt", "views"), epoch, np.arange(count))


def made(draws: Draws | None = None, height: int = 20, width: int = 30, **settings: Any) -> dict[str, Any]:
    draws = draws or drawn()
    rows: Rows = {"input": np.zeros((len(draws), 1, height, width), np.uint8)}
    corrupted = build(ViewsConfig(kind="views", **settings))(rows, draws)
    return {name: np.asarray(corrupted[name]) for name in COLUMNS}


def test_boxes_lie_in_the_picture_and_are_as_large_as_asked() -> None:
    box = made(area=(0.1, 0.6))["view_box"].astype(np.float64)
    top, left, height, width = np.moveaxis(box, 2, 0)
    assert (box >= 0).all() and (top + height).max() <= 1 + 1e-6 and (left + width).max() <= 1 + 1e-6
    area, ratio = height * width, width * 30 / (height * 20)
    assert area.min() == pytest.approx(0.1, abs=0.01) and area.max() == pytest.approx(0.6, abs=0.01)
    assert area.mean() == pytest.approx(0.35, abs=0.01)
    assert ratio.min() == pytest.approx(3 / 4, abs=0.01) and ratio.max() == pytest.approx(4 / 3, abs=0.01)
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    free = height < 0.9
    assert (top[free] / (1 - height[free])).mean() == pytest.approx(0.5, abs=0.02)


def test_a_box_that_never_fits_is_the_whole_picture() -> None:
    box = made(height=4, width=100, area=(0.9, 1.0))["view_box"]
    assert np.array_equal(box, np.asarray(unchanged(COUNT)["view_box"]))


def test_jitter_is_within_its_ranges() -> None:
    columns = made(brightness=0.4, contrast=1.5, saturation=0.0, hue=0.1, jitter=0.8)
    factors, neutral = columns["view_jitter"], np.array(NEUTRAL, np.float32)
    jittered = (factors != neutral).any(2)
    assert jittered.mean() == pytest.approx(0.8, abs=0.02) and (factors[~jittered] == neutral).all()
    low, high = factors[jittered].min(0), factors[jittered].max(0)
    np.testing.assert_allclose(low, [0.6, 0.0, 1.0, -0.1], atol=0.01)
    np.testing.assert_allclose(high, [1.4, 2.5, 1.0, 0.1], atol=0.01)
    order = columns["view_order"]
    assert np.array_equal(np.sort(order, 2), np.broadcast_to(np.arange(4), order.shape))
    assert len(np.unique(order.reshape(-1, 4), axis=0)) == 24
    np.testing.assert_allclose([np.mean(order[..., 0] == first) for first in range(4)], 0.25, atol=0.03)


def test_flips_greys_and_blurs_are_as_frequent_as_asked() -> None:
    columns = made(flip=0.3, grey=0.2, blur=0.6, sigma=(0.5, 1.5))
    assert columns["view_flip"].mean() == pytest.approx(0.3, abs=0.02)
    assert columns["view_grey"].mean() == pytest.approx(0.2, abs=0.02)
    blur = columns["view_blur"]
    assert (blur > 0).mean() == pytest.approx(0.6, abs=0.02)
    assert blur[blur > 0].min() == pytest.approx(0.5, abs=0.01) and blur.max() == pytest.approx(1.5, abs=0.01)
    never = made(flip=0.0, grey=0.0, blur=0.0, jitter=0.0)
    assert all(
        np.array_equal(never[name], np.asarray(unchanged(COUNT)[name]))
        for name in COLUMNS
        if name[5:] not in ("box", "order")
    )
    always = made(flip=1.0, grey=1.0, blur=1.0)
    assert always["view_flip"].all() and always["view_grey"].all() and always["view_blur"].all()


def test_views_of_a_row_differ_between_each_other_and_between_epochs() -> None:
    box, later = made()["view_box"], made(drawn(epoch=1))["view_box"]
    assert abs(np.corrcoef(box[:, 0, 0], box[:, 1, 0])[0, 1]) < 0.05
    assert not np.isclose(box, later).all(2).any()


def test_they_are_the_rows_own_whatever_the_batch() -> None:
    whole, rows = made(), np.random.default_rng(0).permutation(COUNT)[:50]
    part = made(drawn().take(rows))
    assert all(np.array_equal(part[name], np.asarray(take(whole, rows)[name])) for name in COLUMNS)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"area": (0.5, 1.2)}, "area is a range 0 < least ≤ largest ≤ 1, not 0.5 to 1.2"),
        ({"ratio": (2.0, 1.0)}, "ratio is a range 0 < least ≤ largest, not 2 to 1"),
        ({"sigma": (0.0, 1.0)}, "sigma is a range"),
        ({"hue": 0.6}, "less than or equal to 0.5"),
        ({"flip": -0.1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        ViewsConfig(kind="views", **settings)


def test_rows_of_a_table_have_no_views() -> None:
    with pytest.raises(ValueError, match=r"views are of images .* not \(3, 5\)"):
        build(ViewsConfig(kind="views"))({"input": np.zeros((3, 5), np.float32)}, drawn(3))
