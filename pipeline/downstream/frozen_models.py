"""Networks that a job asks and does not train: the recipe's own, the same from random weights, and others by name.

Their names are `models` of the job, as in fine-tuning: pretrained, scratch, names of an evaluation's `networks`, or
folders that `transformers` can open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.tokens import pretrained
from data_prep.tokens.roles import specials_of
from pipeline.downstream.fine_tune.job import compared as names_of_others
from pipeline.downstream.fine_tune.job import contents_of
from pipeline.downstream.model_names import OWN, PRETRAINED, SCRATCH

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pipeline.artifact import Artifact
    from pipeline.stage import Context
    from training.inference.layers import LayeredEncoder

LONGEST = 512
"""Tokens of a text, where neither job nor network says how many there may be."""


class Asks(Protocol):
    """A job that asks networks."""

    @property
    def name(self) -> str: ...

    @property
    def models(self) -> Sequence[str]: ...


def compared(job: Asks) -> list[str]:
    """The models that are not of the recipe's own network (`pipeline.downstream`)."""
    return names_of_others(job)  # type: ignore[arg-type]


def settings(recipe: Any, job: Asks) -> dict[str, Any]:
    """What a job's result depends on: the seed, digests of folders among its models, and what its tables call them."""
    folders = [Path(name).expanduser() for name in compared(job) if name not in recipe.other_networks]
    init = getattr(recipe, "init", None)
    named = {**({} if init is None else {PRETRAINED: init}), **recipe.other_networks}
    titles = {name: named[name].title for name in job.models if name in named and named[name].title}
    return {
        "seed": recipe.seed,
        "contents": {str(folder): contents_of(folder) for folder in folders},
        **({"titles": titles} if titles else {}),
    }


@dataclass(frozen=True)
class Reader:
    """How a network reads texts. specials: its special ids. length: most tokens of a text."""

    tokenizer: Tokenizer
    specials: Specials
    length: int

    def rows(self, texts: Sequence[str]) -> tuple[Rows, np.ndarray]:
        """Rows of texts, and whether each is cut, bool [R]."""
        from training.inference.embedding import rows_of_texts

        return rows_of_texts(self.tokenizer, texts, self.length)

    def is_piece(self, ids: Ragged) -> Ragged:
        """Which tokens are pieces of a text, unknown ones among them, and not special ones around it: bool."""
        around = [number for number in self.specials.all if number != self.specials.get("unk")]
        return Ragged(~np.isin(ids.values, around), ids.offsets)


@dataclass(frozen=True)
class Opened:
    """A network by its name, and how it reads texts."""

    name: str
    encoder: LayeredEncoder
    reader: Reader


@dataclass(frozen=True)
class FrozenModels:
    """The networks of a job. titles: what tables call them, where that is not their name or folder."""

    names: Sequence[str]
    folders: Mapping[str, Path]
    titles: Mapping[str, str]
    seed: int
    device: str

    @staticmethod
    def of(job: Asks, settings: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context) -> FrozenModels:
        """settings: those of `settings`. inputs: `pretrained`, and those of `compared`."""
        from pipeline.artifact import MODEL
        from pipeline.downstream import role_of
        from training.distributed import choose_device, set_up_cpu

        set_up_cpu(context.one_worker.threads)
        own = dict.fromkeys(OWN, inputs["pretrained"].path / MODEL)
        folders = {
            name: inputs[role_of(name)].path / MODEL if role_of(name) in inputs else Path(name).expanduser()
            for name in compared(job)
        }
        device = str(choose_device(context.one_worker.device))
        return FrozenModels(job.models, {**own, **folders}, settings.get("titles", {}), settings["seed"], device)

    def title(self, name: str) -> str:
        """What tables call a network."""
        if name == SCRATCH:
            own = self.titles.get(PRETRAINED)
            return f"{own} from random weights" if own else "random weights"
        return self.titles.get(name) or (name if name in OWN else Path(name).name)

    def open(self, name: str, length: int | None = None) -> Opened:
        """length: most tokens of a text; None: as many as the network takes.

        UserError where the network reads no texts, or has fewer positions.
        """
        from training.inference.layers import open_layers

        folder = self.folders[name]
        encoder = open_layers(folder, self.device, self.seed if name == SCRATCH else None)
        if encoder.takes is not None:
            raise UserError(f"{folder}: its network reads no texts; name another in models.")
        return Opened(name, encoder, self.reader(name, encoder.longest, length))

    def reader(self, name: str, longest: int | None, length: int | None = None) -> Reader:
        """How a network of so many positions reads texts. UserError where `length` is more."""
        folder = self.folders[name]
        if length is not None and longest is not None and length > longest:
            raise UserError(f"{folder}: length {length} exceeds its {longest} positions; lower it.")
        tokenizer, about = pretrained.read(folder)
        return Reader(tokenizer, specials_of(tokenizer, about), length or min(longest or LONGEST, LONGEST))
