"""Tokenizers: trained on a corpus or pretrained, always in the format of `transformers`.

A tokenizer's folder holds `tokenizer.json` and `tokenizer_config.json`;
`AutoTokenizer.from_pretrained(folder)` gives the same ids as `load(folder)`. Special tokens of the
trained kinds are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, unless `roles` asks for others; where
there are [CLS] and [SEP], texts become [CLS] A [SEP] and [CLS] A [SEP] B [SEP] with token types 0 and 1.

    wordpiece   pieces of words, inside a word with ## in front (Schuster and Nakajima 2012; BERT)
    byte-bpe    merged bytes, a space is part of the word after it (Radford et al. 2019); no [UNK];
                decoded, the ids of a clean text are that text
    word        words that occur often enough, by frequency; others are [UNK] (Mikolov et al. 2013)
    character   one Unicode character is one token, of any script, white space included
    pretrained  that of a folder, read as `transformers` reads it (`data_prep.tokens.pretrained`)

Texts are cleaned before anything else, as the corpus was (`data_prep.tokens.cleaning`): by `tokenizer.json` itself, and
so wherever it is opened.

Training is deterministic: the same sentences give the same file, byte for byte.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
from data_prep.opening.pretrained import tokenizer_of
from data_prep.shards.rows import Specials
from data_prep.tokens import accents, pretrained
from data_prep.tokens.cleaning import Cleaning, add_cleaning
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.encoder import line_break
from data_prep.tokens.roles import SETTINGS, SPECIAL_TOKENS, TOKENS, settings_of, specials_of
from data_prep.tokens.vocabulary import extension, word, wordpiece

__all__ = ["SPECIAL_TOKENS", "TokenizerConfig", "load", "specials", "spells_white_space", "strips_accents", "train"]

MOST_IDS = 1 << 24  # of a vocabulary
Role = Literal["pad", "unk", "cls", "sep", "mask", "bos", "eos", "decoder_start"]


class TokenizerConfig(BaseModel):
    """Which tokenizer, and how large."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["wordpiece", "byte-bpe", "word", "character", "pretrained"] = "wordpiece"
    """Algorithm that splits text into tokens; pretrained: an existing tokenizer."""
    vocabulary: int = Field(default=8192, ge=16, le=MOST_IDS)
    """Maximum number of ids, including special tokens (not for pretrained)."""
    min_count: int | None = Field(default=None, ge=1)
    """Fewest times that a word occurs to have an id (word); null: 5."""
    lowercase: bool | None = None
    """Fold to lower case; null: as a pretrained tokenizer's owner does, otherwise no."""
    strip_accents: bool | None = None
    """Remove accents, and with them vowel signs of Indic and Thai scripts and the dakuten of kana; null: a pretrained
    tokenizer as its owner does, wordpiece where it folds to lower case (as BERT's uncased models do), others not."""
    path: str | None = None
    """Folder of a pretrained tokenizer: `tokenizer.json`, BERT's `vocab.txt`, or others that `transformers` opens; by
    default that of the network that training starts from (train.start)."""
    add: int = Field(default=0, ge=0, le=MOST_IDS)
    """Number of pieces of the training text to add to a pretrained tokenizer: those that save the most tokens."""
    roles: list[Role] = Field(default=["pad", "unk", "cls", "sep", "mask"])
    """Special tokens that it has (pretrained: must have); decoder_start is the token of pad, as for T5."""
    sentinels: int = Field(default=0, ge=0, le=MOST_IDS)
    """Number of tokens that stand for spans; they get the last ids, from the last one down (T5: 100)."""

    @property
    def tokens(self) -> dict[str, str]:
        """The special tokens of a trained tokenizer by role, in the order of their ids."""
        return {role: token for role, token in TOKENS.items() if role in self.roles}

    @property
    def counts(self) -> bool:
        """Whether it says how often each token occurred (`data_prep.tokens.vocabulary.word`)."""
        return self.kind == "word"

    @model_validator(mode="after")
    def _is_possible(self) -> TokenizerConfig:
        if self.path is not None and self.kind != "pretrained":
            raise ValueError(
                f"'path' belongs to kind 'pretrained' and only to it; found {self.path!r} with kind {self.kind!r}"
            )
        if self.add and self.kind != "pretrained":
            raise ValueError(f"'add' belongs to kind 'pretrained' and only to it; found kind {self.kind!r}")
        if self.min_count is not None and not self.counts:
            raise ValueError(f"'min_count' belongs to kind 'word' and only to it; found kind {self.kind!r}")
        if self.kind in ("wordpiece", "word", "character") and "unk" not in self.roles:
            raise ValueError(f"{self.kind} needs a token for what it has no piece for: add unk to roles")
        if self.kind != "pretrained" and "decoder_start" in self.roles and "pad" not in self.roles:
            raise ValueError("decoder_start is the token of pad: add pad to roles")
        minimum = (256 if self.kind == "byte-bpe" else 1) + len(self.tokens) + self.sentinels
        if self.kind != "pretrained" and self.vocabulary < minimum:
            raise ValueError(f"{self.kind} needs a vocabulary of at least {minimum}, found {self.vocabulary}")
        return self


