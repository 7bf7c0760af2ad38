"""Counter-based random numbers: a pure function of their name.

A draw is named by (seed, stream, corpus, epoch, sample, draw, position); its 64 bits are a hash
of that name. They do not depend on batch size, number of workers, machine, or earlier draws, and
draws with different names are independent. There is no state to save.

    key    = blake2b-64 of (seed, stream, corpus), each as text with its length before it
    absorb(s, w) = mix(s + γ·(w + 1)) mod 2⁶⁴: step w of the SplitMix64 generator that starts at s
    bits   = absorb(absorb(absorb(absorb(key, epoch), sample), draw), position)

mix and γ are those of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators", section 5). With everything but the last word fixed, `absorb` is a bijection: the positions
of one draw never repeat a value.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike

GAMMA = np.uint64(0x9E3779B97F4A7C15)
LOW_HALF = np.uint64(0xFFFFFFFF)


def key(seed: int, stream: str, corpus: str = "") -> int:
    """A 64-bit key for a seed, a purpose (`stream`) and a corpus name."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(int(seed)), stream, corpus):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little")


def _words(value: ArrayLike) -> np.ndarray:
    """`value` as uint64, without a copy if only the signedness differs."""
    array = np.asarray(value)
    return array.view(np.uint64) if array.dtype == np.int64 else array.astype(np.uint64, copy=False)


def mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection on uint64, in place."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def absorb(state: ArrayLike, word: ArrayLike) -> np.ndarray:
    """Hash `word` (integers ≥ 0) into `state` (uint64); the two broadcast. Returns uint64."""
    stepped = np.asarray(np.multiply(_words(word), GAMMA))
    return mix(np.asarray(np.add(stepped, np.add(_words(state), GAMMA))))


def multiply_high(bits: np.ndarray, n: ArrayLike) -> np.ndarray:
    """The high 64 bits of the 128-bit product `bits`·`n`: floor(n · bits / 2⁶⁴), in uint64."""
    n, half = _words(n), np.uint64(32)
    bits_high, bits_low, n_high, n_low = bits >> half, bits & LOW_HALF, n >> half, n & LOW_HALF
    middle = bits_high * n_low + (bits_low * n_low >> half)
    other = bits_low * n_high + (middle & LOW_HALF)
    return bits_high * n_high + (middle >> half) + (other >> half)


class Draws:
    """The draws of a batch of B samples.

    key: from `key`. epoch: one for all, or [B]. sample: [B], integers ≥ 0 that identify the samples.
    Immutable.

    Every method takes the number of the draw (a different one for each purpose), the position
    within the sample, and optionally `row`, an index into the batch. Without `row`, `position`
    broadcasts against [B]; with it, `position` broadcasts against `row`, so that a pair of flat
    arrays addresses each token of a ragged batch.
    """

    def __init__(self, key: int, epoch: ArrayLike, sample: ArrayLike) -> None:
        self.key = key
        self.sample = np.atleast_1d(np.asarray(sample, np.int64))
        self.epoch = np.broadcast_to(np.asarray(epoch, np.int64), self.sample.shape)
        self._state = absorb(absorb(np.uint64(key), self.epoch), self.sample)

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, rows: ArrayLike) -> Draws:
        """The draws of the samples with these indices, in the given order."""
        index = np.asarray(rows, np.int64)
        return Draws(self.key, self.epoch[index], self.sample[index])

    def bits(self, draw: int, position: ArrayLike = 0, row: ArrayLike | None = None) -> np.ndarray:
        """uint64, uniform over all 2⁶⁴ values."""
        state = absorb(self._state, draw)
        return absorb(state if row is None else state[np.asarray(row)], position)

    def uniform(self, draw: int, position: ArrayLike = 0, row: ArrayLike | None = None) -> np.ndarray:
        """float64 in [0, 1), a multiple of 2⁻⁵³."""
        return (self.bits(draw, position, row) >> np.uint64(11)) * 2.0**-53

    def normal(self, draw: int, position: ArrayLike = 0, row: ArrayLike | None = None) -> np.ndarray:
        """float64, standard normal: the inverse of its distribution at the middle of one of 2⁵² equal steps."""
        from scipy.special import ndtri  # imported here because it takes a sixth of a second

        return ndtri(((self.bits(draw, position, row) >> np.uint64(12)) + 0.5) * 2.0**-52)  # never of 0 nor 1

    def below(self, n: ArrayLike, draw: int, position: ArrayLike = 0, row: ArrayLike | None = None) -> np.ndarray:
        """int64 in [0, n); `n` ≥ 1 broadcasts. The probability of each value is exact to within 2⁻⁶⁴."""
        return multiply_high(self.bits(draw, position, row), n).astype(np.int64)
