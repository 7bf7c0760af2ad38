"""Objectives by name, read without importing them. Adding one touches its own file and one line here.

A module of an objective is imported without torch. It has

    Options       typed settings, `objective.options` of a recipe
    VERSION       part of a training's key: raised when the same settings come to mean another network or loss
    check         (options, networks) ↦ problems as (path, text), before anything runs; not all have one
    composed      options ↦ by option, the compose.kind that it needs; few have one
    NETWORKS      names of its networks as recipes have them, `model` among them; left out where that is all
    build         (options, networks, data, device) ↦ the `Objective`

`networks` are network settings by name: "model" is the recipe's `network`, others come from its `networks`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model

from data_prep.errors import UserError, choices
from data_prep.settings import Settings, checked
from training.config import NetworkConfig, ObjectiveConfig

if TYPE_CHECKING:
    from data_prep.facts import DataFacts
    from training.objective import Objective


@dataclass(frozen=True)
class ObjectiveEntry:
    """One objective: its module, the kinds of data it learns from, and the corruptions' targets it takes.

    roles: special tokens that it needs. columns: those of rows that it needs besides x and x″. counts: whether the
    tokenizer must say how often tokens occur. sparse: whether few rows of its tables have gradients, so that only plain
    gradient descent leaves the others as they are. likelihood: whether its network bounds log p(x).
    """

    module: str
    kinds: tuple[str, ...]
    targets: tuple[str, ...]
    roles: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    counts: bool = False
    sparse: bool = False
    likelihood: bool = False


MODEL = "model"  # the network of an objective that has one
_ARRAYS = ("table", "images")
_SEQUENCES = "training.objectives.sequence_to_sequence"

OBJECTIVES: dict[str, ObjectiveEntry] = {
    "masked-lm": ObjectiveEntry("training.objectives.masked_lm", ("text",), ("sparse",)),
    "electra": ObjectiveEntry("training.objectives.electra", ("text",), ("sparse",)),
    "span-boundary": ObjectiveEntry("training.objectives.span_boundary", ("text",), ("sparse",)),
    "elmo": ObjectiveEntry("training.objectives.elmo", ("text",), ("clean",), ("unk",)),
    "word2vec": ObjectiveEntry(
        "training.objectives.word2vec", ("text",), ("clean",), ("unk",), counts=True, sparse=True
    ),
    "gpt": ObjectiveEntry("training.objectives.gpt", ("text",), ("clean",)),
    "sequence-to-sequence": ObjectiveEntry(_SEQUENCES, ("text",), ("sequence", "sparse")),
    "t5": ObjectiveEntry(_SEQUENCES, ("text",), ("sequence",), ("decoder_start",)),  # with a start of its own
    "masked-frames": ObjectiveEntry("training.objectives.masked_frames", ("sound",), ("sparse",)),
    "autoencoder": ObjectiveEntry("training.objectives.arrays.autoencoder", _ARRAYS, ("clean",)),
    "vae": ObjectiveEntry("training.objectives.arrays.vae", _ARRAYS, ("clean",), likelihood=True),
    "discrete": ObjectiveEntry("training.objectives.arrays.discrete", _ARRAYS, ("clean",)),
    "rbm": ObjectiveEntry("training.objectives.arrays.rbm", _ARRAYS, ("clean",)),
    "compression": ObjectiveEntry("training.objectives.arrays.compression", ("images",), ("clean",)),
    "simclr": ObjectiveEntry("training.objectives.arrays.simclr", ("images",), ("views",)),
}


def entry_of(name: str) -> ObjectiveEntry:
    """The entry of the named objective. Raises UserError if there is none."""
    if name not in OBJECTIVES:
        known = choices(name, OBJECTIVES, "`sesame settings objective`")
        raise UserError(f"objective.name: {name!r} is not an objective; {known}")
    return OBJECTIVES[name]


def module_of(name: str) -> Any:
    """The named objective's module. Raises UserError if there is none."""
    return import_module(entry_of(name).module)


def network_names(name: str) -> tuple[str, ...]:
    """Names of the networks that the named objective builds from settings."""
    return getattr(module_of(name), "NETWORKS", (MODEL,))


def learning_from(kind: str) -> list[str]:
    """Names of the objectives that learn from a kind of data."""
    return [name for name, line in OBJECTIVES.items() if kind in line.kinds]


@functools.cache
def section_of(name: str) -> type[ObjectiveConfig]:
    """The recipe's section `objective` for the named objective: its `name` and its typed `options`."""
    options: type[Settings] = module_of(name).Options
    title = "".join(word.capitalize() for word in name.split("-"))
    fields: dict[str, Any] = {
        "name": (Literal[name], Field(description="Name of an objective.")),
        "options": (options, Field(default_factory=options, description="Options of that objective.")),
    }
    about = module_of(name).__doc__
    return create_model(f"{title}Section", __base__=ObjectiveConfig, __doc__=about, **fields)


@functools.cache
def config_union() -> Any:
    """The sections of all objectives, told apart by `name`."""
    sections = tuple(section_of(name) for name in OBJECTIVES)
    return Annotated[Union[sections], Field(discriminator="name")]  # noqa: UP007 - made from a table


def options_of(objective: ObjectiveConfig) -> Any:
    """The typed options of a section, from typed or plain values. Raises UserError where they are wrong."""
    kind: type[Settings] = module_of(objective.name).Options
    if isinstance(objective.options, kind):
        return objective.options
    return checked(kind, objective.options, "objective.options")


def problems(objective: ObjectiveConfig, networks: Mapping[str, NetworkConfig]) -> Iterator[tuple[str, str]]:
    """What is wrong with an objective's options or networks, as (path, text), before anything runs."""
    check = getattr(module_of(objective.name), "check", None)
    if check is not None:
        yield from check(options_of(objective), networks)


def composed(objective: ObjectiveConfig) -> dict[str, str]:
    """By option, the compose.kind that it needs."""
    of_options = getattr(module_of(objective.name), "composed", None)
    return of_options(options_of(objective)) if of_options else {}


def build(objective: ObjectiveConfig, networks: Mapping[str, NetworkConfig], data: DataFacts, device: str) -> Objective:
    """The objective with its networks, initialised by torch's generator: seed it before.

    Raises UserError where options, networks and data do not fit each other.
    """
    for path, text in problems(objective, networks):
        raise UserError(f"{path}: {text}.")
    return module_of(objective.name).build(options_of(objective), networks, data, device)
