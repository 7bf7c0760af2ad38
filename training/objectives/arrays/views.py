"""The pixels of two views, from the parameters that `data_prep.corruptions.views` drew, on the device of the batch.

Cutting, resizing and mirroring are one bilinear sampling of torch; colours and blur are kornia's. Brightness and
contrast are as in torchvision: contrast is about the mean grey of the image. After each of them values are cut to
0 … 1. Images without three channels have no saturation and no hue, and are grey already. The blur's kernel is a tenth
of the image's height, made odd and at least 3, with the image mirrored at its edges.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corruptions.views import COLUMNS, JITTERS, NEUTRAL
from data_prep.shards.rows import Rows
from training.lazy import F, torch
from training.objective import Batch

if TYPE_CHECKING:
    from torch import Tensor

NUM_COLOURS = 3  # channels of an image that has colours


def parameters(rows: Rows) -> Batch:
    """The columns of the views as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(np.asarray(rows[name]))) for name in COLUMNS}


def rendered(batch: Batch) -> Tensor:
    """Both views, float32 [B, 2, C, H, W] in 0 … 1, of `input` [B, C, H, W] (bytes, or float32 in 0 … 1).

    batch: `input` and the columns of `data_prep.corruptions.views`. A view depends only on its own row.
    """
    images = batch["input"]
    values = images.float() / 255 if images.dtype == torch.uint8 else images
    views = values.repeat_interleave(2, 0)
    of_view = {name: batch[name].flatten(0, 1) for name in COLUMNS}
    views = _cut(views, of_view["view_box"], of_view["view_flip"])
    views = _jittered(views, of_view["view_jitter"], of_view["view_order"])
    if views.shape[1] == NUM_COLOURS:
        views = _grey(views, of_view["view_grey"])
    return _blurred(views, of_view["view_blur"]).unflatten(0, (-1, 2))


def _cut(images: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Boxes [V, 4] of images [V, C, H, W], resized to the whole; mirrored where `flip` [V]."""
    top, left, height, width = box.unbind(1)
    across = torch.where(flip, -width, width)
    zero = torch.zeros_like(width)
    # Affine maps of a view's coordinates to the image's; both go from −1 to 1.
    matrix = torch.stack([across, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1], 1)
    grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _jittered(views: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Views [V, C, H, W] changed by `factors` [V, 4], each in its own order [V, 4]."""
    from kornia import enhance

    changes = {
        "brightness": enhance.adjust_brightness_accumulative,
        "contrast": enhance.adjust_contrast_with_mean_subtraction,
        "saturation": enhance.adjust_saturation_with_gray_subtraction,
        "hue": lambda values, turn: enhance.adjust_hue(values, 2 * math.pi * turn).clamp(0, 1),
    }
    applicable = [name for name in JITTERS if views.shape[1] == NUM_COLOURS or name in ("brightness", "contrast")]
    views = views.clone()
    for turn in range(len(JITTERS)):
        for name in applicable:
            number = JITTERS.index(name)
            chosen = ((order[:, turn] == number) & (factors[:, number] != NEUTRAL[number])).nonzero()[:, 0]
            if len(chosen):
                views[chosen] = changes[name](views[chosen], factors[chosen, number])
    return views


def _grey(views: Tensor, grey: Tensor) -> Tensor:
    from kornia.color import rgb_to_grayscale

    return torch.where(grey[:, None, None, None], rgb_to_grayscale(views), views)


def _blurred(views: Tensor, sigma: Tensor) -> Tensor:
    """Views [V, C, H, W] blurred where `sigma` [V] is above 0."""
    chosen = (sigma > 0).nonzero()[:, 0]
    if not len(chosen):
        return views
    from kornia.filters import gaussian_blur2d

    side = 2 * max(1, views.shape[2] // 20) + 1
    views = views.clone()
    views[chosen] = gaussian_blur2d(views[chosen], (side, side), sigma[chosen, None].expand(-1, 2))
    return views
