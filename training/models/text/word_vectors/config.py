"""Settings of a table of word vectors, without torch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings, checked
from training.config import NetworkConfig

ARCHITECTURE = "word-vectors"


class WordVectorsConfig(Settings):
    """`network.config` of architecture `word-vectors`."""

    size: int = Field(default=100, ge=1)
    """Numbers of a word's vector."""


def word_vectors_config(network: NetworkConfig) -> WordVectorsConfig:
    """The typed settings of `network`. UserError where they are wrong."""
    return checked(WordVectorsConfig, network.config, "network.config")


def word_vectors_problems(network: NetworkConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with the network."""
    if network.architecture != ARCHITECTURE:
        yield "network.architecture", f"found {network.architecture!r}; this objective trains {ARCHITECTURE}"
        return
    try:
        word_vectors_config(network)
    except UserError as error:
        path, _, text = str(error).partition(": ")
        yield path, text.removesuffix(".")
