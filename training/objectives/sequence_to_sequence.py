"""A sequence from another one, with teacher forcing: T5, BART or MASS, depending on the corruption's targets.

`target_tokens`: the decoder predicts them all (T5: Raffel et al. 2019, arXiv:1910.10683, section 3.1; BART, where they
are the whole row: Lewis et al. 2019, arXiv:1910.13461, section 2)

    the encoder sees   thank you <extra_id_0> me to your party <extra_id_1> week </s>
    the decoder sees   <start>       <extra_id_0>  for       inviting      <extra_id_1>  last
    it predicts        <extra_id_0>  for           inviting  <extra_id_1>  last          </s>

`target_positions`, `target_ids`: the decoder predicts what is hidden, at its own positions and from what was hidden
before it only (MASS: Song et al. 2019, arXiv:1905.02450, section 3.2). The other positions are in no mask, so that any
decoder that takes one counts as the encoder does.

    the encoder sees   a  b  _        _  _  f
    the decoder sees         <start>  c  d
    it predicts              c        d  e

Of a network with experts the loss has terms for their even use and for small logits of their routers, with the
coefficients of the network's config (`training.models.experts.routing`).

<start> is the token of the role decoder_start (T5: that of padding) or, in a tokenizer that has none, that of eos
(BART) or sep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from data_prep.corruptions.masking import restore
from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, Specials, ragged
from training.config import NetworkConfig
from training.lazy import torch
from training.models.experts.config import ZERO_3, RoutingConfig, routing_problems
from training.models.text.architectures import longest, sequence_problems, special_ids
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.text import Targets, TextObjective, flat_positions, padded_width

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.experts.mixture import Mixture
    from training.models.text.sequence_to_sequence import SequenceToSequenceNetwork

VERSION = 1


class SequenceToSequenceOptions(Settings):
    """`objective.options` of `sequence-to-sequence` and `t5`."""

    routing: RoutingConfig = Field(default_factory=RoutingConfig)
    """How tokens are divided among experts, in a network that has any."""

    @property
    def group_rows(self) -> int:
        """Consecutive rows that are learned from together."""
        return self.routing.group


Options = SequenceToSequenceOptions


def check(options: Options, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network, or with how its experts are to be used."""
    yield from sequence_problems(networks["model"])
    yield from routing_problems(options.routing, networks["model"])


