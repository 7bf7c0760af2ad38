"""Span corruption: T5's numbers, every segmentation as likely as any, and what x′ and x″ look like."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from data_prep.corruptions.spans import Spans, SpansConfig
from data_prep.errors import UserError
from data_prep.rng import Draws
from data_prep.shards.rows import Ragged, Rows, Specials, ragged

PAD, EOS = 0, 1
SPECIALS = Specials(400, pad=PAD, eos=EOS, sentinels=range(399, 299, -1))


def corruption(specials: Specials = SPECIALS, **options: float) -> Spans:
    return Spans(SpansConfig(kind="spans", **options), specials)  # type: ignore[arg-type]


def corrupted(lengths: list[int], spans: Spans | None = None) -> Rows:
    """Rows of 2, 3, 4, …, so that a token tells its place."""
    rows: Rows = {"input": Ragged.from_rows([np.arange(2, 2 + length) for length in lengths], np.uint16)}
    return (spans or corruption())(rows, Draws(5, 0, np.arange(len(lengths))))


@pytest.mark.parametrize(
    ("length", "noise", "spans"),
    [(1, 0, 0), (2, 1, 1), (3, 1, 1), (10, 2, 1), (30, 4, 1), (50, 8, 3), (128, 19, 6), (568, 85, 28)],
)
def test_sizes_are_t5s(length: int, noise: int, spans: int) -> None:
    assert corruption().config.sizes(length) == (noise, spans)
    rows = corrupted([length])
    assert ragged(rows, "seen").lengths.tolist() == [length - noise + spans + 1]
    assert ragged(rows, "target_tokens").lengths.tolist() == [noise + spans + 1]


def test_568_tokens_become_512_and_114() -> None:
    rows = corrupted([568])
    assert [ragged(rows, name).lengths.tolist() for name in ("seen", "target_tokens")] == [[512], [114]]


def test_what_is_seen_and_predicted_fits_together() -> None:
    rows = corrupted([200] * 20)
    for row in range(20):
        seen, targets = ragged(rows, "seen").row(row).tolist(), ragged(rows, "target_tokens").row(row).tolist()
        sentinels = [399 - number for number in range(10)]
        assert [token for token in seen if token >= 300] == sentinels == [token for token in targets if token >= 300]
        assert seen[0] == 2, "text comes first"
        assert targets[0] == 399 and targets[-1] == EOS == seen[-1]
        bounds = [targets.index(token) for token in sentinels] + [len(targets) - 1]
        for token, (start, stop) in zip(sentinels, pairwise(bounds), strict=True):
            span, place = targets[start + 1 : stop], seen.index(token)
            assert span == list(range(seen[place - 1] + 1, seen[place - 1] + 1 + len(span)))
            assert seen[place + 1] in (span[-1] + 1, EOS) and span


def test_every_segmentation_is_as_likely_as_any() -> None:
    """10 tokens, 4 of noise in 2 spans: 3 ways to cut the noise times 5 to cut the text."""
    count = 15_000
    rows = corrupted([10] * count, corruption(rate=0.4, mean_length=2))
    ways = Counter(tuple(ragged(rows, "seen").row(row).tolist()) for row in range(count))
    expected = count / 15
    assert len(ways) == 15
    assert sum((number - expected) ** 2 / expected for number in ways.values()) < 36.1  # chi², 14 df, p = 0.001


def test_too_few_sentinels_are_told() -> None:
    few = Specials(400, pad=PAD, eos=EOS, sentinels=[399, 398])
    assert len(ragged(corrupted([40], corruption(few)), "seen").values) == 40 - 6 + 2 + 1
    with pytest.raises(UserError, match="a row of span corruption needs 10 sentinels, and this tokenizer has 2"):
        corrupted([200], corruption(few))
    with pytest.raises(UserError, match="needs a special token for eos"):
        corruption(Specials(400, pad=PAD, sentinels=[399]))
    with pytest.raises(ValueError, match="corruption spans is of rows of one sequence each"):
        corruption()({"input": Ragged.from_rows([[2, 3]]), "sequence": Ragged.from_rows([[0, 1]])}, Draws(5, 0, [0]))


def test_rows_of_one_token_stay_whole() -> None:
    rows = corrupted([1, 5, 1])
    assert ragged(rows, "seen").row(0).tolist() == [2, EOS]
    assert ragged(rows, "target_tokens").row(2).tolist() == [EOS]
    assert ragged(corruption().restore(rows), "input").lengths.tolist() == [1, 5, 1]


def test_what_is_written_otherwise_is_filled_in_as_far_as_it_goes() -> None:
    rows: Rows = {
        "seen": Ragged.from_rows([[2, 399, 3, 398, EOS]], np.uint16),
        "target_tokens": Ragged.from_rows([[399, 5, 398, 6, EOS]], np.uint16),
    }
    for written, filled in (
        ([399, 5, 398, 6], [2, 5, 3, 6]),
        ([7, 398, 6, 399, 5, 5, EOS], [2, 5, 5, 3, 6]),
        ([399, 5, 397, 9, 399, 8], [2, 5, 8, 3]),
        ([], [2, 3]),
    ):
        assert corruption().filled(rows, Ragged.from_rows([written], np.uint16)).row(0).tolist() == filled