def train(
    config: TokenizerConfig,
    sentences: Iterable[str],
    out_dir: Path,
    cleaning: Cleaning | None = None,
    mixture: Sequence[tuple[Iterable[str], float]] = (),
) -> dict[str, Any]:
    """Train (or copy) a tokenizer into `out_dir` in one pass over the sentences; returns a summary.

    cleaning: how the sentences were cleaned; the tokenizer then does the same to every text. mixture: for new pieces
    (`add`), instead of sentences: those of each part of a mixture, and how often one of them counts. The summary has
    sentences about what is odd under `remarks`, if there is anything. Raises `UserError` if there is no text, or if a
    pretrained tokenizer lacks special tokens that rows need.
    """
    out_dir = Path(out_dir)
    remarks: list[str] = []
    counts: list[int] = []  # of a vocabulary of words
    settings: dict[str, Any] = {}
    extended: extension.Extension | None = None
    sentences = accents.Watched(sentences)
    parts = [(accents.Watched(texts), factor) for texts, factor in mixture]
    if config.kind == "pretrained":
        tokenizer, settings = _pretrained(config)
        remarks += pretrained.remarks(config.path or "", config.lowercase)
        if config.add:
            extended = extension.extend(tokenizer, parts or [(_not_empty(sentences), 1.0)], config.add)
            tokenizer = extended.tokenizer
            remarks += _few_added(extended, config.add)
    else:
        trained = {"wordpiece": _wordpiece, "byte-bpe": _byte_bpe, "character": _character}
        trained["word"] = partial(_word, counts)
        tokenizer = trained[config.kind](config, _not_empty(sentences))
        settings = {f"{role}_token": token for role, token in config.tokens.items()}
        if "decoder_start" in config.roles:
            settings["decoder_start_token"] = TOKENS["pad"]
        if config.kind == "byte-bpe":
            settings["add_prefix_space"] = False
        types = ["token_type_ids"] if {"cls", "sep"} <= set(config.roles) else []
        settings["model_input_names"] = ["input_ids", *types, "attention_mask"]
    if accents.are_stripped(tokenizer):
        if config.kind == "pretrained" and extended is None:
            sentences.look()
        remarks += accents.warnings(sum((texts.characters for texts, _ in parts), sentences.characters))
    if cleaning:
        add_cleaning(tokenizer, cleaning)
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out_dir / "tokenizer.json"))
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out_dir / SETTINGS).write_text(text, encoding="utf-8")
    if counts:
        word.write_counts(out_dir, counts)
    if extended:
        extension.write(extended.added, out_dir)
    special = specials(out_dir)
    about = {"added": len(extended.added.pieces), "tokens_of_text": extended[2:]} if extended else {}
    return {
        "kind": config.kind,
        "vocabulary": special.vocabulary,
        "specials": dict(special.roles),
        **about,
        **({"remarks": remarks} if remarks else {}),
    }


def _few_added(extended: extension.Extension, wanted: int) -> list[str]:
    """A sentence where the text has not as many new pieces as asked for."""
    number = len(extended.added.pieces)
    if number == wanted:
        return []
    return [f"tokenizer.add: {number:,} new pieces of {wanted:,} are in the training text often enough to save tokens"]


def strips_accents(config: TokenizerConfig) -> bool:
    """Whether a tokenizer removes marks from letters, known before it is trained."""
    if config.kind == "pretrained":
        return accents.are_stripped(pretrained.read(config.path or "", config.lowercase, config.strip_accents)[0])
    folds = bool(config.lowercase) and config.kind in ("wordpiece", "word")
    return folds if config.strip_accents is None else config.strip_accents