class SequenceToSequence(TextObjective):
    """See the module's docstring."""

    network: SequenceToSequenceNetwork
    mixture: Mixture | None

    def __init__(self, options: Options, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> None:
        from training.models.text.sequence_to_sequence import SequenceToSequenceNetwork, met_parameters

        super().__init__(networks, data, device)
        self.start = start_of(self.specials)
        self.config.decoder_start_token_id = self.start
        self.shown = ["lm", "lm_accuracy"]
        self.set_network(SequenceToSequenceNetwork(self.config, options.routing))
        self.head = self.config.hidden_size * self.specials.vocabulary  # no layer before the projection
        self.met = met_parameters(self.network)
        self.mixture = self.network.mixture
        if self.mixture is not None:
            self.shown += ["experts/dropped", "experts/balance"]
            self.group_rows = options.group_rows

    def collate(self, rows: Rows) -> Batch:
        batch, _ = self.padded(rows)
        hidden = in_place(rows)
        targets = ragged(rows, "target_ids" if hidden else "target_tokens")
        positions = ragged(rows, "target_positions").values.astype(np.int64) if hidden else targets.positions()
        width = padded_width(int(positions.max()) + 1, self.architecture.block, longest(self.config))
        places = flat_positions(Ragged(positions, targets.offsets), width)
        ids = np.full((len(targets), width), self.pad)
        ids.flat[places] = targets.values
        given = np.concatenate([np.full((len(ids), 1), self.start), ids[:, :-1]], axis=1)
        if hidden:
            previous = np.append(self.start, targets.values[:-1].astype(np.int64))
            given.flat[places] = np.where(targets.positions() == 0, self.start, previous)
            batch["decoder_attention_mask"] = np.zeros_like(ids)
            batch["decoder_attention_mask"].flat[places] = 1
        batch["decoder_input_ids"] = given
        batch["target_positions"] = places
        batch["target_ids"] = targets.values.astype(np.int64)
        batch["target_lengths"] = targets.lengths
        return self.tensors(batch)

    def example(self, n: int) -> Rows:
        rows = super().example(n)
        return {"seen": rows["seen"], "target_tokens": rows["target_ids"]}

    def turns(self, phase: str, step: int) -> list[Turn]:
        penalties = () if self.mixture is None else tuple(self._penalties(self.mixture))
        return [Turn("model", self._weights, self._loss, penalties=penalties)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        targets = {"lm": float(len(batch["target_ids"]))}
        if self.mixture is None:
            return targets
        sizes = self._sizes(self.mixture, batch)
        return targets | {name: sizes[of] for name, (_, of) in self._penalties(self.mixture).items()}

    def _penalties(self, mixture: Mixture) -> dict[str, tuple[float, str]]:
        """Terms of routing, as the network names their sums: coefficients, and what they are means over."""
        balance, z = float(self.config.router_aux_loss_coef), float(self.config.router_z_loss_coef)
        terms = {"balance": (balance, "groups")} | {f"z_{stack}": (z, stack) for stack in mixture.stacks}
        return {name: term for name, term in terms.items() if term[0]}

    def _sizes(self, mixture: Mixture, batch: Batch) -> dict[str, float]:
        """The parts of a batch that routing needs: groups of rows, and tokens in each stack."""
        return {
            "groups": float(mixture.num_groups(len(batch["input_ids"]))),
            "encoder": float(self.num_units(batch)),
            "decoder": float(len(batch["target_ids"])),
        }

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        sums = nets["model"](**batch)
        by_row = self.by_row("lm", sums["losses"], batch, batch["decoder_input_ids"].shape[1])
        loss = Loss({"lm": sums["lm"]}, {"lm_accuracy": (sums["correct"], float(len(batch["target_ids"])))}, by_row)
        return loss if self.mixture is None else self._routed(self.mixture, loss, sums, batch)

    def _routed(self, mixture: Mixture, loss: Loss, outputs: Mapping[str, Tensor], batch: Batch) -> Loss:
        """The loss with the terms and metrics of routing; of held-out rows also how often each expert is chosen."""
        sizes = self._sizes(mixture, batch)
        tokens = {stack: sizes[stack] * mixture.num_layers(stack) for stack in mixture.stacks}
        every = sum(tokens.values())
        z: Any = sum(outputs[f"z_{stack}"] for stack in mixture.stacks)
        metrics: dict[str, tuple[Tensor, float]] = {
            "experts/balance": (outputs["balance"].detach(), sizes["groups"] * len(mixture.layers)),
            "experts/dropped": (outputs["dropped"], every),
            "experts/entropy": (outputs["entropy"], every),
            "experts/z": (z.detach(), every),
        }
        if not self.network.training:
            for layer, chosen in zip(mixture.layers, outputs["chosen"], strict=True):
                metrics |= {
                    f"use/{layer.name}/{number:03}": (count, sizes[layer.stack]) for number, count in enumerate(chosen)
                }
        terms = {name: coefficient * outputs[name] for name, (coefficient, _) in self._penalties(mixture).items()}
        return Loss(loss.sums | terms, loss.metrics | metrics, loss.by_row)

    def refuses(self, zero: int | None) -> str | None:
        return f"placement.zero: {ZERO_3}." if zero == 3 and self.mixture is not None else None

    def flops(self, batch: Batch) -> float:
        from training.models.text.sequence_to_sequence import sequence_to_sequence_flops

        seen, targets = batch["attention_mask"].sum(1), batch["target_lengths"]
        forward = sequence_to_sequence_flops(self.network.model, self.met, seen, targets)
        return 3.0 * (forward + 2 * self.head * len(batch["target_ids"]))

    def targets(self, rows: Rows) -> Targets:
        """See `TextObjective`: tokens hidden in place are also predicted from the text before them."""
        if not in_place(rows):
            return super().targets(rows)
        return Targets(restore(rows), ragged(rows, "target_positions"), ragged(rows, "target_ids"), both_sides=False)

    def written(self, rows: Rows, most: int) -> Ragged | None:
        """See `TextObjective`. Where tokens are hidden in place, as many are written, each at its own position."""
        most = min(most, longest(self.config) or most)
        if not in_place(rows):
            return super().written(rows, most)
        ids = ragged(rows, "target_ids")
        given = Ragged(np.full(len(ids.values), self.pad), ids.offsets)
        for place in range(min(most, int(ids.lengths.max()))):
            batch = self.collate({**rows, "target_ids": given})
            device = next(self.network.parameters()).device
            with torch.no_grad():
                best = self.network.guesses(1, **{name: column.to(device) for name, column in batch.items()}).ids[:, 0]
            now = ids.positions() == place  # later guesses are of what is not yet written
            given.values[now] = best.cpu().numpy()[now]
        return given

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """See `TextObjective`; what `generate` is to begin and end with is in the generation config."""
        kept = list(batches)
        model: Any = self.network.model
        seen = max((batch["input_ids"].shape[1] for batch in kept), default=0)
        generation = model.generation_config
        generation.decoder_start_token_id = self.start
        for name in ("forced_bos_token_id", "forced_eos_token_id"):  # BART's defaults are ids of its own vocabulary
            setattr(generation, name, None)
            if hasattr(model.config, name):
                setattr(model.config, name, None)
        generation.max_length = longest(self.config) or max(seen, generation.max_length or 0)
        super().export(path, kept)


def in_place(rows: Rows) -> bool:
    """Whether targets are tokens hidden in the input, and not a separate sequence."""
    return "target_tokens" not in rows


def start_of(specials: Specials) -> int:
    """The token that a decoder begins with. UserError where a tokenizer has none that could be."""
    start, end = specials.get("decoder_start"), special_ids(specials)["eos_token_id"]
    return start if start is not None else specials.eos if end is None else end


build = SequenceToSequence
