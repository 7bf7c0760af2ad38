"""Two views of every image (Chen et al. 2020, arXiv:2002.05709, appendix A): their random parameters, not their pixels.

    x ──► cut and resized ──► mirrored ──► colours jittered ──► grey ──► blurred ──► a view, twice

`Views` draws the parameters of both views from the keyed draws of each row and adds them as columns, so results do not
depend on how rows are batched. `training.objectives.arrays.views` renders the pixels on the network's device.

    view_box     float32 [R, 2, 4]  top, left, height, width of the crop, as shares of the image's sides
    view_flip    bool    [R, 2]     whether it is mirrored, left to right
    view_jitter  float32 [R, 2, 4]  factors of brightness, contrast and saturation, and hue rotation (1: full turn)
    view_order   uint8   [R, 2, 4]  the order in which these four are applied
    view_grey    bool    [R, 2]     whether colours are removed
    view_blur    float32 [R, 2]     standard deviation of a Gaussian blur in pixels; 0: none

A box is drawn by area and ratio; if it exceeds the image, it is drawn again, up to `ATTEMPTS` times, and then is the
complete image. Brightness is a factor, as in the code of SimCLR v2; in that of v1 it was added.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from data_prep.corruptions.base import Corruption, CorruptionConfig, Counts, Piece, Targets, check_rows
from data_prep.rng import Draws
from data_prep.shards.rows import Rows, Specials

AREA, RATIO, PLACE, FLIP, JITTERED, FACTORS, ORDER, GREY, BLURRED, SIGMA = range(
    24, 34
)  # draws; distinct from those of other modules
NUM_VIEWS = 2
ATTEMPTS = 10
JITTERS = ("brightness", "contrast", "saturation", "hue")
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # jitter that changes nothing
RENDERED = "views"  # the column of both views' pixels, if they have been rendered
COLUMNS = ("view_box", "view_flip", "view_jitter", "view_order", "view_grey", "view_blur")

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class ViewsConfig(CorruptionConfig):
    """How two views of an image differ. The defaults are those of the paper for ImageNet."""

    kind: Literal["views"]
    """Two views of every image."""
    area: Range = (0.08, 1.0)
    """Minimum and maximum area of the crop, as a share of the image."""
    ratio: Range = (3 / 4, 4 / 3)
    """Minimum and maximum aspect ratio (width / height) of the crop."""
    flip: Share = 0.5
    """Probability that a view is mirrored, left to right."""
    jitter: Share = 0.8
    """Probability that brightness and colours of a view are jittered."""
    brightness: float = Field(default=0.8, ge=0)
    """Brightness is multiplied by a factor within 1 ± this, at least 0."""
    contrast: float = Field(default=0.8, ge=0)
    """Contrast is multiplied by a factor within 1 ± this, at least 0."""
    saturation: float = Field(default=0.8, ge=0)
    """Saturation is multiplied by a factor within 1 ± this, at least 0."""
    hue: float = Field(default=0.2, ge=0, le=0.5)
    """Maximum rotation of the hue in either direction, in turns."""
    grey: Share = 0.2
    """Probability that a view has no colours."""
    blur: Share = 0.5
    """Probability that a view is blurred."""
    sigma: Range = (0.1, 2.0)
    """Minimum and maximum standard deviation of the blur, in pixels."""

    targets: ClassVar[Targets] = "views"
    writes = COLUMNS

    @model_validator(mode="after")
    def _ranges_are_some(self) -> ViewsConfig:
        for name, maximum in (("area", 1.0), ("ratio", np.inf), ("sigma", np.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= maximum:
                limit = f" ≤ {maximum:g}" if maximum < np.inf else ""
                raise ValueError(f"{name} is a range 0 < least ≤ largest{limit}, not {low:g} to {high:g}")
        return self


class Views(Corruption):
    """See the module's docstring. x″ of a view is the other view."""

    config: ViewsConfig

    def counts(self, n: int) -> Counts:
        """For each view, which has the size of x."""
        return Counts(n, n)

    def restore(self, rows: Rows) -> Rows:
        return {name: column for name, column in rows.items() if name not in COLUMNS}

    def pieces(self, rows: Rows, row: int) -> list[Piece]:
        """x, and both views if they were rendered (`RENDERED` [R, 2, C, H, W])."""
        nothing = np.empty(0, np.int64)
        views = np.asarray(rows[RENDERED])[row] if RENDERED in rows else ()
        named = [Piece(f"view {number}", view, nothing) for number, view in enumerate(views, 1)]
        return [Piece("x", np.asarray(rows["input"])[row], nothing), *named]

    def __call__(self, rows: Rows, draws: Draws) -> Rows:
        check_rows(rows, self.config, draws)
        images = np.asarray(rows["input"])
        if images.ndim != 4:
            raise ValueError(f"views are of images [rows, channels, height, width], not {images.shape}")
        config = self.config
        jittered = _uniform(draws, JITTERED) < config.jitter
        blurred = _uniform(draws, BLURRED) < config.blur
        sigma = _between(*config.sigma, _uniform(draws, SIGMA))
        return {
            **rows,
            "view_box": _boxes(config, images.shape[2], images.shape[3], draws),
            "view_flip": _uniform(draws, FLIP) < config.flip,
            "view_jitter": np.where(jittered[..., None], _factors(config, draws), NEUTRAL).astype(np.float32),
            "view_order": np.argsort(_uniform(draws, ORDER, len(JITTERS)), 2).astype(np.uint8),
            "view_grey": _uniform(draws, GREY) < config.grey,
            "view_blur": np.where(blurred, sigma, 0).astype(np.float32),
        }


