"""What a tokenizer is learned from: training documents, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig
from data_prep.sources.config import SourceConfig
from data_prep.text import kind
from data_prep.text.clean import CleanConfig
from pipeline.recipe.load import load
from tests.data_prep.ingesting import ingest
from training.config import OrderConfig


def test_a_tokenizer_is_learned_from_training_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number in range(12):
        (tmp_path / "in" / f"{number}.txt").write_text(f"Document {number} begins. Then it ends.")
    split = SplitConfig(validation=0.25, test=0.25)
    source = SourceConfig(path=str(tmp_path / "in"))
    ingest([source], CleanConfig(), split, 0, tmp_path / "corpus", tmp_path / "downloads")
    given: list[str] = []

    def train(config: Any, sentences: Any, *arguments: Any) -> dict[str, Any]:
        given.extend(sentences)
        return {}

    monkeypatch.setattr(kind, "train", train)
    kind.KIND.fit({"tokenizer": {}, "cleaning": {}}, tmp_path / "corpus", tmp_path, lambda *_: None)
    by_split = {name: list(Corpus(tmp_path / "corpus", name).sentences()) for name in SPLITS}
    assert [len(sentences) for sentences in by_split.values()] == [12, 6, 6]
    assert sorted(given) == sorted(by_split["train"])


def test_new_pieces_are_counted_by_the_shares_of_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = []
    for name, number in (("much", 30), ("little", 3)):
        (tmp_path / name).mkdir()
        for place in range(number):
            (tmp_path / name / f"{place}.txt").write_text(f"{name.capitalize()} text number {place} is here.")
        sources.append(SourceConfig(path=str(tmp_path / name), corpus=name))
    split = SplitConfig(validation=0.0, test=0.0)
    ingest(sources, CleanConfig(), split, 0, tmp_path / "corpus", tmp_path / "downloads")
    counted: dict[str, float] = {}

    def train(config: Any, sentences: Any, out_dir: Any, cleaning: Any, mixture: Any) -> dict[str, Any]:
        for texts, factor in mixture:
            for text in texts:
                name = text.split()[0]
                counted[name] = counted.get(name, 0.0) + factor * len(text)
        return {}

    monkeypatch.setattr(kind, "train", train)
    of_fit = {"tokenizer": {"kind": "pretrained", "add": 5}, "cleaning": {}}
    size = sum(map(len, Corpus(tmp_path / "corpus", "train").sentences()))
    for mixing, wanted in (
        ({"weights": {"much": 1.0, "little": 3.0}}, 0.75),
        ({"epochs": {"much": 1.0, "little": 10.0}}, 0.5),
        ({"temperature": 0.0}, 0.5),
    ):
        counted.clear()
        kind.KIND.fit(of_fit | {kind.MIXING: mixing}, tmp_path / "corpus", tmp_path, lambda *_: None)
        assert sum(counted.values()) == pytest.approx(size)
        assert counted["Little"] / size == pytest.approx(wanted, abs=0.03)


def test_shares_are_in_the_key_of_a_tokenizer_only_where_new_pieces_are_counted_by_them() -> None:
    adapt, multilingual = load("adapt", "tiny"), load("multilingual", "tiny")

    def of_fit(recipe: Any, **order: Any) -> dict[str, Any]:
        return kind.KIND.fit_settings(recipe.model_copy(update={"order": OrderConfig(**order)}))

    assert kind.MIXING not in of_fit(adapt, weights={"manuals": 1.0, "speeches": 0.0})  # one part alone is trained on
    weights = {"manuals": 1.0, "speeches": 0.5}
    assert of_fit(adapt, weights=weights)[kind.MIXING] == {"weights": weights}
    assert of_fit(adapt, temperature=0.3)[kind.MIXING] == {"temperature": 0.3}
    assert kind.MIXING not in of_fit(adapt)  # as texts are
    assert kind.MIXING not in of_fit(multilingual, temperature=0.3)
