"""Settings of ELMo's network, without torch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings, checked
from training.config import NetworkConfig

ARCHITECTURE = "elmo"


class ElmoConfig(Settings):
    """`network.config` of architecture `elmo`; the defaults are the published network's."""

    word_length: int = Field(default=50, ge=4, le=4096)
    """Slots of a word: its bytes, and two that say where it begins and ends."""
    character_size: int = Field(default=16, ge=1)
    """Size of a byte's embedding."""
    filters: list[int] = Field(default=[32, 32, 64, 128, 256, 512, 1024], min_length=1, max_length=32)
    """Number of convolutions of width 1, 2, …"""
    highways: int = Field(default=2, ge=0, le=64)
    """Highway layers after the convolutions."""
    projection: int = Field(default=512, ge=1)
    """Size of a word's vector, and of an LSTM's output."""
    cells: int = Field(default=4096, ge=1)
    """Cells of an LSTM."""
    layers: int = Field(default=2, ge=1, le=64)
    """LSTMs of each direction."""
    clip: float = Field(default=3.0, gt=0)
    """Largest value of a cell and of an output."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of what LSTMs and the softmax are given."""


def elmo_config(network: NetworkConfig) -> ElmoConfig:
    """The typed settings of `network`. UserError where they are wrong."""
    return checked(ElmoConfig, network.config, "network.config")


def elmo_problems(network: NetworkConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    if network.architecture != ARCHITECTURE:
        yield "network.architecture", f"found {network.architecture!r}; this objective trains {ARCHITECTURE}"
        return
    try:
        config = elmo_config(network)
    except UserError as error:
        path, _, text = str(error).partition(": ")
        yield path, text.removesuffix(".")
        return
    if min(config.filters) < 1:
        yield "network.config.filters", f"found {min(config.filters)}; each width needs a filter"
    if len(config.filters) > config.word_length:
        text = f"{len(config.filters)} widths are more than the {config.word_length} slots of a word"
        yield "network.config.filters", text
