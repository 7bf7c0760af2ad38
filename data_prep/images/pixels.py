"""Images: what a recipe says of them, and how any image becomes uint8 pixels of one size.

An image is turned as its EXIF data says, cut to the square in its middle, and made as large as asked (bicubic, with
antialiasing). What is transparent is shown on white. Decoders are Pillow's, for PNG, JPEG and WebP alone; of an
animation the first frame counts. An image whose header says that it has more than MAX_PIXELS pixels is refused before
it is decoded.
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
MAX_BYTES = 1 << 28  # of a file
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
MEAN, STD = 128, 48  # of the values of a standardised image; what lies beyond 0 or 255 is cut off
MIN_STD = 1.0  # an image with less is of one value, and becomes even


class ImagesConfig(BaseModel):
    """What images are made into."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Pixels of a side, after images were cut to squares; without it they stay as they are and have one size."""
    channels: Literal[1, 3] = 1
    """1: grey, 3: red, green and blue."""
    labels: Literal["folder", "none"] = "folder"
    """Class of an image: the name of its folder (of IDX and NumPy files: their labels), or none."""
    patch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Cut every image into squares of so many pixels a side, beside and below each other; the rest is left out."""
    standardise: bool = False
    """Give the values of every image the same mean and deviation, so that light and contrast tell nothing."""


class DecodedImage(NamedTuple):
    """One image: uint8 [C, H, W], its class, and where it stands (file and number, from 1)."""

    pixels: np.ndarray
    label: str | None
    source: str
    position: int


class BadImageError(ValueError):
    """What keeps an image from being used, as a reason."""


def decoded(raw: bytes, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] of a file's bytes. Raises `BadImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about size and metadata: the size is looked at below
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
    except Exception as error:  # decoders raise anything for damaged bytes, and bytes are all they were given
        raise BadImageError(f"damaged image: {error or type(error).__name__}") from error


def fitted(image: Image.Image, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] of an image of any mode and size."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a pixel, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if config.channels == 1 else "RGB")
    if config.size is not None and image.size != (config.size, config.size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))  # by itself: resize's box looks beyond its edges
        image = image.resize((config.size, config.size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    pixels = pixels[None] if config.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return standardised(pixels) if config.standardise else pixels


def standardised(pixels: np.ndarray) -> np.ndarray:
    """uint8 [C, H, W] of mean MEAN and deviation STD, all values taken together, from such ones."""
    values = pixels.astype(np.float64)
    away = (values - values.mean()) / max(values.std(), MIN_STD)
    return np.rint(np.clip(MEAN + STD * away, 0, 255)).astype(np.uint8)


def patches(image: DecodedImage, side: int) -> Iterator[DecodedImage]:
    """The squares of an image, row by row. Raises `BadImageError` where there is none."""
    _, height, width = image.pixels.shape
    if min(height, width) < side:
        raise BadImageError(f"is {height} × {width} pixels, smaller than data.images.patch {side}")
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            pixels = image.pixels[:, top : top + side, left : left + side]
            yield image._replace(pixels=np.ascontiguousarray(pixels))


def fitted_array(pixels: np.ndarray, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] of a uint8 array [H, W] or [H, W, 1 | 3]."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    side = config.size
    if pixels.ndim == 2 and config.channels == 1 and (side is None or pixels.shape == (side, side)):
        return standardised(pixels[None]) if config.standardise else pixels[None]  # most arrays are as they are wanted
    return fitted(Image.fromarray(np.ascontiguousarray(pixels)), config)
