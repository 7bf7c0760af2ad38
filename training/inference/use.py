"""How a folder's network gives one vector for a text or an array: as the folder says, or as networks of its kind do.

as sentence-transformers writes it     the pooling, the length and whether vectors are normalized are its own
a decoder                              its last position, which alone has seen all of a row
others                                 the mean of all positions
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.tokens.cleaning import Cleaning
from training.inference.embedding import Pooling
from training.inference.opening import network_kind
from training.inference.sentence_folder import declared
from training.models.text.architectures import architecture_of, longest
from training.models.text.folder import open_config


@dataclass(frozen=True)
class Use:
    """How a folder's network gives vectors, and who says so. folder: of the encoder. length: most tokens of a text;
    None: as the network has positions. others: what is said there and is not done here."""

    folder: Path
    pooling: Pooling
    declared: str
    normalize: bool = False
    length: int | None = None
    cleaning: Cleaning | None = None
    others: tuple[str, ...] = ()

    def most_tokens(self, positions: int | None) -> int | None:
        """Most tokens of a text, special ones included, of a network of so many positions; None: there is no most."""
        return min(filter(None, (self.length, positions)), default=None)


def use_of(folder: Path) -> Use:
    """How a folder's network gives vectors. UserError where it holds none, or where what it says is damaged."""
    said = declared(folder)
    if said.pooling is not None:
        return Use(folder, said.pooling, "as its folder says", said.normalize, said.length, others=said.others)
    if _is_decoder(folder):
        return Use(folder, "last", "a decoder's last position has seen all", length=said.length, others=said.others)
    return Use(folder, "mean", "its folder says nothing", said.normalize, said.length, others=said.others)


def positions_of(folder: Path) -> int | None:
    """Most tokens of a text that a folder's network of texts has positions for; None: there is no most."""
    return longest(open_config(folder))


def _is_decoder(folder: Path) -> bool:
    return network_kind(folder) == "text" and architecture_of(open_config(folder).model_type).causal
