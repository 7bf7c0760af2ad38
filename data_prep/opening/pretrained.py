"""Folders of `transformers` and files of `tokenizers`: opened from files alone, without code of others."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, clause, plain, read_json
from data_prep.opening.tensors import Entry, header_of_folder

_GAPS = 16  # ids for each token of a vocabulary, at most: tables are made by id
SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
CONFIG = "config.json"
_COUNTS = re.compile(r"(^|_)(num|n|layers?|depths?|experts?|labels?|heads?|groups?|stages?|blocks?)(_|$)")
_FEW, _MANY = 1 << 10, 1 << 24  # beyond what the weights explain: of layers and the like, of any other number


def open_as(folder: Path | str, auto: str, **options: Any) -> Any:
    """What a folder holds, by the class of `transformers` of that name; with `options` of its `from_pretrained`.

    UserError where that is not possible, or the folder holds what is no plain file.
    """
    import transformers

    folder = checked(folder)
    if not auto.endswith(("Tokenizer", "Config")):
        options["use_safetensors"] = True
    try:
        return getattr(transformers, auto).from_pretrained(str(folder), **SAFE, **options)
    except BaseException as error:
        raise refused(folder, f"cannot be opened as {auto}", error) from error


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a file. UserError where it is none."""
    try:
        plain(path)
        tokenizer = Tokenizer.from_file(str(path))
        vocabulary = tokenizer.get_vocab()
        if (highest := max(vocabulary.values(), default=0)) > _GAPS * len(vocabulary) + _MANY:
            raise UnfitError(f"it has {len(vocabulary):,} tokens, and one with the id {highest:,}")
        return tokenizer
    except BaseException as error:
        raise refused(path, "is not a tokenizer", error) from error


def refused(where: Path, what: str, error: BaseException) -> BaseException:
    """The UserError for what a library raised at a stranger's file, which may be anything; what ends us stays so."""
    is_panic = type(error).__name__ == "PanicException"  # of libraries in Rust, no Exception
    if not isinstance(error, Exception) and not is_panic:
        return error
    if isinstance(error, UserError):
        return error
    return UserError(f"{where}: {what} ({clause(error)}); mend its files or name another.")


def checked_config(folder: Path) -> dict[str, Any]:
    """What `config.json` of a network says. UserError where it asks for more than the folder's weights can hold."""
    folder = checked(folder)
    try:
        config = read_json(folder / CONFIG)
        if problem := excess(config, header_of_folder(folder)):
            raise UnfitError(f"{CONFIG}: {problem}")
    except UnfitError as error:
        raise UserError(
            f"{folder}: holds no network that can be used ({error}); name another, or train one."
        ) from error
    return config


def excess(config: Any, held: Mapping[str, Entry], path: str = "") -> str:
    """The first number of a network's settings that its weights do not explain, in words; empty if none.

    Of layers and the like there are no more than the longest side of a tensor, or tensors; no number is much larger
    than there are weights.
    """
    sides = max((side for entry in held.values() for side in entry.shape), default=0)
    few = max(sides, len(held)) + _FEW
    most = sum(entry.elements for entry in held.values()) + _MANY
    return _excess(config, "", few, most)


def _excess(value: Any, path: str, few: int, most: int) -> str:
    if isinstance(value, Mapping):
        pairs = ((f"{path}.{name}" if path else str(name), item) for name, item in value.items())
        return next((problem for name, item in pairs if (problem := _excess(item, name, few, most))), "")
    if isinstance(value, list):
        return next((problem for item in value if (problem := _excess(item, path, few, most))), "")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    limit = few if _COUNTS.search(path.rpartition(".")[2]) else most
    if not math.isfinite(value) or abs(value) > limit:
        return f"{path} is {value:.4g}, more than its weights can be made for"
    return ""
