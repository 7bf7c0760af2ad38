"""A tokenizer brought along is read as its owner reads it: the ids are those of `transformers`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep.errors import UserError
from data_prep.opening.pretrained import tokenizer_of
from data_prep.tokens import pretrained
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, strips_accents, train
from tests.said import said

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [
    "the",
    "The",
    "caf",
    "##é",
    "##e",
    "café",
    "cafe",
    "か",
    "が",
    "##\u3099",
    "न",
    "##ह",
    "##ी",
    "北",
    "京",
    "北京",
]
PIECES += ["a\u2028b", "\u2028", "\x85", "\u3000", "", "the", "foo ", "\u200b", "!", "don", "'", "t", "i̇", "##ß"]
TEXTS = st.lists(st.sampled_from([*PIECES, "Café", "北京", "नही", "cafe\u0301", "[unused1]", "İ", "\x0b"]), max_size=8)
FOLDINGS = st.fixed_dictionaries(
    {},
    optional={
        "do_lower_case": st.booleans(),
        "strip_accents": st.sampled_from([None, True, False]),
        "tokenize_chinese_chars": st.booleans(),
        "tokenizer_class": st.sampled_from(["BertTokenizer", "BertTokenizerFast"]),
    },
)


def folder_of(folder: Path, pieces: list[str], settings: dict[str, Any] | None = None, line_end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_bytes((line_end.join(pieces) + line_end).encode())
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=20),
    line_end=st.sampled_from(["\n", "\r\n"]),
    folding=FOLDINGS,
    texts=st.lists(st.one_of(TEXTS.map(" ".join), TEXTS.map("".join), st.text(max_size=9)), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_ids_are_the_owners(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[str],
    line_end: str,
    folding: dict[str, Any],
    texts: list[str],
) -> None:
    from transformers import BertTokenizer

    folder = folder_of(tmp_path_factory.mktemp("theirs"), [*SPECIAL, *pieces], folding, line_end)
    owner, (ours, _) = BertTokenizer.from_pretrained(folder), pretrained.read(folder)
    assert [ours.encode(text).ids for text in texts] == owner(texts)["input_ids"]
    pairs = [(texts[0], text) for text in texts]
    assert [ours.encode(*pair).ids for pair in pairs] == owner(pairs)["input_ids"]
    out = tmp_path_factory.mktemp("ours")
    train(TokenizerConfig(kind="pretrained", path=str(folder)), [], out)
    assert [load(out).encode(text).ids for text in texts] == owner(texts)["input_ids"]


def test_separators_inside_a_line_do_not_shift_the_ids_after_them(tmp_path: Path) -> None:
    """As in bert-base-chinese, whose vocabulary has U+2028."""
    folder = folder_of(tmp_path / "theirs", [*SPECIAL, "\u2028", "\x85", "a\x0cb", "\x1c", "the", "end"])
    tokenizer, _ = pretrained.read(folder)
    assert tokenizer.encode("The end").ids == [2, 9, 10, 3]
    assert pretrained.specials(folder).vocabulary == 11


def test_the_owners_tokens_and_settings_go_on(tmp_path: Path) -> None:
    settings = {"unk_token": "<unk>", "mask_token": "<m>", "do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    folder = folder_of(tmp_path / "theirs", ["[PAD]", "<unk>", "[CLS]", "[SEP]", "<m>", "the"], settings)
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["[E1]"]}))
    (folder / "added_tokens.json").write_text(json.dumps({"[E1]": 6, "new word": 7}))
    train(TokenizerConfig(kind="pretrained", path=str(folder)), [], tmp_path / "ours")
    assert load(tmp_path / "ours").encode("the new word <m> The").ids == [2, 5, 7, 1, 1, 1, 1, 3]  # "<m>" is text
    special_ids = specials(tmp_path / "ours")
    assert (special_ids.unk, special_ids.mask, special_ids.vocabulary) == (1, 4, 8) and 7 not in special_ids.all


def test_folding_may_be_set_by_hand(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "theirs", [*SPECIAL, "The", "the", "café", "cafe"], {"do_lower_case": True})
    for lowercase, strip, ids in [
        (None, None, [6, 8]),
        (False, None, [5, 7]),
        (None, False, [6, 7]),
        (False, True, [5, 8]),
    ]:
        tokenizer, _ = pretrained.read(folder, lowercase, strip)
        assert tokenizer.encode("The café", add_special_tokens=False).ids == ids


def test_other_tokenizers_have_their_own_rules(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(
        UserError, match=r"tokenizer.lowercase: .* is not BERT's WordPiece but has its own rules; leave it"
    ):
        pretrained.read(tmp_path, lowercase=True)
    assert pretrained.read(tmp_path)[0].encode("the").ids == [1]


def test_byte_level_bpe_of_a_vocabulary_and_its_merges(tmp_path: Path) -> None:
    from transformers import GPT2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: number for number, piece in enumerate([*alphabet, "Ġt", "Ġth", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ t\nĠt h\n")
    with pytest.raises(UserError, match=r"nor another vocabulary of which config.json"):
        pretrained.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    ours, settings = pretrained.read(tmp_path)
    text = "a the\u2028é 北 \n  th"
    assert ours.encode(text).ids == GPT2Tokenizer.from_pretrained(tmp_path)(text)["input_ids"]
    assert settings["model_input_names"] == ["input_ids", "attention_mask"] and settings["eos_token"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.txt": b"the\n[UNK]\n[PAD]"}, r"has no line \[CLS\] or \[SEP\] or \[MASK\]"),
        ({"vocab.txt": b"[UNK]\n\xff"}, "is not UTF-8"),
        ({"vocab.txt": "\n".join(SPECIAL).encode(), "config.json": b"{"}, "config.json is no JSON"),
        (
            {"spiece.model": b"", "config.json": b'{"model_type": "t5"}'},
            "spiece.model is a SentencePiece",
        ),
        (
            {"vocab.json": b"{}", "tokenizer_config.json": b'{"tokenizer_class": "NobodysTokenizer"}'},
            "cannot be opened as AutoTokenizer",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        pretrained.read(tmp_path, roles=["pad", "cls", "sep", "mask"])


def test_what_is_odd_about_a_vocabulary_is_said_with_a_number(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [*SPECIAL, "The", "the", "the", "the ", "END"])
    repeated, cased = pretrained.remarks(folder)
    assert said("2 of 10 lines repeat another; the last one counts", repeated)
    assert said("2 of 10 pieces have capital letters and are never used", cased)
    assert pretrained.remarks(folder, lowercase=False) == [repeated]


def test_the_digest_follows_the_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [*SPECIAL, "the"])
    before = pretrained.contents(folder)
    folder_of(tmp_path, [*SPECIAL, "end"])
    assert pretrained.contents(folder) != before


def test_a_pretrained_tokenizer_reads_what_was_cleaned(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "theirs", [*SPECIAL, "café", "end"], {"do_lower_case": False})
    train(TokenizerConfig(kind="pretrained", path=str(folder)), [], tmp_path / "ours", Cleaning())
    assert load(tmp_path / "ours").encode("cafe\u0301\x0bend").ids == [2, 5, 6, 3]


# ------------------------------------------------------------------ accents


@lru_cache
def warned(text: str, folder: Path, **config: Any) -> list[str]:
    settings = TokenizerConfig(vocabulary=300, **config)
    said = train(settings, [text] * 50, folder).get("remarks", [])
    assert strips_accents(settings) or not said
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("नमस्ते दुनिया", "150 from 600 letters of Devanagari"),
        ("がぎぐ かたかな", "150 from 350 letters of Hiragana"),
        ("ที่นี่ ร้อน", "250 from 500 letters of Thai"),
        ("Tiếng Việt có dấu", "of Latin"),
        ("Le café est déjà fermé, à demain ; il y avait beaucoup de gens sur la terrasse du restaurant", ""),
        ("naïve Straße 北京 각하", ""),
    ],
)
def test_marks_that_spell_words_are_counted(tmp_path: Path, text: str, said: str) -> None:
    (warning,) = warned(text, tmp_path, lowercase=True) or [""]
    assert said in warning and bool(said) == bool(warning)
    assert warned(text, tmp_path, lowercase=True, strip_accents=False) == []
    assert warned(text, tmp_path, lowercase=True, kind="byte-bpe") == []
    assert warned(text, tmp_path, kind="character", strip_accents=True) == ([warning] if said else [])


def test_marks_stay_where_nothing_strips_them(tmp_path: Path) -> None:
    text = "नमस्ते दुनिया が"
    for kind in ("wordpiece", "character"):
        train(TokenizerConfig(kind=kind, vocabulary=100, lowercase=True, strip_accents=False), [text] * 9, tmp_path)
        tokenizer = load(tmp_path)
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_ids_beyond_all_tokens_take_no_memory(tmp_path: Path) -> None:
    """Tables are made by id: this one would have taken 32 GiB."""
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 2**32 - 1}, "unk_token": "[UNK]"}
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    with pytest.raises(UserError, match=r"is not a tokenizer \(it has a token with the number 4,294,967,295, "):
        tokenizer_of(file)
