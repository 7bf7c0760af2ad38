"""How a folder of sentence-transformers says that one vector is made of a text's positions.

modules.json                    the modules that follow each other, each with a folder
1_Pooling/config.json           which positions are used
sentence_bert_config.json       most tokens of a text
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, inside, parsed, read, read_json
from data_prep.sealed import digest
from training.models.text.start.settings import PICKLES

if TYPE_CHECKING:
    from training.inference.embedding import Pooling

MODULES, SETTINGS = "modules.json", "sentence_bert_config.json"
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_PREFIX = "pooling_mode_"  # of versions before 6, which have a truth value for each
_OLD = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "weightedmean_tokens": "weightedmean"}


@dataclass(frozen=True)
class Declared:
    """pooling: None where a folder says nothing, or says what is not computed here. length: most tokens of a text.
    others: what it names and is not computed here, poolings and modules."""

    pooling: Pooling | None = None
    normalize: bool = False
    length: int | None = None
    others: tuple[str, ...] = ()


def declared(folder: Path) -> Declared:
    """What a folder declares; nothing, where it is not one of sentence-transformers. UserError for damaged files."""
    if not (folder / MODULES).is_file():
        return Declared()
    try:
        modules: Any = parsed(read(folder / MODULES))
        paths = {str(module["type"]).rpartition(".")[2]: module["path"] for module in modules}
        poolings: list[str] = []
        if "Pooling" in paths:
            poolings = _poolings(read_json(inside(folder, f"{paths['Pooling']}/config.json")))
        length = read_json(folder / SETTINGS).get("max_seq_length") if (folder / SETTINGS).is_file() else None
    except (UnfitError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MODULES}: describes no modules ({error}); mend it, or take it out.") from None
    pooling = _POOLINGS.get(poolings[0]) if len(poolings) == 1 else None
    others = [] if pooling else [f"pooling {' and '.join(poolings)}"] if poolings else []
    others += [kind for kind in paths if kind not in ("Transformer", "Pooling", "Normalize")]
    is_length = isinstance(length, int) and not isinstance(length, bool) and length > 0
    return Declared(pooling, "Normalize" in paths, length if is_length else None, tuple(others))


def _poolings(settings: Mapping[str, Any]) -> list[str]:
    """Names of the poolings whose vectors are put together."""
    named = settings.get("pooling_mode")
    if named is not None:
        return [named] if isinstance(named, str) else list(map(str, named))
    of_old = (name.removeprefix(_PREFIX) for name, is_on in settings.items() if name.startswith(_PREFIX) and is_on)
    return [_OLD.get(name, name) for name in of_old]


def module_files(folder: Path) -> list[Path]:
    """The files, but pickles, in the folders that modules have inside of a folder; none where it declares no modules,
    or is damaged, which `declared` says."""
    try:
        modules: Any = parsed(read(folder / MODULES))
        places = {PurePosixPath(module["path"]) for module in modules}
    except (UnfitError, KeyError, TypeError):
        return []
    inner = [folder / place for place in places if place.parts and ".." not in place.parts and not place.is_absolute()]
    found = {path for place in inner for path in place.rglob("*") if path.is_file()}
    return sorted(path for path in found if not any(path.match(pattern) for pattern in PICKLES))


def copy_modules(source: Path, folder: Path) -> None:
    """Copy the files of modules to their places in another folder, so that its `modules.json` holds there too."""
    for path in module_files(source):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def module_contents(folder: Path) -> str:
    """A digest of the files of modules; empty where there are none."""
    lines = [f"{path.relative_to(folder)} {digest(path.read_bytes())}\n" for path in module_files(folder)]
    return digest("".join(lines).encode()) if lines else ""
