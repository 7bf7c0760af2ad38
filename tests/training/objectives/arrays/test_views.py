"""Views: each parameter changes the pixels that it should, and nothing but the row's own parameters does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from data_prep.corruptions.views import ViewsConfig, build, unchanged
from data_prep.rng import Draws, key
from data_prep.shards.rows import Rows, take
from training.objectives.arrays.views import parameters, rendered


def images(count: int = 6, channels: int = 3, height: int = 20, width: int = 16) -> np.ndarray:
    """Smooth coloured ones: where bilinear sampling falls between pixels is no matter of chance."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 20
    slopes = random.normal(size=(3, count, channels, 1, 1))
    return np.clip(128 + 90 * slopes[0] * x + 90 * slopes[1] * y + 30 * slopes[2], 0, 255).astype(np.uint8)


def views(rows: Rows) -> Tensor:
    return rendered({"input": torch.from_numpy(np.asarray(rows["input"])), **parameters(rows)})


def changed(name: str, value: object, values: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Images in 0 … 1, and their first views where one parameter is set."""
    values = images() if values is None else values
    rows: Rows = {"input": values, **unchanged(len(values))}
    column = np.array(rows[name])
    column[:, 0] = value
    output = views({**rows, name: column})
    torch.testing.assert_close(output[:, 1], torch.from_numpy(values) / 255)  # the second view is as it was
    return torch.from_numpy(values) / 255, output[:, 0]


def drawn(count: int) -> Rows:
    draws = Draws(key(1, "corrupt", "views"), 0, np.arange(count))
    return build(ViewsConfig(kind="views"))({"input": images(count)}, draws)


def test_parameters_that_change_nothing_give_the_image_twice() -> None:
    for channels in (1, 3, 4):
        clean = torch.from_numpy(images(channels=channels)) / 255
        output = views({"input": images(channels=channels), **unchanged(6)})
        torch.testing.assert_close(output, torch.stack([clean, clean], 1), atol=1e-5, rtol=0)


def test_a_box_of_whole_pixels_is_cut_out_and_enlarged() -> None:
    clean, view = changed("view_box", [0.5, 0.25, 0.5, 0.5])
    part = clean[:, :, 10:, 4:12]
    wanted = torch.nn.functional.interpolate(part, (20, 16), mode="bilinear")
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # at its edges what lies beside it plays in
    torch.testing.assert_close(view[inside], wanted[inside], atol=1e-5, rtol=0)


def test_a_flip_mirrors() -> None:
    clean, view = changed("view_flip", True)
    torch.testing.assert_close(view, clean.flip(3), atol=1e-5, rtol=0)


def test_brightness_contrast_and_saturation_are_factors() -> None:
    clean, view = changed("view_jitter", [1.5, 1, 1, 0])
    torch.testing.assert_close(view, (1.5 * clean).clamp(0, 1), atol=1e-5, rtol=0)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (clean * weights).sum(1, keepdim=True)
    clean, view = changed("view_jitter", [1, 0.4, 1, 0])
    torch.testing.assert_close(view, 0.4 * clean + 0.6 * grey.mean((2, 3), keepdim=True), atol=1e-4, rtol=0)
    clean, view = changed("view_jitter", [1, 1, 0.4, 0])
    torch.testing.assert_close(view, 0.4 * clean + 0.6 * grey, atol=1e-4, rtol=0)


def test_a_third_of_a_turn_of_the_hue_exchanges_colours() -> None:
    clean, view = changed("view_jitter", [1, 1, 1, 1 / 3])
    torch.testing.assert_close(view, clean.roll(1, 1), atol=1e-3, rtol=0)


def test_the_order_of_changes_matters() -> None:
    rows: Rows = {"input": images(), **unchanged(6)}
    rows["view_jitter"] = np.broadcast_to(np.array([1.6, 0.5, 1, 0], np.float32), (6, 2, 4)).copy()
    order = np.array(rows["view_order"])
    order[:, 1] = [1, 0, 2, 3]
    view = views({**rows, "view_order": order})
    assert not torch.allclose(view[:, 0], view[:, 1], atol=1e-2)


def test_grey_and_blur() -> None:
    _, view = changed("view_grey", True)
    torch.testing.assert_close(view[:, 0], view[:, 1])
    noise = np.random.default_rng(2).integers(0, 256, (4, 1, 28, 28)).astype(np.uint8)
    clean, view = changed("view_blur", 2.0, noise)
    assert (view.std((2, 3)) < 0.6 * clean.std((2, 3))).all()
    torch.testing.assert_close(view.mean((2, 3)), clean.mean((2, 3)), atol=0.02, rtol=0)


def test_a_view_is_the_rows_own_whatever_the_batch() -> None:
    rows = drawn(40)
    expected = views(rows)
    for index in (np.arange(40)[::-1].copy(), np.array([7]), np.array([3, 30, 12])):
        torch.testing.assert_close(views(take(rows, index)), expected[torch.from_numpy(index)], atol=1e-6, rtol=0)


def test_all_together_stay_images() -> None:
    output = views(drawn(40))
    assert output.shape == (40, 2, 3, 20, 16) and output.dtype == torch.float32
    assert output.min() >= 0 and output.max() <= 1 and output.isfinite().all()
    assert (output[:, 0] - output[:, 1]).abs().mean() > 0.02


def test_floats_and_bytes_are_on_one_scale() -> None:
    rows = drawn(5)
    floats = {**rows, "input": (np.asarray(rows["input"]) / np.float32(255)).astype(np.float32)}
    torch.testing.assert_close(views(rows), views(floats), atol=1e-6, rtol=0)
    assert pytest.approx(float(views(rows).mean()), abs=0.3) == 0.5
