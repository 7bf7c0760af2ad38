"""Replaced-token detection (ELECTRA: Clark et al. 2020, arXiv:2003.10555, section 2).

    x                    the  chef  cooked   the  meal
    generator sees       the  chef  [MASK]   the  meal       and predicts what stood in the slots
    discriminator sees   the  chef  ate      the  meal       and says of every token whether it was replaced
                         no   no    yes      no   no

    loss = mean over slots of −log p(token)  +  50 · mean over all tokens, special ones too, of the binary cross-entropy

Both means are of the whole batch. The drawn tokens have no gradient, and one that is the true token counts as not
replaced. The two networks share their embeddings, or all but their heads, so this is one loss of one player.

Each slot's token is drawn by one number that the sample and the position name: the same on any number of workers and
micro-batches, and in every evaluation. In the published code two slots at one position draw apart and the two ids are
averaged, which makes a third word of them; here both draw the same token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from data_prep.facts import DataFacts
from data_prep.rng import Draws
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, ragged
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.architectures import discriminator_problems, packed_attention
from training.objective import Batch, Loss, Networks, Turn
from training.objectives.text import TextObjective, flat_positions, load_weights, token_pairs

if TYPE_CHECKING:
    from training.models.text.network import Guesses, Judgements
    from training.models.text.replaced_tokens import ReplacedTokenNetwork

VERSION = 1
FAKE = 0  # draw


class ElectraOptions(Settings):
    """`objective.options` of `electra`."""

    generator_width: float = Field(default=0.25, gt=0, le=1)
    """The generator's hidden size, as a share of the discriminator's (the paper: a third for base)."""
    generator_layers: float = Field(default=1.0, gt=0, le=1)
    """The generator's layers, as a share of the discriminator's."""
    shared: Literal["embeddings", "all"] = "embeddings"
    """What both networks have in common: their embeddings, or all but their heads, which takes a generator of equal
    size (the paper, section 3.2)."""
    detection_weight: float = Field(default=50.0, ge=0)
    """λ: the weight of the discriminator's loss relative to the generator's."""
    temperature: float = Field(default=1.0, gt=0)
    """By which the generator's logits are divided before tokens are drawn."""


Options = ElectraOptions


