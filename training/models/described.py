"""The network of a folder as its config describes it, whatever kind of data it reads; read without torch.

config.json of transformers                    a network of text (`training.models.text.start.settings`)
{"kind": "frames", "bands": …, "network": …}   an encoder of frames (`training.models.frame_network`)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.kinds import kind_read_by
from data_prep.opening.pretrained import CONFIG, checked_config
from training.models.text.start.settings import network_of, recipe_settings

FRAMES = "frames"
"""What `kind` of a config says of an encoder of frames."""


@dataclass(frozen=True)
class DescribedNetwork:
    """A model type, and the settings of its config that a recipe can have. takes: how large its inputs are, by what
    they are: `vocabulary` or `bands`."""

    architecture: str
    config: dict[str, Any]
    takes: dict[str, int]


def described(folder: Path | str) -> DescribedNetwork:
    """The network of a folder. UserError where it is neither of text nor of frames that are made of files."""
    folder = Path(folder).expanduser()
    says = checked_config(folder)
    if says.get("kind") != FRAMES:
        of_text = network_of(folder)
        return DescribedNetwork(of_text.architecture, of_text.config, {"vocabulary": of_text.rows})
    if kind_read_by(folder) is None:
        raise UserError(f"{folder}: nothing in it says how frames are made of files; copy the whole folder.")
    network, bands = says.get("network"), says.get("bands")
    model_type = network.get("model_type") if isinstance(network, dict) else None
    config = recipe_settings(model_type, network) if isinstance(model_type, str) and isinstance(network, dict) else {}
    if not config or not isinstance(bands, int):
        raise UserError(f"{folder / CONFIG}: describes no encoder of frames that transformers knows; name another.")
    return DescribedNetwork(str(model_type), config, {"bands": bands})
