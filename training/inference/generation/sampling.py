"""The next token of each text: the likeliest, or drawn by a number that only depends on (seed, text, place).

    uniform number u  ─►  the first token at which the cumulative probability, in order of ids, exceeds u

So a text does not depend on the others of its batch, except through the last bits of the network's own sums.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from data_prep.rng import Draws, key
from training.inference.generation.decoding import Decoding

STREAM = "generation"


def next_tokens(logits: Tensor, decoding: Decoding, texts: np.ndarray, places: np.ndarray) -> Tensor:
    """Token ids [B] by logits [B, V] in fp32. texts, places: [B], number of each text, and how many tokens it has."""
    if not decoding.samples:
        return _likeliest(logits)
    draws = Draws(key(decoding.seed, STREAM), 0, texts).uniform(0, places)
    return drawn(logits, decoding, torch.from_numpy(draws).to(logits.device))


def _likeliest(logits: Tensor) -> Tensor:
    """Tokens [B]; on a CPU by NumPy, which takes a twentieth of PyTorch's time."""
    return torch.from_numpy(logits.numpy().argmax(-1)) if logits.device.type == "cpu" else logits.argmax(-1)


def drawn(logits: Tensor, decoding: Decoding, uniform: Tensor) -> Tensor:
    """Tokens [B] by numbers in [0, 1), float64 [B]."""
    if decoding.temperature is not None:
        # from the largest, in float64: nothing overflows, and in the limit the likeliest token is left
        logits = logits.double()
        logits = (logits - logits.amax(-1, keepdim=True)) / logits.new_tensor(decoding.temperature)
    if decoding.top_k is not None and decoding.top_k < logits.shape[-1]:
        weakest = logits.topk(decoding.top_k, -1).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    if decoding.top_p is not None and decoding.top_p < 1:
        logits = logits.masked_fill(~nucleus(logits, decoding.top_p), -torch.inf)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    wanted = (uniform * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(-1).clamp_max(logits.shape[-1] - 1)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Whether a token is among the fewest likeliest ones with the probability `top_p` together, [B, V]."""
    ordered, index = logits.sort(descending=False, stable=True)
    kept = ordered.softmax(-1).cumsum(-1) > 1 - top_p
    kept[:, -1] = True  # the likeliest
    return torch.zeros_like(kept).scatter_(-1, index, kept)
