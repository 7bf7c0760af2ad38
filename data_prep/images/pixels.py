"""Settings of images, and converting any image to uint8 pixels of one size.

An image is rotated according to its EXIF data, cropped to the central square, and resized (bicubic, with
antialiasing). Transparency is rendered on white. Pillow decodes PNG, JPEG and WebP only; of an animation the first
frame is used. An image with more than MAX_PIXELS pixels in its header is refused before decoding.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 28  # maximum file size
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
MEAN, STD = 128, 48  # of the values of a standardised image, which are clipped to 0 … 255
MIN_STD = 1.0  # an image with less contrast becomes uniform


class ImagesConfig(BaseModel):
    """How images become pixels."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side in pixels of the square that images are resized to; without it, images must all have the same size."""
    channels: Literal[1, 3] = 1
    """1: grey, 3: red, green and blue."""
    labels: Literal["folder", "none"] = "folder"
    """Class of an image: the name of its folder (for IDX and NumPy files, their labels), or none."""
    patch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Cut every image into a grid of squares with this side in pixels; the remainder is dropped."""
    standardise: bool = False
    """Give the values of every image the same mean and standard deviation, to remove brightness and contrast."""


class DecodedImage(NamedTuple):
    """One image: uint8 [C, H, W], its class, and its location (file and position, from 1)."""

    pixels: np.ndarray
    label: str | None
    source: str
    position: int


class BadImageError(ValueError):
    """An image cannot be used; the message is the reason of the reject."""


def decoded(raw: bytes, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] decoded from a file's bytes. Raises `BadImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about size and metadata; the size is checked below
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise BadImageError(f"has more than {MAX_PIXELS:,} pixels ({width} × {height})")
                image.load()
                turned = ImageOps.exif_transpose(image)
                return fitted(turned, config)
    except BadImageError:
        raise
    except Image.DecompressionBombError:
        raise BadImageError(f"has more than {MAX_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise BadImageError("not a PNG, JPEG or WebP image") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes, their only input
        raise BadImageError(f"damaged image: {error or type(error).__name__}") from error


def fitted(image: Image.Image, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] from an image of any mode and size."""
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits, which Pillow would clip to 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if config.channels == 1 else "RGB")
    if config.size is not None and image.size != (config.size, config.size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop(
            (left, top, left + side, top + side)
        )  # a separate step: resize(box=…) samples beyond the box
        image = image.resize((config.size, config.size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    pixels = pixels[None] if config.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return standardised(pixels) if config.standardise else pixels


def standardised(pixels: np.ndarray) -> np.ndarray:
    """uint8 [C, H, W] scaled to mean MEAN and deviation STD over all values."""
    values = pixels.astype(np.float64)
    away = (values - values.mean()) / max(values.std(), MIN_STD)
    return np.rint(np.clip(MEAN + STD * away, 0, 255)).astype(np.uint8)


def patches(image: DecodedImage, side: int) -> Iterator[DecodedImage]:
    """The squares of an image, row by row. Raises `BadImageError` if it is too small for one."""
    _, height, width = image.pixels.shape
    if min(height, width) < side:
        raise BadImageError(f"is {height} × {width} pixels, smaller than data.images.patch {side}")
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            pixels = image.pixels[:, top : top + side, left : left + side]
            yield image._replace(pixels=np.ascontiguousarray(pixels))


def fitted_array(pixels: np.ndarray, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] from a uint8 array [H, W] or [H, W, 1 | 3]."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    side = config.size
    if pixels.ndim == 2 and config.channels == 1 and (side is None or pixels.shape == (side, side)):
        return standardised(pixels[None]) if config.standardise else pixels[None]  # the common case: no conversion
    return fitted(Image.fromarray(np.ascontiguousarray(pixels)), config)
