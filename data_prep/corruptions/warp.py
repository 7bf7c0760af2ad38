"""Augmentation: every image is slightly translated, rotated, scaled and warped before it is used.

    x ──► sampled at  A·(p + elastic(p)) + translation ──► x, from which both inputs and targets are made

A rotates and scales about the image's centre. `elastic` is a smooth field: displacements drawn on a coarse
grid (GRID × GRID points), smoothly interpolated. Values outside the image are 0. Sampling is bilinear.

`augment` is a pure function of each row and of the row's keyed draws, like `data_prep.corruptions.noise`: results
differ between epochs, but not between machines, batch sizes or numbers of workers. It is for training rows only.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from data_prep.corruptions.base import check_untouched
from data_prep.rng import Draws
from data_prep.shards.rows import Rows

TRANSLATE, ROTATE, SCALE, ELASTIC = range(16, 20)  # draws; distinct from those of noise
GRID = 4
CHUNK = 1 << 18  # values to process at a time


class AugmentConfig(BaseModel):
    """Strength of the changes to training images; 0 switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    translate: float = Field(default=0.0, ge=0)
    """Maximum translation in pixels, horizontally and vertically."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Maximum rotation in degrees, in either direction."""
    scale: float = Field(default=0.0, ge=0, lt=1)
    """Maximum change of size: 0.1 is 10 % larger or smaller."""
    elastic: float = Field(default=0.0, ge=0)
    """Standard deviation of the smooth displacements, in pixels."""

    @property
    def changes(self) -> bool:
        """Whether any change is switched on."""
        return self != AugmentConfig()


def augment(rows: Rows, config: AugmentConfig, draws: Draws) -> Rows:
    """The rows with an augmented `input`, of the same type and shape: images [R, C, H, W], uint8 or float32.

    draws: one sample per row. Other columns are passed through; nothing changes in place. Raises ValueError if rows are
    not images or corrupted already, or if the numbers of rows and draws differ.
    """
    check_untouched(rows, ("seen",), draws)
    images = np.asarray(rows["input"])
    if images.ndim != 4:
        raise ValueError(f"images are [rows, channels, height, width], not {images.shape}")
    if not config.changes:
        return rows
    augmented = np.empty_like(images)
    step = max(1, CHUNK // max(1, images[:1].size))
    for start in range(0, len(images), step):
        part = np.arange(start, min(start + step, len(images)))
        x, y = _places(images.shape[2], images.shape[3], config, draws.take(part))
        values = _sampled(images[part], x, y)
        augmented[part] = np.rint(values) if augmented.dtype == np.uint8 else values
    return {**rows, "input": augmented}


def _places(height: int, width: int, config: AugmentConfig, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """The source coordinates of each pixel, x and y [R, H·W] float32, in pixels."""
    count = len(draws)
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width].astype(np.float32))
    y, x = y - middle_y, x - middle_x
    if config.elastic:
        row, position = np.arange(count)[:, None], np.arange(2 * GRID * GRID)
        points = config.elastic * draws.normal(ELASTIC, position, row)
        points = points.astype(np.float32).reshape(count, 2, GRID * GRID)
        bent = points @ _smooth(height, width)
        y, x = y + bent[:, 0], x + bent[:, 1]
    angle = np.radians(config.rotate) * _either_way(draws, ROTATE)
    scale = 1 / (1 + config.scale * _either_way(draws, SCALE))
    cosine, sine = (scale * np.cos(angle)).astype(np.float32), (scale * np.sin(angle)).astype(np.float32)
    down = (config.translate * _either_way(draws, TRANSLATE)).astype(np.float32)
    right = (config.translate * _either_way(draws, TRANSLATE, 1)).astype(np.float32)
    return cosine * x - sine * y + (middle_x - right), sine * x + cosine * y + (middle_y - down)


def _either_way(draws: Draws, draw: int, position: int = 0) -> np.ndarray:
    """[R, 1], uniform between −1 and 1."""
    return (2 * draws.uniform(draw, position) - 1)[:, None]


@lru_cache(maxsize=8)
def _smooth(height: int, width: int) -> np.ndarray:
    """[GRID·GRID, H·W] float32: weights that interpolate the grid's points to a smooth field (cosine interpolation)."""

    def along(size: int) -> np.ndarray:
        places = np.linspace(0, GRID - 1, size)
        distance = np.abs(places[None, :] - np.arange(GRID)[:, None])
        return np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0)

    weights = np.einsum("ai,bj->abij", along(height), along(width))
    return weights.reshape(GRID * GRID, height * width).astype(np.float32)


def _sampled(images: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear: float32 [R, C, H, W] of images at places x, y [R, H·W]; 0 outside."""
    count, channels, height, width = images.shape
    framed = np.zeros((count, channels, height + 2, width + 2), np.float32)
    framed[:, :, 1:-1, 1:-1] = images
    x, y = np.clip(x + 1, 0, width + 0.999), np.clip(y + 1, 0, height + 0.999)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = (x - left)[:, None], (y - top)[:, None]
    flat = framed.reshape(count, channels, -1)
    first = (top * (width + 2) + left)[:, None]

    def at(offset: int) -> np.ndarray:
        return np.take_along_axis(flat, first + offset, 2)

    above = at(0) + x * (at(1) - at(0))
    below = at(width + 2) + x * (at(width + 3) - at(width + 2))
    return (above + y * (below - above)).reshape(images.shape)
