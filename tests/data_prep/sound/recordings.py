"""Recordings of tones, as tests make them."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

RATE = 8000


def tone(seconds: float, frequency: float = 440.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def wav(values: np.ndarray, rate: int = RATE, width: int = 2, channels: int = 1) -> bytes:
    out = io.BytesIO()
    whole = np.rint(values * (2 ** (8 * width - 1) - 1)).astype("<i4")
    if width == 1:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return out.getvalue()


def written(path: Path, frequency: float, seconds: float = 0.2, seed: int = 0, rate: int = RATE) -> Path:
    """A file with a tone under noise that the seed draws."""
    noise = 0.02 * np.random.default_rng(seed).normal(size=round(seconds * rate))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(tone(seconds, frequency, rate) + noise, rate))
    return path
