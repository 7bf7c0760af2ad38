"""Block-sparse attention (BigBird: Zaheer et al. 2020, arXiv:2007.14062, section 2 and appendix D), linear in length.

A row is cut into n blocks of b tokens. The first and the last block see all others and are seen by all; every other
block sees itself, its two neighbours, and r further blocks that are drawn at random for each layer and head.

    keys of block i:   0 | i−1  i  i+1 | n−1 | r of the others          at most (5 + r)·b, whatever the length

The random blocks are keyed by layer, head and block: the same in training, in evaluation, and wherever the network is
opened here. As in the published code there is no dropout of attention.

The networks are those of `transformers`, whose own kernel is not used, for three reasons. It makes a matrix of length ×
length in every layer. In evaluation all its random blocks are block 0, which is then seen 1 + r times. A row that is no
longer than (5 + 2r)·b switches the network to full attention for good; here such rows are padded instead.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.rng import absorb, key
from training.models.text.architectures import architecture_of

NO_BLOCK = -1
Model = TypeVar("Model", bound=nn.Module)


def with_block_sparse(model: Model) -> Model:
    """The same model of `transformers`, with this attention if its config asks for block-sparse attention."""
    config: Any = getattr(model, "config", None)
    sparse = architecture_of(getattr(config, "model_type", "")).block_sparse
    fewest = sparse.fewest(config.to_dict()) if sparse else None
    if fewest is None:
        return model
    encoder: Any = model.base_model
    for number, layer in enumerate(encoder.encoder.layer):
        layer.attention.self.forward = partial(_forward, layer.attention.self, number)
    padding = _Padding(fewest)
    encoder.register_forward_pre_hook(padding.pad, with_kwargs=True)
    encoder.register_forward_hook(padding.cut)
    return model


def block_sparse_attention(
    query: Tensor,  # [B, A heads, L, D]
    keys: Tensor,
    values: Tensor,
    is_token: Tensor,  # [B, L] bool
    seen: Tensor,  # [A, n − 2, K] blocks that each block but the first and the last sees; NO_BLOCK: none
) -> Tensor:
    """[B, L, A, D]; zeros where there is padding. The length is a multiple of n."""
    rows, heads, length, size = query.shape
    num_blocks = seen.shape[1] + 2
    block = length // num_blocks
    query = query * size**-0.5
    bias = torch.zeros(is_token.shape, dtype=query.dtype, device=query.device)
    bias = bias.masked_fill(~is_token, torch.finfo(query.dtype).min)

    ends = query.unflatten(2, (num_blocks, block))[:, :, [0, -1]].flatten(2, 3)
    weights = F.softmax(ends @ keys.transpose(2, 3) + bias[:, None, None], -1)
    first, last = (weights.to(values.dtype) @ values).split(block, 2)

    # One block of one head is a line of a table, and the lines that a block sees are looked up together.
    place = (seen.clamp(min=0) + torch.arange(heads, device=seen.device)[:, None, None] * num_blocks).flatten()
    near_keys, near_values = (
        column.reshape(rows, heads * num_blocks, -1).index_select(1, place).view(rows, heads, num_blocks - 2, -1, size)
        for column in (keys, values)
    )
    bias = bias.view(rows, num_blocks, block)[:, seen.clamp(min=0)]  # [B, A, n − 2, K, b]
    bias = bias.masked_fill((seen == NO_BLOCK)[None, ..., None], torch.finfo(bias.dtype).min).flatten(3)
    middle = query[:, :, block:-block].unflatten(2, (num_blocks - 2, block))
    weights = F.softmax(middle @ near_keys.transpose(3, 4) + bias[..., None, :], -1)
    between = (weights.to(near_values.dtype) @ near_values).flatten(2, 3)
    context = torch.cat([first, between, last], 2).transpose(1, 2)
    return context * is_token[:, :, None, None]


@functools.lru_cache(maxsize=256)
def seen_blocks(layer: int, heads: int, num_blocks: int, num_random: int) -> np.ndarray:
    """The blocks that each block but the first and the last sees, int64 [A, n − 2, 5 + r]; NO_BLOCK: none.

    A neighbour that is the first or the last block is there once. Random blocks are others than all these.
    """
    block = np.arange(1, num_blocks - 1)
    left, right = block - 1, block + 1
    left, right = np.where(left == 0, NO_BLOCK, left), np.where(right == num_blocks - 1, NO_BLOCK, right)
    fixed = np.stack([np.zeros_like(block), left, block, right, np.full_like(block, num_blocks - 1)], 1)
    head = np.arange(heads)[:, None, None]
    state = absorb(absorb(np.uint64(key(0, "blocks of attention")), layer), head)
    rank = absorb(absorb(state, block[:, None]), block)  # [A, n − 2, n − 2]
    is_fixed = np.abs(block[:, None] - block) <= 1
    rank = np.where(is_fixed, np.iinfo(np.uint64).max, rank)
    random = block[np.argsort(rank, axis=2, kind="stable")[:, :, :num_random]]
    return np.concatenate([np.broadcast_to(fixed, (heads, *fixed.shape)), random], 2)


@functools.lru_cache(maxsize=256)
def _on_device(layer: int, heads: int, num_blocks: int, num_random: int, device: torch.device) -> Tensor:
    return torch.from_numpy(seen_blocks(layer, heads, num_blocks, num_random)).to(device)


def _forward(module: Any, layer: int, hidden_states: Tensor, *masks: Any, to_mask: Any = None, **unused: Any) -> Any:
    """The forward of a layer's attention, as `transformers` calls it: hidden states, and masks by position or name."""
    is_token = (masks[2] if len(masks) > 2 else to_mask)[:, 0, 0].bool()
    rows, length, _ = hidden_states.shape
    query, keys, values = (
        projection(hidden_states).view(rows, length, module.num_attention_heads, -1).transpose(1, 2)
        for projection in (module.query, module.key, module.value)
    )
    shape = module.num_attention_heads, length // module.block_size, module.num_random_blocks
    seen = _on_device(layer, *shape, hidden_states.device)
    return block_sparse_attention(query, keys, values, is_token, seen).flatten(2), None


class _Padding:
    """Hooks around an encoder: rows that are too short for sparse attention are padded, and their states cut again."""

    def __init__(self, fewest: int) -> None:
        self.fewest, self.length = fewest, None

    def pad(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
        given = dict(zip(names, args, strict=False)) | kwargs
        ids = given["input_ids"]
        self.length = ids.shape[1]
        missing = self.fewest - self.length
        if missing <= 0:
            return args, kwargs
        if given.get("attention_mask") is None:
            given["attention_mask"] = torch.ones_like(ids)
        padded = {name: F.pad(given[name], (0, missing)) for name in names if given.get(name) is not None}
        return (), {**given, **padded}

    def cut(self, module: nn.Module, args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, : self.length]
        return output
