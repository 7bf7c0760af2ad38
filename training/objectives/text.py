"""The common parts of text objectives: rows as padded batches, losses on the vocabulary, costs, the export.

seen        token ids [R, ragged]; the network's input
segment     0 and 1, where the architecture has token types
sequence    of rows that hold several sequences: which one each token belongs to. Positions begin anew in each, and
            no token sees another's sequence; the sums are those of the same sequences in rows of their own
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.shards.rows import Ragged, Rows, Specials, num_rows, ragged
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import load
from data_prep.tokens.vocabulary import extension
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.architectures import (
    ARCHITECTURES,
    architecture_of,
    blocks_of,
    longest,
    packed_attention,
    packing_problems,
    position_problems,
    special_ids,
    text_config,
)
from training.monitor.names import BITS_PER_BYTE
from training.objective import BaseObjective, Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.models.text.network import Guesses, Judgements, TextNetwork

EXAMPLE_LENGTH = 128  # of a made-up row, where the data have no fixed length
EXAMPLE_TARGETS = 0.15  # of its tokens
EXPORT_ROWS = 256  # whose longest is the length that a network without a limit has learned from


@dataclass(frozen=True)
class Targets:
    """The tokens of rows that are predicted, in the order of `target_ids` of their batch, and their context.

    text: ids [R, ragged], among which the targets stand. positions, ids: [R, ragged], their places there and what they
    are. both_sides: the network also sees the tokens after a target, and at its place the one there in `text`;
    otherwise it sees the text before it. sequence: of rows of several sequences, which one each token of `text` is of.
    asked: which part of the network is asked, where that is not all of it.
    """

    text: Ragged
    positions: Ragged
    ids: Ragged
    both_sides: bool
    sequence: Ragged | None = None
    asked: str = ""

    @property
    def flat(self) -> np.ndarray:
        """Their places among all tokens of `text`: int64 [M]."""
        return np.repeat(self.text.offsets[:-1], self.positions.lengths) + self.positions.values.astype(np.int64)

    @property
    def clean(self) -> Ragged:
        """`text` with what stood at the targets' places."""
        values = self.text.values.copy()
        values[self.flat] = self.ids.values
        return Ragged(values, self.text.offsets)


