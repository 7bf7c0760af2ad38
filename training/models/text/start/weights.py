"""The weights of a folder, in a network that training starts with: by name, with rows for the pieces that are new.

a new piece's vector = the mean of those of the old pieces that it was made of, in every table of the vocabulary:
input and output embeddings, tied or not, and the output's bias
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data_prep.errors import UserError
from data_prep.tokens.vocabulary.extension import Added
from training.models.text.folder import loaded

_NAMED = 4  # weights in a sentence


class Started(NamedTuple):
    """What became of a folder's weights: names of those that it lacks, and of those that were not used."""

    drawn: list[str]
    unused: list[str]
    rows_left_out: int

    @property
    def remarks(self) -> list[str]:
        """Sentences for a person; none where all weights were there and were used."""
        remarks = []
        if self.drawn:
            remarks.append(
                f"the folder has no {_listed(self.drawn)}: they are drawn at random and learned from nothing"
            )
        if self.unused:
            remarks.append(f"this objective has no use for {_listed(self.unused)} of the folder")
        if self.rows_left_out:
            remarks.append(f"{self.rows_left_out:,} rows of the folder's embeddings, of no token, are left out")
        return remarks


def start(model: Any, folder: Path, added: Added | None) -> Started:
    """Give a model of `transformers` the weights of a folder with a model of its kind.

    added: pieces that only the tokenizer has. Heads that the folder lacks keep their random weights.
    UserError where it lacks others, or they are of other shapes.
    """
    theirs, missing, unused = loaded(folder, type(model).__name__, dtype=torch.float32)
    inside = f"{model.base_model_prefix}."
    if lacking := [name for name in missing if name.startswith(inside) and "pooler" not in name]:
        raise UserError(
            f"{folder}: has no weights of {_listed(lacking)}, and training is to start from it; name another."
        )
    vocabulary = model.config.vocab_size
    first = added.first if added else vocabulary
    rows = theirs.config.vocab_size
    if rows < first:
        raise UserError(
            f"{folder}: has embeddings of {rows:,} tokens, and its tokenizer has {first:,}; mend one of them."
        )
    tables, old, new = vocabulary_axes(model), theirs.state_dict(), model.state_dict()
    for name, tensor in new.items():
        if name in missing:
            continue
        if name in tables:
            new[name] = _extended(old[name], tables[name], vocabulary, added)
        elif old[name].shape != tensor.shape:
            shapes = f"{list(old[name].shape)}, asked for is {list(tensor.shape)}"
            raise UserError(f"{folder}: {name} has the shape {shapes}; leave the network out of the recipe.")
        else:
            new[name] = old[name]
    model.load_state_dict(new)
    return Started(sorted(missing), sorted(unused), rows - first)


def vocabulary_axes(model: Any) -> dict[str, int]:
    """The tensors of a model that have a place for each id, by name: on which axis."""
    config = copy.deepcopy(model.config)
    shapes: list[dict[str, torch.Size]] = []
    for more in (0, 1):
        config.vocab_size = model.config.vocab_size + more
        with torch.device("meta"):
            shapes.append({name: tensor.shape for name, tensor in type(model)(config).state_dict().items()})
    changed = {name: (shape, shapes[1][name]) for name, shape in shapes[0].items() if shape != shapes[1][name]}
    return {
        name: next(axis for axis, (a, b) in enumerate(zip(*both, strict=True)) if a != b)
        for name, both in changed.items()
    }


def _extended(table: Tensor, axis: int, vocabulary: int, added: Added | None) -> Tensor:
    """A table of the old ids, cut to them and followed by the means of the new pieces' parts; `vocabulary` rows."""
    if added is None:
        return table.narrow(axis, 0, vocabulary)
    old = table.narrow(axis, 0, added.first)
    means = [old.index_select(axis, torch.tensor(parts)).mean(axis, keepdim=True) for parts in added.parts]
    return torch.cat([old, *means], axis)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} others" if more > 0 else "")
