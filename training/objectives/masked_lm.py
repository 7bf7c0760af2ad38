"""Masked language modelling, alone or with a sentence head (NSP, SOP).

x″ are the masked positions' tokens and, with a sentence head, whether the second segment is random (NSP, Devlin et
al. 2019, section 3.1) or the segments are swapped (SOP, Lan et al. 2020, section 3.1). The two losses are added.

Rows with a `sequence` column hold several sequences; the sums are those of the same sequences in rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, Specials
from training.config import NetworkConfig, ObjectiveConfig
from training.models import transformers
from training.models.cpu_kernels import KNOWN, LossHead
from training.objective import Batch, Loss, Networks, Turn
from training.objectives import Base

SENTENCE_TASKS = ("none", "nsp", "sop")
PAD_TO = 8  # row lengths are rounded up to this, which the matrix units like
TARGETS_TO = 64  # and, on CPU cores, numbers of targets to this


class MaskedLMNetwork(nn.Module):
    """Encoder and heads of `transformers`; one forward gives every sum the loss is made of."""

    def __init__(self, config: Any, sentence: str) -> None:
        super().__init__()
        self.model = transformers.masked_lm(config, sentence != "none")
        self.sentence = sentence
        self.inputs = transformers.accepted(self.model, "attention_mask", "token_type_ids")
        self.encoder: Any = self.model.base_model
        self.keep = transformers.KeepPositions(self.encoder)
        self.head: LossHead | None = None
        self.first_position = transformers.first_position(self.encoder)

    def fuse_loss(self) -> None:
        """Let the vocabulary projection compute the loss, where the architecture's head allows it."""
        if self.model.config.model_type in KNOWN:  # type: ignore[union-attr]
            self.head = LossHead(self.model.get_output_embeddings())  # type: ignore[operator]

    def forward(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat b·L + l
        target_ids: Tensor,  # [M]
        label: Tensor | None = None,  # [B], or [S]: one per sequence
        sequence: Tensor | None = None,  # [B, L], -1: padding
        position: Tensor | None = None,  # [B, L], in the sequence
        starts: Tensor | None = None,  # [S], flat
        **inputs: Tensor,
    ) -> dict[str, Tensor]:
        given = {name: inputs[name] for name in self.inputs}
        if sequence is not None and position is not None:
            implementation = self.encoder.config._attn_implementation
            given["attention_mask"] = transformers.within_sequences(sequence, implementation)
            given["position_ids"] = position + self.first_position
        targets = len(target_ids)
        if self.head:  # every new number of targets would have its matrix products planned anew
            spare = -targets % TARGETS_TO
            target_positions, target_ids = F.pad(target_positions, (0, spare)), F.pad(target_ids, (0, spare))
            self.head.targets = target_ids
        self.keep.positions, self.keep.starts = target_positions, starts
        output = self.model(input_ids=input_ids, **given)
        self.keep.positions = self.keep.starts = None
        logits = output.prediction_logits if self.sentence != "none" else output.logits
        logits = logits.squeeze(0).float()  # [M, V]; with a fused loss [M, 2]
        if self.head:
            self.head.targets = None
            losses, right = logits[:targets, 0], logits[:targets, 1].detach()
        else:
            losses = F.cross_entropy(logits, target_ids, reduction="none")
            right = logits.argmax(-1) == target_ids
        sums = {"mlm": losses.sum(), "mlm_correct": right.sum(), "mlm_losses": losses.detach()}
        if label is not None:
            scores = output.get("seq_relationship_logits", output.get("sop_logits")).float()
            losses = F.cross_entropy(scores, label, reduction="none")
            sums["sentence"], sums["sentence_losses"] = losses.sum(), losses.detach()
            sums["sentence_correct"] = (scores.argmax(-1) == label).sum()
        return sums


