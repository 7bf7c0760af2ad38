"""Words of Chinese text: runs of characters are segmented, all other tokens begin words as before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from data_prep.errors import UserError
from data_prep.rng import Draws, key
from data_prep.shards.rows import Ragged, Rows, Specials
from data_prep.tokens import segment
from data_prep.tokens.corpus import WordStarts, tokenise
from data_prep.tokens.segment import Segmenter
from tests.data_prep.tokens.test_corpus import corpus

CHARACTERS = "使用语言模型来预测下一个词的概率中文分詞繁體"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """BERT's for Chinese: each character is a token, other words are pieces."""
    pieces = ["[UNK]", *CHARACTERS, "，", "bert", "play", "##ing", "か", "##な"]
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return made


def words(tokenizer: Tokenizer, *sentences: str) -> list[str]:
    tokens = tokenise(corpus(list(sentences)), tokenizer, segmenter=Segmenter("jieba", tokenizer))
    starts = np.flatnonzero(tokens.word_start).tolist()
    pieces = [str(tokenizer.id_to_token(number)) for number in tokens.tokens.tolist()]
    return ["".join(pieces[a:b]) for a, b in zip(starts, [*starts[1:], len(pieces)], strict=True)]


def test_whole_words_are_those_of_the_segmenter(tokenizer: Tokenizer) -> None:
    """The example of Cui et al. 2021, table 1."""
    expected = ["使用", "语言", "模型", "来", "预测", "下", "一个", "词", "的", "概率"]
    assert words(tokenizer, "使用语言模型来预测下一个词的概率") == expected


def test_words_end_at_other_tokens_and_at_sentence_ends(tokenizer: Tokenizer) -> None:
    assert words(tokenizer, "使用 playing 语言，bert模型") == ["使用", "play##ing", "语言", "，", "bert", "模型"]
    assert words(tokenizer, "使", "用") == ["使", "用"]  # 使用 in one sentence
    assert words(tokenizer, "使龘用") == ["使", "[UNK]", "用"]  # an unknown character is no part of a word
    assert words(tokenizer, "かな语言") == ["か##な", "语言"]  # kana are left as they are


@given(st.lists(st.text(CHARACTERS + " ，ab", min_size=1, max_size=12), max_size=5))
@settings(max_examples=60, deadline=None)
def test_it_joins_characters_and_nothing_else(tokenizer: Tokenizer, sentences: list[str]) -> None:
    plain = tokenise(corpus(sentences), tokenizer)
    segmented = tokenise(corpus(sentences), tokenizer, segmenter=Segmenter("jieba", tokenizer))
    assert not (segmented.word_start & ~plain.word_start).any()  # only starts inside of words are lost
    is_chinese = np.array([segment.is_chinese(str(tokenizer.id_to_token(i))[0]) for i in plain.tokens.tolist()], bool)
    assert (segmented.word_start == plain.word_start)[~is_chinese].all()
    before = np.append(False, is_chinese)[:-1]
    lost = plain.word_start & ~segmented.word_start
    assert before[lost].all() and segmented.word_start[plain.sentence_offsets[:-1]].all()


def test_words_are_masked_whole(tokenizer: Tokenizer) -> None:
    from data_prep.corruptions.masking import MaskingConfig, corrupt

    tokens = tokenise(corpus(["使用语言模型来预测下一个词的概率"]), tokenizer, segmenter=Segmenter("jieba", tokenizer))
    rows = 64
    size = len(tokens.tokens)
    column: Rows = {
        "input": Ragged.from_lengths(np.tile(tokens.tokens, rows), [size] * rows),
        "word_start": Ragged.from_lengths(np.tile(tokens.word_start.view(np.uint8), rows), [size] * rows),
    }
    config = MaskingConfig(kind="masked-lm", unit="word", rate=0.3)
    special = Specials(vocabulary=64, unk=0, mask=60)
    hidden = corrupt(column, config, special, Draws(key(1, "test"), 0, np.arange(rows)))
    word = np.cumsum(tokens.word_start) - 1
    for row in range(rows):
        chosen = hidden["target_positions"].row(row)  # pyright: ignore[reportAttributeAccessIssue]
        assert len(chosen) and np.isin(np.flatnonzero(np.isin(word, word[chosen])), chosen).all()


def test_a_tokenizer_without_characters_is_refused() -> None:
    bytes_alone = Tokenizer(models.BPE({"a": 0, "ä": 1}, []))
    with pytest.raises(UserError, match="no token that is a Chinese character"):
        Segmenter("jieba", bytes_alone)


def test_without_a_segmenter_each_character_is_a_word(tokenizer: Tokenizer) -> None:
    tokens = tokenise(corpus(["使用语言"]), tokenizer)
    assert tokens.word_start.all() and WordStarts(tokenizer)(tokens.tokens, tokens.sentence_offsets).all()
