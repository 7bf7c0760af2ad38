"""What a tokenizer is learned from: training documents, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.corpus.documents import SPLITS, Corpus, SplitConfig
from data_prep.sources.config import SourceConfig
from data_prep.text import kind
from data_prep.text.clean import CleanConfig
from tests.data_prep.ingesting import ingest


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
