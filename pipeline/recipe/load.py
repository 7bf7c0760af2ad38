"""Loads a recipe from a file.

file  →  the chosen scale is laid over it  →  layers, then --set are laid over that  →  checked  →  Recipe
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from data_prep.errors import UserError, choices
from data_prep.findings import Finding
from data_prep.settings import with_new_defaults
from pipeline.recipe import addresses, errors, init, parse, start, suite, unions
from pipeline.recipe.recipe import Evaluation, Experiment, Recipe, model_of

LONGEST = 4 << 20  # bytes of a recipe
ARMS = "arms"  # what a comparison has and no recipe
SET = "--set "
RECIPES, COMPARISONS = "pipeline.recipes", "pipeline.recipes.comparisons"


class Layer(NamedTuple):
    """Changes to lay over a recipe, and what stands before their paths in messages: `bert.yaml: scales.tiny.`"""

    label: str
    changes: dict[str, Any]


class RecipeSummary(NamedTuple):
    """A packaged recipe as a line of a table."""

    name: str
    title: str
    reproduces: str
    data: str
    scales: list[str]


def load(
    name_or_path: str | Path,
    scale: str | None = None,
    overrides: Sequence[str] = (),
    own: bool = False,
    layers: Sequence[Layer] = (),
) -> Experiment:
    """A packaged recipe by name, or a YAML file by path, at a scale, with `path.to.key=value` overrides.

    own: the file was written by a run of this home, whose user chose where it runs. layers: changes between the scale
    and the overrides. Raises UserError naming the file, the key, what was found, what is allowed and the nearest known
    key.
    """
    data, where = read(name_or_path)
    if ARMS in data:
        raise UserError(
            f"{where}: compares recipes ({ARMS}); only run, show and plan take it, and copy it to change it"
        )
    model = model_of(data)
    changes = lay(model, data, where, scale, layers)
    for override in overrides:
        path, value = parse.parse_setting(override)
        if path == "scale" or path.partition(".")[0] == "scales":
            raise UserError(f"--set {override}: choose a scale with --scale")
        lay_over = partial(parse.lay_over, changes={path: value}, where=f"--set {override}")
        changes.append((SET, unions.changed(model, data, lay_over)))
    start.fill(data, load_pretraining)
    if model is Evaluation:
        init.fill(data, load_pretraining)
    written = suite.fill(data, where, changes) if model is Evaluation else str
    origin = origin_of(where, changes)
    try:
        recipe = model.model_validate_json(json.dumps(data), strict=True)
        if not own:
            addresses.check(recipe, lambda path, unknown: origin(written(path), unknown))
        renewed = with_new_defaults(recipe)
        return recipe if renewed is recipe else model.model_validate_json(json.dumps(renewed.resolved()), strict=True)
    except ValidationError as error:
        raise errors.user_error(error, data, model, lambda path, unknown: origin(written(path), unknown)) from None


def load_pretraining(
    name_or_path: str | Path, scale: str | None = None, overrides: Sequence[str] = (), key: str = start.KEY
) -> Recipe:
    """As `load`, of a recipe that pretrains a network. key: the section that names it."""
    if model_of(read(name_or_path)[0]) is Evaluation:  # which may name itself
        raise UserError(f"{key}.recipe: {name_or_path} trains no network; name a recipe that does.")
    recipe = load(name_or_path, scale, overrides)
    assert isinstance(recipe, Recipe)
    return recipe


def lay(
    model: type[BaseModel], data: dict[str, Any], where: str, scale: str | None, layers: Sequence[Layer]
) -> list[tuple[str, list[str]]]:
    """Lay the chosen scale and then `layers` over `data`, in place; (label, paths that it set) for each of them."""
    chosen, scaled = _choose(data, scale, where)
    if chosen is not None:
        layers = [Layer(f"{where}: scales.{chosen}.", scaled), *layers]
    changes: list[tuple[str, list[str]]] = []
    for label, changed in layers:
        lay_over = partial(parse.lay_over, changes=changed, where=label.removesuffix("."))
        changes.append((label, unions.changed(model, data, lay_over)))
    if chosen is not None:
        data["scale"] = chosen
    return changes


def recipes() -> list[RecipeSummary]:
    """The packaged recipes, by name."""
    listings = []
    for file in packaged(RECIPES):
        data = parse.parse(file.read_text(encoding="utf-8"), file.name)
        listings.append(
            RecipeSummary(
                data["name"],
                data.get("title", ""),
                data.get("reproduces", ""),
                _reads(data),
                list(data.get("scales", {})),
            )
        )
    return listings


def _reads(data: Mapping[str, Any]) -> str:
    """The data of a packaged recipe, or its network where nothing is pretrained, in a few words."""
    if "init" in data:
        return ", ".join(map(str, data["init"].values()))
    return ", ".join(source.get("package") or source.get("path") for source in data["data"]["sources"])


def namesake(recipe: Experiment) -> Iterator[Finding]:
    """What is odd about a recipe that is called as a packaged one and reads other data."""
    listing = next((listing for listing in recipes() if listing.name == recipe.name), None)
    if listing is None:
        return
    scales = [None, recipe.scale] if recipe.scale in listing.scales else [None]
    if all(_sources(recipe) != _packaged_sources(recipe.name, scale) for scale in scales):
        yield Finding(
            f"{recipe.name} is the name of a packaged recipe, which reads other data: the runs, models and detectors "
            "of both go by one name; give this one a name of its own (name: …)"
        )


def _sources(recipe: Experiment) -> Any:
    return recipe.data.sources if isinstance(recipe, Recipe) else None


def _packaged_sources(name: str, scale: str | None) -> Any:
    return None if model_of(read(name)[0]) is Evaluation else _sources(load(name, scale))


def read(name_or_path: str | Path) -> tuple[dict[str, Any], str]:
    """(the sections of a packaged file by name, or of a YAML file by path; what to call it)"""
    text, where = _read(name_or_path)
    data = parse.parse(text, where)
    if not isinstance(data, dict):
        raise UserError(f"{where}: found {errors.shown(data)} at the top; a recipe is a section of keys")
    return data, where


def packaged(folder: str) -> list[Traversable]:
    """The YAML files of a folder of the package, by name."""
    files = [file for file in resources.files(folder).iterdir() if file.name.endswith(".yaml")]
    return sorted(files, key=lambda file: file.name.removesuffix(".yaml"))


def _read(name_or_path: str | Path) -> tuple[str, str]:
    """(text, what to call it)"""
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        try:
            with path.open("rb") as file:  # perhaps a pipe, or a device that never ends
                content = file.read(LONGEST + 1)
            if len(content) > LONGEST:
                raise UserError(f"{name}: more than {LONGEST:,} bytes are no recipe")
            return content.decode(), name
        except OSError as error:
            raise UserError(f"{name}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise UserError(f"{name}: not UTF-8 text") from None
    files = {file.name.removesuffix(".yaml"): file for folder in (RECIPES, COMPARISONS) for file in packaged(folder)}
    if name not in files:
        known = choices(name, files, "`sesame recipes`")
        raise UserError(f"no recipe is called {name!r}; {known}; a file of your own is given by its path")
    return files[name].read_text(encoding="utf-8"), files[name].name


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
        raise UserError(f"{label}: found {chosen!r}; {choices(chosen, map(str, scales))}")
    changes = scales[chosen]
    if changes is None:
        changes = {}
    if not isinstance(changes, dict):
        raise UserError(f"{where}: scales.{chosen}: allowed: a section of keys")
    return chosen, copy.deepcopy(changes)


def origin_of(where: str, changes: Iterable[tuple[str, list[str]]]) -> Callable[[str, bool], str]:
    """A function that names where a key was set last: the file, a scale in it, or `--set`."""
    changes = list(changes)

    def origin(path: str, unknown: bool) -> str:
        for label, touched in reversed(changes):
            for other in touched:
                inside = path == other or path.startswith(f"{other}.")
                if inside or (unknown and other.startswith(f"{path}.")):
                    return f"{label}{path}"
        return f"{where}: {path}" if path else where

    return origin
