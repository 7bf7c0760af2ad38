"""Low-rank adapters of a network that is fine-tuned (LoRA: Hu et al. 2022), by the library peft.

    W x  ─►  W x + (alpha / rank) · B A x        A [rank, in], B [out, rank] are learned, W is not

The library is an extra of this package (`adapters`). Nothing here is imported with torch before it is used.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_prep.errors import UserError
from data_prep.settings import Settings

if TYPE_CHECKING:
    from torch import nn


class AdaptersConfig(Settings):
    """Adapters beside some matrices of a network, which stays as it is."""

    rank: int = Field(default=8, ge=1)
    """Rank of what is added to a matrix."""
    alpha: float = Field(default=16.0, gt=0)
    """What is added is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of what goes into the adapters."""
    modules: list[str] | Literal["all-linear"] | None = None
    """Ends of the names of the layers that get one, or all that are linear; null: those that peft takes for the
    architecture (of BERT, queries and values)."""


def missing() -> str | None:
    """What to install, if adapters cannot be made here."""
    lacking = [name for name in ("peft", "accelerate") if find_spec(name) is None]
    needed = " and ".join(lacking)
    return f"need {needed}; install it: pip install 'sesame-ssl[adapters]'" if lacking else None


class Adapters:
    """Adapters that were put into a network, which from then on learns nothing else.

    Raises UserError where the network has no such modules, or none is known for its architecture.
    """

    def __init__(self, network: nn.Module, config: AdaptersConfig) -> None:
        from peft import LoraConfig  # type: ignore[import-not-found]  # an extra
        from peft.tuners.lora import LoraModel  # type: ignore[import-not-found]
        from transformers.pytorch_utils import Conv1D

        lora = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]  # it divides by the rank
            lora_dropout=config.dropout,
            target_modules=config.modules,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in network.modules()),  # GPT-2's, [in, out]
        )
        try:
            self._tuner = LoraModel(network, lora, "default")
        except ValueError as error:
            raise UserError(
                f"adapters: {type(network).__name__}: {str(error).rstrip('.')}; name layers in adapters.modules."
            ) from None

    def merge(self) -> None:
        """Add the adapters to the weights that they stand beside, and remove them: the network is as it was."""
        self._tuner.merge_and_unload(safe_merge=True)
