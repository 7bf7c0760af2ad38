"""The networks of `tests.benchmarks.loops`: BERT and GPT-2 of transformers, and GPT-2 in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

LAYERS, WIDTH, HEADS = 4, 256, 4


def settings(network: str, length: int) -> dict[str, Any]:
    """The network, as its configuration class in transformers names it."""
    if network == "gpt":
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        return {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": length, **dropout}
    return {
        "num_hidden_layers": LAYERS,
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": length,
    }


def reference(network: str, length: int, vocabulary: int) -> Any:
    """The network of transformers."""
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    if network == "gpt":
        return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **settings(network, length)))
    return BertForMaskedLM(BertConfig(vocab_size=vocabulary, **settings(network, length)))


def lean_gpt(length: int, vocabulary: int) -> Any:
    """GPT-2 in plain PyTorch. Gives logits [B, L, V]."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.attend, self.project = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = self.attend(self.ln_1(x)).split(WIDTH, 2)
            heads = [part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts]
            mixed = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)
            x = x + self.project(mixed)
            return x + self.narrow(F.gelu(self.widen(self.ln_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(length, WIDTH)
            self.blocks, self.ln = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    deep = name.endswith(("project.weight", "narrow.weight"))
                    nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if deep else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return F.linear(self.ln(x), self.tokens.weight)

    return GPT()


def assert_equal_networks(length: int = 32, vocabulary: int = 128) -> None:
    """The lean GPT computes what GPT-2 of transformers does from the same weights."""
    import torch

    theirs, ours = reference("gpt", length, vocabulary).eval(), lean_gpt(length, vocabulary)
    body = theirs.transformer
    with torch.no_grad():
        ours.tokens.weight.copy_(body.wte.weight)
        ours.positions.weight.copy_(body.wpe.weight)
        pairs = [(ours.ln, body.ln_f)]
        for block, layer in zip(ours.blocks, body.h, strict=True):
            pairs += [(block.ln_1, layer.ln_1), (block.ln_2, layer.ln_2)]
            products = [(block.attend, layer.attn.c_attn), (block.project, layer.attn.c_proj)]
            products += [(block.widen, layer.mlp.c_fc), (block.narrow, layer.mlp.c_proj)]
            for linear, convolution in products:
                linear.weight.copy_(convolution.weight.T)
                linear.bias.copy_(convolution.bias)
        for norm, other in pairs:
            norm.load_state_dict(other.state_dict())
        ids = torch.randint(0, vocabulary, (2, length))
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)
