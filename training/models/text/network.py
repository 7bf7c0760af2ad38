"""Networks of `transformers` that learn from text, made cheap to train.

The vocabulary projection is most of a small encoder's work and is only wanted where something was masked. Every
architecture has its own head, but all of them hand the encoder's last hidden states to it: a forward hook on the
encoder keeps only the wanted positions, and whatever head follows runs on those.

Rows that hold several sequences cost as much as one: a mask keeps attention inside each sequence, positions begin anew
in each, and the sentence head reads each one's own first token.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from training.models.cpu_kernels import ATTENTION, LossHead, spare_rows
from training.models.text.architectures import architecture_of
from training.models.text.block_sparse import with_block_sparse

Arguments: TypeAlias = dict[str, Any]


class Guesses(NamedTuple):
    """Predictions at M targets, in fp32: log p of the truth [M]; the likeliest ids [M, k], and their log p."""

    truth: Tensor
    ids: Tensor
    of_ids: Tensor


class Judgements(NamedTuple):
    """A network's judgements of the tokens that it is shown, by place [B, L].

    ids: the tokens shown. replaced: whether it is another token than the true one. p: the probability that it is, by
    the network. is_token: False where there is padding.
    """

    ids: Tensor
    replaced: Tensor
    p: Tensor
    is_token: Tensor


class TextNetwork(nn.Module):
    """A model of `transformers` with a head on the vocabulary; subclasses define what is predicted where.

    `encoder` gives the last hidden states (of two stacks, it is the decoder), `inputs` are the names of what the
    forward of `model` takes besides `input_ids`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = with_block_sparse(model)
        self.architecture = architecture_of(model.config.model_type)
        types = () if self.architecture.causal else ("token_type_ids",)  # GPT-2 takes words as such
        self.inputs = accepted(self.model, "attention_mask", "decoder_input_ids", "decoder_attention_mask", *types)
        has_decoder = self.architecture.causal or self.architecture.encoder_decoder
        decoder = self.model.get_decoder() if has_decoder else None
        self.encoder: Any = decoder if hasattr(decoder, "config") else self.model.base_model
        self.keep = KeepPositions(self.encoder)
        self.head: LossHead | None = None
        pad = model.config.pad_token_id
        self.first_position = self.architecture.first(0 if pad is None else pad)

    def fuse_loss(self) -> None:
        """Let the vocabulary projection compute the loss, where the architecture's head allows it."""
        if self.architecture.linear_head:
            self.head = LossHead(self.model.get_output_embeddings(), self.model, self.architecture.logits_bias)

    def predicted(
        self,
        input_ids: Tensor,  # [B, L]
        target_positions: Tensor,  # [M], flat b·L + l
        target_ids: Tensor,  # [M]
        sequence: Tensor | None = None,  # [B, L], -1: padding
        position: Tensor | None = None,  # [B, L], in the sequence
        starts: Tensor | None = None,  # [S], flat: where sequences begin, if those are pooled
        **inputs: Tensor,
    ) -> tuple[Tensor, Tensor, Any]:
        """−log p [M] of the targets in fp32, whether each is the likeliest [M], and the model's whole output."""
        arguments = self.arguments(sequence, position, inputs)
        targets = len(target_ids)
        spare = spare_rows(targets, input_ids.device)
        padded_ids = F.pad(target_ids, (0, spare))
        self.keep.positions, self.keep.starts = F.pad(target_positions, (0, spare)), starts
        with self.head.predicting(padded_ids) if self.head else nullcontext():
            output = self.model(input_ids=input_ids, **arguments)
        self.keep.positions = self.keep.starts = None
        logits = self.logits(output)
        if logits.shape[:2] != (1, len(padded_ids)):
            raise UserError(
                f"network.architecture: the head of {self.model.config.model_type!r} is not given the last hidden "
                "states alone, so that it cannot predict at chosen places; choose another architecture."
            )
        logits = logits.squeeze(0)[:targets].float()  # [M, V]; with a fused loss [M, 2]
        if self.head:
            return logits[:, 0], logits[:, 1].detach(), output
        return F.cross_entropy(logits, target_ids, reduction="none"), logits.argmax(-1) == target_ids, output

    def arguments(self, sequence: Tensor | None, position: Tensor | None, inputs: Mapping[str, Tensor]) -> Arguments:
        """What `model` is given besides `input_ids`: for rows of several sequences, masks and positions."""
        arguments: Arguments = {name: inputs[name] for name in self.inputs if name in inputs}
        if self.architecture.causal or self.architecture.encoder_decoder:
            arguments["use_cache"] = False  # keys and values are only kept for generation
        if sequence is not None and position is not None:
            implementation = self.encoder.config._attn_implementation
            arguments["attention_mask"] = within_sequences(sequence, implementation, self.architecture.causal)
            arguments["position_ids"] = position + self.first_position
        return arguments

    def logits(self, output: Any) -> Tensor:
        """The logits of the vocabulary in a model's output."""
        return output.logits

    def guesses(self, most: int, **batch: Tensor) -> Guesses:
        """Its predictions at the targets of a batch, whose tensors are those of `predicted`. most: k.

        Not once its loss is fused with the projection, which leaves no logits.
        """
        losses, _, output = self.predicted(**batch)
        logs = self.logits(output).squeeze(0)[: len(losses)].float().log_softmax(-1)
        of_ids, ids = logs.topk(min(most, logs.shape[-1]))
        return Guesses(-losses, ids, of_ids)