class MaskedLM(Base):
    """See the module's docstring. Option `sentence`: none, nsp or sop."""

    def __init__(
        self,
        objective: ObjectiveConfig,
        network: NetworkConfig,
        specials: Specials,
        tokenizer: Path,
        device: str,
    ) -> None:
        sentence = str(objective.options.get("sentence", "none"))
        unknown = set(objective.options) - {"sentence"}
        if unknown or sentence not in SENTENCE_TASKS:
            raise UserError(
                f"objective.options: found {dict(objective.options)}; masked-lm takes "
                f"sentence: one of {', '.join(SENTENCE_TASKS)}."
            )
        self.sentence = sentence
        self.tokenizer = tokenizer
        config = transformers.text_config(network, specials.vocabulary, specials.pad, device)
        self.refuses_packed = transformers.refuses_packed(config)
        self.packed_attention = transformers.packed_attention(config, device)
        self.network = MaskedLMNetwork(config, sentence)
        self.pad = specials.pad
        self.matrices, self.width = transformers.encoder_flops(self.network.model.base_model)  # type: ignore[arg-type]
        self.head = config.hidden_size * (config.hidden_size + specials.vocabulary)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        tokens = _ragged(rows, "seen" if "seen" in rows else "input")
        positions, ids = _ragged(rows, "target_positions"), _ragged(rows, "target_ids")
        lengths = tokens.lengths
        width = -(-int(lengths.max()) // PAD_TO) * PAD_TO
        batch = {
            "input_ids": tokens.pad(width, self.pad).astype(np.int64),
            "attention_mask": (np.arange(width) < lengths[:, None]).astype(np.int64),
            "target_positions": positions.row_index() * width + positions.values,
            "target_ids": ids.values.astype(np.int64),
        }
        if "segment" in rows:
            batch["token_type_ids"] = _ragged(rows, "segment").pad(width, 0).astype(np.int64)
        else:
            batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
        if "sequence" in rows:
            batch |= self._sequences(_ragged(rows, "sequence"), width)
        if self.sentence != "none":
            label = rows["label"]
            batch["label"] = (label.values if isinstance(label, Ragged) else np.asarray(label)).astype(np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _sequences(self, sequence: Ragged, width: int) -> dict[str, np.ndarray]:
        """What tells the sequences of a row apart."""
        if self.refuses_packed:
            raise UserError(self.refuses_packed)
        row, place = sequence.row_index(), sequence.positions()
        begins = place == 0
        begins[1:] |= np.diff(sequence.values) != 0
        starts = np.flatnonzero(begins)
        position = np.arange(len(begins)) - starts[np.cumsum(begins) - 1]
        columns = {
            "sequence": Ragged(sequence.values.astype(np.int32), sequence.offsets).pad(width, -1),
            "position": Ragged(position, sequence.offsets).pad(width, 0),
        }
        if self.sentence != "none":
            columns["starts"] = (row * width + place)[starts]
        return columns

    def turns(self, phase: str) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        weights = {"mlm": float(len(batch["target_ids"]))}
        if self.sentence != "none":
            weights[self.sentence] = float(len(batch["label"]))
        return weights

    def _loss(self, nets: Networks, batch: Batch) -> Loss:
        if "sequence" in batch and batch["sequence"].is_cuda:
            self.network.encoder.config._attn_implementation = self.packed_attention
        sums = nets["model"](**batch)
        weights = self._weights(batch)
        losses = {"mlm": sums["mlm"]}
        metrics = {"mlm_accuracy": (sums["mlm_correct"], weights["mlm"])}
        if self.sentence != "none":
            losses[self.sentence] = sums["sentence"]
            metrics[f"{self.sentence}_accuracy"] = (
                sums["sentence_correct"],
                weights[self.sentence],
            )
        return Loss(losses, metrics, self._by_row(batch, sums) if "source" in batch else {})

    def _by_row(self, batch: Batch, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses summed by row of the batch, and their numbers: [2, B] by term."""
        rows, width = batch["input_ids"].shape
        found = {"mlm": _added(sums["mlm_losses"], batch["target_positions"] // width, rows)}
        if self.sentence != "none":
            places = batch["starts"] // width if "starts" in batch else torch.arange(rows, device=batch["label"].device)
            found[self.sentence] = _added(sums["sentence_losses"], places, rows)
        return found

    def flops(self, batch: Batch) -> float:
        forward = 2 * self.matrices * self.tokens(batch) + 4 * self.width * self._pairs(batch)
        return 3.0 * (forward + 2 * self.head * len(batch["target_ids"]))

    def _pairs(self, batch: Batch) -> int:
        """How often a token looks at one: Σ length² over the sequences; n² is the sum of the first n odd numbers."""
        if "position" not in batch:
            return int(batch["attention_mask"].sum(1).square().sum())
        return int(((2 * batch["position"] + 1) * batch["attention_mask"]).sum())

    def export(self, path: Path, seen: Iterable[Batch]) -> None:
        from transformers import AutoTokenizer

        self.network.model.save_pretrained(path)  # type: ignore[operator]
        AutoTokenizer.from_pretrained(self.tokenizer).save_pretrained(path)


def _added(values: Tensor, places: Tensor, size: int) -> Tensor:
    """Sums of `values` by place, and how many there are: [2, size]."""
    both = torch.stack([values, torch.ones_like(values)])
    return both.new_zeros(2, size).index_add_(1, places, both)


def _ragged(rows: Rows, name: str) -> Ragged:
    column = rows[name]
    if not isinstance(column, Ragged):
        raise TypeError(f"column {name!r} should be ragged, found {type(column).__name__}")
    return column


build = MaskedLM
