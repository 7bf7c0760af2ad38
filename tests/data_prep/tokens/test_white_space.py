"""Where a tokenizer spells white space, a document's tokens are those of its text, in training as in use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data_prep.tokens import corpus as module
from data_prep.tokens.cleaning import Cleaning, add_cleaning, clean, pieces, white_space, whole_text
from data_prep.tokens.corpus import tokenise
from data_prep.tokens.encoder import Encoder, line_break
from data_prep.tokens.tokenizers import TokenizerConfig, load, spells_white_space, train

SENTENCES = [
    "The quick brown fox isn't here.",
    "“Why?”",
    "he ran, and ran;",
    "42 – 3.14",
    "有朋自远方来！",
    "「不亦说乎？」",
    "「说」",
    "OK。",
    "Ünïcode é 👩‍👧",
]
SPELLING = ["byte-bpe", "lower-bpe", "prefixed", "of-others", "characters", "byte-fallback"]


@dataclass
class Corpus:
    """Documents as pairs of a sentence and whether a paragraph begins there."""

    documents: list[list[tuple[str, bool]]]

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, np.ndarray]]:
        for start in range(0, len(self.documents), 2):
            documents = self.documents[start : start + 2]
            sentences = pa.array([sentence for sentence, _ in chain(*documents)], pa.string())
            paragraphs = np.array([number for document in documents for number in numbers(document)], np.int64)
            yield np.array([len(document) for document in documents], np.int64), sentences, paragraphs


def numbers(document: list[tuple[str, bool]]) -> list[int]:
    return np.cumsum([bool(place) and begins for place, (_, begins) in enumerate(document)]).tolist()


def text_of(document: list[tuple[str, bool]], keep_lines: bool = False) -> str:
    return whole_text([sentence for sentence, _ in document], numbers(document), keep_lines)


DOCUMENTS = st.lists(st.lists(st.tuples(st.sampled_from(SENTENCES), st.booleans()), max_size=6), max_size=4)


def _of_others() -> Tokenizer:
    """Byte-level BPE behind a rule of its own for words, as Llama 3 and Qwen have."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([". \n".join(SENTENCES)] * 3, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_fallback() -> Tokenizer:
    """As Llama's: blanks are ▁, and so is what stands before a text; other characters are bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"ehnrsx.,", "▁h", "▁he"]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(pieces)},
            [("▁", "h"), ("▁h", "e")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    texts = [*SENTENCES, *(f" {sentence}" for sentence in SENTENCES), "\n\nThe"] * 3
    configs = {
        "byte-bpe": TokenizerConfig(kind="byte-bpe", vocabulary=330),
        "lower-bpe": TokenizerConfig(kind="byte-bpe", vocabulary=330, lowercase=True),
        "characters": TokenizerConfig(kind="character", vocabulary=90),
        "wordpiece": TokenizerConfig(vocabulary=120),
    }
    for name, config in configs.items():
        train(config, texts, folder / name, Cleaning())
    by_name = {name: load(folder / name) for name in configs}
    by_name["prefixed"] = load(folder / "byte-bpe")
    by_name["prefixed"].pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return by_name | {"of-others": _of_others(), "byte-fallback": _byte_fallback()}


@pytest.mark.parametrize("name", SPELLING)
@settings(deadline=None, max_examples=60)
@given(documents=DOCUMENTS)
def test_the_tokens_of_a_document_are_those_of_its_text(tokenizers, name, documents) -> None:
    tokenizer = tokenizers[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 3)
        tokens = tokenise(Corpus(documents), tokenizer)
    bounds = tokens.document_starts
    for number, document in enumerate(documents):
        text = text_of(document)
        ids = tokens.tokens[bounds[number] : bounds[number + 1]].tolist()
        assert ids == tokenizer.encode(text, add_special_tokens=False).ids
        if name == "byte-bpe":
            assert tokenizer.decode(ids) == text


@settings(deadline=None, max_examples=100)
@given(
    text=st.lists(
        st.one_of(st.sampled_from([*SENTENCES, " ", "\n", "\n\n", "\t", "\u3000"]), st.text(max_size=5)), max_size=8
    ).map("".join)
)
def test_what_is_decoded_is_the_clean_text(tokenizers, text) -> None:
    tokenizer = tokenizers["byte-bpe"]
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == clean(text)


def test_lines_that_are_kept_are_lines_of_the_text(tmp_path: Path) -> None:
    document = [("def f():", True), ("    return 1", False), ("f()", True)]
    cleaning = Cleaning(keep_lines=True)
    corpus, wanted = Corpus([document]), "def f():\n    return 1\n\nf()"
    train(TokenizerConfig(kind="byte-bpe", vocabulary=280), pieces(corpus, True), tmp_path, cleaning)
    tokenizer = load(tmp_path)
    tokens = tokenise(corpus, tokenizer)
    assert text_of(document, keep_lines=True) == cleaning(wanted) == wanted == "".join(pieces(corpus, True))
    assert tokenizer.decode(tokens.tokens.tolist()) == wanted
    assert tokens.tokens.tolist() == tokenizer.encode(wanted, add_special_tokens=False).ids


def test_what_stands_between_sentences() -> None:
    sentences = ["我来了。", "“走！”", "OK.", "한국어다。", "하나다.", "둘이다.", "End.", "A."]
    numbers = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    before = white_space(pa.array(sentences), np.array([7, 1]), numbers)
    assert before.to_pylist() == [None, "", "", " ", "", " ", "\n\n", None]
    assert white_space(pa.array([], pa.string()), np.array([0]), None).to_pylist() == []


def test_words_begin_behind_white_space(tokenizers) -> None:
    document = [("he ran.", True), ("he ran.", True)]
    tokens = tokenise(Corpus([document]), tokenizers["byte-bpe"])
    begins = np.flatnonzero(tokens.word_start).tolist()
    words = [tokenizers["byte-bpe"].decode(part.tolist()) for part in np.split(tokens.tokens, begins[1:])]
    assert words == ["he", " ran.", "\n", "\n", "he", " ran."]


def test_words_of_characters_do_not_begin_with_white_space(tokenizers) -> None:
    tokens = tokenise(Corpus([[("ran.", True), ("ran.", False), ("ran", True)]]), tokenizers["characters"])
    assert tokens.word_start.astype(int).tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]


def test_wordpiece_has_no_white_space(tokenizers) -> None:
    """Nor has a WordPiece vocabulary with the Maltese letter that byte-level BPE writes for a line break."""
    assert line_break(tokenizers["wordpiece"]) is None and not Encoder(tokenizers["wordpiece"]).spells_white_space
    maltese = Tokenizer(models.WordPiece({"[UNK]": 0, "Ċ": 1}, unk_token="[UNK]"))
    assert line_break(maltese) is None
    assert [kind for kind in ("wordpiece", "word", "byte-bpe", "character")
            if spells_white_space(TokenizerConfig(kind=kind))] == ["byte-bpe", "character"]  # fmt: skip


def test_no_cleaning_but_ones_own_is_taken_off() -> None:
    tokenizer = _of_others()
    add_cleaning(tokenizer, Cleaning("nfkc", keep_lines=True))
    assert Encoder(tokenizer).keep_lines and not Encoder(_of_others()).keep_lines
