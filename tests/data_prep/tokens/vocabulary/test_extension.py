"""Pieces added to a tokenizer: old ids stay, texts without new pieces are encoded as before, tokens are saved."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from data_prep.errors import UserError
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import TokenizerConfig, load, specials, train
from data_prep.tokens.vocabulary import extension

OLD = ["the cat sat on the mat", "a cat and a hat", "the man sat", "that is the hat of the man"] * 5
OLD += ["qbuick jumped", "exbkrvzyflws pkgjv kbpdrnu dodome"]  # letters
NEW = ["kubernetes pods restart", "the kubernetes daemon restarts pods", "a pod of kubernetes", "the pods"] * 5
MORE = 5
SYLLABLES = st.lists(
    st.sampled_from(["ku", "ber", "pod", "s", "the", "cat", "a", " ", "rest", "art", "é"]), max_size=12
)
KINDS: dict[str, dict[str, Any]] = {
    "wordpiece": {"vocabulary": 90, "lowercase": True},
    "byte-bpe": {"vocabulary": 300, "roles": ["pad", "bos", "eos"]},
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a tokenizer of the old texts, and of the same with pieces of the new ones."""
    folder = tmp_path_factory.mktemp(request.param)
    given_settings = KINDS[request.param]
    train(TokenizerConfig(kind=request.param, **given_settings), OLD, folder / "old", Cleaning())
    roles = given_settings.get("roles", ["pad", "unk", "cls", "sep", "mask"])
    more = TokenizerConfig(kind="pretrained", path=str(folder / "old"), add=MORE, roles=roles)
    summary = train(more, NEW, folder / "new", Cleaning())
    assert summary["added"] == MORE and summary["tokens_of_text"][1] < summary["tokens_of_text"][0]
    return folder / "old", folder / "new"


@lru_cache
def opened(folder: Path) -> tuple[Tokenizer, Encoder]:
    return load(folder), Encoder(load(folder))


def ids(folder: Path, text: str) -> list[int]:
    return opened(folder)[0].encode(text, add_special_tokens=False).ids


def test_old_ids_stay_and_new_ones_follow(pair: tuple[Path, Path]) -> None:
    old, new = (load(folder).get_vocab(with_added_tokens=True) for folder in pair)
    added = extension.read(pair[1])
    assert added is not None and extension.read(pair[0]) is None
    assert {piece: new[piece] for piece in old} == old
    assert added.first == max(old.values()) + 1
    assert [new[piece] for piece in added.pieces] == list(range(added.first, added.first + MORE))
    assert specials(pair[1]).vocabulary == specials(pair[0]).vocabulary + MORE
    assert specials(pair[1]).roles == specials(pair[0]).roles


def test_a_new_piece_spells_what_its_parts_spell(pair: tuple[Path, Path]) -> None:
    names = {number: piece for piece, number in load(pair[0]).get_vocab(with_added_tokens=True).items()}
    added = extension.read(pair[1])
    assert added is not None
    for piece, parts in zip(added.pieces, added.parts, strict=True):
        spelt = [names[number] for number in parts]
        assert len(parts) > 1
        assert piece == spelt[0] + "".join(part.removeprefix("##") for part in spelt[1:])


@settings(max_examples=200, deadline=None)
@given(SYLLABLES)
def test_a_text_without_new_pieces_is_encoded_as_before(pair: tuple[Path, Path], syllables: list[str]) -> None:
    text, added = "".join(syllables), extension.read(pair[1])
    assert added is not None
    before, after = (ids(folder, text) for folder in pair)
    if not any(number >= added.first for number in after):
        assert after == before
    for folder, expected in zip(pair, (before, after), strict=True):  # what shards are made by
        if text == " ".join(text.split()):
            assert opened(folder)[1].encode([text]).values.tolist() == expected
    assert opened(pair[1])[0].decode(after) == opened(pair[0])[0].decode(before)


@settings(max_examples=200, deadline=None)
@given(SYLLABLES)
def test_only_what_is_spelt_with_a_new_piece_changes(pair: tuple[Path, Path], syllables: list[str]) -> None:
    text, added = " ".join(syllables).lower(), extension.read(pair[1])
    assert added is not None
    as_bytes = text.replace("é", "Ã©").replace(" ", "Ġ")  # bytes as characters, as byte-level pieces have them
    forms = (text, f"Ġ{as_bytes}")
    if not any(piece.removeprefix("##") in form for piece in added.pieces for form in forms):
        assert ids(pair[1], text) == ids(pair[0], text)


