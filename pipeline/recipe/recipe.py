"""A recipe: one YAML file that says what to make, how big, and where.

    file  →  the chosen scale is laid over it  →  --set is laid over that  →  checked  →  Recipe

Everything outside `placement` may change the result, and so takes part in the keys of what is made (`science`).
"""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from pydantic import Field, ValidationError, model_validator

from data_prep.corpus.documents import SplitConfig
from data_prep.corruptions.masking import MaskingConfig
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.tokens.compose import ComposeConfig
from data_prep.tokens.tokenizers import TokenizerConfig
from pipeline.downstream import config_union
from pipeline.experiment import Experiment
from pipeline.recipe import checks, errors, parse
from pipeline.recipe.flatten import flatten
from training.config import (
    NetworkConfig,
    ObjectiveConfig,
    OrderConfig,
    PlacementConfig,
    Settings,
    TrainConfig,
)

if TYPE_CHECKING:
    from pipeline.array_recipe import ArrayRecipe

    Job: TypeAlias = Any
else:
    Job = config_union()

__all__ = ["AnyRecipe", "DataConfig", "Listing", "Recipe", "flatten", "load", "recipes"]

_SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"


class DataConfig(Settings):
    """Where documents come from, how they are cleaned, and which are held out."""

    kind: Literal["text"] = Field(default="text", description="What the sources hold.")
    sources: list[SourceConfig] = Field(min_length=1, description="Packages, files or folders.")
    clean: CleanConfig = Field(default_factory=CleanConfig, description="How text is cleaned.")
    split: SplitConfig = Field(default_factory=SplitConfig, description="Documents held out.")


