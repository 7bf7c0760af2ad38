"""Faster passes on CPU cores compute what the plain ones do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training import tiny
from tests.training.objectives.test_packed import corrupted, losses_and_gradients, objective, packed
from training.models import cpu_kernels
from training.models.text.architectures import ARCHITECTURES
from training.models.wrappers import autocast_forward

FUSED = [
    name
    for name, line in ARCHITECTURES.items()
    if line.registered_attention and not line.causal and not line.encoder_decoder
]  # see test_gpt.py and test_sequence_to_sequence.py
CASES = [(name, "none") for name in FUSED]
CASES += [(name, "sop") for name in FUSED if ARCHITECTURES[name].sentence_head]


def gradients(function: Any, *inputs: Tensor) -> tuple[Any, list[Tensor]]:
    """What `function` answers, and the gradients of a fixed weighted sum of it."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out.dtype)
    (out * weights).sum().backward()
    return out.detach(), [x.grad for x in leaves if x.grad is not None]


@pytest.mark.parametrize("arrange", [corrupted, lambda: packed(corrupted())], ids=["rows", "packed"])
@pytest.mark.parametrize(("architecture", "sentence"), CASES)
def test_an_architecture_computes_what_it_did(architecture: str, sentence: str, arrange: Any) -> None:
    plain, fast = objective(architecture, sentence), objective(architecture, sentence)
    cpu_kernels.speed_up(fast.network, "fp32")
    assert fast.network.head is not None
    assert fast.network.encoder.config._attn_implementation == cpu_kernels.ATTENTION
    rows = arrange()
    means, weights, grads = losses_and_gradients(plain, rows)
    means_fast, weights_fast, grads_fast = losses_and_gradients(fast, rows)
    assert means_fast == pytest.approx(means, abs=1e-5)
    assert weights_fast == weights
    assert grads_fast.keys() == grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(grads_fast[name], gradient, atol=2e-6, rtol=1e-4)


def test_in_bf16_too_within_its_precision() -> None:
    plain, fast = objective("bert", "sop"), objective("bert", "sop")
    cpu_kernels.speed_up(fast.network, "bf16")
    for built in (plain, fast):
        autocast_forward(built.network, torch.device("cpu"), "bf16")
    means, _, grads = losses_and_gradients(plain, corrupted())
    means_fast, _, grads_fast = losses_and_gradients(fast, corrupted())
    assert means_fast["mlm"] == pytest.approx(means["mlm"], abs=0.02)
    for name, gradient in grads.items():
        if gradient.norm() > 1e-3:
            assert F.cosine_similarity(grads_fast[name].flatten(), gradient.flatten(), 0) > 0.98, name


def test_the_parts_of_the_loss_by_row_are_its_sum() -> None:
    for rows in (corrupted(), packed(corrupted())):
        built = objective("bert", "sop")
        cpu_kernels.speed_up(built.network, "fp32")
        batch = built.collate(rows)
        batch["source"] = torch.zeros(len(batch["input_ids"]), dtype=torch.long)
        turn = built.turns("train", 0)[0]
        loss = turn.loss({"model": built.network}, batch)
        for name, weight in turn.weights(batch).items():
            sums, counts = loss.by_row[name]
            assert sums.sum().item() == pytest.approx(loss.sums[name].item(), rel=1e-5)
            assert counts.sum().item() == weight
            assert len(sums) == len(batch["input_ids"])


def test_a_sped_up_network_is_saved_as_any_other(tmp_path: Path) -> None:
    from transformers import AutoModel

    built = objective("bert", "none")
    cpu_kernels.speed_up(built.network, "fp32")
    built.network.model.save_pretrained(tmp_path)  # type: ignore[operator]
    assert cpu_kernels.ATTENTION not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
    AutoModel.from_pretrained(tmp_path)


# -- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.01])
def test_the_share_that_is_dropped(p: float) -> None:
    torch.manual_seed(0)
    mask = cpu_kernels.keep_mask((1000, 1001), p)
    count = mask.numel()
    assert set(mask.unique().tolist()) == {0, 1}
    assert abs(mask.sum().item() / count - (1 - p)) < 4 * (p * (1 - p) / count) ** 0.5 + 2**-17
    rows = mask.float().mean(1)  # neighbours are drawn apart: the means of rows vary as those of coins
    assert rows.std().item() == pytest.approx((p * (1 - p) / 1001) ** 0.5, rel=0.15)


