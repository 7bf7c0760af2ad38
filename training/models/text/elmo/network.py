"""Two language models in opposite directions over words that are read byte by byte (ELMo: Peters et al. 2018).

    50 slots ─► 16-d embeddings ─► convolutions of width 1, 2, … ─► maximum over places ─► ReLU ─► 2 highway layers
             ─► linear: x ─┬─► LSTM ─► LSTM (+ its input) ─► softmax: the next word
                           └─► the same from right to left ─► softmax: the word before

Reading words and the softmax are shared by both directions. Cells and projections of the LSTMs are clipped to ±3
(allenai/bilm-tf, `LanguageModel`). A word's features are those of `layers` + 1 layers, layer 0 being [x; x], mixed with
weights that a task may learn (`ScalarMix`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, read_json
from data_prep.settings import checked as checked_settings
from training.models.cpu_kernels import LossHead, spare_rows
from training.models.opening import built
from training.models.text.elmo.config import ElmoConfig
from training.models.text.elmo.spelling import SYMBOLS
from training.models.text.network import Guesses

KIND, FORMAT = "elmo", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Highway(nn.Module):
    """y = g·ReLU(Ax + a) + (1 − g)·x with g = σ(Bx + b); b begins at −2, so that x passes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.change, self.gate = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * F.relu(self.change(x)) + (1 - gate) * x


class WordReader(nn.Module):
    """Vectors [N, projection] of words from their slots [N, S]."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, config.character_size)
        nn.init.uniform_(self.symbols.weight, -1.0, 1.0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.character_size, number, width) for width, number in enumerate(config.filters, 1)
        )
        features = sum(config.filters)
        self.highways = nn.Sequential(*(Highway(features) for _ in range(config.highways)))
        self.project = nn.Linear(features, config.projection)

    def forward(self, slots: Tensor) -> Tensor:
        symbols = self.symbols(slots).transpose(1, 2)
        features = [F.relu(convolution(symbols).amax(2)) for convolution in self.convolutions]
        return self.project(self.highways(torch.cat(features, 1)))


class ProjectedLSTM(nn.Module):
    """An LSTM whose output is projected, with cells and outputs clipped; forget gates begin at σ(1)."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.clip = config.clip
        self.given = nn.Linear(config.projection, 4 * config.cells)
        self.recurrent = nn.Linear(config.projection, 4 * config.cells, bias=False)
        self.project = nn.Linear(config.cells, config.projection, bias=False)
        nn.init.zeros_(self.given.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, W, P] of inputs [B, W, P], from the first to the last; states begin at 0."""
        given, outputs = self.given(x), []
        output, cell = torch.zeros_like(given[:, 0, : x.shape[2]]), torch.zeros(())
        for given_here in given.unbind(1):  # not by number: each would have a gradient as large as `given`
            gates = given_here + self.recurrent(output)
            enters, new, stays, leaves = gates.float().chunk(4, 1)
            cell = torch.sigmoid(stays + 1) * cell + torch.sigmoid(enters) * torch.tanh(new)
            cell = cell.clamp(-self.clip, self.clip)
            output = self.project(torch.sigmoid(leaves) * torch.tanh(cell)).clamp(-self.clip, self.clip)
            outputs.append(output)
        return torch.stack(outputs, 1)


class Direction(nn.Module):
    """The LSTMs of one direction. Gives the outputs of all of them; all but the first are added to their input."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.lstms = nn.ModuleList(ProjectedLSTM(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for number, lstm in enumerate(self.lstms):
            x = self.dropout(x)
            x = lstm(x) + x if number else lstm(x)
            outputs.append(x)
        return outputs


