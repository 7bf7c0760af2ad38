"""Settings of images, and converting any image to uint8 pixels of one size.

An image is rotated according to its EXIF data, cropped to the central square, and resized (bicubic, with
antialiasing). Transparency is rendered on white. Pillow decodes PNG, JPEG, WebP, TIFF, BMP and GIF only; of several
frames the first is used. What an image loses by that is named with its pixels. An image with more than MAX_PIXELS
pixels in its header is refused before decoding; comments and other metadata of any size are no part of it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image
from pydantic import BaseModel, ConfigDict, Field

from data_prep.images import jpeg, png

MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 28  # maximum file size
MAX_SCANS = 100  # of a JPEG file; programs write about ten
_MAX_FRAMES = 1000  # that are counted; Pillow's work grows with their square
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_ORIENTATION = ExifTags.Base.Orientation
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_USUAL_PROFILES = (b"sRGB", b"s\0R\0G\0B")
MEAN, STD = 128, 48  # of the values of a standardised image, which are clipped to 0 … 255
MIN_STD = 1.0  # an image with less contrast becomes uniform
TRANSPARENCY, COLOUR, PROFILE = "transparency (shown on white)", "colour", "a colour profile other than sRGB"
INKS, DEPTH, FRAMES = "its inks (CMYK)", "8 of its 16 bits a channel", "further frames"


class ImagesConfig(BaseModel):
    """How images become pixels."""

    model_config = ConfigDict(extra="forbid")

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
    """One image: uint8 [C, H, W], its class, its location (file and position, from 1), and what it lost."""

    pixels: np.ndarray
    label: str | None
    source: str
    position: int
    lost: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """Pixels decoded from a file, uint8 [C, H, W], and what else was in the file that they do not show."""

    pixels: np.ndarray
    lost: tuple[str, ...]
    """Of TRANSPARENCY, COLOUR, PROFILE, INKS, DEPTH, and FRAMES with their number."""


class BadImageError(ValueError):
    """An image cannot be used; the message is the reason of the reject."""


def decoded(raw: bytes, config: ImagesConfig) -> Decoded:
    """The image in a file's bytes. Raises `BadImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about size and metadata; the size is checked below
            if jpeg.scans(raw) > MAX_SCANS:
                raise BadImageError(f"has more than {MAX_SCANS} scans, each of all its pixels")
            file = png.stripped(raw)
            with Image.open(io.BytesIO(file.raw), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise BadImageError(f"has more than {MAX_PIXELS:,} pixels ({width} × {height})")
                if image.mode == "F":
                    raise BadImageError("its pixels are fractions of no known range; save it with whole numbers")
                image.load()
                stored = png.samples(raw)
                shown = (png.with_alpha(image, stored) if stored else None) or image
                lost = _lost(image, shown, stored, config)
                if png.PROFILE in file.dropped:
                    lost = (*lost, PROFILE)
                return Decoded(fitted(_turned(shown, image), config), lost)
    except BadImageError:
        raise
    except Image.DecompressionBombError:
        raise BadImageError(f"has more than {MAX_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise BadImageError("not a PNG, JPEG, WebP, TIFF, BMP or GIF image") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes, their only input
        raise BadImageError(f"damaged image: {error or type(error).__name__}") from error


def _turned(image: Image.Image, opened: Image.Image) -> Image.Image:
    """An image rotated according to the EXIF data of the file that was `opened`; damaged EXIF data say nothing."""
    try:
        orientation = opened.getexif().get(_ORIENTATION)
    except Exception:  # as in `decoded`
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _lost(image: Image.Image, shown: Image.Image, stored: png.Samples | None, config: ImagesConfig) -> tuple[str, ...]:
    """What an opened image has that its pixels in 8 bits and `config.channels` do not show.

    shown: the image, with alpha if it has a transparent value.
    """
    lost, frames = [], _num_frames(image)
    if frames > 1:
        lost.append(f"{FRAMES}: {frames - 1}{' or more' if frames == _MAX_FRAMES else ''}")
    if _has_alpha(shown) and (np.asarray(shown.convert("RGBA"))[..., 3] < 255).any():
        lost.append(TRANSPARENCY)
    if image.mode == "CMYK":
        lost.append(INKS)
    if config.channels == 1 and _is_coloured(image):
        lost.append(COLOUR)
    if stored is not None and stored.depth == 16:
        lost.append(DEPTH)
    profile = image.info.get("icc_profile") or b""
    if profile and not any(name in profile for name in _USUAL_PROFILES):
        lost.append(PROFILE)
    return tuple(lost)


def _num_frames(image: Image.Image) -> int:
    """Number of frames; of a TIFF file up to _MAX_FRAMES, since each is looked for among all before it."""
    if image.format != "TIFF":
        return getattr(image, "n_frames", 1)
    frames = 1
    with suppress(EOFError):
        while frames < _MAX_FRAMES:
            image.seek(frames)
            frames += 1
    image.seek(0)
    return frames


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("PA", "LA", "RGBA", "La", "RGBa") or "transparency" in image.info


def _is_coloured(image: Image.Image) -> bool:
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I"):
        return False
    red, green, blue = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return not (np.array_equal(red, green) and np.array_equal(red, blue))


def fitted(image: Image.Image, config: ImagesConfig) -> np.ndarray:
    """uint8 [C, H, W] from an image of any mode and size."""
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits, which Pillow would clip to 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" or _has_alpha(image):
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