def test_masks_follow_from_the_seed_and_differ_from_call_to_call() -> None:
    torch.manual_seed(3)
    first, second = cpu_kernels.keep_mask((64, 64), 0.5), cpu_kernels.keep_mask((64, 64), 0.5)
    torch.manual_seed(3)
    assert torch.equal(cpu_kernels.keep_mask((64, 64), 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    x = torch.full((200, 200), 3.0, dtype=dtype, requires_grad=True)
    out = cpu_kernels.dropout(x, 0.25)
    out.backward(torch.full_like(out, 3.0))
    assert out.dtype == dtype
    assert set(out.unique().tolist()) == {0.0, 4.0}
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_nothing_is_dropped_in_evaluation() -> None:
    module = nn.Sequential(nn.Dropout(0.5))
    cpu_kernels.speed_up(module, "fp32")
    x = torch.ones(100)
    assert torch.equal(module.eval()(x), x)
    assert not torch.equal(module.train()(x), x)


# -- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients(masked: bool) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, 7, 2, 5, dtype=torch.float64).transpose(1, 2) for _ in range(3))
    mask = torch.zeros(3, 1, 7, 7, dtype=torch.float64)
    mask[1, :, :, 4:] = -torch.inf
    attention_mask = mask if masked else None

    def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return cpu_kernels.attention(nn.Identity(), q, k, v, attention_mask, scaling=0.3)[0]

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attention_mask, scale=0.3).transpose(1, 2)

    out, grads = gradients(fast, query, key, value)
    out_reference, grads_reference = gradients(reference, query, key, value)
    torch.testing.assert_close(out, out_reference)
    torch.testing.assert_close(grads, grads_reference)


def test_gradients_of_attention_with_dropout_are_those_of_finite_differences() -> None:
    inputs = [torch.randn(2, 2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def seeded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(1)
        return cpu_kernels.attention(nn.Identity(), q, k, v, None, dropout=0.3)[0]

    assert torch.autograd.gradcheck(seeded, inputs)


# -- cross-entropy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 17, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_cross_entropy_and_its_gradients(count: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernels, "CHUNK", 1000)  # several pieces, the last one cut short
    torch.manual_seed(0)
    hidden, weight, offset = torch.randn(count, 8), torch.randn(90, 8), torch.randn(90)
    targets = torch.randint(0, 90, (count,))
    inputs = [hidden, weight, *([offset] if bias else [])]

    def fast(h: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return cpu_kernels.linear_cross_entropy(h, w, b, targets)[0]

    def reference(h: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.cross_entropy(F.linear(h, w, b), targets, reduction="none")

    out, grads = gradients(fast, *inputs)
    out_reference, grads_reference = gradients(reference, *inputs)
    torch.testing.assert_close(out, out_reference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grads, grads_reference, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        losses, right = cpu_kernels.linear_cross_entropy(hidden, weight, offset if bias else None, targets)
    torch.testing.assert_close(losses, out)
    logits = F.linear(hidden, weight, offset if bias else None)
    assert torch.equal(right, (logits.argmax(-1) == targets).float())


def test_losses_of_targets_whose_probability_vanishes_are_finite() -> None:
    weight = torch.tensor([[0.0], [-20.0], [-90.0], [-300.0]])
    hidden = torch.ones(4, 1, requires_grad=True)
    losses, _ = cpu_kernels.linear_cross_entropy(hidden, weight, None, torch.arange(4))
    torch.testing.assert_close(losses, torch.tensor([0.0, 20.0, 90.0, 300.0]))
    losses.sum().backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, -weight, atol=1e-5, rtol=1e-5)


def test_a_target_that_shares_the_largest_logit_is_right_by_its_share() -> None:
    weight = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    _, right = cpu_kernels.linear_cross_entropy(torch.ones(4, 1), weight, None, torch.arange(4))
    np.testing.assert_allclose(right.numpy(), [1 / 3, 1 / 3, 0, 1 / 3])


def test_training_draws_masks_by_step_and_learns() -> None:
    losses = tiny.losses(steps=150, precision="bf16", dropout=0.1, lr=1e-2)
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) - 0.5
    assert (
        tiny.losses(steps=5, precision="bf16", dropout=0.1, lr=1e-2)[:2]
        != tiny.losses(steps=5, precision="bf16", dropout=0.0, lr=1e-2)[:2]
    )


def test_gelu_by_tanh_in_one_pass_is_that_of_transformers() -> None:
    from transformers.activations import NewGELUActivation

    plain, fast = NewGELUActivation(), nn.Sequential(NewGELUActivation())
    cpu_kernels.speed_up(fast, "fp32")
    x = torch.linspace(-8, 8, 513)
    (expected, expected_gradients), (out, out_gradients) = gradients(plain, x), gradients(fast, x)
    assert "Gelu" in type(fast(x.clone().requires_grad_()).grad_fn).__name__
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(out_gradients, expected_gradients, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5, 16), (4, 16)])
def test_rms_norm_and_its_gradients_are_those_of_transformers(shape: tuple[int, ...]) -> None:
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    plain, fast = T5LayerNorm(16), nn.Sequential(T5LayerNorm(16))
    cpu_kernels.speed_up(fast, "bf16")
    weight, x = torch.linspace(-2, 2, 16), torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    plain.weight.data.copy_(weight)
    fast[0].weight.data.copy_(weight)
    (expected, expected_gradients), (out, out_gradients) = gradients(plain, x), gradients(fast, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out_gradients, expected_gradients)
    torch.testing.assert_close(fast[0].weight.grad, plain.weight.grad)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == torch.bfloat16
