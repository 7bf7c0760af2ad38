"""A stranger's tokenizer.json takes neither time nor memory out of proportion to a text; published ones are opened."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.opening import pretrained as opening
from data_prep.opening.tokenizer_file import MOST_PIECES, costly
from data_prep.tokens import pretrained
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import load
from training.models.text.folder import open_tokenizer

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5}
MODEL = {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "[UNK]"}
PUBLISHED = [  # GPT-2, cl100k, o200k, DeepSeek, BLOOM, CLIP, digits in threes from the right
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*""",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
]
COSTLY = [
    *(r"(a+)+$", r"(a|aa)+$", r"(?>a+)+", r"(?<n>a+)+b", r"(?i)(a+)+", r"(a+){2,}", r"(?:a+b?)*c", r"(?:(?:(?:a*)))*"),
    *(r"(.*a){20}b", r"(?:a?){30}a{30}", r"a*a*a*a*b", r"(?=(a+))a*b\1", r"(\g<0>|a)b", r"((a{100}){100}){100}"),
    "a{9999}",
]  # fmt: skip


def folder_of(path: Path, **changes: Any) -> Path:
    path.mkdir(exist_ok=True)
    spec = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": MODEL}
    (path / "tokenizer.json").write_text(json.dumps({**spec, **changes}))
    return path


def replaced(content: str, times: int = 1) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * times}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def framed(count: int) -> dict[str, Any]:
    own = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    return {"type": "TemplateProcessing", "single": [own] * count + texts[:1], "pair": texts, "special_tokens": tokens}


def mapped_to(text: str) -> dict[str, Any]:
    table = struct.pack("<I", 4) + b"\0\0\0\0" + text.encode() + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


GREEDY: dict[str, tuple[str, dict[str, Any]]] = {
    "a costly pattern that splits": ("pattern", {"pre_tokenizer": split("(a+)+$")}),
    "one that replaces, inside a sequence": (
        "pattern",
        {"normalizer": {"type": "Sequence", "normalizers": [{**split("(a|aa)+$"), "type": "Replace", "content": ""}]}},
    ),
    "one that decodes": ("pattern", {"decoder": {**split("(a+)+$"), "type": "Replace", "content": ""}}),
    "growth by steps": ("1,000,000", {"normalizer": replaced("a" * 10, times=6)}),
    "growth by a table": ("as long", {"normalizer": mapped_to("x" * 1000)}),
    "a long start": ("around a text", {"normalizer": {"type": "Prepend", "prepend": "a" * 1000}}),
    "a long frame": ("around a text", {"post_processor": framed(1000)}),
    "long words": ("words", {"model": {**MODEL, "type": "WordPiece", "max_input_chars_per_word": 10**9,
                                       "continuing_subword_prefix": "##"}}),
    "a large number": ("4,000,000,000", {"model": {**MODEL, "vocab": {**VOCABULARY, "z": 4 * 10**9}}}),
    "a large added number": (
        f"{MOST_PIECES:,}",
        {"added_tokens": [{"id": MOST_PIECES, "content": "[X]", "special": True, "single_word": False, "lstrip": False,
                           "rstrip": False, "normalized": False}]},
    ),
    "parts of other types": ("not what", {"model": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("harm", GREEDY)
@pytest.mark.parametrize("opener", [load, pretrained.read, open_tokenizer])
def test_what_asks_for_too_much_is_refused(harm: str, opener: Any, tmp_path: Path) -> None:
    reason, changes = GREEDY[harm]
    with pytest.raises(UserError, match=reason):
        opener(folder_of(tmp_path, **changes))


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_patterns_are_opened(pattern: str, tmp_path: Path) -> None:
    assert not costly(pattern)
    assert load(folder_of(tmp_path, pre_tokenizer=split(pattern))).encode("a").ids == [5]


@pytest.mark.parametrize("pattern", COSTLY)
def test_costly_patterns_are_found(pattern: str) -> None:
    assert costly(pattern)


def test_small_growth_and_short_frames_are_opened(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, normalizer=replaced("a a"), post_processor=framed(2))
    assert load(folder).encode("a").ids == [2, 2, 5, 5]


def test_padding_and_truncation_of_a_file_are_not_taken_over(tmp_path: Path) -> None:
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    truncation = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    assert load(folder_of(tmp_path, padding=padding, truncation=truncation)).encode("a a").ids == [5, 5]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="at most 100 are read"):
        load(folder_of(tmp_path))
    (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match="more than 100 bytes"):
        open_tokenizer(tmp_path)


def test_a_folder_without_a_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="holds no tokenizer"):
        open_tokenizer(tmp_path)


def test_a_library_that_gives_up_on_a_text_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "checked_spec", lambda spec: None)
    tokenizer = load(folder_of(tmp_path, pre_tokenizer=split("(a+)+$")))
    with pytest.raises(UserError, match=r"gives up on a text \(.*retry-limit"):
        Encoder(tokenizer).encode(["a" * 40 + "b"])
