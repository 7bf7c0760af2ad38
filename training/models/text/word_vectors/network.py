"""Two vectors for each word, one where it is given and one where it is predicted (Mikolov et al. 2013).

A folder holds `config.json`, `model.safetensors` (`input.weight` and `output.weight`, [vocabulary, size], by the ids of
the tokenizer beside it), and the input vectors once more in the two formats of word2vec.c, which gensim's
`KeyedVectors.load_word2vec_format` opens: `vectors.txt` and, with `binary=True`, `vectors.bin`. These two hold words
alone, the most frequent one first, without special tokens.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, clause, read_json
from training.models.opening import built
from training.models.text.word_vectors.config import WordVectorsConfig

KIND, FORMAT = "word-vectors", 1
TEXT, BINARY = "vectors.txt", "vectors.bin"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")


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

    def forward(self, batch: Mapping[str, Tensor], cut: float) -> Tensor:
        """Σ weights · −log σ(±v·o) over targets, where v is the mean of some words' input vectors.

        members [M]: ids of the words of each of the G means, which begin at member_offsets [G + 1]; shares [M]: of each
        word in its mean. targets [T]: ids of the outputs of each mean, from target_offsets [G + 1]; is_positive,
        weights [T]. Targets with |v·o| > `cut` do not count. The same lists by word, for the gradients: inputs [U] and
        outputs [W], the ids that occur, ascending; member_means [M] (which mean) from input_offsets [U + 1];
        target_means and target_numbers [T] from output_offsets [W + 1].

        As in word2vec.c, each word of a mean gets the mean's whole gradient, undivided.
        """
        return _Targets.apply(self.input.weight, self.output.weight, batch, cut)


class _Targets(torch.autograd.Function):
    """Vectors are added up by `embedding_bag`, without copies for each target."""

    @staticmethod
    def forward(ctx, given: Tensor, predicted: Tensor, batch: Mapping[str, Tensor], cut: float) -> Tensor:
        means = _sums(given, batch["members"], batch["member_offsets"], batch["shares"])
        products = _products(means, predicted, batch["targets"], batch["target_offsets"])
        weights = batch["weights"] if math.isinf(cut) else batch["weights"] * (products.abs() <= cut)
        sign = 1.0 - 2.0 * batch["is_positive"]
        signed = products.mul_(sign)
        ctx.slopes, ctx.means, ctx.batch = torch.sigmoid(signed) * weights * sign, means, batch
        ctx.save_for_backward(predicted)
        ctx.shapes = given.shape, predicted.shape
        return F.softplus(signed).mul_(weights).sum()  # in a tree; `dot` adds one by one and loses digits of millions

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        batch, slopes, (outputs,) = ctx.batch, ctx.slopes * gradient, ctx.saved_tensors
        of_means = _sums(outputs, batch["targets"], batch["target_offsets"], slopes)
        of_words = _sums(of_means, batch["member_means"], batch["input_offsets"])
        by_output = slopes.index_select(0, batch["target_numbers"])
        of_outputs = _sums(ctx.means, batch["target_means"], batch["output_offsets"], by_output)
        given, predicted = ctx.shapes
        return _rows(batch["inputs"], of_words, given), _rows(batch["outputs"], of_outputs, predicted), None, None


def _sums(table: Tensor, places: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """[G, D]: sums of the rows of `table` at the places from each of the offsets [G + 1] to the next."""
    return F.embedding_bag(
        places, table.detach(), offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )  # fmt: skip


def _products(means: Tensor, outputs: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
    """[T]: products of each mean with its outputs."""
    if means.device.type != "cpu":
        mean = torch.arange(len(means), device=means.device).repeat_interleave(offsets.diff(), output_size=len(targets))
        return (means[mean] * outputs[targets]).sum(1)
    # Several times as fast, as it copies no vectors. It drops whatever exceeds the pairs; zeros make room.
    missing = -(-len(targets) // max(len(means), 1)) - len(outputs)
    if missing > 0:
        outputs = F.pad(outputs, (0, 0, 0, missing))
    shape, empty = (len(means), len(outputs)), torch.zeros(len(targets), dtype=means.dtype)
    chosen = torch.sparse_csr_tensor(offsets, targets, empty, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(chosen, means, outputs.t(), beta=0.0, out=chosen).values()


def _rows(ids: Tensor, gradients: Tensor, shape: torch.Size) -> Tensor:
    """A sparse gradient of a table, of rows that are there once and ascend."""
    return torch.sparse_coo_tensor(ids[None], gradients, shape, is_coalesced=True, check_invariants=False)


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
