"""A learned distribution of discrete codes, to draw new ones from (van den Oord et al. 2017, section 3.3).

    p(codes) = Π_i p(code_i | code_1 … code_{i−1})

A GRU reads the codes one after another, in a grid row by row; before each it sees the last one, the one above, and
which place comes next. It is stored with the auto-encoder whose codes it models: `prior.json`,
`prior.safetensors`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, inside, read_json
from data_prep.settings import Settings, checked
from training.models.opening import built

CONFIG, WEIGHTS = "prior.json", "prior.safetensors"


class PriorConfig(Settings):
    """The network of a prior."""

    size: int = Field(ge=2)
    """K: number of values a code can take."""
    places: int = Field(ge=1)
    """P: number of codes of an example."""
    across: int = Field(default=0, ge=0)
    """Codes in each row of the grid; 0: codes do not form a grid."""
    hidden: int = Field(default=128, ge=1)
    """Units of the GRU, which is also the size of the embeddings."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.across > self.places:
            raise ValueError(f"across is {self.across}, more than {self.places} places")
        return self


class CodePrior(nn.Module):
    """See the module's docstring. Codes are int64 [B, P]."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.last = nn.Embedding(config.size + 1, config.hidden)  # the one after all codes: none yet
        self.above = nn.Embedding(config.size + 1, config.hidden)
        self.place = nn.Embedding(config.places, config.hidden)
        self.reader = nn.GRU(config.hidden, config.hidden, batch_first=True)
        self.logits = nn.Linear(config.hidden, config.size)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits [B, P, K] of each code given those before it."""
        return self.logits(self.reader(self._seen(codes))[0])

    def nats(self, codes: Tensor) -> Tensor:
        """−log p(codes) [B]."""
        logits = self(codes).float()
        return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """[count, P] drawn by `generator`, a CPU one."""
        codes = torch.full((count, self.config.places), self.config.size, dtype=torch.int64)
        state = None
        for place in range(self.config.places):
            output, state = self.reader(self._seen(codes)[:, place : place + 1], state)
            shares = torch.softmax(self.logits(output[:, 0]).float(), -1)
            codes[:, place] = torch.multinomial(shares, 1, generator=generator)[:, 0]
        return codes

    def _seen(self, codes: Tensor) -> Tensor:
        """The inputs of the GRU before each code, [B, P, hidden]."""
        no_code, count = self.config.size, self.config.places
        embedded = self.last(F.pad(codes, (1, 0), value=no_code)[:, :count]) + self.place.weight
        if self.config.across:
            embedded = embedded + self.above(F.pad(codes, (self.config.across, 0), value=no_code)[:, :count])
        return embedded


class PriorPlayer(nn.Module):
    """A prior as a player of the training loop."""

    def __init__(self, prior: CodePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, codes: Tensor) -> Tensor:
        return self.prior.nats(codes)


def save_prior(folder: Path, prior: CodePrior) -> None:
    """Write what `open_prior` reads."""
    save_file({name: tensor.contiguous() for name, tensor in prior.state_dict().items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(prior.config.model_dump(), indent=1) + "\n")


def open_prior(folder: Path) -> CodePrior | None:
    """The prior of a folder, in evaluation mode; None where there is none. UserError where it is damaged."""
    if not (folder / CONFIG).exists():
        return None
    try:
        description = read_json(inside(folder, CONFIG))
    except UnfitError as error:
        raise UserError(f"{folder / CONFIG}: not what describes a prior: {error}; train one.") from None
    config = checked(PriorConfig, description, str(folder / CONFIG))
    return built(lambda: CodePrior(config), folder, CONFIG, WEIGHTS).requires_grad_(False)