def test_the_pair_that_saves_most_is_joined_first() -> None:
    words = {("a", "b", "c"): 5, ("b", "c"): 4, ("a", "b"): 3}
    assert extension.learn(words, 2, set(), lambda left, right: left + right) == [("b", "c"), ("a", "bc")]
    assert extension.learn(words, 2, {"bc"}, lambda left, right: left + right)[0] == ("a", "b")
    assert extension.learn({("a", "b"): 1}, 2, set(), lambda left, right: left + right) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=7), st.integers(1, 5)), min_size=1, max_size=6))
def test_joining_is_that_of_counting_anew_each_time(words: list[tuple[str, int]]) -> None:
    counts: Counter[tuple[str, ...]] = Counter()
    for word, count in words:
        counts[tuple(word)] += count
    slow, spelt = [], {word: (list(word), count) for word, count in counts.items()}
    made: set[str] = set()
    while len(made) < 4:
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in spelt.values():
            for both in pairwise(pieces):
                pairs[both] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda both: (-pairs[both], both))
        slow.append(best)
        made.add("".join(best))
        spelt = {word: (extension._joined(p, best, "".join(best)), n) for word, (p, n) in spelt.items()}
    assert extension.learn(counts, 4, set(), lambda left, right: left + right) == slow


def test_tokens_beside_the_vocabulary_keep_their_ids(tmp_path: Path) -> None:
    """RoBERTa's <mask> is no piece of its model, and would be numbered anew if the model had more pieces."""
    train(TokenizerConfig(kind="byte-bpe", vocabulary=280, roles=["pad", "bos", "eos"]), OLD, tmp_path / "old")
    spec = json.loads((tmp_path / "old" / "tokenizer.json").read_text())
    special = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False}
    largest = max(spec["model"]["vocab"].values())
    spec["added_tokens"].append({**special, "special": True, "id": largest + 1})
    (tmp_path / "old" / "tokenizer.json").write_text(json.dumps(spec))
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path / "old"), add=5, roles=["pad", "bos", "eos"])
    train(config, NEW, tmp_path / "new")
    tokenizer = load(tmp_path / "new", specials_in_text=True)
    assert tokenizer.token_to_id("<mask>") == largest + 1
    assert largest + 1 in tokenizer.encode("a <mask> cat").ids
    added = extension.read(tmp_path / "new")
    assert added is not None and added.first == largest + 2


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), "Unigram is neither"),
        (models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"), "WordLevel is neither"),
        (models.BPE({"a": 0}, [], byte_fallback=True), "its byte-pair encoding has byte_fallback"),
    ],
)
def test_what_cannot_be_extended_is_refused_in_one_sentence(model: Any, why: str) -> None:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(
        UserError, match=rf"tokenizer\.add: this tokenizer takes no new pieces, for {why}.*leave it out"
    ):
        extension.extend(tokenizer, [(NEW, 1.0)], 3)


def test_fewer_new_pieces_than_asked_for_are_told(tmp_path: Path) -> None:
    train(TokenizerConfig(kind="wordpiece", vocabulary=90), OLD, tmp_path / "old")
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path / "old"), add=5000)
    summary = train(config, NEW, tmp_path / "new")
    assert 0 < summary["added"] < 100
    assert f"{summary['added']} new pieces of 5,000 are in the training text" in summary["remarks"][-1]
    with pytest.raises(ValueError, match="'add' belongs to kind 'pretrained'"):
        TokenizerConfig(kind="wordpiece", add=3)


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_a_part_count_by_its_factor(kind: Any, tmp_path: Path) -> None:
    train(TokenizerConfig(kind=kind, **KINDS[kind]), OLD, tmp_path / "old")
    many, few = ["kubernetes"] * 40, ["zookeeper"] * 4

    def first_piece(*parts: tuple[list[str], float]) -> str:
        return extension.extend(load(tmp_path / "old"), parts, 1).added.pieces[0].removeprefix("##")

    assert first_piece((many, 1.0), (few, 1.0)) == first_piece((many + few, 1.0)) in "kubernetes"
    assert first_piece((many, 0.1), (few, 10.0)) in "zookeeper"
