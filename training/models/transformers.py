"""Networks of `transformers`, built from a recipe and made cheap to train.

The vocabulary projection is most of a small encoder's work and is only wanted where something was masked. Every
architecture has its own head, but all of them hand the encoder's last hidden states to it: a forward hook on the
encoder keeps the masked positions alone, and whatever head follows runs on those.

Rows that hold several sequences cost as much as one: a mask keeps attention inside each sequence, positions begin anew
in each, and the sentence head reads each one's own first token.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.errors import UserError
from training.config import PACKABLE, NetworkConfig
from training.models.cpu_kernels import ATTENTION

SENTENCE_HEADS = {"bert", "albert", "big_bird", "ernie", "mobilebert", "nystromformer"}


def text_config(network: NetworkConfig, vocabulary: int, pad: int, device: str = "cpu") -> Any:
    """The `transformers` config of `network` for a tokenizer of `vocabulary` entries.

    Raises UserError when the architecture or one of its settings is unknown.
    """
    from transformers import CONFIG_MAPPING

    if network.architecture not in CONFIG_MAPPING:
        raise UserError(
            f"network.architecture: transformers knows no model type {network.architecture!r}; "
            "see https://huggingface.co/docs/transformers for the list."
        )
    kind = CONFIG_MAPPING[network.architecture]
    known = set(inspect.signature(kind).parameters) | {"num_labels"}
    for key in network.config:
        if key not in known:
            raise UserError(
                f"network.config.{key}: {kind.__name__} has no such setting; "
                f"it has {', '.join(sorted(known - {'self', 'kwargs'}))}."
            )
    config = kind(**{**network.config, "vocab_size": vocabulary, "pad_token_id": pad})
    # Measured: on CPU cores, plain attention in bf16 beats the fused kernel at these lengths.
    config._attn_implementation = "eager" if device == "cpu" else "sdpa"
    return config


def masked_lm(config: Any, sentence: bool) -> nn.Module:
    """A randomly initialised masked LM, with the architecture's own sentence head if `sentence`."""
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    if sentence and config.model_type not in SENTENCE_HEADS:
        raise UserError(
            f"network.architecture: {config.model_type!r} has no sentence head for NSP or SOP; "
            f"use one of {', '.join(sorted(SENTENCE_HEADS))} or objective.options.sentence: none."
        )
    auto = AutoModelForPreTraining if sentence else AutoModelForMaskedLM
    try:
        return auto.from_config(config)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        raise UserError(
            f"network.architecture: transformers has no masked-LM head for {config.model_type!r}; "
            "choose an encoder such as bert, roberta, albert or modernbert."
        ) from error


class KeepPositions:
    """Forward hook: of the last hidden states [B, L, H], keep `positions` (flat b·L + l) as [1, M, H].

    Where `starts` (flat, too) say where sequences begin, those are pooled instead of every row's first token.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.positions: Tensor | None = None
        self.starts: Tensor | None = None
        encoder.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if self.positions is None:
            return output
        hidden = output.last_hidden_state.flatten(0, 1)
        output.last_hidden_state = hidden[self.positions].unsqueeze(0)
        if self.starts is not None:
            output.pooler_output = pooled(module, hidden[self.starts])
        return output


def pooled(encoder: Any, first: Tensor) -> Tensor:
    """What the encoder's pooler makes of the first tokens [S, H] of sequences."""
    if hasattr(encoder, "pooler_activation"):  # ALBERT's is a plain layer
        return encoder.pooler_activation(encoder.pooler(first))
    return encoder.pooler(first.unsqueeze(1))


def refuses_packed(config: Any) -> str | None:
    """A sentence if a network of this config would mix the sequences of a row, else None."""
    if config.model_type in PACKABLE:
        return None
    return (
        f"network.architecture: {config.model_type!r} cannot keep apart the sequences of a packed row; "
        f"set compose.pack to false or use one of {', '.join(sorted(PACKABLE))}."
    )


def packed_attention(config: Any, device: str) -> str:
    """The kernel for rows of several sequences, as transformers names it; masks follow from it (`within_sequences`).

    On a GPU, FlexAttention skips the blocks between sequences, but it knows no dropout and not every size of heads;
    SDPA's fused kernel takes any mask and computes whole rows.
    """
    from transformers.utils.import_utils import is_torch_flex_attn_available

    if device != "cuda" or refuses_packed(config):
        return config._attn_implementation
    dropout = getattr(config, "attention_probs_dropout_prob", getattr(config, "attention_dropout", 1.0))
    head = config.hidden_size // config.num_attention_heads
    fits = dropout == 0 and head in (16, 32, 64, 128)
    return "flex_attention" if fits and is_torch_flex_attn_available() else "sdpa"


def within_sequences(sequence: Tensor, implementation: str) -> Any:
    """The mask [B, 1, L, L], as this kernel takes it, by which tokens see their own sequence alone.

    sequence: [B, L], which sequence of its row a token belongs to; padding is a sequence of its own.
    """
    if implementation == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        def together(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return sequence[row, query] == sequence[row, key]

        rows, width = sequence.shape
        return create_block_mask(together, rows, None, width, width, device=sequence.device)  # type: ignore[arg-type]
    same = sequence[:, None, :, None] == sequence[:, None, None, :]
    if implementation not in ("eager", ATTENTION):
        return same
    kind = sequence.device.type  # these two add their mask, in the precision of their products
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.get_default_dtype()
    return torch.zeros(same.shape, dtype=dtype, device=same.device).masked_fill_(~same, torch.finfo(dtype).min)


def first_position(encoder: nn.Module) -> int:
    """The position of a sequence's first token: RoBERTa and its kin count from the padding's id on."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def accepted(model: nn.Module, *names: str) -> list[str]:
    """Those of `names` that the model's forward takes (some encoders have no token types)."""
    parameters = inspect.signature(model.forward).parameters
    return [name for name in names if name in parameters]


def autocast_forward(module: nn.Module, device: torch.device, precision: str) -> None:
    """Run the module's forward under bf16 autocast; parameters and optimizer stay in fp32.

    Inside the module and not around the engine: DeepSpeed switches off an autocast that surrounds it.
    """
    if precision == "bf16":
        module.forward = torch.autocast(device.type, torch.bfloat16)(module.forward)  # type: ignore[method-assign]


def checkpoint_activations(module: nn.Module) -> None:
    """Keep only each layer's input for the backward pass and compute the rest again (Chen et al. 2016)."""
    from transformers import PreTrainedModel

    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            part.activation_checkpointing_enable({"use_reentrant": False})
            return
    raise UserError(
        f"placement.activation_checkpointing: {type(module).__name__} has no layers that transformers can recompute; "
        "set it to false."
    )


def encoder_flops(encoder: nn.Module) -> tuple[int, int]:
    """Multiply-add parameters a token meets in the encoder, and its layers × hidden size.

    Embedding tables are looked up, not multiplied (Kaplan et al. 2020, section 2.1).
    """
    tables = {
        parameter
        for module in encoder.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    matrices = sum(_numel(p) for p in encoder.parameters() if p.ndim >= 2 and p not in tables)
    config: Any = encoder.config
    return matrices, int(config.num_hidden_layers) * int(config.hidden_size)


def _numel(parameter: Tensor) -> int:
    # ZeRO-3 leaves an empty shell on each rank and the true size beside it.
    return int(getattr(parameter, "ds_numel", parameter.numel()))
