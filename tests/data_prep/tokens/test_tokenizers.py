from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from data_prep.errors import UserError
from data_prep.tokens import wordpiece
from data_prep.tokens.tokenizers import SPECIAL_TOKENS, TokenizerConfig, load, specials, train
from tests.data_prep.conftest import speech

SENTENCES = [sentence for i in range(60) for sentence in speech(i).split("\n\n")]
MIXED = [*SENTENCES, "Das Café öffnet: 今天下雨。", "今天我们在家。今天 مرحبا بالعالم 🎉🚀 déjà"]
KINDS = ["wordpiece", "byte-bpe", "character"]
SIZE = 400


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained tokenizer of each kind, and an uncased one."""
    made = {}
    for kind in KINDS:
        for lowercase in (False, True):
            name = kind + ("-uncased" if lowercase else "")
            made[name] = tmp_path_factory.mktemp(name)
            train(TokenizerConfig(kind=kind, vocabulary=SIZE, lowercase=lowercase), MIXED, made[name])
    return made


ALL = [name for kind in KINDS for name in (kind, f"{kind}-uncased")]


# ------------------------------------------------------------------ every kind


@pytest.mark.parametrize("name", ALL)
def test_special_tokens(folders: dict[str, Path], name: str) -> None:
    tokenizer, special = load(folders[name]), specials(folders[name])
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(SPECIAL_TOKENS.values())
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert special.all == frozenset(range(5))
    assert special.vocabulary == tokenizer.get_vocab_size(with_added_tokens=True) <= SIZE


TEXTS = [
    "The Senate approved the treaty, as in 1893.",
    "Our Navy's café didn't—truly—pay $1,000?",
    "今天下雨。 مرحبا 🎉 ok",
    "an unseen Ω and \u200d joiner",
    " leading and  double spaces ",
]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("with_model", [False, True])
def test_auto_tokenizer_agrees(folders: dict[str, Path], name: str, with_model: bool, tmp_path: Path) -> None:
    """Alone, and beside the config of a model, as in an exported checkpoint."""
    from transformers import AutoTokenizer

    shutil.copytree(folders[name], tmp_path / "copy")
    if with_model:
        config = {"model_type": "bert", "vocab_size": SIZE}
        (tmp_path / "copy/config.json").write_text(json.dumps(config))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "copy"), load(folders[name])
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text).ids
        for other in TEXTS:
            mine, pair = ours.encode(text, other), theirs(text, other)
            assert pair["input_ids"] == mine.ids
            assert pair["token_type_ids"] == mine.type_ids
        a, b = (ours.encode(part, add_special_tokens=False).ids for part in (text, TEXTS[0]))
        assert theirs(text, TEXTS[0])["input_ids"] == [2, *a, 3, *b, 3]
        assert theirs(text, TEXTS[0])["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert theirs.add_prefix_space == name.startswith("byte-bpe")
    assert theirs.mask_token_id == 4
    assert theirs.pad_token_id == 0
    assert theirs("the [MASK] is")["input_ids"].count(4) == 1


@pytest.mark.parametrize("name", ALL)
def test_special_tokens_in_data_are_text(folders: dict[str, Path], name: str) -> None:
    text = "a [MASK] and [SEP] and [CLS]"
    assert not {2, 3, 4} & set(load(folders[name]).encode(text, add_special_tokens=False).ids)
    prompt = load(folders[name], specials_in_text=True).encode(text, add_special_tokens=False)
    assert [i for i in prompt.ids if i in (2, 3, 4)] == [4, 3, 2]


TRAIN_AGAIN = """
import sys
from pathlib import Path
from data_prep.tokens.tokenizers import TokenizerConfig, train
from tests.data_prep.tokens.test_tokenizers import MIXED
for kind in ("wordpiece", "byte-bpe", "character"):
    config = TokenizerConfig(kind=kind, vocabulary=400)
    train(config, iter(MIXED), Path(sys.argv[1]) / kind)
