"""A folder with a network that exists → the artifact that jobs read, as if it had been trained here."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.opening.tensors import header_of_folder
from pipeline.artifact import MODEL, Artifact
from pipeline.recipe.recipe import Evaluation
from pipeline.stage import Context, Stage
from training.inference.sentence_folder import copy_modules, module_contents
from training.models.described import described
from training.models.text.start.settings import PICKLES, contents


def config(recipe: Evaluation, name: str = "") -> dict[str, Any]:
    """The digests of the network's files, and of its modules' where it is a folder of sentence-transformers.

    name: of one of `networks`; empty: `init`. UserError where the folder is not known yet, or holds no network.
    """
    return _digests(_folder(recipe, name))


def _digests(folder: Path) -> dict[str, Any]:
    modules = module_contents(folder)
    return {"network": contents(folder)} | ({"modules": modules} if modules else {})


def files(recipe: Evaluation, name: str = "") -> dict[str, Path]:
    """The folder, by the digest of its contents, which stands for it in the config."""
    folder = _folder(recipe, name)
    return {contents(folder): folder}


def _folder(recipe: Evaluation, name: str) -> Path:
    network, where = (recipe.networks[name], f"networks.{name}") if name else (recipe.init, "init")
    if network.folder is None:
        source = network.model or network.recipe
        raise UserError(f"{where}: the network of {source} is found by `sesame run`; name its folder.")
    return Path(network.folder).expanduser().absolute()


def run(config: dict[str, Any], inputs: dict[str, Artifact], out_dir: Path, context: Context) -> dict[str, Any]:
    """Copy the files of the folder, but pickles and what lies in folders inside it other than those of modules."""
    folder = context.files[config["network"]]
    context.progress(f"copying {folder}")
    (out_dir / MODEL).mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in PICKLES):
            shutil.copyfile(path, out_dir / MODEL / path.name)
    copy_modules(folder, out_dir / MODEL)
    if _digests(out_dir / MODEL) != config:
        raise UserError(f"init.folder: {folder} has changed since this run began; run it again.")
    network = described(out_dir / MODEL)
    parameters = sum(math.prod(entry.shape) for entry in header_of_folder(folder).values())
    return {"architecture": network.architecture, **network.takes, "parameters": parameters}


INIT = Stage("init", 1, run)