class KeepPositions:
    """Forward hook: of the last hidden states [B, L, H], keep `positions` (flat b·L + l) as [1, M, H].

    Where `starts` (flat, too) say where sequences begin, those are pooled instead of every row's first token.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.positions: Tensor | None = None
        self.starts: Tensor | None = None
        encoder.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if self.positions is None or "last_hidden_state" not in output:
            return output
        hidden = output.last_hidden_state.flatten(0, 1)
        output.last_hidden_state = hidden[self.positions].unsqueeze(0)
        if self.starts is not None:
            output.pooler_output = pooled(module, hidden[self.starts])
        return output


def pooled(encoder: Any, first: Tensor) -> Tensor:
    """The encoder's pooler applied to the first tokens [S, H] of sequences."""
    if hasattr(encoder, "pooler_activation"):  # ALBERT's is a plain layer
        return encoder.pooler_activation(encoder.pooler(first))
    return encoder.pooler(first.unsqueeze(1))


def within_sequences(sequence: Tensor, implementation: str, causal: bool = False) -> Any:
    """The mask [B, 1, L, L], as this kernel takes it, by which tokens see only their own sequence.

    sequence: [B, L], which sequence of its row a token belongs to; padding is a sequence of its own. causal: of it, a
    token sees itself and those before it.
    """
    if implementation == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def together(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            same = sequence[row, query] == sequence[row, key]
            return same & (query >= key) if causal else same

        rows, width = sequence.shape
        return create_block_mask(together, rows, None, width, width, device=sequence.device)  # type: ignore[arg-type]
    same = sequence[:, None, :, None] == sequence[:, None, None, :]
    if causal:
        same = same & torch.ones(same.shape[-2:], dtype=torch.bool, device=same.device).tril_()
    if implementation not in ("eager", ATTENTION):
        return same
    kind = sequence.device.type  # these two add their mask, in the precision of their products
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.get_default_dtype()
    return torch.zeros(same.shape, dtype=dtype, device=same.device).masked_fill_(~same, torch.finfo(dtype).min)


def accepted(model: nn.Module, *names: str) -> list[str]:
    """Those of `names` that the model's forward takes (some encoders have no token types)."""
    parameters = inspect.signature(model.forward).parameters
    return [name for name in names if name in parameters]


def encoder_flops(encoder: nn.Module) -> tuple[int, int]:
    """Multiply-add parameters of the encoder per token, and its layers × hidden size.

    Embedding tables are looked up, not multiplied (Kaplan et al. 2020, section 2.1). Layers that share weights are met
    as often as they are run.
    """
    config: Any = encoder.config
    matrices, shared = matrix_parameters(encoder), architecture_of(config.model_type).shared_layers
    if shared:
        groups: Any = encoder.get_submodule(shared)
        matrices += matrix_parameters(groups) * (int(config.num_hidden_layers) - len(groups)) // len(groups)
    return matrices, int(config.num_hidden_layers) * int(config.hidden_size)


def matrix_parameters(module: nn.Module) -> int:
    """Multiply-add parameters of a module: its matrices, except embedding tables."""
    tables = {
        parameter
        for submodule in module.modules()
        if isinstance(submodule, nn.Embedding)
        for parameter in submodule.parameters(recurse=False)
    }
    return sum(_numel(p) for p in module.parameters() if p.ndim >= 2 and p not in tables)


def _numel(parameter: Tensor) -> int:
    # ZeRO-3 leaves an empty shell on each rank, with the true size as an attribute.
    return int(getattr(parameter, "ds_numel", parameter.numel()))
