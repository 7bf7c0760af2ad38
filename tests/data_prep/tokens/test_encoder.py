"""Looking words up gives the tokenizer's own ids, whatever the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from data_prep.tokens import encoder as module
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import TokenizerConfig, load, train

TEXT = [
    "The quick brown fox jumps over the lazy dog; the naïve Dog's café isn't open, is it?",
    "学而时习之，不亦说乎？ Two words. 有朋自远方来！",
    "42 numbers, 3.14 and 1,000,000 – re-read “quoted” (text)… İstanbul ΟΔΟΣ Straße e\u0301te\u0301 👩‍👩‍👧",
]
KINDS = {
    "wordpiece": TokenizerConfig(kind="wordpiece", vocabulary=120),
    "uncased": TokenizerConfig(kind="wordpiece", vocabulary=120, lowercase=True),
    "byte-bpe": TokenizerConfig(kind="byte-bpe", vocabulary=300),
    "lower-bpe": TokenizerConfig(kind="byte-bpe", vocabulary=300, lowercase=True),
    "character": TokenizerConfig(kind="character", vocabulary=70),
    "lower-character": TokenizerConfig(kind="character", vocabulary=70, lowercase=True),
}
WORDS = [
    *sorted({word for text in TEXT for word in text.split()}),
    "[MASK]",
    "",
    "\n",
    "\t",
    "\xa0",
    "\u3000",
    "\0",
    "a\nb",
]
ANY = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folders: dict[str, Path] = {name: tmp_path_factory.mktemp(name) for name in KINDS}
    for name, config in KINDS.items():
        train(config, TEXT * 3, folders[name])
    loaded = {name: load(folder) for name, folder in folders.items()}
    loaded["gpt2"] = load(folders["byte-bpe"])
    loaded["gpt2"].pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    loaded["other"] = load(folders["wordpiece"])
    loaded["other"].normalizer = normalizers.Replace(" ", "-")  # spaces matter: must not be looked up by words
    return loaded


def plain(tokenizer: Tokenizer, sentences: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(sentences, add_special_tokens=False)]


def looked_up(encoder: Encoder, sentences: list[str] | pa.StringArray) -> list[list[int]]:
    encoded = encoder.encode(sentences)
    return [encoded.row(number).tolist() for number in range(len(encoded))]


@pytest.mark.parametrize("kind", [*KINDS, "gpt2", "other"])
@settings(deadline=None)
@given(
    batches=st.lists(
        st.lists(
            st.one_of(st.lists(st.one_of(st.sampled_from(WORDS), ANY), max_size=6).map(" ".join), ANY), max_size=5
        ),
        max_size=3,
    )
)
def test_the_ids_are_the_tokenizers_own(tokenizers: dict[str, Tokenizer], kind: str, batches: list[list[str]]) -> None:
    encoder = Encoder(tokenizers[kind])
    for sentences in batches:
        expected = plain(tokenizers[kind], sentences)
        assert looked_up(encoder, sentences) == expected
        column = pa.array(["left out", *sentences], pa.string())
        assert looked_up(encoder, column[1:]) == expected


@pytest.mark.parametrize("kind", [*KINDS, "gpt2"])
def test_words_met_before_do_not_reach_the_tokenizer(
    tokenizers: dict[str, Tokenizer], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tokenizers[kind])
    expected = plain(tokenizers[kind], TEXT)
    assert looked_up(encoder, TEXT) == expected
    monkeypatch.setattr(encoder, "_plain", lambda sentences: pytest.fail(f"asked for {sentences}"))
    assert looked_up(encoder, TEXT[::-1]) == expected[::-1]


def test_forgetting_changes_nothing(tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CHUNKS", 5)
    encoder = Encoder(tokenizers["uncased"])
    for _ in range(3):
        assert looked_up(encoder, TEXT) == plain(tokenizers["uncased"], TEXT)
        assert not encoder._numbers and not len(encoder._known)


def test_large_vocabularies_take_32_bits(tokenizers: dict[str, Tokenizer]) -> None:
    assert Encoder(tokenizers["uncased"]).encode(["fox"]).values.dtype == np.uint16
    tokenizer = Tokenizer.from_str(tokenizers["uncased"].to_str())
    tokenizer.add_special_tokens([f"<{number}>" for number in range(66_000)])
    assert Encoder(tokenizer).encode(["fox"]).values.dtype == np.uint32


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("wordpiece", len("wörd☃") + 1), ("character", 3), ("byte-bpe", 0)],
)
def test_unknown_characters_are_counted(tokenizers, name, unknown):
    """A word of which WordPiece cannot spell a letter is unknown as a whole."""
    encoder, sentences = Encoder(tokenizers[name]), pa.array(["The wörd☃ ☃", "The", "", "The"])
    assert encoder.unknown_characters(sentences, encoder.encode(sentences)) == unknown


def test_unknown_characters_of_many_sentences_are_estimated(tokenizers, monkeypatch):
    monkeypatch.setattr(module, "MOST_COUNTED", 2)
    encoder, sentences = Encoder(tokenizers["wordpiece"]), pa.array(["wörd☃"] * 6 + ["The"])
    assert encoder.unknown_characters(sentences, encoder.encode(sentences)) == 30
