"""The special tokens of a tokenizer by their roles: from its settings, or else by their usual names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read_json
from data_prep.shards.rows import ROLES, Specials

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}  # BERT's
TOKENS = {**SPECIAL_TOKENS, "bos": "[BOS]", "eos": "[EOS]"}  # in the order of their ids
_ALIASES = {
    "pad": ["<pad>"],
    "unk": ["<unk>"],
    "cls": ["<s>"],
    "sep": ["</s>"],
    "mask": ["<mask>"],
    "bos": ["<s>", "<|endoftext|>"],
    "eos": ["</s>", "<|endoftext|>"],
}
_SENTINEL = re.compile(r"<extra_id_(\d+)>\Z")
SETTINGS = "tokenizer_config.json"


def specials_of(
    tokenizer: Tokenizer, settings: dict[str, Any], spell: Callable[[], Sequence[str]] | None = None
) -> Specials:
    """The special ids of a tokenizer. settings: what its `tokenizer_config.json` says."""
    ids = tokenizer.get_vocab(with_added_tokens=True)
    roles = {role: ids[token] for role, token in roles_of(tokenizer, settings).items()}
    sentinels = {int(match[1]): number for token, number in ids.items() if (match := _SENTINEL.match(token))}
    if sentinels and "pad" in roles:
        roles.setdefault("decoder_start", roles["pad"])
    added = tokenizer.get_added_tokens_decoder()
    return Specials(
        vocabulary=max(ids.values()) + 1,
        all=frozenset(token_id for token_id, token in added.items() if token.special),
        sentinels=[sentinels[number] for number in sorted(sentinels)],
        spell=spell,
        **roles,
    )


def roles_of(tokenizer: Tokenizer, settings: dict[str, Any]) -> dict[str, str]:
    """The token of each available role."""
    roles = {}
    for role in ROLES:
        token = settings.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        names = (
            [token] if token and isinstance(token, str) else [TOKENS[role], *_ALIASES[role]] if role in TOKENS else []
        )
        known_names = [name for name in names if tokenizer.token_to_id(name) is not None]
        if known_names:
            roles[role] = known_names[0]
    return roles


def ends_of(special: Specials) -> tuple[int | None, int | None]:
    """The ids that begin and end texts: [BOS] and [EOS], or else [CLS] and [SEP]. What ends texts begins none."""
    begin, end = (special.get(first) if special.get(first) is not None else special.get(second)
                  for first, second in (("bos", "cls"), ("eos", "sep")))  # fmt: skip
    return (None if begin == end else begin), end


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a tokenizer's folder; none where it has no file of them. UserError if they cannot be read."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", SETTINGS):
        path = folder / name
        if path.is_file():
            try:
                settings |= read_json(path)
            except UnfitError as error:
                raise UserError(f"{path} cannot be used ({error}); mend it or train again") from error
    return settings
