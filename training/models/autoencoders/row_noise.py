"""Noise keyed by a row's own values: the same for a row at any time, on any worker and in any batch.

Draws in evaluation must not depend on the batch, on the number of workers or on what was drawn before. So the
generator of `data_prep.rng` runs here on the device, keyed by a digest of the row's float32 bits:

    digest = Σ_d mix(bits_d + γ·(d + 1)) mod 2⁶⁴       (−0 counts as 0)
    word   = mix(mix(digest + γ·(purpose + 1)) + γ·(j + 1)),  j the number of the draw

Training draws its noise from torch's seeded generator instead, as dropout does.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """Of 64 bits, the integer that torch's int64 takes them for."""
    return word - (1 << 64) if word >> 63 else word


WORD = (1 << 64) - 1
GAMMA = _signed(0x9E3779B97F4A7C15)
FIRST, SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def digests(values: Tensor) -> Tensor:
    """[B] int64, from float32 [B, …]."""
    bits = (values.flatten(1).contiguous() + 0.0).view(torch.int32).long()
    return _mix(bits + GAMMA * _numbers(bits.shape[1], bits.device)).sum(1)


def words(digest: Tensor, numbers: Tensor, purpose: int = 0) -> Tensor:
    """Random 64-bit words [B, n], as int64, of rows by `digest` [B]; `numbers` [n] int64 name the draws."""
    state = _mix(digest + _signed(GAMMA * (purpose + 1) & WORD))
    return _mix(state[:, None] + GAMMA * (numbers + 1))


def normals(values: Tensor, count: int, first: int = 0) -> Tensor:
    """[B, count] float32, standard normal: draws first … first + count − 1 of the rows `values` [B, …]."""
    numbers = _numbers(count, values.device) - 1 + first
    uniform = (_shifted(words(digests(values), numbers), 12).double() + 0.5) * 2.0**-52  # never 0 nor 1
    return torch.special.ndtri(uniform).float()


def uniforms(values: Tensor, count: int, purpose: int) -> Tensor:
    """[B, count] float32 in [0, 1), multiples of 2⁻²⁴: draws of the rows `values` [B, …] for a purpose other than 0."""
    numbers = _numbers(count, values.device) - 1
    return _shifted(words(digests(values), numbers, purpose), 40).float() * 2.0**-24


def _numbers(count: int, device: torch.device) -> Tensor:
    """1 … count."""
    return torch.arange(1, count + 1, device=device)


def _shifted(z: Tensor, places: int) -> Tensor:
    """z >> places without its sign."""
    return (z >> places) & ((1 << (64 - places)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; see `data_prep.rng.mix`."""
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)