class TextObjective(BaseObjective):
    """The base of the objectives of text. Subclasses build a `TextNetwork` and define what is predicted.

    `targets` of a batch are its column `target_ids`: those projected on the vocabulary.
    """

    unit = "tokens"
    starts_from_folder = True  # `start_from` gives all of its networks weights
    network: TextNetwork

    def __init__(self, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> None:
        if data.specials is None:
            raise ValueError(f"data of kind {data.kind!r} have no special tokens")
        self.data, self.specials = data, data.specials
        self.pad = padding_id(self.specials)
        self.settings = networks["model"]
        self.config = text_config(self.settings, self.specials, device)
        self.architecture = architecture_of(self.settings.architecture)
        positions = getattr(self.config, "max_position_embeddings", None)
        lengths = {"compose.length": data.length} if data.length else {}
        for path, text in position_problems(self.settings, lengths, self.pad, positions):
            raise UserError(f"{path}: {text}.")
        self.packed_attention = packed_attention(self.config, device)
        self.export_rows = 0 if longest(self.config) else EXPORT_ROWS
        self._bytes: Tensor | None = None

    def set_network(self, network: TextNetwork) -> None:
        """Set the network that is trained, and the operations that a token takes in it."""
        from training.models.text.network import encoder_flops

        self.network = network
        if self.data.preprocessor is not None and self.settings.architecture not in ARCHITECTURES:  # those are tested
            from training.models.text.export import check_tokenizer

            check_tokenizer(self.config, self.data.preprocessor)
        self.matrices, self.width = encoder_flops(network.encoder)
        self.head = self.config.hidden_size * (self.config.hidden_size + self.specials.vocabulary)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    # -- batches ------------------------------------------------------------------------------------------------------

    def padded(self, rows: Rows) -> tuple[dict[str, np.ndarray], int]:
        """`input_ids`, `attention_mask`, and what the architecture takes besides, int64 [B, L]; and L."""
        block = self.architecture.block
        types, most = "token_type_ids" in self.network.inputs, longest(self.config)
        batch = padded_tokens(rows, self.pad, block, types, most)
        width = batch["input_ids"].shape[1]
        if "sequence" in rows:
            for path, text in packing_problems(self.settings):
                raise UserError(f"{path}: {text}.")
            batch |= sequence_columns(ragged(rows, "sequence"), width)
        return batch, width

    def tensors(self, arrays: Mapping[str, np.ndarray]) -> Batch:
        """A batch on the CPU."""
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def by_row(self, term: str, losses: Tensor, batch: Batch, width: int) -> dict[str, Tensor]:
        """By row of a batch with `source`: the term of its targets' losses [M] and, in evaluation, their bits per byte.

        width: of the rows among which `target_positions` count. Nothing of batches without `source`.
        """
        if "source" not in batch:
            return {}
        of_target, rows = batch["target_positions"] // width, len(batch["source"])
        by_row = {term: summed_by_row(losses, of_target, rows)}
        if not self.network.training and self.data.preprocessor is not None:
            bits_and_bytes = torch.stack([losses / math.log(2), self._num_bytes(batch["target_ids"]).to(losses.dtype)])
            by_row[BITS_PER_BYTE] = bits_and_bytes.new_zeros(2, rows).index_add_(1, of_target, bits_and_bytes)
        return by_row

    def _num_bytes(self, ids: Tensor) -> Tensor:
        """Bytes that tokens spell."""
        if self._bytes is None or self._bytes.device != ids.device:
            pieces = Pieces(load(self.data.preprocessor or ""), self.specials)
            self._bytes = torch.tensor(pieces.num_bytes(self.specials.vocabulary), device=ids.device)
        return self._bytes[ids]

    def choose_attention(self, batch: Batch) -> None:
        """Choose the kernel for a batch, as its networks are about to run."""
        if "sequence" in batch and batch["sequence"].is_cuda:
            self.network.encoder.config._attn_implementation = self.packed_attention

    def example(self, n: int) -> Rows:
        seen = example_tokens(self.data, self.specials, n)
        tokens = seen.values.reshape(n, -1)
        num_targets = max(1, round(EXAMPLE_TARGETS * tokens.shape[1]))
        positions = np.tile(np.arange(num_targets), n)
        return {
            "seen": seen,
            "target_positions": Ragged.from_lengths(positions, np.full(n, num_targets)),
            "target_ids": Ragged.from_lengths(tokens[:, :num_targets].ravel(), np.full(n, num_targets)),
        }

    # -- what it costs ------------------------------------------------------------------------------------------------

    def pairs(self, batch: Batch) -> float:
        """Pairs of tokens in attention; the first and the last block, which see all, count as two more for each."""
        blocks = blocks_of(self.config)
        if blocks is None:
            return token_pairs(batch)
        lengths = batch["attention_mask"].sum(1)
        return float((lengths * lengths.clamp(max=blocks[0] * (blocks[1] + 2))).sum())

    def flops(self, batch: Batch) -> float:
        pairs = self.pairs(batch) / (2 if self.architecture.causal else 1)
        forward = 2 * self.matrices * self.num_units(batch) + 4 * self.width * pairs
        return 3.0 * (forward + 2 * self.head * len(batch["target_ids"]))

    # -- what it predicts ---------------------------------------------------------------------------------------------

    def targets(self, rows: Rows) -> Targets:
        """The targets of rows, from their target columns. Other objectives override this."""
        if "target_tokens" in rows:
            text = ragged(rows, "target_tokens")
            return Targets(text, Ragged(text.positions(), text.offsets), text, both_sides=False)
        sequence = ragged(rows, "sequence") if "sequence" in rows else None
        places, ids = ragged(rows, "target_positions"), ragged(rows, "target_ids")
        return Targets(seen_tokens(rows), places, ids, both_sides=True, sequence=sequence)

    def guesses(self, batch: Batch, most: int) -> Guesses:
        """The network's predictions at the targets of a prepared batch, with its `most` likeliest ids."""
        self.choose_attention(batch)
        return self.network.guesses(most, **batch)

    def written(self, rows: Rows, most: int) -> Ragged | None:
        """Text that the network generates, at most `most` tokens for each row, always taking the likeliest.

        A decoder continues its input, an encoder-decoder answers it; None: it generates nothing.
        """
        line, tokens = self.architecture, seen_tokens(rows)
        if not (line.causal or line.encoder_decoder):
            return None
        model: Any = self.network.model
        special = {"pad_token_id": self.pad, "eos_token_id": special_ids(self.specials)["eos_token_id"]}
        if line.encoder_decoder:
            special["decoder_start_token_id"] = model.config.decoder_start_token_id
        texts = []
        for row in range(num_rows(rows)):
            ids = torch.from_numpy(tokens.row(row).astype(np.int64))[None].to(model.device)
            with torch.no_grad():
                written = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False, **special
                )
            texts.append(written[0, ids.shape[1] if line.causal else 1 :].cpu().numpy())
        return Ragged.from_rows(texts, np.int64)

    def judgements(self, batch: Batch) -> Judgements | None:
        """The network's judgement of each token that it is shown in a prepared batch; None: it judges no tokens."""
        return None

    def start_from(self, folder: Path) -> list[str]:
        """Load the weights of an existing folder into the network; returns sentences about missing and unused ones.

        Vectors of pieces that the tokenizer was given are means of those they were made of before. UserError where the
        folder holds another network.
        """
        from training.models.text.start.weights import start

        added = extension.read(self.data.preprocessor) if self.data.preprocessor else None
        started = start(self.network.model, folder, added)
        own = [name for name, _ in self.network.named_parameters() if not name.startswith("model.")]
        return started._replace(drawn=[*started.drawn, *own]).remarks

    def load_export(self, path: Path) -> None:
        """Give the network the weights that `export` wrote."""
        load_weights(self.network, path)

    # -- what is exported ---------------------------------------------------------------------------------------------

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        widths = [batch["input_ids"].shape[1] for batch in batches]
        self.export_network(self.network, path, max(widths, default=EXAMPLE_LENGTH))

    def export_network(self, network: TextNetwork, path: Path, length: int = EXAMPLE_LENGTH) -> None:
        """A folder that the right auto class of `transformers` opens, with the tokenizer and all special ids.

        length: tokens of a row, where the network has no most.
        """
        from training.models.text.export import export

        if self.data.preprocessor is None:
            raise ValueError("text was trained on without the folder of its tokenizer")
        set_special_ids(network.model, self.specials)
        export(network.model, network.inputs, self.data.preprocessor, length, path)

    def exported(self) -> nn.Module:
        return self.network.model


