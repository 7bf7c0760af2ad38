"""Kernels that make small networks of `transformers` fast on CPU cores, without changing what they compute.

A profile of BERT 4 × 256 in bf16 spends a third of a step on drawing dropout's masks one number at a time, a seventh
on casting to fp32 and back, and a seventh on the loss. Here masks are cut from 64-bit draws, norms keep bf16
activations in bf16 (their sums are fp32 inside), attention saves what its backward pass needs and no more, and the
vocabulary's cross-entropy is computed together with its gradient, a few rows at a time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from training.models.text.architectures import architecture_of

ATTENTION = "sesame_cpu"  # the attention of this module in the registry of transformers
SMALLEST = torch.finfo(torch.float32).tiny  # a probability below it has lost digits
CHUNK = 1 << 19  # logits whose softmax is taken at once: what a core's caches hold
ROUNDED_TO = 64


def spare_rows(count: int, device: torch.device) -> int:
    """By how many rows to pad `count` of them, a number that differs from step to step, before a matrix product.

    For each new number oneDNN plans products and convolutions again, and it keeps the plans: that takes longer than the
    spare rows, and hundreds of MiB. 0 on other devices.
    """
    return -count % ROUNDED_TO if device.type == "cpu" else 0


def speed_up(module: nn.Module, precision: str) -> None:
    """Give dropouts, attention, RMS norms and, in bf16, layer norms of `module` the forward passes of this module.

    Of a submodule that has a method `fuse_loss`, that is called, to fuse its loss with its vocabulary projection.
    """
    from transformers import PreTrainedModel

    gelu_in_one_pass(module)
    for submodule in list(module.modules()):
        if type(submodule) is nn.Dropout:
            submodule.forward = partial(_dropout_forward, submodule)  # type: ignore[method-assign]
        elif type(submodule) is nn.LayerNorm and precision == "bf16":
            submodule.forward = partial(_norm_forward, submodule)  # type: ignore[method-assign]
        elif hasattr(submodule, "variance_epsilon"):  # as all RMS norms of transformers that are T5's call it
            submodule.forward = partial(_rms_norm_forward, submodule)  # type: ignore[method-assign]
        elif (
            isinstance(submodule, PreTrainedModel) and architecture_of(submodule.config.model_type).registered_attention
        ):
            _register_attention()
            submodule.config._attn_implementation = ATTENTION
        elif hasattr(submodule, "fuse_loss"):
            submodule.fuse_loss()  # type: ignore[operator]


def gelu_in_one_pass(module: nn.Module) -> None:
    """Let PyTorch compute GELU's approximation by tanh in `module`, which takes transformers eight passes."""
    from transformers.activations import NewGELUActivation

    for submodule in module.modules():
        if isinstance(submodule, NewGELUActivation):
            submodule.forward = partial(F.gelu, approximate="tanh")  # type: ignore[method-assign]


@functools.cache
def _register_attention() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, _mask)


