"""Random networks of `transformers`, from configs that a recipe may have got wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from data_prep.errors import UserError


def made(build: Callable[[Any], nn.Module], config: Any, what: str, advice: str) -> nn.Module:
    """A randomly initialised network, `build(config)`. UserError where a setting is not of its range, or the
    architecture has no such network. what, advice: the head that is wanted, and which architectures have one."""
    try:
        return build(config)
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:  # each of some network
        text = " ".join(str(error).split())
        if "Unrecognized configuration class" in text:
            raise UserError(
                f"network.architecture: transformers has no {what} for {config.model_type!r}; {advice}."
            ) from error
        raise UserError(f"network.config: no {config.model_type} can be made of it ({text}); correct it.") from error
