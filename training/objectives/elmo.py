"""The next word and the word before, by two language models that share the word reader and the softmax (ELMo).

    x          <S>      the    cat    sat    </S>
    onward     the      cat    sat    </S>   –         from the words before
    backward   –        <S>    the    cat    sat       from the words after

    loss = ½ · (mean of −log p onward + mean of −log p backward)                       Peters et al. 2018, section 3.1

Words are those of a WordPiece tokenizer, read by their bytes; the softmax is over its pieces, and words of several
pieces are the unknown word there. It is a full softmax, in training, too, where the paper samples 8,192 words of
793,471. Each row is read on its own: states begin at 0, and are not carried from one row into the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows
from training.config import NetworkConfig
from training.lazy import torch
from training.models.text.elmo.config import elmo_config, elmo_problems
from training.objective import BaseObjective, Batch, Loss, Networks, Turn
from training.objectives.text import Targets, example_tokens, seen_tokens, summed_by_row

if TYPE_CHECKING:
    from torch import nn

    from training.models.text.network import Guesses

VERSION = 1
ONWARD = "the direction onward, one of its two"


class ElmoOptions(Settings):
    """`objective.options` of `elmo`; there are none."""


Options = ElmoOptions


def check(options: ElmoOptions, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    yield from elmo_problems(networks["model"])


class ElmoObjective(BaseObjective):
    """See the module's docstring."""

    unit = "words"
    shown = ("lm", "lm_accuracy", "unknown")

    def __init__(
        self, options: ElmoOptions, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str
    ) -> None:
        from training.models.text.elmo.network import Elmo
        from training.models.text.elmo.spelling import Spelling
        from training.models.text.network import matrix_parameters

        if data.specials is None:
            raise ValueError(f"data of kind {data.kind!r} have no special tokens")
        config, self.data, self.specials = elmo_config(networks["model"]), data, data.specials
        if data.preprocessor is None:  # for an estimate of costs, there is no tokenizer yet
            self.spelling = Spelling(list(self.specials.texts), self.specials, config.word_length)
        else:
            self.spelling = Spelling.of_tokenizer(data.preprocessor, self.specials, config.word_length)
        self.network = Elmo(config, self.specials.vocabulary)
        reader = self.network.reader
        self.per_word = matrix_parameters(self.network.onward) + matrix_parameters(self.network.backward_)
        places = sum(
            (config.word_length - width + 1) * matrix_parameters(layer)
            for width, layer in enumerate(reader.convolutions, 1)
        )
        self.per_spelling = places + matrix_parameters(reader.highways) + matrix_parameters(reader.project)

    def networks(self) -> dict[str, nn.Module]:
        return {"model": self.network}

    def collate(self, rows: Rows) -> Batch:
        if "sequence" in rows:
            raise UserError("compose: ELMo reads a row as one text; set compose.pack to false, and no kind that joins.")
        words = self.spelling.words(seen_tokens(rows))
        batch = arrays(words.ids, words.slots)
        width = batch["word"].shape[1]
        has_next = words.ids.positions() < np.repeat(words.ids.lengths, words.ids.lengths) - 1
        place = np.flatnonzero(has_next)
        batch["target_positions"] = (words.ids.row_index() * width + words.ids.positions())[place]
        batch["target_ids"] = words.ids.values[np.concatenate([place + 1, place])]
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def example(self, n: int) -> Rows:
        return {"input": example_tokens(self.data, self.specials, n)}

    def turns(self, phase: str, step: int) -> list[Turn]:
        return [Turn("model", self._weights, self._loss)]

    def _weights(self, batch: Batch) -> dict[str, float]:
        return dict.fromkeys(("forward", "backward"), float(len(batch["target_positions"])))

    def _loss(self, networks: Networks, batch: Batch) -> Loss:
        sums = networks["model"](**batch)
        targets = self._weights(batch)["forward"]
        losses = {name: 0.5 * sums[name] for name in ("forward", "backward")}
        unknown = (batch["target_ids"] == self.spelling.unknown).sum()
        metrics = {
            "lm": ((losses["forward"] + losses["backward"]).detach(), targets),
            "lm_accuracy": (sums["correct"], 2 * targets),
            "unknown": (unknown, 2 * targets),
        }
        by_row = {}
        if "source" in batch:
            rows, width = batch["word"].shape
            row = batch["target_positions"] // width
            halves = (0.5 * sums["losses"]).view(2, -1)
            by_row = {name: summed_by_row(half, row, rows) for name, half in zip(losses, halves, strict=True)}
        return Loss(losses, metrics, by_row)

    def num_units(self, batch: Batch) -> int:
        return int(batch["lengths"].sum())

    def num_positions(self, batch: Batch) -> int:
        return batch["word"].numel()

    def flops(self, batch: Batch) -> float:
        softmax = self.network.softmax.weight.numel() * len(batch["target_ids"])
        read = self.per_spelling * len(batch["slots"])
        return 3.0 * 2 * (self.per_word * batch["word"].numel() + read + softmax)

    # -- predictions of the forward direction, with which n-grams can be compared --------------------------------------

    def targets(self, rows: Rows) -> Targets:
        """Each word that has one before it. A word of several pieces is the unknown word."""
        words = self.spelling.words(seen_tokens(rows)).ids
        positions = words.positions()
        behind, lengths = positions > 0, np.maximum(words.lengths - 1, 0)
        places, ids = (Ragged.from_lengths(values[behind], lengths) for values in (positions, words.values))
        return Targets(words, places, ids, both_sides=False, asked=ONWARD)

    def guesses(self, batch: Batch, most: int) -> Guesses:
        """The forward direction's predictions at the targets of a batch, with its `most` likeliest ids."""
        return self.network.onward_guesses(most, **batch)

    def judgements(self, batch: Batch) -> None:
        """It judges no words."""

    def written(self, rows: Rows, most: int) -> None:
        """It writes nothing: it reads words by their bytes, and has no spelling of those that it predicts."""

    def load_export(self, path: Path) -> None:
        """Give the network the weights that `export` wrote."""
        from training.models.text.elmo.network import open_network

        self.network.load_state_dict(open_network(path).state_dict())

    def export(self, path: Path, batches: Iterable[Batch]) -> None:
        """A folder for `open_encoder`: config.json, model.safetensors and the tokenizer's files."""
        from training.models.text.elmo.network import save_network

        if self.data.preprocessor is None:
            raise ValueError("text was trained on without the folder of its tokenizer")
        save_network(path, self.network)
        for file in sorted(self.data.preprocessor.glob("tokenizer*.json")):
            shutil.copyfile(file, path / file.name)

    def exported(self) -> nn.Module:
        return self.network


def arrays(ids: Ragged, slots: np.ndarray) -> dict[str, np.ndarray]:
    """A batch of words: different spellings `slots` [U, S], which stands where, `word` [B, W], and `lengths` [B]."""
    spellings, which = np.unique(slots, axis=0, return_inverse=True)
    return {
        "slots": spellings.astype(np.int64),
        "word": Ragged(which.reshape(-1), ids.offsets).pad(int(ids.lengths.max()), 0).astype(np.int64),
        "lengths": ids.lengths.astype(np.int64),
    }


build = ElmoObjective