def _mask(*arguments: Any, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor:
    """The mask of transformers' plain attention, in the precision of its products: it is made once for all layers.

    fp32's least is no number of bf16: a place that sees nothing would have no softmax.
    """
    from transformers.masking_utils import eager_mask

    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype
    return eager_mask(*arguments, dtype=dtype, **options)


# -- dropout ----------------------------------------------------------------------------------------------------------


def keep_mask(shape: torch.Size | tuple[int, ...], p: float) -> Tensor:
    """int16 ones, and zeros with probability `p` to the nearest of 65,536 parts.

    The draws are those of a generator seeded from torch's own, so `torch.manual_seed` fixes them, and recomputing
    activations draws them again.
    """
    count = math.prod(shape)
    seed = int(torch.randint(1 << 62, ()).item())
    words = np.random.SFC64(seed).random_raw(-(-count // 4))
    draws = torch.from_numpy(words.view(np.int16)[:count]).view(shape)
    return draws.ge_(round(p * (1 << 16)) - (1 << 15))


def dropout(x: Tensor, p: float) -> Tensor:
    """Inverted dropout (Srivastava et al. 2014) of any floating tensor on the CPU."""
    return _Dropout.apply(x, p) if p > 0 else x  # type: ignore[no-any-return]


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(x.shape, p)
        ctx.save_for_backward(mask)
        ctx.scale = 1 / (1 - p)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (grad * mask).mul_(ctx.scale), None


def _dropout_forward(module: nn.Dropout, x: Tensor) -> Tensor:
    return dropout(x, module.p) if module.training else x


# -- norms ------------------------------------------------------------------------------------------------------------


def _norm_forward(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm with a bf16 result for any input, as the following matrix products need it."""
    out = F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)
    return out.bfloat16() if torch.is_autocast_enabled("cpu") else out


def _rms_norm_forward(module: Any, x: Tensor) -> Tensor:
    """RMS norm, whose result is bf16 where layer norm's is."""
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
    return _RMSNorm.apply(x, module.weight, module.variance_epsilon, dtype)  # type: ignore[no-any-return]


class _RMSNorm(torch.autograd.Function):
    """weight · x / √(mean(x²) + ε) over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467); fp32 inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        wide = x.float()
        inverse = (
            torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        )
        ctx.save_for_backward(x, weight, inverse)
        return (wide * inverse).mul_(weight).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        grad, normed = grad.float(), x.float() * inverse
        grad_weight = (grad * normed).flatten(0, -2).sum(0)
        grad = grad * weight
        projected = torch.linalg.vecdot(grad, normed).unsqueeze(-1).div_(x.shape[-1])
        return grad.addcmul_(normed, projected, value=-1).mul_(inverse).to(x.dtype), grad_weight, None, None


# -- attention --------------------------------------------------------------------------------------------------------


def attention(
    module: nn.Module,
    query: Tensor,  # [B, heads, L, D]
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # added to the scores, broadcast to [B, heads, L, L]
    dropout: float = 0.0,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Softmax attention as `transformers` calls it; returns [B, L, heads, D]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, attention_mask, scale, dropout), None  # type: ignore[return-value]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, p: float
    ) -> Tensor:
        # Copied once here, and not before each of the six products.
        query, key, value = (query * scale).contiguous(), key.contiguous(), value.contiguous()
        scores = torch.matmul(query, key.transpose(2, 3))
        if mask is not None:
            scores += mask.to(scores.dtype)  # else all scores go to fp32 and back
        weights = torch.softmax(scores, -1)
        keep, dropped, keep_scale = None, weights, 1 / (1 - p)
        if p > 0:
            keep = keep_mask(weights.shape, p)
            dropped, value = weights * keep, value * keep_scale  # the smaller one takes the factor
        ctx.save_for_backward(query, key, value, weights, keep)
        ctx.scale, ctx.keep_scale = scale, keep_scale
        return torch.matmul(dropped, value).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, keep = ctx.saved_tensors
        grad = grad.transpose(1, 2).contiguous()
        dropped = weights if keep is None else weights * keep
        grad_value = torch.matmul(dropped.transpose(2, 3), grad).mul_(ctx.keep_scale)
        grad_weights = torch.matmul(grad, value.transpose(2, 3))
        if keep is not None:
            grad_weights *= keep
        grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_query = torch.matmul(grad_scores, key).mul_(ctx.scale)
        grad_key = torch.matmul(grad_scores.transpose(2, 3), query)
        return grad_query, grad_key, grad_value, None, None, None


# -- cross-entropy over the vocabulary --------------------------------------------------------------------------------


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `hidden` [M, H] · `weight`ᵀ [V, H] + `bias` [V] against `targets` [M], and which are right.

    Both are [M] in fp32; a target that shares the largest probability with k - 1 others is right by 1/k. The logits
    become their own gradient in place, in pieces that stay in the cache.
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, torch.is_grad_enabled())  # type: ignore[no-any-return]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, differentiate: bool
    ) -> tuple[Tensor, Tensor]:
        logits = F.linear(hidden, weight, bias)
        losses, right = torch.empty(len(logits)), torch.zeros(len(logits))
        rows = max(1, CHUNK // logits.shape[1])
        room = torch.empty(min(rows, len(logits)), logits.shape[1])
        for first in range(0, len(logits), rows):
            chunk, chunk_targets = logits[first : first + rows], targets[first : first + rows, None]
            probabilities = torch.softmax(chunk, 1, dtype=torch.float32, out=room[: len(chunk)])
            chosen, largest = probabilities.gather(1, chunk_targets), probabilities.amax(1, keepdim=True)
            hits = (chosen == largest)[:, 0].nonzero()[:, 0]
            right[first + hits] = (probabilities[hits] == largest[hits]).sum(1).reciprocal()
            losses[first : first + rows] = -chosen[:, 0].log()
            vanished = (chosen[:, 0] < SMALLEST).nonzero()[:, 0]
            losses[first + vanished] = F.cross_entropy(
                chunk[vanished].float(), chunk_targets[vanished, 0], reduction="none"
            )
            if differentiate:
                chunk.copy_(probabilities.scatter_add_(1, chunk_targets, -torch.ones_like(chosen)))
        if differentiate:
            ctx.save_for_backward(hidden, weight, logits)
        ctx.mark_non_differentiable(right)
        return losses, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, unused: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        scale = grad[:, None].to(hidden.dtype)
        grad_hidden = torch.mm(gradient, weight).mul_(scale)
        grad_weight = torch.mm(gradient.t(), hidden * scale)
        grad_bias = torch.mv(gradient.t(), scale[:, 0]) if ctx.needs_input_grad[2] else None
        return grad_hidden, grad_weight, grad_bias, None, None


class LossHead:
    """Makes the vocabulary projection of a network answer [..., 2] with each target's loss and whether it is right.

    Inside the projection's own forward, where ZeRO-3 has its weight whole. added: names the buffer [1, V] that `model`
    adds to what the projection answers; the projection adds it instead.
    """

    def __init__(self, projection: nn.Linear, model: nn.Module | None = None, added: str = "") -> None:
        self.targets: Tensor | None = None
        self.bias: Tensor | None = None
        self.model, self.added = model, added
        projection.forward = partial(self._forward, projection)  # type: ignore[method-assign]

    @contextmanager
    def predicting(self, targets: Tensor) -> Iterator[None]:
        """Inside, the projection answers for these targets [M]; outside it gives logits."""
        self.targets = targets
        bias = getattr(self.model, self.added) if self.added else None
        self.bias = None if bias is None else bias.flatten()
        if bias is not None:
            setattr(self.model, self.added, bias.new_zeros(1, 1))
        try:
            yield
        finally:
            self.targets = None
            if bias is not None:
                setattr(self.model, self.added, bias)

    def _forward(self, projection: nn.Linear, hidden: Tensor) -> Tensor:
        if self.targets is None:
            return F.linear(hidden, projection.weight, projection.bias)
        bias = projection.bias if self.bias is None else self.bias
        answer = linear_cross_entropy(hidden.flatten(0, -2), projection.weight, bias, self.targets)
        return torch.stack(answer, -1).view(*hidden.shape[:-1], 2)