class Recipe(Experiment):
    """A whole experiment. `load` makes one from a file."""

    name: str = Field(pattern=_SLUG, description="Short name; a packaged recipe's file name.")
    title: str = Field(default="", description="One line for a list of recipes.")
    reproduces: str = Field(default="", description="The paper or system it follows.")
    scale: str | None = Field(default=None, description="Which scale was chosen.")
    data: DataConfig = Field(description="Documents to learn from.")
    tokenizer: TokenizerConfig = Field(description="How text becomes ids.")
    compose: ComposeConfig = Field(description="How sentences become rows.")
    corruption: MaskingConfig = Field(description="What the network sees, what it must predict.")
    order: OrderConfig = Field(default_factory=OrderConfig, description="The order of samples.")
    network: NetworkConfig = Field(description="What is trained.")
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig, description="The loss.")
    train: TrainConfig = Field(description="Budget, optimizer and rhythm.")
    downstream: list[Job] = Field(default_factory=list, description="Jobs after it.")
    seed: int = Field(default=0, ge=0, description="Of everything random in the experiment.")
    placement: PlacementConfig = Field(
        default_factory=PlacementConfig, description="Where and how fast; never changes the result."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems = checks.problems(self)
        if problems:
            raise errors.InconsistentError(problems)
        return self


AnyRecipe: TypeAlias = "Recipe | ArrayRecipe"


class Listing(NamedTuple):
    """A packaged recipe, for a table."""

    name: str
    title: str
    reproduces: str
    data: str
    scales: list[str]


def load(name_or_path: str | Path, scale: str | None = None, overrides: Sequence[str] = ()) -> AnyRecipe:
    """A packaged recipe by name, or a YAML file by path, at a scale, with `path.to.key=value` overrides.

    Raises UserError naming the file, the key, what was found, what is allowed and the nearest known key.
    """
    text, where = _read(name_or_path)
    data = parse.parse(text, where)
    if not isinstance(data, dict):
        raise UserError(f"{where}: found {errors.shown(data)} at the top; a recipe is a section of keys")
    changes: list[tuple[str, list[str]]] = []
    chosen, scaled = _choose(data, scale, where)
    if chosen is not None:
        label = f"{where}: scales.{chosen}."
        changes.append((label, parse.lay_over(data, scaled, label.removesuffix("."))))
        data["scale"] = chosen
    for override in overrides:
        path, value = parse.parse_setting(override)
        if path == "scale" or path.partition(".")[0] == "scales":
            raise UserError(f"--set {override}: choose a scale with --scale")
        touched = parse.lay_over(data, {path: value}, f"--set {override}")
        changes.append(("--set ", touched))
    model = _model(data)
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise errors.user_error(error, data, model, _origin(where, changes)) from None


def _model(data: dict[str, Any]) -> type[Recipe] | type[ArrayRecipe]:
    """What sections a recipe has, by the kind of its data."""
    section = data.get("data")
    if not isinstance(section, dict) or section.get("kind", "text") == "text":
        return Recipe
    from pipeline.array_recipe import ArrayRecipe

    return ArrayRecipe


def recipes() -> list[Listing]:
    """The packaged recipes, by name."""
    found = []
    for file in sorted(_packaged().iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            data = parse.parse(file.read_text(encoding="utf-8"), file.name)
            sources = [source.get("package") or source.get("path") for source in data["data"]["sources"]]
            found.append(
                Listing(
                    data["name"],
                    data.get("title", ""),
                    data.get("reproduces", ""),
                    ", ".join(sources),
                    list(data.get("scales", {})),
                )
            )
    return found


def _packaged() -> Traversable:
    return resources.files("pipeline.recipes")


def _read(name_or_path: str | Path) -> tuple[str, str]:
    """(text, what to call it)"""
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        try:
            return path.read_text(encoding="utf-8"), name
        except OSError as error:
            raise UserError(f"{name}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise UserError(f"{name}: not UTF-8 text") from None
    file = _packaged() / f"{name}.yaml"
    if not file.is_file():
        known = [found.name for found in recipes()]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"no recipe is called {name!r}{hint} (known: {', '.join(known)}; a path to a YAML file is fine, too)"
        )
    return file.read_text(encoding="utf-8"), file.name


def _choose(data: dict[str, Any], scale: str | None, where: str) -> tuple[str | None, dict[str, Any]]:
    """Take `scales` and `default_scale` out of `data`; the chosen scale's name and changes."""
    scales, default = data.pop("scales", None), data.pop("default_scale", None)
    if scales is None:
        if scale is not None and scale != data.get("scale"):
            raise UserError(f"{where}: has no scales, so there is no {scale!r}")
        if default is not None:
            raise UserError(f"{where}: default_scale: found {default!r}, and there are no scales")
        return None, {}
    if not isinstance(scales, dict) or not scales:
        raise UserError(f"{where}: scales: allowed: a section with a section per scale")
    if "scale" in data:
        raise UserError(f"{where}: scale: names the scale of a resolved recipe; this one has scales to choose from")
    chosen = scale if scale is not None else default if default is not None else next(iter(scales))
    if not isinstance(chosen, str) or chosen not in scales:
        label = "--scale" if scale is not None else f"{where}: default_scale"
        near = difflib.get_close_matches(str(chosen), scales, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"{label}: found {chosen!r}; allowed: {', '.join(scales)}{hint}")
    changes = scales[chosen]
    if changes is None:
        changes = {}
    if not isinstance(changes, dict):
        raise UserError(f"{where}: scales.{chosen}: allowed: a section of keys")
    return chosen, copy.deepcopy(changes)


def _origin(where: str, changes: Iterable[tuple[str, list[str]]]) -> Callable[[str, bool], str]:
    """Names where a key was written: the file, a scale in it, or `--set`; the last one to touch it."""
    changes = list(changes)

    def origin(path: str, unknown: bool) -> str:
        for label, touched in reversed(changes):
            for other in touched:
                inside = path == other or path.startswith(f"{other}.")
                if inside or (unknown and other.startswith(f"{path}.")):
                    return f"{label}{path}"
        return f"{where}: {path}" if path else where

    return origin
