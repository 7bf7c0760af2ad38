"""Folders of `transformers` and files of `tokenizers`: opened only from files, without running their code."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, clause, parsed, read, read_json
from data_prep.opening.tensors import Entry, header_of_folder
from data_prep.opening.tokenizer_file import MOST_BYTES, checked_spec

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
VOCABULARIES = (TOKENIZER, "vocab*", "*.model", "tekken.json")  # without any, a class of tokenizers makes one up
_COUNTS = re.compile(r"(^|_)(num|n|layers?|depths?|experts?(?!_capacity)|labels?|heads?|groups?|stages?|blocks?)(_|$)")
_FEW, _MANY = 1 << 10, 1 << 24  # limits of numbers that weights do not explain: of layers and the like, others


def open_as(folder: Path | str, auto: str, **options: Any) -> Any:
    """What a folder holds, by the class of `transformers` of that name; with `options` of its `from_pretrained`.

    UserError if that is not possible, or if something in the folder is not a plain file.
    """
    import transformers

    folder = checked(folder)
    if auto.endswith("Tokenizer"):
        _check_vocabulary(folder)
    elif not auto.endswith("Config"):
        options["use_safetensors"] = True
    try:
        return getattr(transformers, auto).from_pretrained(str(folder), **SAFE, **options)
    except BaseException as error:
        raise refused(folder, f"cannot be opened as {auto}", error) from error


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a file, without padding and truncation. UserError if it is invalid or asks for too much."""
    try:
        text = read(path, MOST_BYTES)
        checked_spec(parsed(text))
        tokenizer = Tokenizer.from_buffer(text)
    except BaseException as error:
        raise refused(path, "is not a tokenizer", error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@contextmanager
def using_tokenizer() -> Iterator[None]:
    """For calls of a tokenizer: UserError if its library fails."""
    try:
        yield
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise UserError(f"the tokenizer gives up on a text ({clause(error)}); name another tokenizer.") from error


def _check_vocabulary(folder: Path) -> None:
    """UserError where a folder has no vocabulary, or one that is too large or asks for too much."""
    files = [path for pattern in VOCABULARIES for path in folder.glob(pattern)]
    if not files:
        raise UserError(f"{folder}: holds no tokenizer ({', '.join(VOCABULARIES)}); give a folder that has one.")
    for path in files:
        if path.name == TOKENIZER:
            tokenizer_of(path)
        elif path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: has more than {MOST_BYTES:,} bytes, and a vocabulary has fewer; name another.")


def refused(where: Path, what: str, error: BaseException) -> BaseException:
    """The UserError for any exception of a library at an untrusted file; those that end the process are passed on."""
    if not isinstance(error, Exception) and not _is_panic(error):
        return error
    if isinstance(error, UserError):
        return error
    return UserError(f"{where}: {what} ({clause(error)}); mend its files or name another.")


def _is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up, which is no Exception."""
    return type(error).__name__ == "PanicException"


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