def spells_white_space(config: TokenizerConfig) -> bool:
    """Whether white space is tokens as all text is, known before a tokenizer is trained."""
    if config.path is None:
        return config.kind in ("byte-bpe", "character")
    return Path(config.path).expanduser().is_dir() and line_break(pretrained.read(config.path)[0]) is not None


def load(folder: Path | str, specials_in_text: bool = False) -> Tokenizer:
    """The tokenizer of a folder. Unless `specials_in_text`, "[MASK]" in a text is ordinary text, not
    a mask.

    `AutoTokenizer` reads such words as special tokens, for prompts; in data they occur by accident.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no tokenizer.json; train a tokenizer first")
    tokenizer = tokenizer_of(path)
    tokenizer.encode_special_tokens = not specials_in_text
    return tokenizer


def specials(folder: Path | str) -> Specials:
    """The special ids of a tokenizer's folder, by the roles in its settings, or else by their usual names.

    Tokenizers like those of BERT, GPT-2, Llama and T5 all load; code that needs a missing role raises the error.
    """
    tokenizer = load(folder)
    return specials_of(tokenizer, settings_of(Path(folder)), partial(_texts, folder))


def _texts(folder: Path | str) -> list[str]:
    """The text of every id of a folder's vocabulary."""
    tokenizer, special_ids = load(folder), specials(folder)
    pieces = Pieces(tokenizer, special_ids)
    return [pieces.texts([number])[0] for number in range(special_ids.vocabulary)]


def _not_empty(sentences: Iterable[str]) -> Iterator[str]:
    iterator = iter(sentences)
    first = next((sentence for sentence in iterator if sentence.strip()), None)
    if first is None:
        raise UserError("there is no text to train a tokenizer on; its training split is empty")
    return chain([first], iterator)


def _wordpiece(config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    normalizer = _bert_normalizer(config)
    words = wordpiece.count_words(sentences, normalizer)
    ids = wordpiece.learn(words, config.vocabulary - config.sentinels, list(config.tokens.values()))
    return _of_bert(ids, normalizer, config)


def _word(counts: list[int], config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    """BERT's tokenizer without any piece that continues a word; `counts` is filled with those of its ids."""
    normalizer, special_tokens = _bert_normalizer(config), list(config.tokens.values())
    words = wordpiece.count_words(sentences, normalizer)
    least = word.MIN_COUNT if config.min_count is None else config.min_count
    ids = word.learn(words, config.vocabulary - config.sentinels, least, special_tokens)
    counts += [0 if token in special_tokens else words[token] for token in ids] + [0] * config.sentinels
    return _of_bert(ids, normalizer, config)


def _bert_normalizer(config: TokenizerConfig) -> Any:
    return normalizers.BertNormalizer(lowercase=bool(config.lowercase), strip_accents=config.strip_accents)


def _of_bert(ids: dict[str, int], normalizer: Any, config: TokenizerConfig) -> Tokenizer:
    model = models.WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix="##")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return _finished(tokenizer, config)


def _byte_bpe(config: TokenizerConfig, sentences: Iterator[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if folding := _folding(config):
        tokenizer.normalizer = folding
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
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
    normalizer = _folding(config)
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


def _folding(config: TokenizerConfig) -> Any:
    """What a tokenizer without BERT's normalizer does to letters; None: nothing."""
    strip = [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()] if config.strip_accents else []
    steps = [*strip, *([normalizers.Lowercase()] if config.lowercase else [])]
    return normalizers.Sequence(steps) if len(steps) > 1 else steps[0] if steps else None


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
    tokenizer, settings = pretrained.read(folder, config.lowercase, config.strip_accents, config.roles)
    special_tokens = specials_of(tokenizer, settings)
    missing = [role for role in config.roles if special_tokens.get(role) is None]
    if missing:
        has = ", ".join(role for role, _ in special_tokens.roles) or "none"
        raise UserError(
            f"the tokenizer in {folder} has no token for {', '.join(missing)} (it has {has}): "
            "leave out of tokenizer.roles what rows do without, or use another tokenizer"
        )
    special_tokens.need_sentinels(config.sentinels, f"tokenizer.sentinels of {folder}")
    return tokenizer, settings
