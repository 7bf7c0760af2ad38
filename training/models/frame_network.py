"""An encoder of frames: a projection, an encoder of `transformers` without tokens, and a head that predicts frames.

    frames [B, L, bands] ─► linear ─► encoder ─► [B, L, hidden] ─► linear, GELU, norm, linear ─► frames [B, L, bands]

The prediction head is that of Mockingjay (Liu et al. 2020, section 3.1).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, clause, read_json
from data_prep.opening.pretrained import excess
from data_prep.opening.tensors import header
from training.models.described import FRAMES
from training.models.opening import built

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class FrameNetwork(nn.Module):
    """config: of an encoder of `transformers` that takes `inputs_embeds`."""

    def __init__(self, config: Any, bands: int) -> None:
        from transformers import AutoModel

        super().__init__()
        self.bands, self.config = bands, config
        self.project = nn.Linear(bands, config.hidden_size)
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False)
        self.encoder.get_input_embeddings().requires_grad_(False)  # there are no tokens
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.output = nn.Linear(config.hidden_size, bands)

    def encode(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[B, L, hidden] of frames [B, L, bands]; mask [B, L]: 1 where a row has a frame."""
        return self.encoder(inputs_embeds=self.project(frames), attention_mask=mask).last_hidden_state

    def forward(self, frames: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """[M, bands]: frames at `positions` [M] of the flat batch, as the network rebuilds them."""
        states = self.encode(frames, mask).flatten(0, 1)[positions]
        return self.output(self.norm(F.gelu(self.dense(states))))


def save_network(folder: Path, network: FrameNetwork) -> None:
    """Write what `open_network` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / _WEIGHTS)
    config = {"kind": FRAMES, "bands": network.bands, "network": network.config.to_dict()}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def open_network(folder: Path) -> FrameNetwork:
    """The network of a folder, in evaluation mode. Raises UserError where it holds none."""
    from transformers import AutoConfig

    try:
        description = read_json(checked(folder) / _CONFIG)
        if problem := excess(description, header(folder / _WEIGHTS)):
            raise UnfitError(f"{_CONFIG}: {problem}")
        settings = dict(description["network"])
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        bands = int(description["bands"])
    except UserError:
        raise
    except Exception as error:  # transformers raises anything at settings that do not fit
        raise UserError(f"{folder}: holds no encoder of frames ({clause(error)}); pretrain one.") from error
    return built(lambda: FrameNetwork(config, bands), folder, _CONFIG, _WEIGHTS)