"""


def test_training_is_deterministic(folders: dict[str, Path], tmp_path: Path) -> None:
    """In another process, with another hash seed and one thread, every byte is the same."""
    environment = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", TRAIN_AGAIN, str(tmp_path)], check=True, cwd=root, env=environment)
    for kind in KINDS:
        for path in folders[kind].iterdir():
            assert (tmp_path / kind / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_train_on(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to train a tokenizer on"):
        train(TokenizerConfig(kind=kind), ["", " \n"], tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_summary(tmp_path: Path) -> None:
    summary = train(TokenizerConfig(vocabulary=100), SENTENCES, tmp_path)
    assert summary == {
        "kind": "wordpiece",
        "vocabulary": 100,
        "specials": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    }


# ------------------------------------------------------------------ wordpiece


def test_wordpiece_golden(tmp_path: Path) -> None:
    corpus = ["hug hug hug hugs hugs pun pun bun", "Hug!"]
    train(TokenizerConfig(vocabulary=28, lowercase=True), corpus, tmp_path)
    tokenizer = load(tmp_path)
    assert tokenizer.encode("Hugs, PUN hug!", add_special_tokens=False).tokens == [
        "hugs",
        "[UNK]",
        "pun",
        "hug",
        "!",
    ]
    assert tokenizer.encode("bugs", add_special_tokens=False).tokens == ["b", "##ug", "##s"]
    assert tokenizer.decode(tokenizer.encode("hugs pun").ids) == "hugs pun"


def test_wordpiece_case_and_accents(folders: dict[str, Path]) -> None:
    def tokens(name: str, text: str) -> list[str]:
        return load(folders[name]).encode(text, add_special_tokens=False).tokens

    assert tokens("wordpiece-uncased", "THE Séñate") == tokens("wordpiece-uncased", "the senate")
    assert tokens("wordpiece", "The") == ["The"]
    assert tokens("wordpiece", "THE") != ["The"]


def test_wordpiece_of_many_characters_fills_the_vocabulary() -> None:
    """Half of the ids go to characters at first; what the pieces leave goes to characters, too."""
    characters = [chr(0x4E00 + i) for i in range(300)]
    words = {character: 300 - i for i, character in enumerate(characters)}
    learned = wordpiece.learn(wordpiece.Counter(words), 205, list(SPECIAL_TOKENS.values()))
    assert list(learned.values()) == list(range(205))
    assert set(learned) == {*SPECIAL_TOKENS.values(), *characters[:200]}


@given(st.dictionaries(st.text("abcdé", min_size=1, max_size=5), st.integers(1, 9), min_size=1))
def test_wordpiece_spells_every_word_it_has_the_characters_for(words: dict[str, int]) -> None:
    learned = wordpiece.learn(wordpiece.Counter(words), 64, list(SPECIAL_TOKENS.values()))
    assert sorted(learned.values()) == list(range(len(learned)))
    assert len(learned) <= 64
    tokenizer = Tokenizer(models.WordPiece(learned, unk_token="[UNK]"))
    for word in words:
        tokens = tokenizer.encode(word).tokens
        assert "".join(token.removeprefix("##") for token in tokens) == word


# ------------------------------------------------------------------ byte-bpe


@given(text=st.text(max_size=30))
def test_byte_bpe_loses_nothing(folders: dict[str, Path], text: str) -> None:
    tokenizer = load(folders["byte-bpe"])
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert 1 not in ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded == (text if not text or text[0] == " " else " " + text)


def test_byte_bpe_words_begin_with_their_space(folders: dict[str, Path]) -> None:
    tokenizer = load(folders["byte-bpe"])
    assert tokenizer.encode("The Senate", add_special_tokens=False).tokens[0] == "ĠThe"


# ------------------------------------------------------------------ character


@pytest.mark.parametrize("text", ["今天下雨。", "🎉🚀", "مرحبا بالعالم", "déjà vu\n\n a", "e\u0301👩\u200d🚀"])
def test_one_character_is_one_token(folders: dict[str, Path], text: str) -> None:
    tokens = load(folders["character"]).encode(text, add_special_tokens=False).tokens
    assert len(tokens) == len(text)
    assert all(token in (character, "[UNK]") for token, character in zip(tokens, text, strict=True))


@given(text=st.text(max_size=30))
def test_any_text_has_as_many_tokens_as_characters(folders: dict[str, Path], text: str) -> None:
    assert len(load(folders["character"]).encode(text, add_special_tokens=False).ids) == len(text)


def test_known_characters_come_back(folders: dict[str, Path]) -> None:
    tokenizer = load(folders["character"])
    text = "The Café: 今天 مرحبا 🎉\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_character_vocabulary_takes_the_most_frequent(tmp_path: Path) -> None:
    train(TokenizerConfig(kind="character", vocabulary=16), ["abcdefghijkl" + "zzyyxx"], tmp_path)
    vocabulary = load(tmp_path).get_vocab()
    ranked = sorted(vocabulary, key=vocabulary.__getitem__)
    assert ranked == [*SPECIAL_TOKENS.values(), " ", "\n", *"xyzabcdef"]


# ------------------------------------------------------------------ pretrained


def bert_vocabulary(folder: Path, tokens: list[str]) -> None:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")


def test_pretrained_from_vocabulary(tmp_path: Path) -> None:
    words = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sen", "##ate"]
    bert_vocabulary(tmp_path / "theirs", words)
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path / "theirs"), lowercase=True)
    summary = train(config, [], tmp_path / "ours")
    assert summary["vocabulary"] == 9
    assert load(tmp_path / "ours").encode("The Senate").ids == [3, 6, 7, 8, 4]
    special = specials(tmp_path / "ours")
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 2, 3, 4, 5)


def test_pretrained_with_other_names_padding_and_truncation(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "the", "senate"]
    theirs = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    theirs.normalizer = normalizers.Lowercase()
    theirs.pre_tokenizer = pre_tokenizers.Whitespace()
    theirs.add_special_tokens(tokens[:5])
    theirs.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    theirs.enable_padding(length=10)
    theirs.enable_truncation(3)
    (tmp_path / "theirs").mkdir()
    theirs.save(str(tmp_path / "theirs/tokenizer.json"))
    settings = {"mask_token": {"content": "<mask>", "lstrip": True}, "cls_token": "<s>"}
    (tmp_path / "theirs/tokenizer_config.json").write_text(json.dumps(settings))
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path / "theirs"))
    train(config, [], tmp_path / "ours")
    assert load(tmp_path / "ours").encode("The Senate the").ids == [1, 5, 6, 5, 2]
    special = specials(tmp_path / "ours")
    assert (special.pad, special.cls, special.sep, special.unk, special.mask) == (0, 1, 2, 3, 4)
    auto = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert auto("The Senate the")["input_ids"] == [1, 5, 6, 5, 2]
    assert (auto.cls_token, auto.mask_token) == ("<s>", "<mask>")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds neither tokenizer.json nor vocab.txt"),
        ({"vocab.txt": "the\n[UNK]\n[PAD]"}, r"has no line \[CLS\] or \[SEP\] or \[MASK\]"),
        ({"tokenizer.json": "{"}, r"tokenizer.json is not a tokenizer \("),
        (
            {"tokenizer.json": Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>")).to_str()},
            "has no token for pad, cls, sep, mask",
        ),
    ],
)
def test_what_cannot_be_brought_along(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path))
    with pytest.raises(UserError, match=message):
        train(config, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_load_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no tokenizer.json; train a tokenizer first"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "pretrained"}, "'path' belongs to kind 'pretrained'.*found none"),
        ({"kind": "wordpiece", "path": "x"}, "found 'x' with kind 'wordpiece'"),
        ({"kind": "byte-bpe", "vocabulary": 260}, "at least 261, found 260"),
        ({"kind": "bpe"}, "kind"),
        ({"vocabulary": 3}, "vocabulary"),
        ({"size": 3}, "size"),
    ],
)
def test_config(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenizerConfig(**config)
