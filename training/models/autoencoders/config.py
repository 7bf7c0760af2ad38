"""Settings of the networks of auto-encoders, without torch: recipes check themselves by them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings, checked
from training.config import NetworkConfig

Shape = tuple[int, ...]


class AutoencoderConfig(Settings):
    """The network of an auto-encoder: `network.architecture` and `network.config` of a recipe."""

    architecture: Literal["mlp", "conv"]
    """Dense layers, or convolutions (images only)."""
    hidden: list[int] = Field(default_factory=list)
    """Units of each layer (mlp) or channels of each stage (conv) of the encoder; the decoder has them in reverse."""
    bottleneck: int = Field(ge=1)
    """Size of the code; in a grid, its channels at each place."""
    activation: Literal["relu", "leaky-relu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    """Activation function between layers; the code itself is linear."""
    output: Literal["linear", "sigmoid"] = "linear"
    """Last step of the decoder; sigmoid confines reconstructed values to 0 … 1."""
    latent: Literal["vector", "grid"] = "vector"
    """conv: one code for the whole image, or one for each place of the last stage."""
    tied: bool = False
    """mlp: the decoder's matrices are those of the encoder, transposed."""


def network_problems(network: NetworkConfig, shape: Shape | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with a network of an auto-encoder, for examples of this shape if it is known."""
    if network.architecture not in ("mlp", "conv"):
        yield "network.architecture", f"{network.architecture!r} is no auto-encoder; choose mlp or conv"
        return
    try:
        config = checked(AutoencoderConfig, {"architecture": network.architecture, **network.config}, "network.config")
    except UserError as error:
        path, _, text = str(error).partition(": ")
        yield path, text.rstrip(".")
        return
    conv = config.architecture == "conv"
    problems = [
        (
            conv and shape is not None and len(shape) != 3,
            "architecture",
            "conv takes images, and these are rows of a table; choose mlp",
        ),
        (conv and not config.hidden, "config.hidden", "conv needs the channels of at least one stage"),
        (conv and config.tied, "config.tied", "convolutions cannot be tied; set it to false"),
        (not conv and config.latent == "grid", "config.latent", "a grid of codes needs architecture conv"),
        (any(size < 1 for size in config.hidden), "config.hidden", "sizes are at least 1"),
    ]
    yield from ((f"network.{setting}", text) for is_wrong, setting, text in problems if is_wrong)


def network_config(network: NetworkConfig, shape: Shape) -> AutoencoderConfig:
    """The checked settings of a network for examples of this shape; UserError says what does not fit."""
    for path, text in network_problems(network, shape):
        raise UserError(f"{path}: {text}.")
    return checked(AutoencoderConfig, {"architecture": network.architecture, **network.config}, "network.config")
