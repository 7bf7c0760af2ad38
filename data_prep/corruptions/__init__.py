"""From x to what a network sees (x′) and must predict (x″): one file each, pure functions of rows and keyed draws."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field


def config_union() -> Any:
    """The type of a recipe's section `corruption`, told apart by `kind`."""
    from data_prep.corruptions.masking import MaskingConfig
    from data_prep.corruptions.noise import NoiseConfig

    return Annotated[MaskingConfig | NoiseConfig, Field(discriminator="kind")]
