"""The recipe: the settings of an experiment. `pipeline.recipe.load` reads one from a YAML file.

The types of `data`, `corruption`, `objective` and `downstream` are unions built from registries. Everything outside
`placement` may change the result, and so enters the keys of artifacts (`science`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field, model_validator

from data_prep import corruptions, kinds
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.warp import AugmentConfig
from data_prep.settings import Settings
from data_prep.tokens.compose import ComposeConfig
from data_prep.tokens.tokenizers import TokenizerConfig
from pipeline import downstream as jobs
from pipeline.recipe import checks, errors, parse
from pipeline.recipe.slug import SLUG
from training import objectives
from training.config import NetworkConfig, OrderConfig, PlacementConfig, TrainConfig

if TYPE_CHECKING:  # unions built at run time
    Tokenizer: TypeAlias = TokenizerConfig
    Compose: TypeAlias = ComposeConfig
    Data: TypeAlias = Any
    Corruption: TypeAlias = Any
    Objective: TypeAlias = Any
    Job: TypeAlias = Any
else:  # optional: some kinds of data have no such section
    Tokenizer, Compose = TokenizerConfig | None, ComposeConfig | None
    Data, Corruption = kinds.config_union(), corruptions.config_union()
    Objective, Job = objectives.config_union(), jobs.config_union()

NAMES = ("name", "title", "reproduces", "scale")


class Recipe(Settings):
    """A whole experiment, on any kind of data."""

    name: str = Field(pattern=SLUG)
    """Short name; a packaged recipe's file name."""
    title: str = ""
    """One line for a list of recipes."""
    reproduces: str = ""
    """The paper or system it follows."""
    scale: str | None = None
    """Which scale was chosen."""
    data: Data
    """Examples to learn from."""
    tokenizer: Tokenizer = None  # type: ignore[assignment]
    """How text becomes ids."""
    compose: Compose = None  # type: ignore[assignment]
    """How sentences become rows."""
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    """How training images are changed before they are used."""
    corruption: Corruption = Field(default_factory=lambda: NoneConfig(kind="none"))
    """How inputs are corrupted, and which targets must be predicted."""
    order: OrderConfig = Field(default_factory=OrderConfig)
    """The order of samples."""
    network: NetworkConfig
    """What is trained; to the objective, its network `model`."""
    networks: dict[str, NetworkConfig] = Field(default_factory=dict)
    """The objective's other networks, by name, where it has several."""
    objective: Objective
    """The loss."""
    train: TrainConfig
    """Budget, optimizer and intervals."""
    downstream: list[Job] = Field(default_factory=list)
    """Jobs that evaluate the network."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random in the experiment."""
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    """Where and how fast; never changes the result."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = list(checks.problems(self))
        if problems:
            raise errors.InconsistentError(problems)
        return self

    def resolved(self) -> dict[str, Any]:
        """All settings, defaults included, as plain values, without sections of other kinds of data."""
        return self.model_dump(mode="json", exclude=self._others())

    def science(self) -> dict[str, Any]:
        """What may change the result: all but names and placement."""
        return self.model_dump(mode="json", exclude={*NAMES, "placement", *self._others()})

    def _others(self) -> set[str]:
        return kinds.sections() - set(kinds.kind_of(self.data.kind).sections)

    def to_yaml(self) -> str:
        """The resolved recipe as a file that `load` reads back to an equal one."""
        return parse.dump(self.resolved())
