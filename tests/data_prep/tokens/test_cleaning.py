"""One text, one treatment: a tokenizer cleans as the corpus was cleaned, so equal texts have equal ids everywhere."""

from __future__ import annotations

import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers

from data_prep.tokens.cleaning import Cleaning, add_cleaning, clean, without_cleaning
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import TokenizerConfig, load, train

ODD = [
    "a",
    "é",
    "e\u0301",
    "\u0301",
    "が",
    "か\u3099",
    "각",
    "\u1100\u1161\u11a8",
    "ﬁ",
    "２",
    "㋿",
    "क़",
    "ά",
    "Å",
    " ",
    "\n",
]
ODD += [
    "\t",
    "\r",
    "\r\n",
    "\x0b",
    "\x1d",
    "\x1f",
    "\x85",
    "\xa0",
    "\xad",
    "\u2003",
    "\u2028",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\0",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(ODD), max_size=12).map("".join), st.text(st.characters(codec="utf-8"), max_size=12)
)
CLEANINGS = [Cleaning(form, lines) for form in ("nfc", "nfkc", "none") for lines in (False, True)]
SENTENCES = ["Café é が 각 fin fi 2 क़ ά Å naïve \u200b word", "The quick brown fox isn't lazy."] * 3
KINDS = {
    "wordpiece": TokenizerConfig(kind="wordpiece", vocabulary=120),
    "uncased": TokenizerConfig(kind="wordpiece", vocabulary=120, lowercase=True),
    "byte-bpe": TokenizerConfig(kind="byte-bpe", vocabulary=300),
    "character": TokenizerConfig(kind="character", vocabulary=70, lowercase=True, strip_accents=True),
}


@pytest.mark.parametrize("cleaning", CLEANINGS, ids=str)
@given(text=TEXTS)
def test_a_tokenizer_cleans_as_the_corpus_was_cleaned(cleaning: Cleaning, text: str) -> None:
    assert normalizers.Sequence(cleaning.normalizers()).normalize_str(text) == cleaning(text)


@pytest.mark.parametrize("cleaning", [Cleaning(), Cleaning("nfkc"), Cleaning("none")], ids=str)
def test_every_character_is_cleaned_alike(cleaning: Cleaning) -> None:
    characters = [chr(number) for number in range(1, 0x3_0000) if not 0xD800 <= number < 0xE000]
    text = "x".join(characters)
    assert normalizers.Sequence(cleaning.normalizers()).normalize_str(text) == cleaning(text)


MARKS = "\u0301\u0323\u0344\u0345\u3099\u093c\u0f71\u0f72\u1dd0"


@given(text=st.lists(st.one_of(st.sampled_from("aeか각"), st.text(MARKS, max_size=150)), max_size=9).map("".join))
def test_many_marks_on_one_character_are_put_in_order_as_few_are(text: str) -> None:
    assert clean(text) == unicodedata.normalize("NFC", text)


def test_many_marks_on_one_character_cost_linear_time() -> None:
    text = "e" + "\u0301\u0323" * 100_000
    began = time.process_time()
    assert clean(text) == "\u1eb9" + "\u0323" * 99_999 + "\u0301" * 100_000
    assert time.process_time() - began < 4, "40 s as the square of their number"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, config in KINDS.items():
        made[name] = tmp_path_factory.mktemp(name)
        train(config, SENTENCES, made[name], Cleaning())
    return made


@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
def test_a_text_has_the_ids_of_its_cleaned_form(folders: dict[str, Path], kind: str, text: str) -> None:
    tokenizer = load(folders[kind])
    ids = tokenizer.encode(text).ids
    assert ids == tokenizer.encode(clean(text)).ids
    assert all(tokenizer.encode(unicodedata.normalize(form, text)).ids == ids for form in ("NFC", "NFD"))
    assert (
        Encoder(tokenizer).encode([clean(text)]).values.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_outsider_gets_the_same_ids(folders: dict[str, Path], kind: str) -> None:
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(folders[kind]), load(folders[kind])
    texts = ["".join(ODD), *ODD, unicodedata.normalize("NFD", SENTENCES[0])]
    assert theirs(texts)["input_ids"] == [ours.encode(clean(text)).ids for text in texts]


@pytest.mark.parametrize("cleaning", CLEANINGS, ids=str)
def test_what_was_added_can_be_left_out_again(folders: dict[str, Path], cleaning: Cleaning) -> None:
    plain = without_cleaning(load(folders["uncased"]))
    cleaned = Tokenizer.from_str(plain.to_str())
    add_cleaning(cleaned, cleaning)
    assert cleaned.to_str() != plain.to_str() == without_cleaning(cleaned).to_str()
    assert without_cleaning(plain).to_str() == plain.to_str()
    plain.normalizer = normalizers.Sequence([])
    add_cleaning(plain, cleaning)
    assert without_cleaning(plain).encode("a  b").ids == plain.encode("a b").ids
