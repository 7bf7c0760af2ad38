"""An encoder with the heads that predict masked tokens and, optionally, how two segments are related."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from training.models.made import made
from training.models.text.network import TextNetwork


class MaskedLMNetwork(TextNetwork):
    """Encoder and heads of `transformers`; one forward gives every sum the loss is made of."""

    def __init__(self, config: Any, sentence: str) -> None:
        super().__init__(masked_lm(config, sentence != "none"))
        self.sentence = sentence

    def logits(self, output: Any) -> Tensor:
        return output.prediction_logits if self.sentence != "none" else output.logits

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat b·L + l
        target_ids: Tensor,  # [M]
        label: Tensor | None = None,  # [B], or [S]: one per sequence
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        losses, right, output = self.predicted(input_ids, target_positions, target_ids, **inputs)
        sums = {"mlm": losses.sum(), "mlm_correct": right.sum(), "mlm_losses": losses.detach()}
        if label is not None:
            scores = output.get("seq_relationship_logits", output.get("sop_logits")).float()
            losses = F.cross_entropy(scores, label, reduction="none")
            sums["sentence"], sums["sentence_losses"] = losses.sum(), losses.detach()
            sums["sentence_correct"] = (scores.argmax(-1) == label).sum()
        return sums


def masked_lm(config: Any, sentence: bool) -> nn.Module:
    """A randomly initialised masked LM, with the architecture's own sentence head if `sentence`."""
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    build = AutoModelForPreTraining.from_config if sentence else AutoModelForMaskedLM.from_config
    return made(build, config, "masked-LM head", "choose an encoder such as bert, roberta, albert or modernbert")
