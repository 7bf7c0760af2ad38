"""How the texts of a mixture's sources are cut: tokens per word or character, unknown characters, bytes of tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.corpus.documents import DOCUMENT_SCHEMA, INDEX
from data_prep.sealed import digest, mapped, sealed
from data_prep.text.by_source import by_source, lines_of_sources
from data_prep.text.words import has_spaces
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train

TEXTS = {"en": ["the cat sat", "the cat"], "zh": ["天地玄黃", "天地 龍"]}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train(TokenizerConfig(kind="wordpiece", vocabulary=60), ["the cat sat", "天地玄黃"] * 5, folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    files = []
    for name, sentences in TEXTS.items():
        rows = {"name": [name], "sentences": [sentences], "paragraphs": [[0, 0]], "source": [name], "meta": ["{}"]}
        table, path = pa.table(rows, schema=DOCUMENT_SCHEMA), folder / f"{name}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, DOCUMENT_SCHEMA) as writer:
            writer.write_table(table)
        files.append({"file": path.name, "documents": 1, "digest": digest(mapped(path)), "corpus": name})
    splits = {"train": files, "validation": files, "test": []}
    (folder / INDEX).write_bytes(sealed({"splits": splits}))
    return folder


def test_words_are_counted_where_there_are_spaces_and_characters_elsewhere(corpus: Path, tokenizer: Path) -> None:
    english, chinese = by_source(corpus, tokenizer)
    assert (english.source, english.words, english.characters, english.has_spaces) == ("en", 5, 15, True)
    assert english.tokens == 5 and english.fertility == 1.0 and english.unit == "word"
    assert (chinese.source, chinese.characters, chinese.has_spaces) == ("zh", 7, False)
    assert chinese.tokens == 7 and chinese.fertility == 1.0 and chinese.unit == "character"
    assert (english.unknown_characters, chinese.unknown_characters) == (0, 1), "龍 is not in the vocabulary"
    assert int(chinese.token_counts.sum()) == 7
    assert by_source(corpus, tokenizer, most=4)[0].words == 3, "it ends with the sentence that reaches the limit"


def test_the_table_has_a_line_for_each_source(corpus: Path, tokenizer: Path) -> None:
    parts = {"train-en": {"corpus_tokens": 1234}}
    columns, lines = lines_of_sources(corpus, tokenizer, {"validation": {}, "parts": {"train": parts}})
    assert columns == ["tokens trained on", "tokens per word", "tokens per character", "unknown characters"]
    assert lines == [["en", "1,234", "1.000", "0.333", "0.00%"], ["zh", "0", "–", "1.000", "14.29%"]]
    index = json.loads((corpus / INDEX).read_text())
    assert len(index["splits"]["train"]) == 2


@pytest.mark.parametrize(
    ("text", "spaces"),
    [
        ("the cat", True),
        ("天地玄黃", False),
        ("用 apt 安裝軟體套件管理", False),
        ("ภาษาไทย", False),
        ("한국어 문장", True),
        ("", True),
    ],
)
def test_scripts_without_spaces(text: str, spaces: bool) -> None:
    assert has_spaces(text) is spaces


def test_tokens_spell_as_many_bytes_as_the_text_has(tokenizer: Path, tmp_path: Path) -> None:
    train(TokenizerConfig(kind="byte-bpe", vocabulary=300, roles=["pad", "bos", "eos"]), ["the cat é 天"] * 5, tmp_path)
    for folder, text, expected in (
        (tokenizer, "the cat 天地", len("thecat天地".encode())),
        (tmp_path, " the cat é 天", len(" the cat é 天".encode())),
    ):
        special = specials(folder)
        sizes = Pieces(load(folder), special).num_bytes(special.vocabulary)
        assert sum(sizes[number] for number in load(folder).encode(text, add_special_tokens=False).ids) == expected
        assert all(sizes[number] == 0 for number in special.all)
