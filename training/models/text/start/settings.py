"""The settings of a network in a folder of `transformers`, for training that starts from it; read without torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked
from data_prep.opening.pretrained import CONFIG, checked_config, open_as
from data_prep.opening.tensors import header_of_folder
from data_prep.sealed import digest, mapped
from data_prep.shards.rows import Specials
from data_prep.tokens import pretrained
from training.config import NetworkConfig
from training.models.text.architectures import Problem, special_ids, text_config

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OF_TOKENIZER = {"vocab_size", "decoder_start_token_id", *special_ids(Specials(1, pad=0))}
_OF_USE = {"use_cache", "is_decoder", "is_encoder_decoder", "forced_eos_token_id", "forced_bos_token_id"}
_UNSAID = _OF_TOKENIZER | _OF_USE | {"architectures", "transformers_version", "model_type", "dtype", "torch_dtype"}


@dataclass(frozen=True)
class FolderNetwork:
    """The network of a folder: its model type, the settings of its config that a recipe can have, and all of them."""

    folder: Path
    architecture: str
    config: dict[str, Any]
    says: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """The number of ids that it has embeddings for."""
        return int(self.says["vocab_size"])


def network_of(folder: str | Path) -> FolderNetwork:
    """The network of a folder. UserError if training cannot start from it."""
    return _network_of(Path(folder).expanduser().absolute(), contents(folder))


@lru_cache
def _network_of(folder: Path, digest_of_files: str) -> FolderNetwork:
    says = checked_config(folder)
    model_type = str(says.get("model_type") or "")
    if "vocab_size" not in _parameters(model_type) or not isinstance(says.get("vocab_size"), int):
        shown = f"of type {model_type!r}" if model_type else "without model_type"
        raise UserError(
            f"{folder / CONFIG}: describes a network {shown}, which is none of text that transformers knows."
        )
    return FolderNetwork(folder, model_type, recipe_settings(model_type, says), says)


def recipe_settings(model_type: str, says: Mapping[str, Any]) -> dict[str, Any]:
    """What the config of a model type says that a recipe can say, too; nothing of a type that is not known."""
    known = _parameters(model_type) - _UNSAID
    return {name: value for name, value in says.items() if name in known and _is_plain(value)}


def _parameters(model_type: str) -> set[str]:
    """Names of the settings of a model type; none of one that transformers does not know."""
    from transformers import CONFIG_MAPPING

    return set(inspect.signature(CONFIG_MAPPING[model_type]).parameters) if model_type in CONFIG_MAPPING else set()


def contents(folder: str | Path) -> str:
    """A digest of a folder's weights, config and tokenizer. UserError where it has no weights that can be opened."""
    folder = checked(folder)
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if not weights and pickles:
        raise UserError(
            f"{folder}: holds its weights as a pickle ({pickles[0]}), and no pickle is opened; save them as "
            "safetensors where the model comes from, by save_pretrained of transformers."
        )
    try:
        header_of_folder(folder)
    except UnfitError as error:
        raise UserError(
            f"{folder}: holds no network that can be used ({error}); name another, or train one."
        ) from error
    files = {path.name: _digest(path, path.stat().st_size, path.stat().st_mtime_ns) for path in weights}
    return digest(repr([files, pretrained.contents(folder)]).encode())


@lru_cache(64)
def _digest(path: Path, size: int, changed: int) -> str:
    return digest(mapped(path))


def network_problems(network: NetworkConfig, of_folder: FolderNetwork) -> list[Problem]:
    """Settings of a recipe's network that are not those of the folder's."""
    where, advice = f"the network in {of_folder.folder}", "leave it out, for train.start.folder says it"
    if network.architecture != of_folder.architecture:
        return [
            ("network.architecture", f"{where} is {of_folder.architecture!r}, found {network.architecture!r}; {advice}")
        ]
    return [
        (f"network.config.{name}", f"{where} has {of_folder.config.get(name)}, found {value}; {advice}")
        for name, value in network.config.items()
        if name not in of_folder.config or value != of_folder.config[name]
    ]


def built_problems(network: NetworkConfig, of_folder: FolderNetwork, specials: Specials) -> list[Problem]:
    """Settings of the folder's network or tokens that a network of this recipe would not have."""
    from transformers import PreTrainedConfig

    built = text_config(network, specials).to_dict()
    meant = open_as(of_folder.folder, "AutoConfig").to_dict()
    of_all = set(inspect.signature(PreTrainedConfig).parameters)
    known = {name for name in built if not name.startswith("_")} - _UNSAID - of_all
    problems = [
        ("train.start.folder", f"{of_folder.folder}: its {name} {meant.get(name)!r} cannot be told to a network here")
        for name in sorted(known)
        if meant.get(name) != built.get(name)
    ]
    for name in ("pad_token_id", "decoder_start_token_id"):
        number, ours = of_folder.says.get(name), special_ids(specials).get(name)
        if number is not None and ours is not None and number != ours:
            text = f"{of_folder.folder}: its network has {name} {number}, and its tokenizer {ours}; mend one of them"
            problems.append(("train.start.folder", text))
    return problems


def _is_plain(value: Any) -> bool:
    scalar = bool | int | float | str
    return (
        value is None
        or isinstance(value, scalar)
        or (isinstance(value, list) and all(isinstance(v, scalar) for v in value))
    )
