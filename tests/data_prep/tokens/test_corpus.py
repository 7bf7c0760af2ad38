"""Token corpora: nothing lost between sentences and ids, words known, damage named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from data_prep.errors import UserError
from data_prep.shards.reader import ShardDamaged
from data_prep.shards.rows import offsets_of
from data_prep.tokens import corpus as module
from data_prep.tokens.corpus import TokenCorpus, WordStarts, joined, tokenise


@dataclass
class Corpus:
    documents: tuple[list[str], ...]

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, None]]:
        for start in range(0, len(self.documents), 3):
            documents = self.documents[start : start + 3]
            sentences = pa.array([sentence for document in documents for sentence in document], pa.string())
            yield np.array([len(document) for document in documents], np.int64), sentences, None


def corpus(*documents: list[str]) -> Corpus:
    return Corpus(documents)


def wordpiece() -> Tokenizer:
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "un",
        "##believ",
        "##able",
        "you",
        "are",
        ".",
        "mask",
        "[",
        "]",
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(pieces[:5])
    return tokenizer


def byte_bpe() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate([*alphabet, "he", "Ġh", "Ġhe"])}
    tokenizer = Tokenizer(models.BPE(ids, [("h", "e"), ("Ġ", "he")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def characters(alphabet: str) -> Tokenizer:
    ids = {piece: i for i, piece in enumerate(["[UNK]", *dict.fromkeys(alphabet)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.add_special_tokens(["[UNK]"])
    return tokenizer


def starts(tokenizer: Tokenizer, *sentences: str) -> list[list[int]]:
    tokenised = tokenise(corpus(list(sentences)), tokenizer)
    return [part.astype(int).tolist() for part in np.split(tokenised.word_start, tokenised.sentence_offsets[1:-1])]


def test_ids_and_offsets():
    tokenised = tokenise(corpus(["you are.", "unbelievable"], [], ["you"]), wordpiece())
    assert tokenised.tokens.tolist() == [8, 9, 10, 5, 6, 7, 8] and tokenised.tokens.dtype == np.uint16
    assert tokenised.word_start.tolist() == [True, True, True, True, False, False, True]
    assert tokenised.sentence_offsets.tolist() == [0, 3, 6, 7]
    assert tokenised.document_offsets.tolist() == [0, 2, 2, 3]
    assert len(tokenised) == 3
    assert tokenised.with_text.tolist() == [0, 2]
    assert tokenised.document_starts.tolist() == [0, 6, 6, 7]


def test_sentences_without_tokens_are_left_out():
    tokenised = tokenise(corpus(["", "you", "  "], [" "]), wordpiece())
    assert tokenised.sentence_offsets.tolist() == [0, 1] and tokenised.document_offsets.tolist() == [0, 1, 1]
    nothing = tokenise(corpus(), wordpiece())
    assert len(nothing) == 0 and len(nothing.tokens) == 0 and nothing.document_offsets.tolist() == [0]


def test_the_callers_settings_do_not_matter_and_are_kept():
    tokenizer = wordpiece()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    assert tokenise(corpus(["you are you are"]), tokenizer).tokens.tolist() == [8, 9, 8, 9]
    assert tokenizer.truncation is not None and tokenizer.padding is not None


def test_special_tokens_in_a_text_are_text():
    tokenizer = wordpiece()
    tokenizer.post_processor = None
    assert 4 not in tokenise(corpus(["you [MASK] are"]), tokenizer).tokens


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["you", "are.", "unbelievable", ""]), max_size=4), max_size=5))
def test_batches_of_sentences_do_not_show(documents):
    whole = tokenise(corpus(*documents), wordpiece())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 2)
        parts = tokenise(corpus(*documents), wordpiece())
    for name in ("tokens", "word_start", "sentence_offsets", "document_offsets", "paragraphs"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_large_vocabularies_take_32_bits():
    ids = {f"w{number}": number for number in range(65_536)} | {"[UNK]": 65_536}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenised = tokenise(corpus(["w3 w65535 x"]), tokenizer)
    assert tokenised.tokens.tolist() == [3, 65_535, 65_536] and tokenised.tokens.dtype == np.uint32


def test_words_of_wordpiece():
    assert starts(wordpiece(), "unbelievable you.") == [[1, 0, 0, 1, 1]]


def test_words_of_byte_bpe():
    """The first piece of a document begins a word though it has no space."""
    assert starts(byte_bpe(), "he he, a", "ab") == [[1, 1, 0, 1, 0], [1, 0, 0]]


def test_words_of_characters():
    text = ["we're ok, 42!", "我们 ok你好。", " a"]
    assert starts(characters("".join(text)), *text) == [
        [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1],
        [1, 1, 0, 1, 0, 1, 1, 1],
        [0, 1],
    ]


def test_unknown_characters_are_words_and_combining_marks_are_not():
    assert starts(characters("abe\u0301"), "a?b", "e\u0301b") == [[1, 1, 1], [1, 0, 0]]


def test_the_rule_on_flat_arrays():
    rule = WordStarts(wordpiece())
    assert rule(np.array([6, 7, 8, 6]), np.array([0, 2, 4])).tolist() == [True, False, True, False]
    assert rule(np.empty(0, np.uint16), np.array([0])).tolist() == []


def example() -> TokenCorpus:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 40)
    lengths = rng.integers(1, 12, counts.sum())
    total = int(lengths.sum())
    return TokenCorpus(
        rng.integers(0, 60_000, total).astype(np.uint16),
        rng.random(total) < 0.7,
        offsets_of(lengths),
        offsets_of(counts),
    )


def test_what_is_opened_is_what_was_saved(tmp_path):
    saved = example()
    saved.save(tmp_path / "corpus")
    opened = TokenCorpus.open(tmp_path / "corpus")
    for name in ("tokens", "word_start", "sentence_offsets", "document_offsets", "paragraphs"):
        assert np.array_equal(getattr(opened, name), getattr(saved, name))
        assert getattr(opened, name).dtype == getattr(saved, name).dtype
    for mapped in (opened.tokens, opened.word_start, opened.sentence_offsets):
        assert not mapped.flags.owndata and not mapped.flags.writeable


def test_saving_is_deterministic(tmp_path):
    for name in ("a", "b"):
        example().save(tmp_path / name)
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert contents[0] == contents[1] and len(contents[0]) == 4


def test_an_empty_corpus_is_saved_too(tmp_path):
    tokenise(corpus([]), wordpiece()).save(tmp_path)
    opened = TokenCorpus.open(tmp_path)
    assert len(opened) == 1 and len(opened.tokens) == 0 and list(opened.ranges()) == [range(1)]


@settings(deadline=None)
@given(st.lists(st.lists(st.lists(st.sampled_from(["you", "are.", "un", ""]), max_size=3), max_size=3), min_size=1))
def test_parts_are_joined(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("parts")
    for number, documents in enumerate(parts):
        tokenise(corpus(*documents), wordpiece()).save(folder / str(number))
    together = joined([folder / str(number) for number in range(len(parts))], folder / "joined")
    whole = tokenise(corpus(*(document for documents in parts for document in documents)), wordpiece())
    for name in ("tokens", "word_start", "sentence_offsets", "document_offsets", "paragraphs"):
        assert np.array_equal(getattr(together, name), getattr(whole, name))
        assert getattr(together, name).dtype == getattr(whole, name).dtype


def test_damage_is_named(tmp_path):
    example().save(tmp_path)
    rng = np.random.default_rng(1)
    for path in sorted(tmp_path.iterdir()):
        sound = path.read_bytes()
        for position in rng.integers(0, len(sound), 8).tolist():
            damaged = bytearray(sound)
            damaged[position] ^= 4
            if path.suffix == ".json" and chr(sound[position]).isspace():
                continue
            path.write_bytes(damaged)
            with pytest.raises(ShardDamaged, match=path.name):
                TokenCorpus.open(tmp_path)
        path.write_bytes(sound[:-1])
        with pytest.raises(ShardDamaged, match=path.name):
            TokenCorpus.open(tmp_path)
        path.write_bytes(sound)
    (tmp_path / "tokens.arrow").unlink()
    with pytest.raises(ShardDamaged, match=r"tokens\.arrow"):
        TokenCorpus.open(tmp_path)


def test_a_folder_without_a_corpus_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="tokenise first"):
        TokenCorpus.open(tmp_path)


@given(st.integers(1, 400))
def test_ranges_cover_all_documents(limit):
    tokenised = example()
    ranges = list(tokenised.ranges(limit))
    assert [number for part in ranges for number in part] == list(range(40))
    sizes = [tokenised.document_starts[part.stop] - tokenised.document_starts[part.start] for part in ranges]
    assert all(size <= limit or len(part) == 1 for size, part in zip(sizes, ranges, strict=True))
