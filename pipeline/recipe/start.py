"""What a recipe leaves out because it starts from a network that exists (`train.start`): network and tokenizer.

folder   both are those of the folder; what a recipe says of the network otherwise is refused
recipe   the network is that of the other recipe; `resolved` has its folder take its place before a run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from data_prep.kinds import Problem, kind_of
from data_prep.opening.pretrained import VOCABULARIES
from data_prep.tokens import pretrained
from data_prep.tokens.roles import roles_of
from training import objectives
from training.models.text.start.settings import built_problems, network_of, network_problems

if TYPE_CHECKING:
    from pipeline.recipe.recipe import Recipe

KEY = "train.start"


def fill(data: dict[str, Any], load: Callable[[str, str | None], Recipe]) -> None:
    """Fill in the sections that a recipe, as it was written, leaves out. load: another recipe by name and scale.

    UserError where the folder holds no network, or the other recipe does not begin with one of its own.
    """
    train = data.get("train")
    start = train.get("start") if isinstance(train, dict) else None
    if not isinstance(start, dict):
        return
    folder, other = start.get("folder"), start.get("recipe")
    if isinstance(folder, str):
        network = network_of(folder)
        _lay_under(data, {"architecture": network.architecture, "config": network.config}, {"path": folder})
        _name_roles(data["tokenizer"])
    elif isinstance(other, str):
        recipe = load(other, start.get("scale"))
        if recipe.train.start is not None:
            raise UserError(f"{KEY}.recipe: {other} starts from another network itself; name one that does not.")
        kind = own.get("kind") if isinstance(own := data.get("data"), dict) else None
        if isinstance(kind, str) and kind != recipe.kind:
            raise UserError(f"{KEY}.recipe: {other} reads {recipe.kind}, and data.kind is {kind}; name another.")
        vocabulary = {} if recipe.tokenizer is None else {"vocabulary": recipe.tokenizer.vocabulary}
        _lay_under(data, recipe.network.model_dump(mode="json"), vocabulary)


def _lay_under(data: dict[str, Any], network: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    own = data.setdefault("network", {})
    if isinstance(own, dict):
        own.setdefault("architecture", network["architecture"])
        if isinstance(own.setdefault("config", {}), dict) and own["architecture"] == network["architecture"]:
            own["config"] = {**network["config"], **own["config"]}
    own = data.setdefault("tokenizer", {"kind": "pretrained"})
    if isinstance(own, dict) and own.get("kind") == "pretrained":
        for name, value in tokenizer.items():
            if own.get(name) is None:
                own[name] = value


def _name_roles(section: Any) -> None:
    """Fill in the special tokens of a pretrained tokenizer, where they are not named: those that it has."""
    if not isinstance(section, dict) or section.get("kind") != "pretrained" or section.get("roles") is not None:
        return
    try:
        section["roles"] = list(roles_of(*pretrained.read(str(section.get("path")))))
    except UserError:  # of a folder without a tokenizer, or another's: `problems` says so
        return


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Why training cannot start as `train.start` says."""
    start, tokenizer = recipe.train.start, recipe.tokenizer
    is_nowhere = tokenizer is not None and tokenizer.kind == "pretrained" and tokenizer.path is None
    if is_nowhere and (start is None or start.recipe is None):
        yield "tokenizer.path", "missing; name the folder of a tokenizer, or of a network to start from (--from)"
    if start is None or start.experiment is not None:
        return
    if not getattr(objectives.module_of(recipe.objective.name).build, "starts_from_folder", False):
        yield KEY, f"objective {recipe.objective.name!r} starts from no network of others; leave it out"
    elif tokenizer is not None and tokenizer.kind != "pretrained":
        text = f"a network that exists has a tokenizer that exists, found {tokenizer.kind!r}; set it to pretrained"
        yield "tokenizer.kind", text
    elif start.folder is not None:
        yield from _folder_problems(recipe, Path(start.folder).expanduser())


def _folder_problems(recipe: Recipe, folder: Path) -> Iterator[Problem]:
    """Where network, tokenizer and rows do not fit each other."""
    of_folder = network_of(folder)
    differences = network_problems(recipe.network, of_folder)
    yield from differences
    path = Path(recipe.tokenizer.path or "").expanduser()
    try:
        ids = _ids(path)
        theirs = _ids(folder) if path != folder and _has_tokenizer(folder) else ids
    except UserError as error:
        yield "tokenizer.path", str(error).rstrip(".")
        return
    if ids != theirs:
        yield "tokenizer.path", f"{path} has other ids than the tokenizer beside the network in {folder}; leave it out"
        return
    if max(ids.values()) >= of_folder.rows:
        text = f"{path} has {max(ids.values()) + 1:,} ids, and the network in {folder} embeddings of {of_folder.rows:,}"
        yield "tokenizer.path", f"{text}; name the tokenizer that it was trained with"
        return
    facts = kind_of(recipe.data.kind).expected(recipe)
    if facts is not None and facts.specials is not None and not differences:
        yield from built_problems(recipe.network, of_folder, facts.specials)


def _has_tokenizer(folder: Path) -> bool:
    return any(path for pattern in VOCABULARIES for path in folder.glob(pattern))


def _ids(folder: Path) -> dict[str, int]:
    return pretrained.read(folder)[0].get_vocab(with_added_tokens=True)
