"""Near duplicates: signatures pinned, planted copies found, nothing else, however it is cut."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.text.near_duplicates import NearDuplicateConfig, _alike, near_duplicates, signatures

CONFIG = NearDuplicateConfig()
VOCABULARY = np.array([f"w{number}" for number in range(5000)])


def edited(text: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """With that share of the words changed."""
    changed = np.array(text)
    places = rng.choice(len(text), round(share * len(text)), replace=False)
    changed[places] = rng.choice(VOCABULARY, len(places))
    return changed.tolist()


def planted(originals: int = 400) -> list[list[str]]:
    """Documents of 60–600 words, each with an edited copy, in random order."""
    rng = np.random.default_rng(0)
    documents = []
    for number in range(originals):
        text = rng.choice(VOCABULARY, rng.integers(60, 600)).tolist()
        documents += [text, edited(text, (0.0, 0.003, 0.01, 0.02, 0.03, 0.4)[number % 6], rng)]
    documents += [rng.choice(VOCABULARY, 200).tolist() for _ in range(200)]
    return [documents[place] for place in rng.permutation(len(documents))]


def ngrams(text: list[str]) -> set[tuple[str, ...]]:
    return {tuple(text[start : start + 5]) for start in range(len(text) - 4)}


def jaccard(left: set, right: set) -> float:
    return len(left & right) / len(left | right)


def pairs_of(signed: np.ndarray, scratch, rows_in_memory: int = 1 << 21, config=CONFIG) -> list[list[int]]:
    return [pair for array in near_duplicates(signed, config, scratch, rows_in_memory) for pair in array.tolist()]


def test_planted_duplicates_are_found_and_little_else(tmp_path):
    documents = planted()
    sets = [ngrams(text) for text in documents]
    holders: dict[tuple[str, ...], list[int]] = {}
    for row, grams in enumerate(sets):
        for gram in grams:
            holders.setdefault(gram, []).append(row)
    candidates = {(i, j) for rows in holders.values() for i in rows for j in rows if i < j}
    alike = {pair for pair in candidates if jaccard(sets[pair[0]], sets[pair[1]]) >= 0.9}
    signed = signatures([" ".join(text) for text in documents], CONFIG)
    pairs = {(first, row) for row, first in pairs_of(signed, tmp_path)}
    assert len(alike) > 100 and len(pairs) > 100
    assert len(alike & pairs) / len(alike) >= 0.95
    assert sum(jaccard(sets[i], sets[j]) >= 0.7 for i, j in pairs) / len(pairs) >= 0.95
    assert not list(tmp_path.iterdir())


def test_neither_batches_nor_memory_nor_a_file_change_the_result(tmp_path):
    texts = [" ".join(text) for text in planted(60)]
    texts += texts[::3] * 3
    whole = signatures(texts, CONFIG)
    batches = [signatures(texts[start : start + 7], CONFIG) for start in range(0, len(texts), 7)]
    assert (np.concatenate(batches) == whole).all()
    expected = pairs_of(whole, tmp_path)
    assert len(expected) > 100
    rows = [row for row, _ in expected]
    assert rows == sorted(set(rows)) and all(first < row for row, first in expected)
    assert not {first for _, first in expected} & set(rows)
    np.save(tmp_path / "signatures.npy", whole)
    mapped = np.load(tmp_path / "signatures.npy", mmap_mode="r")
    for rows_in_memory in (20, 500, 3000):
        assert pairs_of(mapped, tmp_path / "scratch", rows_in_memory) == expected


def test_signatures_are_pinned():
    """Another version of the library, another machine: the same numbers, or artifacts differ."""
    texts = ["The quick brown fox jumps over the lazy dog.", "", "東京は日本の首都です", "word " * 10]
    texts.append(" ".join(f"w{number}" for number in range(3000)))
    signed = signatures(texts, CONFIG)
    assert signed.shape == (5, 128) and signed.dtype == np.uint32
    assert signed[:, :3].tolist() == [
        [3278440874, 1382815123, 3726178728],
        [4225848425, 4042247564, 3245867529],
        [3591072320, 3705603645, 3256327024],
        [4118401162, 3567365889, 3992552087],
        [135412223, 12639438, 60864381],
    ]
    assert zlib.crc32(signed.astype("<u4").tobytes()) == 1134796509


def test_estimates_are_those_of_the_sets():
    """Pairs of similarity s agree in s of the numbers, but for a standard error of √(s(1-s)/n)."""
    rng = np.random.default_rng(1)
    for similarity in (0.0, 0.5, 0.8):
        shared = round(800 * similarity / (1 + similarity))
        config = NearDuplicateConfig(ngram=1)
        left, right = [], []
        for _ in range(100):
            vocabulary = rng.permutation(5000)[: 800 - shared]
            left.append(" ".join(VOCABULARY[vocabulary[:400]]))
            right.append(" ".join(VOCABULARY[vocabulary[400 - shared :]]))
        agree = (signatures(left, config) == signatures(right, config)).mean(1)
        error = np.sqrt(similarity * (1 - similarity) / 128)
        assert abs(agree.mean() - similarity) <= 5 * error / 10 + 1e-3
        assert agree.std() <= 1.3 * error + 1e-3


def test_only_words_count():
    signed = signatures(["One two; three FOUR five six!", "one  two three\nfour five (six)", "one two three"], CONFIG)
    assert (signed[0] == signed[1]).all()
    assert (signed[0] == signed[2]).mean() < 0.1


def test_short_texts_are_compared_as_a_whole(tmp_path):
    texts = ["a b c", "a b c d", "A, B, C.", "", "!!!", "???", "!!!", "a b", "b a", ""]
    assert pairs_of(signatures(texts, CONFIG), tmp_path) == [[2, 0], [6, 4], [9, 3]]


def test_a_chain_has_one_representative_and_long_buckets_are_no_trouble(tmp_path):
    rng = np.random.default_rng(3)
    text = rng.choice(VOCABULARY, 1000).tolist()
    chain = [text]
    for _ in range(8):
        chain.append(edited(chain[-1], 0.005, rng))
    assert jaccard(ngrams(chain[0]), ngrams(chain[-1])) < 0.75
    signed = signatures([" ".join(text) for text in chain + chain[:1] * 500], CONFIG)
    assert pairs_of(signed, tmp_path) == [[row, 0] for row in range(1, 509)]


def test_nothing_in_nothing(tmp_path):
    empty = signatures([], CONFIG)
    assert empty.shape == (0, 128) and pairs_of(empty, tmp_path) == []
    assert pairs_of(signatures(["alone"], CONFIG), tmp_path) == []


def test_bands_fit_the_threshold():
    assert CONFIG.bands == (14, 9)
    assert NearDuplicateConfig(threshold=0.5).bands == (32, 4)
    assert NearDuplicateConfig(threshold=1.0).bands == (1, 128)


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.1}, {"ngram": 0}, {"permutations": 0}, {"x": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        NearDuplicateConfig(**wrong)


def test_the_threshold_itself_is_alike_enough() -> None:
    """`threshold` is the least similarity of duplicates."""
    rows = np.zeros((4, 10), np.uint32)
    rows[1, :2], rows[2, :3], rows[3, :1] = 1, 1, 1
    pairs = np.array([[0, 1], [0, 2], [0, 3]])
    assert _alike(rows, pairs, 0.8).tolist() == [[0, 1], [0, 3]]
    assert _alike(rows, pairs, 0.9).tolist() == [[0, 3]] and len(_alike(rows, pairs, 0.7)) == 3
