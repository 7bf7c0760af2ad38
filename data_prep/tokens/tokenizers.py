"""Tokenizers: trained on a corpus or pretrained, always in the format of `transformers`.

A tokenizer's folder holds `tokenizer.json` and `tokenizer_config.json`;
`AutoTokenizer.from_pretrained(folder)` gives the same ids as `load(folder)`. Special tokens of the
trained kinds are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, unless `roles` asks for others; where
there are [CLS] and [SEP], texts become [CLS] A [SEP] and [CLS] A [SEP] B [SEP] with token types 0 and 1.

    wordpiece   pieces of words, inside a word with ## in front (Schuster and Nakajima 2012; BERT)
    byte-bpe    merged bytes, a space is part of the word after it (Radford et al. 2019); no [UNK]
    character   one Unicode character is one token, of any script, white space included
    pretrained  copied from a folder, with padding and truncation switched off

Training is deterministic: the same sentences give the same file, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from data_prep.errors import UserError
from data_prep.shards.rows import ROLES, Specials
from data_prep.tokens import wordpiece
from data_prep.tokens.detokenize import Pieces

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}  # BERT's
_TOKENS = {**SPECIAL_TOKENS, "bos": "[BOS]", "eos": "[EOS]"}  # in the order of their ids
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
Role = Literal["pad", "unk", "cls", "sep", "mask", "bos", "eos", "decoder_start"]


class TokenizerConfig(BaseModel):
    """Which tokenizer, and how large."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: Literal["wordpiece", "byte-bpe", "character", "pretrained"] = "wordpiece"
    """Algorithm that splits text into tokens; pretrained: a tokenizer that exists already."""
    vocabulary: int = Field(default=8192, ge=16)
    """Maximum number of ids, including special tokens (not for pretrained)."""
    lowercase: bool = False
    """Fold to lower case; wordpiece also strips accents then, as BERT's uncased models do."""
    path: str | None = None
    """Folder of a pretrained tokenizer: `tokenizer.json`, or BERT's `vocab.txt`."""
    roles: list[Role] = Field(default=["pad", "unk", "cls", "sep", "mask"])
    """Special tokens that it has (pretrained: must have); decoder_start is the token of pad, as for T5."""
    sentinels: int = Field(default=0, ge=0)
    """Number of tokens that stand for spans; they get the last ids, from the last one down (T5: 100)."""

    @property
    def tokens(self) -> dict[str, str]:
        """The special tokens of a trained tokenizer by role, in the order of their ids."""
        return {role: token for role, token in _TOKENS.items() if role in self.roles}

    @model_validator(mode="after")
    def _is_possible(self) -> TokenizerConfig:
        if (self.path is not None) != (self.kind == "pretrained"):
            shown = "none" if self.path is None else f"{self.path!r} with kind {self.kind!r}"
            raise ValueError(f"'path' belongs to kind 'pretrained' and only to it; found {shown}")
        if self.kind in ("wordpiece", "character") and "unk" not in self.roles:
            raise ValueError(f"{self.kind} needs a token for what it has no piece for: add unk to roles")
        if self.kind != "pretrained" and "decoder_start" in self.roles and "pad" not in self.roles:
            raise ValueError("decoder_start is the token of pad: add pad to roles")
        minimum = (256 if self.kind == "byte-bpe" else 1) + len(self.tokens) + self.sentinels
        if self.kind != "pretrained" and self.vocabulary < minimum:
            raise ValueError(f"{self.kind} needs a vocabulary of at least {minimum}, found {self.vocabulary}")
        return self


def train(config: TokenizerConfig, sentences: Iterable[str], out_dir: Path) -> dict[str, Any]:
    """Train (or copy) a tokenizer into `out_dir` in one pass over the sentences; returns a summary.

    Raises `UserError` if there is no text, or if a pretrained tokenizer lacks special tokens that
    rows need.
    """
    out_dir = Path(out_dir)
    settings: dict[str, Any] = {}
    if config.kind == "pretrained":
        tokenizer, settings = _pretrained(config)
    else:
        sentences = _some(sentences)
        trained = {"wordpiece": _wordpiece, "byte-bpe": _byte_bpe, "character": _character}
        tokenizer = trained[config.kind](config, sentences)
        settings = {f"{role}_token": token for role, token in config.tokens.items()}
        if "decoder_start" in config.roles:
            settings["decoder_start_token"] = _TOKENS["pad"]
        if config.kind == "byte-bpe":
            settings["add_prefix_space"] = True
    has_pairs = config.kind == "pretrained" or {"cls", "sep"} <= set(config.roles)
    settings |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", *(["token_type_ids"] if has_pairs else []), "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out_dir / "tokenizer.json"))
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out_dir / "tokenizer_config.json").write_text(text, encoding="utf-8")
    special = specials(out_dir)
    return {
        "kind": config.kind,
        "vocabulary": special.vocabulary,
        "specials": dict(special.roles),
    }


