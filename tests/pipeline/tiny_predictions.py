"""Recipes with a job on predictions, of each way to predict tokens, small enough to run in seconds."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline import tiny

BERT = (
    "{architecture: bert, config: {num_hidden_layers: 1, hidden_size: 48, num_attention_heads: 2, "
    "intermediate_size: 96, max_position_embeddings: 32, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}}"
)
GPT = (
    "{architecture: gpt2, config: {n_layer: 1, n_embd: 48, n_head: 2, n_positions: 32, resid_pdrop: 0.0, "
    "embd_pdrop: 0.0, attn_pdrop: 0.0}}"
)
T5 = "{architecture: t5, config: {d_model: 32, d_kv: 16, d_ff: 64, num_layers: 1, num_heads: 2, dropout_rate: 0.0}}"
BART = (
    "{architecture: bart, config: {d_model: 32, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2, "
    "decoder_attention_heads: 2, encoder_ffn_dim: 64, decoder_ffn_dim: 64, max_position_embeddings: 32, dropout: 0.0}}"
)
ELECTRA = (
    "{architecture: electra, config: {num_hidden_layers: 1, hidden_size: 64, embedding_size: 32, "
    "num_attention_heads: 2, intermediate_size: 96, max_position_embeddings: 32}}"
)
ELMO = "{architecture: elmo, config: {word_length: 12, filters: [8, 16], projection: 32, cells: 48, dropout: 0.0}}"
SECTIONS: dict[str, dict[str, str]] = {
    "masked": {
        "tokenizer": "{kind: wordpiece, vocabulary: 256, lowercase: true}",
        "compose": "{kind: packed, length: 32}",
        "corruption": "{kind: masked-lm, rate: 0.25}",
        "network": BERT,
        "objective": "{name: masked-lm}",
    },
    "replaced": {
        "tokenizer": "{kind: wordpiece, vocabulary: 256, lowercase: true}",
        "compose": "{kind: packed, length: 32}",
        "corruption": "{kind: masked-slots, rate: 0.15, max_predictions: 5}",
        "network": ELECTRA,
        "objective": "{name: electra}",
    },
    "causal": {
        "tokenizer": "{kind: byte-bpe, vocabulary: 384, roles: [pad, bos, eos]}",
        "compose": "{kind: stream, frame: bos-eos, length: 32}",
        "corruption": "{kind: none}",
        "network": GPT,
        "objective": "{name: gpt}",
    },
    "words": {
        "tokenizer": "{kind: wordpiece, vocabulary: 80, lowercase: true}",
        "compose": "{kind: packed, length: 32}",
        "corruption": "{kind: none}",
        "network": ELMO,
        "objective": "{name: elmo}",
    },
    "sequence": {
        "tokenizer": "{kind: byte-bpe, vocabulary: 384, roles: [pad, eos, decoder_start], sentinels: 20}",
        "compose": "{kind: packed, frame: none, length: 32, whole_sentences: false}",
        "corruption": "{kind: spans, rate: 0.15, mean_length: 3}",
        "network": T5,
        "objective": "{name: t5}",
    },
    "denoising": {
        "tokenizer": "{kind: byte-bpe, vocabulary: 384, roles: [pad, cls, sep, mask]}",
        "compose": "{kind: packed, length: 32, columns: [sentence]}",
        "corruption": "{kind: bart}",
        "network": BART,
        "objective": "{name: sequence-to-sequence}",
    },
    "fragment": {
        "tokenizer": "{kind: byte-bpe, vocabulary: 384, roles: [pad, cls, sep, mask]}",
        "compose": "{kind: packed, length: 32}",
        "corruption": "{kind: mass}",
        "network": BART,
        "objective": "{name: sequence-to-sequence}",
    },
}


def recipe(folder: Path, way: str, steps: int = 60, job: str = "", **sections: str) -> Path:
    """Write the data and a recipe for it; returns the recipe's path. way: masked, causal or sequence."""
    tiny.corpus(folder / "texts", documents=30)
    given = {
        "data": f"{{kind: text, sources: [{{path: {folder / 'texts'}}}], split: {{validation: 0.15, test: 0.1}}}}",
        **SECTIONS[way],
        "train": f"{{global_batch: 16, steps: {steps}, lr: 1e-2, warmup_steps: 5, log_every: 20, precision: fp32}}",
        "downstream": f"[{{name: said, task: predictions, rows: 40, examples: 4{', ' * bool(job)}{job}}}]",
        "placement": "{threads: 1}",
        **sections,
    }
    path = folder / f"tiny-{way}.yaml"
    path.write_text("\n".join([f"name: tiny-{way}", *(f"{name}: {value}" for name, value in given.items())]) + "\n")
    return path
