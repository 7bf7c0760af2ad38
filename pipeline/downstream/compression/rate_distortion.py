"""Measures of image codecs: bits per pixel of real files, PSNR, MS-SSIM and Bjøntegaard's rate difference.

bpp      8 · bytes / (height · width), everything in the file counted
PSNR     10 · log₁₀(255² / mean squared error) dB, of 8-bit images
MS-SSIM  Wang et al. 2003, five scales; SSIM where a side is too short for them
BD-rate  per cent of bits more than the anchor for the same quality (Bjøntegaard 2001): the mean, over the
         qualities that both reach, of the difference of log rate, interpolated by monotone piecewise cubics (PCHIP)
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from training.models.autoencoders.compression import BYTE

SHORTEST_SIDE = 176  # of an image with five scales, the coarsest of at least a window of 11 pixels
WINDOW = 11
JPEG, JPEG2000, WEBP = "JPEG", "JPEG2000", "WebP"


class RatePoint(NamedTuple):
    """One image, or the mean of several, coded at one setting."""

    bpp: float
    psnr: float
    similarity: float
    """MS-SSIM or SSIM; see `similarity`."""


class StandardCodec(NamedTuple):
    """One of Pillow's codecs and its settings, from few bits to many."""

    format: str
    settings: tuple[float, ...]
    options: Callable[[float], dict[str, Any]]
    described: str
    """Describes the settings."""


STANDARDS = {
    JPEG: StandardCodec(
        "JPEG",
        (3, 5, 8, 12, 20, 30, 45, 60, 75, 85, 92),
        lambda quality: {"quality": int(quality), "optimize": True},
        "libjpeg's quality, 4:2:0, optimised Huffman tables",
    ),
    JPEG2000: StandardCodec(
        "JPEG2000",
        (22, 24, 26, 28, 30, 32, 34, 36, 38, 41),
        lambda decibels: {"quality_mode": "dB", "quality_layers": [decibels], "irreversible": True, "mct": 1},
        "OpenJPEG, 9/7 wavelet, by decibels asked for",
    ),
    WEBP: StandardCodec(
        "WEBP",
        (0, 5, 10, 20, 35, 50, 65, 80, 90, 95),
        lambda quality: {"quality": int(quality), "method": 6},
        "libwebp's quality, method 6",
    ),
}


def coded(image: np.ndarray, codec: StandardCodec, setting: float) -> tuple[int, np.ndarray]:
    """Size of the file in bytes, and the decoded image; images are uint8 [C, H, W]."""
    channels = len(image)
    file_image = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
    options = codec.options(setting)
    if channels == 1:
        options.pop("mct", None)
    file = io.BytesIO()
    file_image.save(file, codec.format, **options)
    size = file.tell()
    with Image.open(file) as read_back:
        decoded = np.asarray(read_back.convert(file_image.mode))
    return size, decoded[None] if channels == 1 else decoded.transpose(2, 0, 1)


def measured(image: np.ndarray, decoded: np.ndarray, size: int) -> RatePoint:
    """The point of an image, its decoded version, and the size of the file in bytes."""
    return RatePoint(8 * size / image[0].size, psnr(decoded, image), similarity(decoded, image))


def psnr(decoded: np.ndarray, original: np.ndarray) -> float:
    """PSNR in dB; both uint8. Infinite where they are equal."""
    error = np.square(decoded.astype(np.float64) - original).mean()
    return 10 * math.log10(BYTE**2 / error) if error else math.inf


def is_multiscale(image: np.ndarray) -> bool:
    """Whether an image is large enough for MS-SSIM."""
    return min(image.shape[1:]) >= SHORTEST_SIDE


def similarity(decoded: np.ndarray, original: np.ndarray) -> float:
    """MS-SSIM, or SSIM where `is_multiscale` says no; both uint8 [C, H, W]. NaN where a side is under WINDOW."""
    import torch
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    if min(original.shape[1:]) < WINDOW:
        return math.nan
    pair = [torch.from_numpy(pixels.astype(np.float32))[None] for pixels in (decoded, original)]
    measure: Any = structural_similarity_index_measure
    if is_multiscale(original):
        measure = multiscale_structural_similarity_index_measure
    return float(measure(*pair, data_range=float(BYTE)))


def mean(points: Sequence[RatePoint]) -> RatePoint:
    """The mean of several images at one setting."""
    return RatePoint(*(float(np.mean(column)) for column in zip(*points, strict=True)))


def bd_rate(curve: Sequence[RatePoint], anchor: Sequence[RatePoint], quality: str = "psnr") -> float:
    """Per cent of bits more than `anchor` for equal quality; negative: fewer.

    NaN where the qualities do not overlap, or do not rise with the bits (as for an empty image).
    quality: "psnr", or "similarity", which is taken in decibels: −10 · log₁₀(1 − s).
    """
    from scipy.interpolate import PchipInterpolator

    curves = [_rising(points, quality) for points in (curve, anchor)]
    if min(len(reached) for reached, _ in curves) < 2:
        return math.nan
    low = max(reached[0] for reached, _ in curves)
    high = min(reached[-1] for reached, _ in curves)
    if not low < high:
        return math.nan
    ours, others = (PchipInterpolator(*qualities_and_rates).integrate(low, high) for qualities_and_rates in curves)
    return 100 * math.expm1((ours - others) / (high - low))


def _rising(points: Sequence[RatePoint], quality: str) -> tuple[np.ndarray, np.ndarray]:
    """Qualities, strictly rising, and log rates. A point that another beats in both is left out."""
    rising: list[tuple[float, float]] = []
    for point in sorted(points):
        reached = point.psnr if quality == "psnr" else -10 * math.log10(max(1 - point.similarity, 1e-12))
        if math.isfinite(reached) and (not rising or reached > rising[-1][0]):
            rising.append((reached, math.log(point.bpp)))
    qualities_and_rates = np.array(rising).reshape(-1, 2)
    return qualities_and_rates[:, 0], qualities_and_rates[:, 1]
