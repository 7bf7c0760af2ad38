"""Log-mel frames of a waveform, and the mean and scale of their bands.

    power spectrum of Hann windows (25 ms, every 10 ms) ─► triangles, evenly spaced in mel ─► natural logarithm

The definition is that of `torchaudio.transforms.MelSpectrogram(mel_scale="htk", norm=None, center=False)` with the
logarithm of max(value, 1e-10): mel(f) = 2595 · log₁₀(1 + f / 700), triangles of height 1 in Hz from 0 to half the rate,
a periodic window, FFTs of the next power of two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings

FLOOR = 1e-10
_CHUNK = 4096  # windows per FFT call


class FramesConfig(Settings):
    """How frames are computed from a waveform."""

    bands: int = Field(default=80, ge=1)
    """Mel bands of a frame."""
    window_ms: float = Field(default=25.0, gt=0)
    """Length of the window of a frame, in milliseconds."""
    hop_ms: float = Field(default=10.0, gt=0)
    """Distance from one frame to the next, in milliseconds."""
    length: int = Field(default=1000, ge=8)
    """Maximum frames of a row; a longer recording becomes several rows."""

    def samples(self, rate: int) -> tuple[int, int]:
        """Numbers of samples of a window and of a hop."""
        return max(1, round(self.window_ms * rate / 1000)), max(1, round(self.hop_ms * rate / 1000))


def frames(waveform: np.ndarray, rate: int, config: FramesConfig) -> np.ndarray:
    """float32 [T, bands] of a waveform [S] in −1 … 1: T = 1 + (S − window) // hop, at least 1 (zeros added)."""
    window, hop = config.samples(rate)
    if len(waveform) < window:
        waveform = np.pad(waveform, (0, window - len(waveform)))
    windows = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    size = 1 << (window - 1).bit_length()
    hann, filters = np.hanning(window + 1)[:-1], filterbank(rate, size, config.bands)
    blocks = []
    for start in range(0, len(windows), _CHUNK):
        power = np.abs(np.fft.rfft(windows[start : start + _CHUNK] * hann, size)) ** 2
        blocks.append(np.log(np.maximum(power @ filters, FLOOR)).astype(np.float32))
    return np.concatenate(blocks)


@lru_cache(maxsize=8)
def filterbank(rate: int, size: int, bands: int) -> np.ndarray:
    """float64 [size / 2 + 1, bands]: weight of each frequency of a transform of `size` samples in each band."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    frequency = np.linspace(0, rate / 2, size // 2 + 1)[:, None]
    rising = (frequency - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequency) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling))


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each band over training frames, and how frames were computed."""

    mean: list[float]
    std: list[float]
    rate: float
    """Frames per second."""
    length: int
    """Maximum frames of a row."""
    sample_rate: int
    """Samples of a waveform per second."""
    window_ms: float
    hop_ms: float

    FILE = "scale.json"

    @staticmethod
    def fit(parts: Iterable[np.ndarray], sample_rate: int, config: FramesConfig) -> Scale:
        """Fit to the frames [T, bands] of all recordings. UserError if there are none."""
        count, total, squares = 0, np.float64(0), np.float64(0)
        for part in parts:
            exact = part.astype(np.float64)
            count, total, squares = count + len(part), total + exact.sum(0), squares + np.square(exact).sum(0)
        if not count:
            raise UserError("data: no recording is left to train on; add sources or lower the shares held out.")
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        _, hop = config.samples(sample_rate)
        return Scale(
            mean=np.atleast_1d(mean).tolist(),
            std=np.where(std > 1e-6, std, 1.0).tolist(),
            rate=sample_rate / hop,
            length=config.length,
            sample_rate=sample_rate,
            window_ms=config.window_ms,
            hop_ms=config.hop_ms,
        )

    @property
    def config(self) -> FramesConfig:
        """How frames were computed."""
        return FramesConfig(bands=len(self.mean), window_ms=self.window_ms, hop_ms=self.hop_ms, length=self.length)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """float32 [T, bands] with mean 0 and deviation 1 over training frames."""
        return (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)

    def save(self, folder: Path) -> None:
        (folder / self.FILE).write_text(json.dumps(asdict(self)))

    @staticmethod
    def load(folder: Path) -> Scale:
        """The scale that `save` wrote; UserError if there is none."""
        try:
            return Scale(**json.loads((folder / Scale.FILE).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder / Scale.FILE}: holds no scale ({error}); fit it again") from error