class Elmo(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: ElmoConfig, vocabulary: int) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.reader = WordReader(config)
        self.onward, self.backward_ = Direction(config), Direction(config)
        self.dropout = nn.Dropout(config.dropout)
        self.softmax = nn.Linear(config.projection, vocabulary)
        nn.init.normal_(self.softmax.weight, std=config.projection**-0.5)
        nn.init.zeros_(self.softmax.bias)
        self.head: LossHead | None = None

    def fuse_loss(self) -> None:
        """Let the softmax compute the loss."""
        self.head = LossHead(self.softmax)

    def layers(self, slots: Tensor, word: Tensor, lengths: Tensor) -> list[Tensor]:
        """Layers 0 … of words, each [B, W, 2·projection].

        slots: [U, S] of different words. word: [B, W], which of them stands where. lengths: [B], words of a row.
        """
        x = self.reader(F.pad(slots, (0, 0, 0, spare_rows(len(slots), slots.device))))[word]
        turned = reversal(lengths, word.shape[1])[..., None].expand_as(x)
        behind = [layer.gather(1, turned) for layer in self.backward_(x.gather(1, turned))]
        return [torch.cat([x, x], 2)] + [torch.cat(pair, 2) for pair in zip(self.onward(x), behind, strict=True)]

    def forward(
        self,
        slots: Tensor,
        word: Tensor,
        lengths: Tensor,
        target_positions: Tensor,  # [M], flat b·W + w: words that have a next one in their row
        target_ids: Tensor,  # [2·M]: the next ones, then these words themselves, predicted from the next ones
        **unused: Tensor,
    ) -> dict[str, Tensor]:
        ahead, behind = self.layers(slots, word, lengths)[-1].flatten(0, 1).chunk(2, 1)
        states = self.dropout(torch.cat([ahead[target_positions], behind[target_positions + 1]]))
        targets = len(target_ids)
        spare = spare_rows(targets, states.device)
        states = F.pad(states, (0, 0, 0, spare))
        if self.head:
            with self.head.predicting(F.pad(target_ids, (0, spare))):
                losses, right = self.softmax(states)[:targets].unbind(1)
        else:
            logits = self.softmax(states)[:targets].float()
            losses = F.cross_entropy(logits, target_ids, reduction="none")
            right = (logits.argmax(1) == target_ids).float()
        sums = losses.view(2, -1).sum(1)
        return {"forward": sums[0], "backward": sums[1], "correct": right.detach().sum(), "losses": losses.detach()}

    def onward_guesses(
        self, most: int, slots: Tensor, word: Tensor, lengths: Tensor, target_positions: Tensor, target_ids: Tensor
    ) -> Guesses:
        """Predictions of the next words by the forward direction, `most` ids each; tensors as in `forward`."""
        ahead = self.layers(slots, word, lengths)[-1].flatten(0, 1).chunk(2, 1)[0]
        logs = self.softmax(ahead[target_positions]).float().log_softmax(-1)
        of_ids, ids = logs.topk(min(most, logs.shape[-1]))
        truth = logs.gather(1, target_ids[: len(target_positions), None])[:, 0]
        return Guesses(truth, ids, of_ids)


class ScalarMix(nn.Module):
    """γ · Σ_j softmax(w)_j · h_j of layers h_j; w begins at 0 and γ at 1 (section 3.2 of the paper)."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.weights, self.gamma = nn.Parameter(torch.zeros(num_layers)), nn.Parameter(torch.ones(()))

    def forward(self, layers: list[Tensor]) -> Tensor:
        shares = torch.softmax(self.weights, 0)
        return self.gamma * torch.stack([share * layer for share, layer in zip(shares, layers, strict=True)]).sum(0)


def reversal(lengths: Tensor, width: int) -> Tensor:
    """[B, W]: where each place of a row goes when the row's words are turned around; padding stays."""
    place = torch.arange(width, device=lengths.device)
    return torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)


def save_network(folder: Path, network: Elmo) -> None:
    """Write what `open_network` reads: config.json, and weights under the names of this module's classes."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / WEIGHTS)
    about = {"kind": KIND, "format": FORMAT, "vocabulary": network.vocabulary, "network": network.config.model_dump()}
    (folder / CONFIG).write_text(json.dumps(about, indent=1) + "\n")


def open_network(folder: Path) -> Elmo:
    """The network of a folder, in evaluation mode. UserError where it holds none."""
    try:
        about: Any = read_json(checked(folder) / CONFIG)
    except UnfitError as error:
        raise UserError(f"{folder}: holds no ELMo: {error}; pretrain one.") from None
    if about.get("kind") != KIND or about.get("format") != FORMAT or not isinstance(about.get("vocabulary"), int):
        raise UserError(f"{folder / CONFIG}: not what describes an ELMo of format {FORMAT}; pretrain one.")
    config = checked_settings(ElmoConfig, about.get("network") or {}, f"{folder / CONFIG}: network")
    return built(lambda: Elmo(config, about["vocabulary"]), folder, CONFIG, WEIGHTS)
