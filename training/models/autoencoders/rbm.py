"""Restricted Boltzmann machines and the deep auto-encoder that a stack of them becomes (Hinton & Salakhutdinov 2006).

    p(v) = e^{−F(v)}/Z,    F(v) = visible(v) − Σ_j hidden_j(c_j + W_jᵀv)

               energy of v          mean given h        hidden_j(a)       mean of h_j
    bernoulli  −b·v                 sigmoid(b + W h)    log(1 + e^a)      sigmoid(a)
    gaussian   ½‖v − b‖²            b + W h             ½a²               a             (variance 1)

Contrastive divergence moves weights along ⟨v hᵀ⟩_data − ⟨v hᵀ⟩_model, the model's v taken after k steps of Gibbs
sampling from the data. That is the negative gradient of F(v_data) − F(v_model) with v_model held fixed: as a loss it
leaves the update to whichever optimizer there is. Its value says little; the error of the first reconstruction tells
how learning goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.autoencoders.autoencoder import Autoencoder

Units = Literal["bernoulli", "gaussian"]
INITIAL_STD = 0.01  # of weights (Hinton 2010, section 8)


class BoltzmannMachine(nn.Module):
    """One restricted Boltzmann machine of `visible` and `hidden` units."""

    def __init__(self, visible: int, hidden: int, visible_units: Units, hidden_units: Units) -> None:
        super().__init__()
        self.visible_units: Units = visible_units
        self.hidden_units: Units = hidden_units
        self.weight = nn.Parameter(torch.randn(visible, hidden) * INITIAL_STD)
        self.visible_bias = nn.Parameter(torch.zeros(visible))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, v: Tensor, steps: int = 0) -> Tensor | dict[str, Tensor]:
        """The hidden units' means [B, hidden]; with `steps` of sampling, contrast and error of each row, [B] each.

        v: [B, visible]. The last reconstruction is taken by its means, which is less noisy (Hinton 2010, section 3.2).
        """
        if not steps:
            return self.hidden_mean(v)
        with torch.no_grad():
            reconstruction = self.visible_mean(self.sample_hidden(v))
            model = reconstruction if steps == 1 else self.chain(v, steps, means=True)
        contrast = self.free_energy(v) - self.free_energy(model)
        return {"contrast": contrast, "squared-error": (v - reconstruction).square().sum(1)}

    def hidden_mean(self, v: Tensor) -> Tensor:
        """E[h|v]."""
        activation = self._to_hidden(v)
        return torch.sigmoid(activation) if self.hidden_units == "bernoulli" else activation

    def visible_mean(self, h: Tensor) -> Tensor:
        """E[v|h]."""
        activation = F.linear(h, self.weight, self.visible_bias).float()
        return torch.sigmoid(activation) if self.visible_units == "bernoulli" else activation

    def sample_hidden(self, v: Tensor) -> Tensor:
        return _draw(self.hidden_mean(v), self.hidden_units)

    def sample_visible(self, h: Tensor) -> Tensor:
        return _draw(self.visible_mean(h), self.visible_units)

    def chain(self, v: Tensor, steps: int, means: bool = False) -> Tensor:
        """v after `steps` (≥ 1) of Gibbs sampling; with `means`, the last one by its means."""
        for _ in range(steps - 1):
            v = self.sample_visible(self.sample_hidden(v))
        h = self.sample_hidden(v)
        return self.visible_mean(h) if means else self.sample_visible(h)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) [B]."""
        if self.visible_units == "bernoulli":
            visible = -(v * self.visible_bias).sum(-1)  # not a product that bf16 would round
        else:
            visible = 0.5 * (v - self.visible_bias).square().sum(-1)
        activation = self._to_hidden(v)
        hidden = F.softplus(activation) if self.hidden_units == "bernoulli" else 0.5 * activation.square()
        return visible - hidden.sum(-1)

    def _to_hidden(self, v: Tensor) -> Tensor:
        return F.linear(v, self.weight.t(), self.hidden_bias).float()


def stack(sizes: Sequence[int], visible: Units, code: Units = "gaussian") -> list[BoltzmannMachine]:
    """Machines between consecutive `sizes`; the topmost hidden units, the code, are linear ones with noise."""
    last = len(sizes) - 2
    return [
        BoltzmannMachine(sizes[i], sizes[i + 1], visible if i == 0 else "bernoulli", code if i == last else "bernoulli")
        for i in range(last + 1)
    ]


@torch.no_grad()
def unroll(machine: BoltzmannMachine, layer: int, model: Autoencoder) -> None:
    """Copy the machine of a layer (0: of the input) into both halves of an auto-encoder of dense layers."""
    up, down = dense_layers(model.encoder)[layer], dense_layers(model.decoder)[-1 - layer]
    up.weight.copy_(machine.weight.t())
    up.bias.copy_(machine.hidden_bias)
    down.weight.copy_(machine.weight)
    down.bias.copy_(machine.visible_bias)


def dense_layers(module: nn.Module) -> list[nn.Linear]:
    """The dense layers of a half, in order."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _draw(mean: Tensor, units: Units) -> Tensor:
    if units == "bernoulli":
        return (torch.rand_like(mean) < mean).to(mean.dtype)
    return mean + torch.randn_like(mean)