def load_weights(network: TextNetwork, path: Path) -> None:
    """Give a network the weights of a folder of `transformers`, which holds one of its class."""
    from training.models.text.folder import open_pretrained

    name = type(network.model).__name__
    network.model.load_state_dict(open_pretrained(path, name, dtype=torch.float32).state_dict())


def set_special_ids(model: Any, specials: Specials) -> None:
    """Set the special tokens' ids in a model's config and generation config."""
    ids = special_ids(specials)
    for name, number in ids.items():
        setattr(model.config, name, number)
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            if name in ids:
                setattr(generation, name, ids[name])


def padding_id(specials: Specials) -> int:
    """The id that rows are padded with, to which nothing attends; 0 where a tokenizer has no padding."""
    pad = specials.get("pad")
    return 0 if pad is None else pad


def zipf_frequencies(n: int) -> np.ndarray:
    """[n], which sum to 1: the r-th most frequent word of a text occurs about 1/r as often as the first (Zipf 1949)."""
    weights = 1 / np.arange(1, n + 1)
    return weights / weights.sum()


def example_tokens(data: DataFacts, specials: Specials, n: int) -> Ragged:
    """n made-up rows of ordinary tokens, as frequent as Zipf's law says, all of the length of the data."""
    length = data.length or EXAMPLE_LENGTH
    frequencies = zipf_frequencies(len(specials.ordinary))
    tokens = np.random.default_rng(0).choice(specials.ordinary, (n, length), p=frequencies).astype(np.uint32)
    return Ragged.from_lengths(tokens.ravel(), np.full(n, length))


def seen_tokens(rows: Rows) -> Ragged:
    """The column of token ids that the network is given."""
    return ragged(rows, "seen" if "seen" in rows else "input")


def padded_tokens(
    rows: Rows, pad: int, block: int = 8, types: bool = True, most: int | None = None
) -> dict[str, np.ndarray]:
    """`input_ids`, `attention_mask` and, with `types`, `token_type_ids`: int64 [B, L], for L see `padded_width`."""
    tokens = seen_tokens(rows)
    lengths = tokens.lengths
    width = padded_width(int(lengths.max()), block, most)
    batch = {
        "input_ids": tokens.pad(width, pad).astype(np.int64),
        "attention_mask": (np.arange(width) < lengths[:, None]).astype(np.int64),
    }
    if types and "segment" in rows:
        batch["token_type_ids"] = ragged(rows, "segment").pad(width, 0).astype(np.int64)
    elif types:
        batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
    return batch


def padded_width(length: int, block: int, most: int | None) -> int:
    """`length` tokens, rounded up to a multiple of `block`, but not beyond the network's `most` positions."""
    width = math.ceil(length / block) * block
    return width if most is None else max(length, min(width, most))


def sequence_columns(sequence: Ragged, width: int) -> dict[str, np.ndarray]:
    """The columns of packed rows: `sequence` and `position` [B, width], and flat `starts` [S]."""
    row, place = sequence.row_index(), sequence.positions()
    begins = place == 0
    begins[1:] |= np.diff(sequence.values) != 0
    starts = np.flatnonzero(begins)
    position = np.arange(len(begins)) - starts[np.cumsum(begins) - 1]
    return {
        "sequence": Ragged(sequence.values.astype(np.int32), sequence.offsets).pad(width, -1),
        "position": Ragged(position, sequence.offsets).pad(width, 0),
        "starts": (row * width + place)[starts],
    }


def flat_positions(positions: Ragged, width: int) -> np.ndarray:
    """Positions in rows as positions in a batch of rows of `width`, [M]."""
    return positions.row_index() * width + positions.values


def token_pairs(batch: Batch) -> int:
    """Pairs of tokens in attention: Σ length² over the sequences; n² is the sum of the first n odd numbers."""
    if "position" not in batch:
        return int(batch["attention_mask"].sum(1).square().sum())
    return int(((2 * batch["position"] + 1) * batch["attention_mask"]).sum())


def summed_by_row(values: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Sums of `values` [M] by the row of each, and how many there are: [2, num_rows]."""
    values_and_ones = torch.stack([values, torch.ones_like(values)])
    return values_and_ones.new_zeros(2, num_rows).index_add_(1, rows, values_and_ones)