def check(options: ElectraOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network, or with its generator."""
    network = networks["model"]
    yield from discriminator_problems(network)
    width = network.config.get("hidden_size")
    if isinstance(width, int):
        hidden = round(width * options.generator_width)
        heads = max(1, hidden // 64)
        if not hidden or hidden % heads:
            text = f"makes a generator of hidden size {hidden}, which {heads} heads cannot divide; choose another share"
            yield "objective.options.generator_width", text
    layers = network.config.get("num_hidden_layers")
    if isinstance(layers, int) and not round(layers * options.generator_layers):
        yield "objective.options.generator_layers", "leaves the generator without a layer; choose a larger share"
    if options.shared == "all":
        for name in ("generator_width", "generator_layers"):
            if (share := getattr(options, name)) != 1.0:
                text = f"is {share:g}, but networks that share all of their weights are of one size; set it to 1.0"
                yield f"objective.options.{name}", text


class Electra(TextObjective):
    """See the module's docstring. The discriminator is exported, with the generator in its folder `generator`."""

    network: ReplacedTokenNetwork
    starts_from_folder = False  # folders of others hold one of its two networks
    shown = ("rtd", "mlm", "rtd_accuracy", "rtd_recall", "mlm_accuracy")

    def __init__(
        self, options: ElectraOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from training.models.text.network import encoder_flops
        from training.models.text.replaced_tokens import ReplacedTokenNetwork, generator_config

        super().__init__(networks, data, device)
        self.detection_weight, self.device = options.detection_weight, device
        if options.shared == "all":
            config = self.config
        else:
            config = generator_config(self.config, options.generator_width, options.generator_layers)
        self.set_network(ReplacedTokenNetwork(self.config, config, options.temperature, options.shared == "all"))
        hidden, embedding = self.config.hidden_size, self.config.embedding_size
        self.matrices += hidden * (hidden + 1)  # its head runs on every token
        self.head = embedding * (config.hidden_size + self.specials.vocabulary)
        self.generator_matrices, self.generator_width = encoder_flops(self.network.generator.encoder)

    # -- batches ------------------------------------------------------------------------------------------------------

    def drawn(self, rows: Rows, draws: Draws) -> Rows:
        positions = ragged(rows, "target_positions")
        numbers = draws.uniform(FAKE, positions.values, positions.row_index()).astype(np.float32)
        return {**rows, "draw": Ragged(numbers, positions.offsets)}

    def collate(self, rows: Rows) -> Batch:
        batch, width = self.padded(rows)
        batch["target_positions"] = flat_positions(ragged(rows, "target_positions"), width)
        batch["target_ids"] = ragged(rows, "target_ids").values.astype(np.int64)
        batch["draw"] = ragged(rows, "draw").values
        batch.pop("starts", None)  # nothing is pooled
        return self.tensors(batch)

    def choose_attention(self, batch: Batch) -> None:
        super().choose_attention(batch)
        if "sequence" in batch and batch["sequence"].is_cuda:
            config = self.network.generator.encoder.config
            config._attn_implementation = packed_attention(config, self.device)

    def example(self, n: int) -> Rows:
        return self.drawn(super().example(n), Draws(0, 0, np.arange(n)))

    # -- the loss -----------------------------------------------------------------------------------------------------

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return {"mlm": float(len(batch["target_ids"])), "rtd_weighted": float(batch["attention_mask"].sum())}

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        self.choose_attention(batch)
        sums = networks["model"](**batch)
        slots, tokens = self._weights(batch).values()
        metrics = {
            "mlm_accuracy": (sums["mlm_correct"], slots),
            "rtd": (sums["rtd"].detach(), tokens),
            "rtd_accuracy": (sums["rtd_correct"], tokens),
            "rtd_recall": (sums["replaced_correct"], float(sums["replaced"])),
            "replaced": (sums["replaced"], tokens),
        }
        by_row = {}
        if "source" in batch:
            width = batch["input_ids"].shape[1]
            by_row = self.by_row("mlm", sums["mlm_losses"], batch, width)
            errors = self.detection_weight * sums["rtd_losses"].sum(1)
            by_row["rtd_weighted"] = torch.stack([errors, batch["attention_mask"].sum(1).to(errors.dtype)])
        return Loss({"mlm": sums["mlm"], "rtd_weighted": self.detection_weight * sums["rtd"]}, metrics, by_row)

    def flops(self, batch: Batch) -> float:
        tokens, pairs = self.num_units(batch), token_pairs(batch)
        networks = 2 * (self.matrices + self.generator_matrices) * tokens
        attention = 4 * (self.width + self.generator_width) * pairs
        return 3.0 * (networks + attention + 2 * self.head * len(batch["target_ids"]))

    # -- what it predicts ---------------------------------------------------------------------------------------------

    def guesses(self, batch: Batch, most: int) -> Guesses:
        """Those of the generator."""
        self.choose_attention(batch)
        return self.network.generator.guesses(most, **batch)

    def judgements(self, batch: Batch) -> Judgements:
        """Those of the discriminator, on the generator's tokens."""
        from training.models.text.network import Judgements
        from training.models.text.replaced_tokens import put

        self.choose_attention(batch)
        shown = self.network(**batch)
        true_ids = put(batch["input_ids"], batch["target_positions"], batch["target_ids"])
        ids = shown["shown_ids"]
        return Judgements(ids, ids != true_ids, shown["rtd_scores"].sigmoid(), batch["attention_mask"].bool())

    # -- what is exported ---------------------------------------------------------------------------------------------

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        super().export(path, batches)
        self.export_network(self.network.generator, path / "generator")

    def load_export(self, path: Path) -> None:
        super().load_export(path)
        load_weights(self.network.generator, path / "generator")


build = Electra
