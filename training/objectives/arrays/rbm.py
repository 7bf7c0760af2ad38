"""Layer by layer, then all at once (Hinton & Salakhutdinov 2006): a deep auto-encoder from a stack of RBMs.

    phases   rbm-1, rbm-2, …: each machine by contrastive divergence on the mean activities of the one below
             fine-tuning: the stack unrolled into an auto-encoder, by its reconstruction error

Every machine is a player of its own, so that the optimizer of one does not touch the others. The auto-encoder always
holds what the machines have learned so far: evaluation, which is that of the last phase, shows it from the first step.
The visible units are Bernoulli ones if the network's output is sigmoid (inputs in 0 … 1), else Gaussian ones of
variance 1 (standardised inputs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from training.config import NetworkConfig
from training.lazy import torch
from training.models.autoencoders.config import AutoencoderConfig, Shape, network_config
from training.objective import Batch, Loss, Networks, Phase, Turn, phase_at
from training.objectives.arrays.autoencoder import AutoencoderOptions
from training.objectives.arrays.base import ArrayObjective, loss_problems, rebuilding, transform_of

if TYPE_CHECKING:
    from torch import Tensor, nn

VERSION = 1
FINE_TUNING = "fine-tuning"


class RbmOptions(AutoencoderOptions):
    """`objective.options` of `rbm`."""

    gibbs_steps: int = Field(default=1, ge=1)
    """Steps of Gibbs sampling in contrastive divergence: k of CD-k."""
    pretraining: float = Field(default=0.5, gt=0, lt=1)
    """Share of the training steps in which the machines learn, divided evenly among them; the rest is fine-tuning."""


Options = RbmOptions


def check(options: RbmOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network or the loss; a stack unrolls into one sort of network only."""
    yield from loss_problems(options.loss, networks)
    network = networks["model"]
    requirements = [
        ("network.architecture", network.architecture, "mlp"),
        ("network.config.activation", network.config.get("activation", "relu"), "sigmoid"),
        ("network.config.tied", network.config.get("tied", False), False),
    ]
    for path, value, needed in requirements:
        if value != needed:
            yield path, f"rbm unrolls into {needed!r} here, found {value!r}; change it"


class Rbm(ArrayObjective):
    """See the module's docstring."""

    def __init__(
        self, config: AutoencoderConfig, shape: Shape, options: RbmOptions, transform: Path | None = None
    ) -> None:
        from training.models.autoencoders.autoencoder import Autoencoder
        from training.models.autoencoders.rbm import stack, unroll

        self.options = options
        model = Autoencoder(config, shape, AutoencoderOptions(loss=options.loss))
        super().__init__(model, *rebuilding(options.loss, model.values), transform)
        sizes = [model.values, *config.hidden, config.bottleneck]
        machines = stack(sizes, "bernoulli" if config.output == "sigmoid" else "gaussian")
        self.machines = {f"rbm-{number}": machine for number, machine in enumerate(machines, 1)}
        for layer, machine in enumerate(machines):
            unroll(machine, layer, model)

    def networks(self) -> dict[str, nn.Module]:
        return {**super().networks(), **self.machines}

    def phases(self, steps: int) -> Sequence[Phase]:
        return shares(steps, len(self.machines), self.options.pretraining)

    def turns(self, phase: str, step: int) -> list[Turn]:
        if phase == FINE_TUNING:
            return super().turns(phase, step)
        return [Turn(phase, self._rows, partial(self._contrast, phase))]

    def _rows(self, batch: Batch) -> dict[str, float]:
        return {"contrast": float(len(batch["input"]))}

    def _contrast(self, player: str, nets: Networks, batch: Batch) -> Loss:
        v: Tensor = batch["seen"].flatten(1)
        with torch.no_grad():
            for machine in self.machines:
                if machine == player:
                    break
                v = nets[machine](v)
        by_row = nets[player](v, self.options.gibbs_steps)
        error = {f"{player}-squared-error": (by_row["squared-error"].sum(), float(v.numel()))}
        return Loss({"contrast": by_row["contrast"].sum()}, error)

    def after_step(self, step: int, steps: int) -> None:
        from training.models.autoencoders.rbm import unroll

        phase = phase_at(self.phases(steps), step)
        if phase in self.machines:
            unroll(self.machines[phase], list(self.machines).index(phase), self.model)

    def flops(self, batch: Batch) -> float:
        return 0.0  # phases differ, and a batch does not know its own

    def refuses(self, zero: int | None) -> str | None:
        if zero:
            return "objective.name: rbm copies weights between its networks; set placement.zero to null or 0."
        return None


def shares(steps: int, machines: int, pretraining: float) -> list[Phase]:
    """The phases of `steps` steps, of which the share `pretraining` is divided among the machines."""
    steps_each = max(1, int(steps * pretraining / machines))
    remaining = steps - steps_each * machines
    if remaining < 1:
        raise UserError(
            f"train.steps: {steps} are too few for {machines} machines and fine-tuning; {machines + 1} is the least."
        )
    return [*(Phase(f"rbm-{number}", steps_each) for number in range(1, machines + 1)), Phase(FINE_TUNING, remaining)]


def build(options: RbmOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> Rbm:
    """The objective for examples of the data's shape."""
    return Rbm(network_config(networks["model"], data.shape), data.shape, options, transform_of(data))
