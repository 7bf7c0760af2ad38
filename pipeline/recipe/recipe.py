"""The settings of an experiment. `pipeline.recipe.load` reads one from a YAML file.

Recipe       a network is pretrained, then jobs evaluate it
Evaluation   jobs evaluate, or fine-tune, a network that exists: it has `init`, and none of the sections of pretraining

The types of `data`, `corruption`, `objective` and `downstream` are unions built from registries. Everything outside
`placement` may change the result, and so enters the keys of artifacts (`science`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic import Field, model_validator

from data_prep import corruptions, kinds
from data_prep.corruptions.none import NoneConfig
from data_prep.corruptions.warp import AugmentConfig
from data_prep.kinds import Problem
from data_prep.settings import Settings, without_effect
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.compose import ComposeConfig
from data_prep.tokens.tokenizers import TokenizerConfig
from pipeline import downstream as jobs
from pipeline.recipe import checks, errors, parse, suite
from pipeline.recipe.init import InitConfig
from pipeline.recipe.suite import SuiteConfig
from pipeline.slug import SLUG
from training import objectives
from training.config import NetworkConfig, OrderConfig, PlacementConfig, TrainConfig
from training.models.described import described

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
ORDER = (
    *NAMES,
    *("init", "data", "tokenizer", "compose", "augment", "corruption", "order", "network", "networks", "objective"),
    *("train", "suite", "downstream", "seed", "placement"),
)
"""The order of all sections for those who read them."""


class Experiment(Settings):
    """What a `Recipe` and an `Evaluation` have in common."""

    name: str = Field(pattern=SLUG)
    """Short name; a packaged recipe's file name."""
    title: str = ""
    """One line for a list of recipes."""
    reproduces: str = ""
    """The paper or system it follows."""
    scale: str | None = None
    """Which scale was chosen."""
    downstream: list[Job] = Field(default_factory=list)
    """Jobs that evaluate the network."""
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    """Seed of everything random in the experiment."""
    placement: PlacementConfig = Field(default_factory=PlacementConfig)
    """Where and how fast; never changes the result."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise errors.InconsistentError(problems)
        return self

    @abstractmethod
    def _problems(self) -> Iterator[Problem]:
        """Disagreements between sections."""

    @abstractmethod
    def _without_effect(self) -> Iterator[str]:
        """A sentence for each setting that changes nothing beside those of other sections."""

    def remarks(self) -> list[str]:
        """What is odd about the settings and about the data of its jobs and its suite, in sentences."""
        return [*without_effect(self), *self._without_effect(), *suite.remarks(self), *jobs.remarks(self)]

    @property
    @abstractmethod
    def kind(self) -> str | None:
        """The kind of data that its network reads; None until that is known."""

    @property
    @abstractmethod
    def cleaning(self) -> Cleaning:
        """What is done to the characters of texts."""

    @property
    @abstractmethod
    def precision(self) -> str:
        """The precision that its networks are trained in: `train.precision`."""

    @property
    def other_networks(self) -> Mapping[str, InitConfig]:
        """Networks that jobs compare with its own, by name."""
        return {}

    def resolved(self) -> dict[str, Any]:
        """All settings, defaults included, as plain values, without sections of other kinds of data."""
        values = self.model_dump(mode="json", exclude=self._others())
        return {name: values[name] for name in ORDER if name in values}

    def science(self) -> dict[str, Any]:
        """What may change the result: all but names and placement."""
        return self.model_dump(mode="json", exclude={*NAMES, "placement", *self._others()})

    def _others(self) -> set[str]:
        """Sections that it does not use."""
        return set()

    def to_yaml(self) -> str:
        """The resolved recipe as a file that `load` reads back to an equal one."""
        return parse.dump(self.resolved())


class Recipe(Experiment):
    """A network is pretrained on any kind of data, and evaluated."""

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

    def _problems(self) -> Iterator[Problem]:
        return checks.problems(self)

    def _without_effect(self) -> Iterator[str]:
        return checks.without_effect(self)

    @property
    def kind(self) -> str:
        return self.data.kind

    @property
    def cleaning(self) -> Cleaning:
        clean = getattr(self.data, "clean", None)  # of kinds of data that hold texts
        return Cleaning() if clean is None else clean.cleaning

    @property
    def precision(self) -> str:
        return self.train.precision

    def _others(self) -> set[str]:
        return kinds.sections() - set(kinds.kind_of(self.data.kind).sections)


class Evaluation(Experiment):
    """A network that exists is evaluated: nothing is pretrained."""

    init: InitConfig
    """The network."""
    networks: dict[str, InitConfig] = Field(default_factory=dict)
    """Others to compare it with, by the names that `models` of jobs have for them."""
    suite: SuiteConfig | None = None
    """Tasks of one suite, each of which becomes a job of `downstream`."""

    def _problems(self) -> Iterator[Problem]:
        return checks.problems_of_jobs(self)

    def _without_effect(self) -> Iterator[str]:
        return checks.without_effect_on_jobs(self)

    def _others(self) -> set[str]:
        return {name for name in ("suite", "networks") if not getattr(self, name)}

    @property
    def other_networks(self) -> Mapping[str, InitConfig]:
        return self.networks

    @property
    def network(self) -> NetworkConfig | None:
        """The shape of the network; None until it is known where its folder lies."""
        if self.init.folder is None:
            return None
        of_folder = described(self.init.folder)
        return NetworkConfig(architecture=of_folder.architecture, config=of_folder.config)

    @property
    def kind(self) -> str | None:
        return self.init.reads

    @property
    def cleaning(self) -> Cleaning:
        return Cleaning()

    @property
    def precision(self) -> str:
        return "auto"


def model_of(data: Any) -> type[Experiment]:
    """Which of the two the sections of a file are."""
    return Evaluation if isinstance(data, dict) and "init" in data else Recipe
