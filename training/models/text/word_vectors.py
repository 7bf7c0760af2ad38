"""Two vectors for each word, one where it is given and one where it is predicted (Mikolov et al. 2013).

A folder holds `config.json`, `model.safetensors` (`input.weight` and `output.weight`, [vocabulary, size], by the ids of
the tokenizer beside it), and the input vectors once more in the two formats of word2vec.c, which gensim's
`KeyedVectors.load_word2vec_format` opens: `vectors.txt` and, with `binary=True`, `vectors.bin`. These two hold words
alone, the most frequent one first, without special tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, clause, read_json
from training.models.opening import built
from training.models.text.word_vectors_config import WordVectorsConfig

KIND, FORMAT = "word-vectors", 1
TEXT, BINARY = "vectors.txt", "vectors.bin"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class WordVectors(nn.Module):
    """`input` and `output` vectors [vocabulary, size]. Few rows of them have a gradient, so gradients are sparse.

    As in word2vec.c, input vectors begin uniform in ±1 / (2·size), output vectors at 0.
    """

    def __init__(self, config: WordVectorsConfig, vocabulary: int) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.input, self.output = (nn.Embedding(vocabulary, config.size, sparse=True) for _ in range(2))
        nn.init.uniform_(self.input.weight, -0.5 / config.size, 0.5 / config.size)
        nn.init.zeros_(self.output.weight)

    def forward(
        self,
        inputs: Tensor,
        outputs: Tensor,
        context: Tensor,
        centre: Tensor,
        noise: Tensor,
        pairs: Tensor,
        noise_weights: Tensor,
        averaged: bool,
    ) -> tuple[Tensor, Tensor]:
        """Sums of −log σ(v·o) over pairs, and of −log σ(−v·n) over noise; N blocks of T centres and C contexts.

        inputs [U], outputs [W]: ids, each once. context [N, C]: places in `inputs`. centre [N, T], noise [N, K]: places
        in `outputs`. pairs [N, C, T]: 1 where that context predicts that centre.
        noise_weights: how much each word of noise counts, [N, C, K]; with `averaged`, where a centre is predicted from
        the mean of its contexts, [N, T, K].
        """
        # Rows are added up by `embedding` here, where they are few; adding up sparse gradients takes a sort.
        given_words, predicted_words = self.input(inputs), self.output(outputs)
        given, predicted = F.embedding(context, given_words), F.embedding(centre, predicted_words)
        drawn = F.embedding(noise, predicted_words).transpose(1, 2)
        if averaged:
            given = mean_with_whole_gradient(given, pairs)
            scores, weights = (given * predicted).sum(2), pairs.amax(1)
        else:
            scores, weights = torch.bmm(given, predicted.transpose(1, 2)), pairs
        told_apart = _Logistic.apply(torch.bmm(given, drawn).float(), noise_weights)
        return _Logistic.apply(-scores.float(), weights), told_apart


def mean_with_whole_gradient(given: Tensor, pairs: Tensor) -> Tensor:
    """Means [N, T, D] of the contexts [N, C, D] of each centre; each context gets the mean's whole gradient.

    So does word2vec.c: it adds the gradient of the mean to every vector of the context, undivided.
    """
    return _Mean.apply(given, pairs)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, given: Tensor, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(pairs)
        return torch.bmm(pairs.transpose(1, 2), given) / pairs.sum(1).clamp(min=1.0).unsqueeze(2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (pairs,) = ctx.saved_tensors
        return torch.bmm(pairs, gradient), None


class _Logistic(torch.autograd.Function):
    """Σ weights · softplus(x), in few passes over memory."""

    @staticmethod
    def forward(ctx, x: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, weights)
        return torch.dot(F.softplus(x).flatten(), weights.flatten())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        x, weights = ctx.saved_tensors
        return torch.sigmoid(x).mul_(weights).mul_(gradient), None


def save_network(folder: Path, network: WordVectors, words: Sequence[str], ids: np.ndarray) -> None:
    """Write the files of the module's docstring. words: of `ids`, which are those of no special token."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / _WEIGHTS)
    config = {
        "kind": KIND, "format": FORMAT, "vocabulary": network.vocabulary, **network.config.model_dump()
    }  # fmt: skip
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    vectors = network.input.weight.detach().cpu().numpy()[ids].astype("<f4")
    header = f"{len(ids)} {network.config.size}\n".encode()
    with (folder / TEXT).open("wb") as text, (folder / BINARY).open("wb") as binary:
        text.write(header)
        binary.write(header)
        for word, vector in zip(words, vectors, strict=True):
            text.write(f"{word} {' '.join(f'{value:.9g}' for value in vector.tolist())}\n".encode())
            binary.write(f"{word} ".encode() + vector.tobytes() + b"\n")


def open_network(folder: Path) -> WordVectors:
    """The network of a folder, in evaluation mode. Raises UserError where it holds none."""
    try:
        description = read_json(checked(folder) / _CONFIG)
        if description.get("format") != FORMAT:
            raise UnfitError(f"{_CONFIG} describes word vectors of format {description.get('format')}")
        config, vocabulary = WordVectorsConfig(size=int(description["size"])), int(description["vocabulary"])
    except (UnfitError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: holds no word vectors ({clause(error)}); pretrain some.") from error
    return built(lambda: WordVectors(config, vocabulary), folder, _CONFIG, _WEIGHTS)
