"""Small fine-tuned networks of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.fine_tune import exported
from pipeline.downstream.fine_tune.heads import Layout, Shape, module_of
from pipeline.downstream.fine_tune.learners import open_source
from training.objectives.fine_tuning import FineTuning

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"]


def network_of(folder: Path) -> Path:
    """A BERT with a tokenizer of a few words, in a folder."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=8, max_position_embeddings=24, **sizes)).save_pretrained(folder)
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def made(network: Path, shape: Shape, length: int = 16, pooling: Any = "cls", **reads: Any) -> exported.FineTuned:
    """The network of a folder under a linear layer of random weights. reads: how its rows are laid out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        outputs = module_of(shape).outputs(shape)
        objective = FineTuning(open_source(network, shape), shape.head, outputs, pooling, paired=shape.paired)
        torch.nn.init.normal_(objective.network.classifier.weight)
    objective.network.eval()
    layout, settings = Layout(length, 5), {"head": shape.head, **reads}
    return exported.FineTuned(objective, shape, layout, network, pooling, False, Cleaning(), "fp32", settings)
