"""Findings: numbers, what to do, and which of them end a run before it trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.corruptions import config_of
from data_prep.errors import UserError
from data_prep.findings import Finding, Known, refuse
from data_prep.kinds import kind_of
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged
from data_prep.shards.writer import ShardWriter
from data_prep.stats import uniform

CORPUS = {
    "splits": {
        name: {"documents": 100, "sentences": 900, "characters": 90_000} for name in ("train", "validation", "test")
    }
}
TRAIN = {
    "rows": 5000,
    "corpus_tokens": 600_000,
    "left_out": 0,
    "labels": [2600, 2400],
    "mean_length": 120.0,
    "padding_share": 0.06,
    "characters": 2_000_000,
    "unknown_characters": 100,
}


def findings_of(
    kind: str = "text",
    corpus: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    masking: dict[str, Any] | None = None,
    split: tuple[float, float] = (0.05, 0.05),
    composed: str = "sop",
    uniform: dict[str, int] | None = None,
    budget: tuple[int, int] = (1000, 128),
) -> list[Finding]:
    """Findings where all is well but for what is given."""
    clean = SimpleNamespace(language="en", keep_lines=False)
    of_split = SimpleNamespace(validation=split[0], test=split[1])
    known = Known(
        data=SimpleNamespace(split=of_split, clean=clean),
        train=SimpleNamespace(steps=budget[0], global_batch=budget[1], longer=None),
        corruption=config_of({"kind": "masked-lm", "max_predictions": None, **(masking or {})}),
        composed=composed,
        length=128,
        corpus=CORPUS | (corpus or {}),
        fitted={"kind": "wordpiece", "vocabulary": 8192},
        shards={"train": TRAIN | (train or {}), **({"uniform": uniform} if uniform else {})},
    )
    return list(kind_of(kind).findings(known))


def documents(train: int, validation: int, test: int) -> dict[str, Any]:
    splits = {"train": train, "validation": validation, "test": test}
    return {"splits": {name: {"documents": count} for name, count in splits.items() if count}}


def test_nothing_is_said_where_nothing_is_odd() -> None:
    assert findings_of() == [] == findings_of("images", uniform={"rows": 1000, "uniform": 10})
    assert findings_of(split=(0.0, 0.0), corpus=documents(9, 0, 0)) == []


BETTER = {"better_rules": {"language": "zh", "found": 7, "would_find": 80}}
LONG = {"splits": CORPUS["splits"] | {"train": {"documents": 9, "sentences": 9, "characters": 9000}}}


@pytest.mark.parametrize(
    ("given", "text", "refused"),
    [
        ({"corpus": documents(1, 0, 0)}, "validation is empty, though data.split.validation is 0.05: the only", True),
        ({"corpus": documents(2, 0, 1)}, "validation is empty, though data.split.validation is 0.05: all 3", True),
        ({"corpus": documents(9, 1, 2)}, "validation is 1 of 12 documents: what is measured", False),
        ({"corpus": documents(9, 2, 0)}, "test is empty, though data.split.test is 0.05: all 11 documents", False),
        ({"corpus": documents(9, 1, 2), "composed": "nsp"}, "nsp pairs sentences of different documents, and v", True),
        ({"masking": {"max_predictions": 10}}, "7.8%, where corruption.rate asks for 15.0%: leave it", False),
        ({"masking": {"max_predictions": 9}}, "9 of 128 tokens to predict, 7.0%", True),
        ({"corpus": BETTER}, "en finds 7 sentences in a sample in which zh finds 80", False),
        ({"corpus": LONG}, "sentences have 1,000 characters on average: data.clean.language en", False),
        ({"train": {"unknown_characters": 20_000}}, "1.0% of the characters of training text are unknown to", False),
        ({"train": {"unknown_characters": 940_000}}, "47.0% of the characters", True),
        ({"train": {"left_out": 60_000}}, "leaves out 60,000 of 600,000 training tokens (10.0%)", False),
        ({"train": {"labels": [0, 50]}, "composed": "nsp"}, "100.0% of the pairs of nsp are random, 0.0% real", True),
        ({"train": {"labels": [80, 20]}}, "80.0% of the pairs of sop are in order, 20.0% swapped", False),
        ({"train": {"padding_share": 0.9, "mean_length": 13.0}}, "13 tokens on average where compose.length", False),
        ({"train": {"corpus_tokens": 81_920}}, "is large for 81,920 training tokens: a piece occurs 10.0 times", False),
        ({"train": {"rows": 100}, "budget": (10, 128)}, "there are 100: each is in it up to 2 times", False),
        ({"budget": (10_000, 128)}, "10,000 steps of 128 rows are 256 passes over 5,000 training rows", False),
        ({"kind": "images", "uniform": {"rows": 200, "uniform": 50}}, "25.0% of 200 training rows are of one", False),
        ({"kind": "sound", "uniform": {"rows": 20, "uniform": 20}}, "100.0% of 20 training rows are silent", True),
    ],
)  # fmt: skip
def test_what_is_odd_is_one_sentence_with_numbers(given: dict[str, Any], text: str, refused: bool) -> None:
    matching = [finding for finding in findings_of(**given) if text in finding.text]
    assert len(matching) == 1, findings_of(**given)
    assert matching[0].refused == refused


def test_refused_findings_end_a_run() -> None:
    refuse([Finding("a")])
    with pytest.raises(UserError, match=r"nothing is trained: b; c\."):
        refuse([Finding("a"), Finding("b", refused=True), Finding("c", refused=True)])


def test_rows_of_one_value_are_counted(tmp_path) -> None:
    images = np.random.default_rng(0).random((10, 3, 4, 4), np.float32)
    images[[2, 7]] = 0.5
    images[4, 0] = 1  # one channel of three
    frames = Ragged.from_rows([np.ones((3, 2)), np.arange(8).reshape(4, 2), np.zeros((1, 2))], np.float32, (2,))
    for name, column, expected in (("images", images, 2), ("sound", frames, 2)):
        writer = ShardWriter(tmp_path / name, 4)
        writer.write({"input": column})
        writer.close({"split": "train"})
        assert uniform.of_rows(Shards(tmp_path / name)) == {"rows": len(column), "uniform": expected}