def load(folder: Path | str, specials_in_text: bool = False) -> Tokenizer:
    """The tokenizer of a folder. Unless `specials_in_text`, "[MASK]" in a text is ordinary text, not
    a mask.

    `AutoTokenizer` reads such words as special tokens, for prompts; in data they occur by accident.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no tokenizer.json; train a tokenizer first")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise UserError(f"{path} is not a tokenizer ({error}); train it again") from error
    tokenizer.encode_special_tokens = not specials_in_text
    return tokenizer


def line_break(tokenizer: Tokenizer) -> int | None:
    """The token of a line break, as a byte, a character or a byte-fallback piece; None if there is none."""
    candidates = (tokenizer.token_to_id(piece) for piece in ("Ċ", "\n", "<0x0A>"))
    return next((number for number in candidates if number is not None), None)


def specials(folder: Path | str) -> Specials:
    """The special ids of a tokenizer's folder, by the roles in its settings, or else by their usual names.

    Tokenizers like those of BERT, GPT-2, Llama and T5 all load; code that needs a missing role raises the error.
    """
    tokenizer = load(folder)
    return _specials(tokenizer, _settings(Path(folder)), partial(_texts, folder))


def _texts(folder: Path | str) -> list[str]:
    """The text of every id of a folder's vocabulary."""
    tokenizer, special_ids = load(folder), specials(folder)
    pieces = Pieces(tokenizer, special_ids)
    return [pieces.texts([number])[0] for number in range(special_ids.vocabulary)]


def _specials(
    tokenizer: Tokenizer, settings: dict[str, Any], spell: Callable[[], Sequence[str]] | None = None
) -> Specials:
    ids = tokenizer.get_vocab(with_added_tokens=True)
    roles = {role: ids[token] for role, token in _roles(tokenizer, settings).items()}
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


def _roles(tokenizer: Tokenizer, settings: dict[str, Any]) -> dict[str, str]:
    """The token of each available role: from the settings, or else by the usual names."""
    roles = {}
    for role in ROLES:
        token = settings.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        names = [token] if token else [_TOKENS[role], *_ALIASES[role]] if role in _TOKENS else []
        known_names = [name for name in names if tokenizer.token_to_id(name) is not None]
        if known_names:
            roles[role] = known_names[0]
    return roles


def _settings(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file():
            try:
                settings |= json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, TypeError) as error:
                raise UserError(f"{path} is not a JSON object ({error}); mend it or train again") from error
    return settings


def _some(sentences: Iterable[str]) -> Iterator[str]:
    iterator = iter(sentences)
    first = next((sentence for sentence in iterator if sentence.strip()), None)
    if first is None:
        raise UserError("there is no text to train a tokenizer on; its training split is empty")
    return chain([first], iterator)


def _wordpiece(config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    words = wordpiece.count_words(sentences, normalizer)
    ids = wordpiece.learn(words, config.vocabulary - config.sentinels, list(config.tokens.values()))
    model = models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix="##")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return _finished(tokenizer, config)


def _byte_bpe(config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if config.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary - config.sentinels,
        min_frequency=wordpiece.MIN_COUNT,
        special_tokens=list(config.tokens.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return _finished(tokenizer, config)


def _character(config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    normalizer = normalizers.Lowercase() if config.lowercase else None
    counts: Counter[str] = Counter()
    for chunk in wordpiece.chunks(sentences):
        counts.update(normalizer.normalize_str(chunk) if normalizer else chunk)
    for always in " \n":
        counts.pop(always, None)
    ranked = [character for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    vocabulary = [*config.tokens.values(), " ", "\n", *ranked][: config.vocabulary - config.sentinels]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return _finished(tokenizer, config)


def _finished(tokenizer: Tokenizer, config: TokenizerConfig) -> Tokenizer:
    """Add the special tokens and the template of rows: BERT's, T5's (EOS, if there are sentinels), or none."""
    tokenizer.add_special_tokens(list(config.tokens.values()))
    tokenizer.add_special_tokens([f"<extra_id_{number}>" for number in reversed(range(config.sentinels))])
    tokens = config.tokens
    if not {"cls", "sep"} <= tokens.keys():
        if "eos" in tokens and config.sentinels:
            eos = tokens["eos"]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, tokenizer.token_to_id(eos))]
            )
        return tokenizer
    cls, sep = tokens["cls"], tokens["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return tokenizer


def _pretrained(config: TokenizerConfig) -> tuple[Tokenizer, dict[str, Any]]:
    folder = Path(config.path or "").expanduser()
    vocabulary = folder / "vocab.txt"
    settings = _settings(folder)
    if (folder / "tokenizer.json").is_file():
        tokenizer = load(folder)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    elif vocabulary.is_file():
        lowercase = settings.get("do_lower_case", config.lowercase)
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        ids = {piece: number for number, piece in enumerate(lines)}
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix="##")
        missing = [token for token in config.tokens.values() if token not in ids]
        if missing:
            raise UserError(f"{vocabulary} has no line {' or '.join(missing)}; it is not BERT's vocabulary")
        tokenizer = _finished(tokenizer, config)
    else:
        raise UserError(f"{folder} holds neither tokenizer.json nor vocab.txt; give a tokenizer's folder")
    special_tokens = _specials(tokenizer, settings)
    missing = [role for role in config.roles if special_tokens.get(role) is None]
    if missing:
        has = ", ".join(role for role, _ in special_tokens.roles) or "none"
        raise UserError(
            f"the tokenizer in {folder} has no token for {', '.join(missing)} (it has {has}): "
            "leave out of tokenizer.roles what rows do without, or use another tokenizer"
        )
    special_tokens.need_sentinels(config.sentinels, f"tokenizer.sentinels of {folder}")
    kept_settings = {f"{role}_token": token for role, token in _roles(tokenizer, settings).items()}
    if "add_prefix_space" in settings:
        kept_settings["add_prefix_space"] = settings["add_prefix_space"]
    return tokenizer, kept_settings