Config = ViewsConfig


def build(config: ViewsConfig, specials: Specials | None = None) -> Views:
    return Views(config, specials)


def unchanged(num_rows: int) -> Rows:
    """Columns of `num_rows` rows whose views are the images themselves."""
    shape = (num_rows, NUM_VIEWS)
    return {
        "view_box": np.broadcast_to(np.array([0, 0, 1, 1], np.float32), (*shape, 4)).copy(),
        "view_flip": np.zeros(shape, bool),
        "view_jitter": np.broadcast_to(np.array(NEUTRAL, np.float32), (*shape, len(JITTERS))).copy(),
        "view_order": np.broadcast_to(np.arange(len(JITTERS), dtype=np.uint8), (*shape, len(JITTERS))).copy(),
        "view_grey": np.zeros(shape, bool),
        "view_blur": np.zeros(shape, np.float32),
    }


def _uniform(draws: Draws, draw: int, count: int | None = None) -> np.ndarray:
    """Uniform in [0, 1): [R, 2], or [R, 2, count]."""
    position = np.arange(NUM_VIEWS * (count or 1))[:, None]
    values = draws.uniform(draw, position).T
    return values if count is None else values.reshape(len(draws), NUM_VIEWS, count)


def _between(low: float, high: float, uniform: np.ndarray) -> np.ndarray:
    return low + (high - low) * uniform


def _boxes(config: ViewsConfig, height: int, width: int, draws: Draws) -> np.ndarray:
    """float32 [R, 2, 4]: top, left, height, width as shares of the sides."""
    area = _between(*config.area, _uniform(draws, AREA, ATTEMPTS)) * (height * width)
    narrow, wide = config.ratio
    ratio = np.exp(_between(np.log(narrow), np.log(wide), _uniform(draws, RATIO, ATTEMPTS)))
    heights, widths = np.sqrt(area / ratio) / height, np.sqrt(area * ratio) / width  # [R, 2, ATTEMPTS]
    fits = (heights <= 1) & (widths <= 1)
    first = fits.argmax(2)[..., None]
    sides = np.stack([np.take_along_axis(choices, first, 2)[..., 0] for choices in (heights, widths)], 2)
    sides[~fits.any(2)] = 1
    corner = _uniform(draws, PLACE, 2) * (1 - sides)
    return np.concatenate([corner, sides], 2).astype(np.float32)


def _factors(config: ViewsConfig, draws: Draws) -> np.ndarray:
    """[R, 2, 4], in the order of `JITTERS`."""
    strengths = (config.brightness, config.contrast, config.saturation)
    ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in strengths] + [(-config.hue, config.hue)]
    low, high = np.array(ranges).T
    return low + (high - low) * _uniform(draws, FACTORS, len(JITTERS))
