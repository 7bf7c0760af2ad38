"""Tokenizers that others made, read as `transformers` reads them: the ids are those of the class that owns the files.

    tokenizer.json      any tokenizer; where the settings name a class, that class has the last word
    vocab.txt           BERT's WordPiece, with `do_lower_case`, `strip_accents` and `tokenize_chinese_chars`
    vocab.json          byte-level BPE, where config.json or the settings say of which model
    *.model             SentencePiece likewise, where its library is installed, which it is not by default

Nothing is looked up on the network, and no code of the folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, checked, read_json
from data_prep.opening.pretrained import VOCABULARIES, open_as, tokenizer_of
from data_prep.sealed import digest, mapped
from data_prep.shards.rows import ROLES, Specials
from data_prep.tokens.roles import SPECIAL_TOKENS, roles_of, settings_of, specials_of

_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")  # classes that take tokenizer.json as it is
_KEPT = ("add_prefix_space", "padding_side", "truncation_side")  # settings that go on with it
_CAPITALS = 0.01  # share of pieces with capital letters from which on a vocabulary is cased


def read(
    folder: Path | str,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    roles: Collection[str] = ("unk",),
) -> tuple[Tokenizer, dict[str, Any]]:
    """A folder's tokenizer, without padding and truncation, and its settings.

    lowercase, strip_accents: instead of the owner's, only for BERT's WordPiece. roles: special tokens that a vocab.txt
    must have (`transformers` would make up those that it lacks). Raises UserError if `transformers` cannot read the
    folder.
    """
    folder = checked(folder)
    _check(folder, {*roles, "unk"})
    owner, files = _owner(folder), settings_of(folder)
    if owner is None:
        tokenizer, named = tokenizer_of(folder / "tokenizer.json"), files
        inputs = files.get("model_input_names", ["input_ids", "attention_mask"])
    else:
        tokenizer, inputs = Tokenizer.from_str(owner.backend_tokenizer.to_str()), list(owner.model_input_names)
        tokens = {f"{role}_token": getattr(owner, f"{role}_token", None) for role in ROLES}
        named = {**files, **{name: token for name, token in tokens.items() if token is not None}}
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    _set_folding(tokenizer, folder, {"lowercase": lowercase, "strip_accents": strip_accents})
    settings = {f"{role}_token": token for role, token in roles_of(tokenizer, named).items()}
    settings |= {name: files[name] for name in _KEPT if name in files}
    return tokenizer, settings | {"model_input_names": inputs}


def specials(folder: Path | str) -> Specials:
    """The special ids of a folder's tokenizer."""
    return specials_of(*read(folder))


def contents(folder: Path | str) -> str:
    """A digest of the files that say how a folder's tokenizer reads."""
    folder = Path(folder).expanduser()
    files = [*folder.glob("*.json"), *folder.glob("*.txt"), *folder.glob("*.model")]
    return digest("".join(f"{path.name} {digest(mapped(path))}\n" for path in sorted(files)).encode())


def remarks(folder: Path | str, lowercase: bool | None = None) -> list[str]:
    """What is odd about a vocabulary of BERT's: sentences with numbers."""
    folder = Path(folder).expanduser()
    if (folder / "tokenizer.json").is_file() or not (folder / "vocab.txt").is_file():
        return []
    lines = (folder / "vocab.txt").read_bytes().decode("utf-8", "replace").removesuffix("\n").split("\n")
    sentences = []
    tokenizer, _ = read(folder, lowercase)
    repeated = len(lines) - len({line.rstrip() for line in lines})
    if repeated:
        sentences.append(
            f"{folder / 'vocab.txt'}: {repeated:,} of {len(lines):,} lines repeat another; the last one counts"
        )
    if lowercase is None and "do_lower_case" not in settings_of(folder) and _bert(tokenizer).get("lowercase"):
        special = tokenizer.get_added_tokens_decoder().values()
        ordinary = set(lines) - {token.content for token in special}
        cased = sum(any(map(str.isupper, piece)) and not piece.startswith("[unused") for piece in ordinary)
        if cased > _CAPITALS * len(lines):
            sentences.append(
                f"{folder}: {cased:,} of {len(lines):,} pieces have capital letters and are never used, for without "
                "do_lower_case in tokenizer_config.json texts are folded; set tokenizer.lowercase to false"
            )
    return sentences


def _owner(folder: Path) -> Any:
    """The tokenizer as `transformers` has it; None if only tokenizer.json matters."""
    named = settings_of(folder).get("tokenizer_class")
    has_class = named or "model_type" in _json(folder / "config.json")
    if (folder / "tokenizer.json").is_file() and (named in _GENERIC or not has_class):
        return None
    if has_class and any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        name = "AutoTokenizer"
    elif (folder / "vocab.txt").is_file():
        name = "BertTokenizer"
    else:
        raise UserError(
            f"{folder} holds neither tokenizer.json nor vocab.txt, nor another vocabulary of which config.json or "
            "tokenizer_config.json says whose it is; give a tokenizer's folder"
        )
    model = next(folder.glob("*.model"), None)
    others = [*folder.glob("tokenizer.json"), *folder.glob("vocab*")]
    if model and not others and not find_spec("sentencepiece"):
        raise UserError(
            f"{model} is a SentencePiece model, and its library is not installed: install it, or write tokenizer.json "
            "where it is: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        owner = open_as(folder, name)
    finally:
        logging.set_verbosity(level)
    if getattr(owner, "backend_tokenizer", None) is None:
        raise UserError(
            f"{folder}: {type(owner).__name__} is written in Python; save it as tokenizer.json or use another"
        )
    return owner


def _check(folder: Path, roles: Collection[str]) -> None:
    """UserError for files that cannot be what they are called."""
    if (folder / "tokenizer.json").is_file():
        tokenizer_of(folder / "tokenizer.json")
    elif (folder / "vocab.txt").is_file():
        try:
            pieces = set(map(str.rstrip, (folder / "vocab.txt").read_bytes().decode("utf-8").split("\n")))
        except UnicodeDecodeError as error:
            raise UserError(f"{folder / 'vocab.txt'} is not UTF-8 ({error}); save it as UTF-8") from error
        tokens = {**{f"{role}_token": token for role, token in SPECIAL_TOKENS.items()}, **settings_of(folder)}
        wanted = [tokens[f"{role}_token"] for role in SPECIAL_TOKENS if role in roles]
        names = [token["content"] if isinstance(token, dict) else str(token) for token in wanted]
        missing = [name for name in names if name not in pieces]
        if missing and not (folder / "added_tokens.json").is_file():
            raise UserError(f"{folder / 'vocab.txt'} has no line {' or '.join(missing)}; it is not BERT's vocabulary")


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except UnfitError as error:
        raise UserError(f"{path} cannot be used ({error}); mend it") from error


def _set_folding(tokenizer: Tokenizer, folder: Path, wanted: dict[str, bool | None]) -> None:
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        return
    spec = json.loads(tokenizer.to_str())
    normalizer = _bert(tokenizer, spec)
    if not normalizer:
        raise UserError(
            f"tokenizer.{next(iter(given))}: the tokenizer in {folder} is not BERT's WordPiece but has its own rules; "
            "leave it out"
        )
    normalizer |= given
    tokenizer.normalizer = Tokenizer.from_str(json.dumps(spec)).normalizer


def _bert(tokenizer: Tokenizer, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of BERT's normalizer in a tokenizer's; none if it has another."""
    normalizer = (spec or json.loads(tokenizer.to_str()))["normalizer"] or {}
    return next((n for n in normalizer.get("normalizers", [normalizer]) if n.get("type") == "BertNormalizer"), {})
