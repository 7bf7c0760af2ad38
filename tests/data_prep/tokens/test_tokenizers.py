from __future__ import annotations

import json
import os
import pickle
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
from data_prep.shards.rows import ROLES, Specials
from data_prep.tokens.tokenizers import SPECIAL_TOKENS, TokenizerConfig, load, specials, train
from data_prep.tokens.vocabulary import wordpiece
from tests.data_prep.conftest import speech

SENTENCES = [sentence for i in range(60) for sentence in speech(i).split("\n\n")]
MIXED = [*SENTENCES, "Das Café öffnet: 今天下雨。", "今天我们在家。今天 مرحبا بالعالم 🎉🚀 déjà"]
KINDS: list[Any] = ["wordpiece", "byte-bpe", "character"]
SIZE = 400


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained tokenizer of each kind, and an uncased one."""
    paths = {}
    for kind in KINDS:
        for lowercase in (False, True):
            name = kind + ("-uncased" if lowercase else "")
            paths[name] = tmp_path_factory.mktemp(name)
            train(TokenizerConfig(kind=kind, vocabulary=SIZE, lowercase=lowercase), MIXED, paths[name])
    return paths


ALL = [name for kind in KINDS for name in (kind, f"{kind}-uncased")]


# ------------------------------------------------------------------ every kind


@pytest.mark.parametrize("name", ALL)
def test_special_tokens(folders: dict[str, Path], name: str) -> None:
    tokenizer, special = load(folders[name]), specials(folders[name])
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(SPECIAL_TOKENS.values())
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (0, 1, 2, 3, 4)
    assert special.all == frozenset(range(5))
    assert special.vocabulary == tokenizer.get_vocab_size(with_added_tokens=True) <= SIZE


@pytest.mark.parametrize("name", ALL)
def test_special_ids_know_what_every_id_spells(folders: dict[str, Path], name: str) -> None:
    tokenizer, special = load(folders[name]), specials(folders[name])
    assert len(special.texts) == special.vocabulary and special.texts[:5] == tuple(SPECIAL_TOKENS.values())
    text = "the senate"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert "".join(special.texts[number] for number in ids).replace(" ", "") == text.replace(" ", "")
    assert pickle.loads(pickle.dumps(special)).texts == special.texts
    roles: dict[str, Any] = dict(special.roles)
    assert special == Specials(special.vocabulary, special.all, **roles)


def test_made_up_ids_spell_their_numbers() -> None:
    assert Specials(3, pad=0).texts == ("<0>", "<1>", "<2>")


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
    assert not theirs.add_prefix_space
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
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_byte_bpe_words_begin_with_their_space(folders: dict[str, Path]) -> None:
    tokenizer = load(folders["byte-bpe"])
    assert tokenizer.encode("The Senate", add_special_tokens=False).tokens[0][0] == "T"
    assert "ĠThe" in tokenizer.encode("In The Senate", add_special_tokens=False).tokens


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
    settings = {"mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True}, "cls_token": "<s>"}
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
        ({"tokenizer.json": "{"}, r"tokenizer.json: is not a tokenizer \("),
        (
            {"tokenizer.json": Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>")).to_str()},
            r"has no token for pad, cls, sep, mask \(it has unk\)",
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


# ------------------------------------------------------------------ roles


def folder_of(path: Path, tokens: list[str], special: list[str], settings: dict[str, str]) -> Path:
    """A tokenizer as others publish it: its ids are the places of its tokens."""
    path.mkdir()
    unk = settings.get("unk_token", tokens[0])
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


BERT = (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], {"mask_token": "[MASK]"}, {
    "pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4
})  # fmt: skip
END = "<|endoftext|>"
GPT2 = ([END], {"bos_token": END, "eos_token": END, "unk_token": END}, {"unk": 0, "bos": 0, "eos": 0})
LLAMA = (["<unk>", "<s>", "</s>"], {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, {
    "cls": 1, "sep": 2, "unk": 0, "bos": 1, "eos": 2
})  # fmt: skip
T5 = (["<pad>", "</s>", "<unk>"], {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}, {
    "sep": 1, "pad": 0, "unk": 2, "eos": 1, "decoder_start": 0
})  # fmt: skip


@pytest.mark.parametrize("shape", ["bert", "gpt-2", "llama", "t5"])
def test_tokenizers_of_all_families_load(tmp_path: Path, shape: str) -> None:
    special, settings, roles = {"bert": BERT, "gpt-2": GPT2, "llama": LLAMA, "t5": T5}[shape]
    last = [f"<extra_id_{number}>" for number in (2, 1, 0)] if shape == "t5" else []
    folder = folder_of(tmp_path / "theirs", [*special, "the", "senate", *last], [*special, *last], settings)
    loaded = specials(folder)
    assert dict(loaded.roles) == roles
    assert loaded.sentinels == ((7, 6, 5) if shape == "t5" else ())
    assert loaded.all == {*range(len(special)), *loaded.sentinels} and loaded.vocabulary == len(special) + 2 + len(last)
    for role in ROLES:
        if role not in roles:
            with pytest.raises(UserError, match=f"needs a special token for {role}, and this tokenizer has none"):
                getattr(loaded, role)
    wanted: list[Any] = [role for role in ("eos", "unk") if role in roles]
    train(TokenizerConfig(kind="pretrained", path=str(folder), roles=wanted), [], tmp_path / "ours")
    assert specials(tmp_path / "ours") == loaded


def test_what_a_recipe_needs_must_be_there(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "gpt", [END, "the"], [END], GPT2[1])
    with pytest.raises(UserError, match=r"has no token for pad, cls, sep, mask \(it has unk, bos, eos\): leave out"):
        train(TokenizerConfig(kind="pretrained", path=str(folder)), [], tmp_path / "ours")
    few = TokenizerConfig(kind="pretrained", path=str(folder), roles=["eos"], sentinels=2)
    with pytest.raises(UserError, match="needs 2 sentinels, and this tokenizer has 0"):
        train(few, [], tmp_path / "ours")
    assert Specials(9, eos=1, sentinels=[8, 7]).need_sentinels(1, "it") == (8,)
    with pytest.raises(KeyError, match="'end' is no role"):
        Specials(9).get("end")


@pytest.mark.parametrize("kind", KINDS)
def test_trained_tokenizers_have_the_roles_asked_for(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    config = TokenizerConfig(
        kind=kind,  # type: ignore[arg-type]
        vocabulary=SIZE,
        roles=["pad", "unk", "eos", "decoder_start"],
        sentinels=20,
    )
    summary = train(config, SENTENCES, tmp_path)
    loaded, size = specials(tmp_path), summary["vocabulary"]
    assert dict(loaded.roles) == {"pad": 0, "unk": 1, "eos": 2, "decoder_start": 0} == summary["specials"]
    assert loaded.sentinels == tuple(range(size - 1, size - 21, -1)) and size <= SIZE
    assert load(tmp_path).id_to_token(size - 1) == "<extra_id_0>"
    ids = load(tmp_path).encode("The Senate").ids
    assert ids[-1] == loaded.eos and not set(ids[:-1]) & loaded.all
    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert auto("The Senate")["input_ids"] == ids and (auto.eos_token, auto.pad_token) == ("[EOS]", "[PAD]")


def test_a_gpt_has_one_special_token(tmp_path: Path) -> None:
    train(TokenizerConfig(kind="byte-bpe", vocabulary=SIZE, roles=["eos"]), SENTENCES, tmp_path)
    loaded = specials(tmp_path)
    assert dict(loaded.roles) == {"eos": 0} and loaded.all == {0}
    assert load(tmp_path).encode("The Senate").ids[-1] != 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"roles": ["eos"]}, "wordpiece needs a token for what it has no piece for"),
        ({"roles": ["unk", "decoder_start"]}, "add pad to roles"),
        ({"roles": ["start"]}, "roles"),
        ({"vocabulary": 16, "sentinels": 11}, "needs a vocabulary of at least 17, found 16"),
    ],
)
def test_roles_that_do_not_fit_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenizerConfig(**wrong)
