"""What a network costs, given only its shape: parameters, floating-point operations, activations.

    parameters    counted from the published description, matrix by matrix
    operations    2 per parameter that a token is multiplied with, forward; twice that backward (Kaplan et al. 2020,
                  arXiv:2001.08361, section 2.1), and attention's own (Narayanan et al. 2021, arXiv:2104.04473)
    activations   what the backward pass needs of each layer (Korthikanti et al. 2022, arXiv:2205.05198, section 4.1)

B is rows, L their tokens, H the hidden size, F that of the feed-forward layer, A the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.models.text.architectures import architecture_of, blocks_of

BACKWARD = 3  # forward and backward passes together, in forward passes
RECOMPUTED = 4 / 3  # of them with activation checkpointing: one more forward pass (Chen et al. 2016, arXiv:1604.06174)
FP32, BF16, MASK = 4, 2, 2  # bytes of an element; dropout's masks are int16 on the CPU


@dataclass(frozen=True)
class Transformer:
    """An encoder or a decoder of `layers`, or with `decoder_layers` an encoder and a decoder that reads it."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int = 0  # learned ones; 0: relative or rotary
    types: int = 0  # segments
    head_size: int | None = None  # None: hidden / heads
    decoder_layers: int = 0
    experts: int = 1  # feed-forward networks per layer, one of which processes a token (Fedus et al. 2021)
    expert_layers: int | None = None  # layers that have them, in both stacks; None: all
    biases: bool = True  # and layer norms with them
    masked_lm: bool = False  # BERT's pooler and heads
    tied: bool = True  # the projection on the vocabulary is the embedding
    blocks: tuple[int, int] | None = None  # of block-sparse attention: tokens of a block, and how many it sees

    @property
    def depth(self) -> int:
        return self.layers + self.decoder_layers

    @property
    def sparse_depth(self) -> int:
        """Layers of several experts."""
        if self.experts == 1:
            return 0
        return self.depth if self.expert_layers is None else self.expert_layers

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * (self.head_size or self.hidden // self.heads)

    @property
    def layer_matrices(self) -> int:
        """Parameters of one layer's matrices that process a token: attention and one feed-forward network."""
        return 4 * self.hidden * self.inner + 2 * self.hidden * self.feed_forward

    def parameters(self) -> int:
        """All of them: matrices, biases, norms, embeddings, heads."""
        h, f = self.hidden, self.feed_forward
        attention = 4 * h * self.inner + (3 * self.inner + h if self.biases else 0)
        network = 2 * h * f + (f + h if self.biases else 0)
        norm = 2 * h if self.biases else h
        routers = h * self.experts if self.experts > 1 else 0
        layer = attention + network + 2 * norm
        experts = self.sparse_depth * (network * (self.experts - 1) + routers)
        crossing = self.decoder_layers * (attention + norm)
        tables = (self.vocabulary * (1 if self.tied else 2) + self.positions + self.types) * h
        # A norm after the embeddings in BERT; after the last layer in the others, in each of the two stacks.
        ends = norm * (2 if self.decoder_layers else 1)
        heads = h * h + h + (h * h + h + norm) + self.vocabulary + (2 * h + 2) if self.masked_lm else 0
        return self.depth * layer + experts + crossing + tables + ends + heads

    def seen(self, length: int) -> float:
        """How many tokens of a row of `length` a token sees, on average: of the first and the last block, all."""
        if self.blocks is None:
            return length
        size, number = self.blocks
        return min(length, size * number + 2 * size)

    def forward_flops(self, length: int, predicted: float = 1.0) -> float:
        """Operations of a forward pass per token of the input, in rows of `length`.

        The share `predicted` of the tokens is projected on the vocabulary. A decoder that reads an encoder
        processes only the targets, about that share of the tokens.
        """
        attention = 4 * self.inner * self.seen(length)  # scores and their sums, of one layer
        head = 2 * self.hidden * self.vocabulary * predicted
        if self.masked_lm:
            head += 2 * self.hidden**2 * predicted
        encoder = self.layers * (2 * self.layer_matrices + attention)
        crossing = 8 * self.hidden * self.inner + attention
        decoder = predicted * self.decoder_layers * (2 * self.layer_matrices + attention * predicted + crossing)
        return encoder + decoder + head


@dataclass(frozen=True)
class BiLSTM:
    """ELMo (Peters et al. 2018, arXiv:1802.05365): characters, highway layers, LSTMs with projections, both ways."""

    layers: int
    cells: int
    projection: int
    filters: tuple[tuple[int, int], ...]  # (width in characters, number)
    highways: int
    characters: int  # known ones
    character_size: int
    word_length: int  # characters
    sampled: int  # words that the softmax compares with the right one (Jozefowicz et al. 2016, arXiv:1602.02410)

    @property
    def depth(self) -> int:
        return self.layers

    @property
    def features(self) -> int:
        return sum(number for _, number in self.filters)

    def _recurrent(self) -> int:
        """Matrices of all cells: gates see the input and the last output, both of the projection's size."""
        return 2 * self.layers * (2 * self.projection * 4 * self.cells + self.cells * self.projection)

    def _word(self) -> int:
        return self.highways * 2 * self.features**2 + self.features * self.projection

    def parameters(self) -> int:
        """Without the softmax over words, which is thrown away after training."""
        kernels = sum(width * number for width, number in self.filters) * self.character_size
        biases = 2 * self.layers * 4 * self.cells + (2 * self.highways + 1) * self.features + self.projection
        return self._recurrent() + self._word() + kernels + biases + self.characters * self.character_size

    def forward_flops(self, length: int, predicted: float = 1.0) -> float:
        """Operations of a forward pass per token."""
        windows = sum((self.word_length - w + 1) * w * n for w, n in self.filters) * self.character_size
        return 2 * (self._recurrent() + self._word() + windows + 2 * self.projection * self.sampled * predicted)


Network = Transformer | BiLSTM


def shape_of(config: Any) -> Transformer:
    """The shape of an encoder, a decoder or both of `transformers`, from its config.

    Whose parameters do not follow from it (gated feed-forward layers, experts) are counted on the network itself.
    """
    hidden = int(config.hidden_size)
    has_decoder = bool(getattr(config, "is_encoder_decoder", False))
    feed_forward = _first(config, "intermediate_size", "hidden_dim", "d_ff", "encoder_ffn_dim", "n_inner")
    decoder_layers = _first(config, "num_decoder_layers", "decoder_layers") if has_decoder else 0
    causal = architecture_of(config.model_type).causal or getattr(config, "is_decoder", False)
    return Transformer(
        layers=int(config.num_hidden_layers),
        hidden=hidden,
        heads=int(config.num_attention_heads),
        feed_forward=feed_forward or 4 * hidden,
        vocabulary=int(config.vocab_size),
        positions=_first(config, "max_position_embeddings"),
        types=_first(config, "type_vocab_size"),
        head_size=_first(config, "d_kv", "head_dim") or None,
        decoder_layers=decoder_layers,
        masked_lm=not (has_decoder or causal),
        experts=_first(config, "num_experts") or 1,
        expert_layers=_first(config, "num_sparse_encoder_layers") + _first(config, "num_sparse_decoder_layers"),
        blocks=blocks_of(config),
    )


def _first(config: Any, *names: str) -> int:
    """The first of these settings that a config has; 0 without any."""
    return next((int(value) for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def layer_activations(shape: Transformer, rows: int, length: int, precision: str, device: str) -> float:
    """Bytes that one layer keeps for its backward pass.

    With H-wide elements in 16 bits this is Korthikanti's 34·B·L·H + 5·A·B·L² less what our kernels do not keep. On a
    GPU, fused attention keeps no L² at all (Dao et al. 2022, arXiv:2205.14135). On the CPU: the layer's input, queries,
    keys, values, attention's result, both inputs of norms and the first's output; two masks; the feed-forward layer's
    input and output of GELU; attention's weights and their mask.
    """
    wide, narrow = rows * length * shape.hidden, rows * length * shape.feed_forward
    inner = rows * length * shape.inner
    element = BF16 if precision == "bf16" else FP32
    if shape.blocks:  # the blocks' keys and values, and weights in fp32 and cast, without dropout
        gathered = 2 * shape.blocks[1] * inner * element
        weights = rows * shape.heads * length * shape.seen(length) * (FP32 + (element if precision == "bf16" else 0))
        return (4 * wide + 4 * inner + 2 * narrow) * element + 2 * wide * MASK + gathered + weights
    if device == "cuda":
        return (4 * wide + 4 * inner + 2 * narrow) * element + 2 * wide
    square = rows * shape.heads * length**2
    return (4 * wide + 4 * inner + 2 * narrow + square) * element + (2 * wide + square) * MASK


def expert_activations(shape: Transformer, tokens: int, precision: str) -> float:
    """Bytes that a layer of experts keeps in addition to a dense one's for `tokens` of them.

    The tokens in fp32 and with the router's noise, sorted by expert, what experts make of them before and after it is
    put back in order; the router's logits, their exponents and the choices. Not all of it is in bf16 with the rest.
    """
    element = BF16 if precision == "bf16" else FP32
    return tokens * (shape.hidden * (4 * FP32 + 3 * element) + shape.experts * 4 * FP32)
