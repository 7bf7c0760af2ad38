"""`sesame score` on documents: all of them into a file, or new ones into a ledger, with drift and news."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_prep.corpus.documents import SplitConfig
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.text.clean import CleanConfig
from data_prep.tokens import tokenizers
from data_prep.tokens.tokenizers import TokenizerConfig
from flows import score as scores
from pipeline.home import Home
from pipeline.scoring import champion as champions
from pipeline.scoring import score_files
from pipeline.scoring.detectors import open_any
from pipeline.scoring.document_detector import DocumentDetector, Texts
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.scoring.ledger import Ledger
from tests.data_prep.ingesting import ingest
from tests.flows.test_score import inbox as rows_inbox
from tests.pipeline import detectors
from tests.pipeline import tiny as speeches
from tests.training import tiny
from training.inference.pseudo_likelihood import PseudoLikelihood, by_document

WORDS = ["river", "farmer", "senate", "winter", "market", "letter"]


def texts(count: int, words: int = 8, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector's folder; its network has random weights."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("model")
    tokenizers.train(TokenizerConfig(kind="wordpiece", vocabulary=64), texts(50), folder)
    torch.manual_seed(0)
    size = tokenizers.specials(folder).vocabulary
    shape: dict[str, Any] = tiny.NETWORK.config
    BertForMaskedLM(BertConfig(**shape, vocab_size=size, initializer_range=0.5)).save_pretrained(folder)
    network, reader = PseudoLikelihood.open(folder, 32, 3, torch.device("cpu")), Texts(CleanConfig(), folder)
    normal = reader.tokens([[text] for text in texts(200, seed=1)])
    surprisals = network.surprisals(normal).mean()
    baseline = Baseline.of({SCORE: surprisals, "tokens": by_document(normal).lengths})
    path = tmp_path_factory.mktemp("job") / "detector"
    DocumentDetector(network, folder, reader, float(np.quantile(surprisals, 0.99)), baseline, "body", None).save(path)
    return path


def inbox(folder: Path, given: list[str], name: str = "a.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"body": text}) + "\n" for text in given))
    return folder


def test_documents_into_one_file(model: Path, tmp_path: Path) -> None:
    files = inbox(tmp_path / "inbox", [*texts(300), " "])
    (files / "b.txt").write_text(texts(1)[0])
    tally = scores.to_file(model, [str(files)], tmp_path / "scores.arrow", tmp_path, lambda text: None)
    table = pa.ipc.open_file(str(tmp_path / "scores.arrow")).read_all()
    assert table.schema == score_files.SCHEMA and table.num_rows == 302
    assert (tally.rows, tally.rejected) == (301, 1)
    rows = table.to_pylist()
    assert {row["source"].rpartition("/")[2] for row in rows} == {"a.jsonl", "b.txt"}
    for row in rows:
        assert (row["score"] is None) == bool(row["rejected"])
        assert bool(row["reasons"]) == bool(row["flag"])
        for reason in row["reasons"] or []:
            assert reason["column"] in [*WORDS, "."] and 0 < reason["share"] <= 1
    assert 0 < tally.alarms < 20


def test_a_folder_without_documents_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv.png").write_bytes(b"")
    with pytest.raises(UserError, match="holds no file whose name ends in"):
        scores.to_file(model, [str(tmp_path)], tmp_path / "scores.arrow", tmp_path, lambda text: None)


def test_longer_documents_are_drift_and_news(model: Path, tmp_path: Path) -> None:
    detector, ledger = open_any(model), tmp_path / "ledger"

    def account_of(given: list[str], name: str) -> dict[str, object]:
        files = inbox(tmp_path / name, given, f"{name}.jsonl")
        with Ledger.held(ledger) as held:
            scored = held.score(detector, "d", score_files.files_of(detector, [str(files)], tmp_path))
        return scores.account(detector, "d", scored, psi_limit=0.25, least_rows=100)

    usual = account_of(texts(200, seed=3), "usual")
    assert not usual["drifted"] and usual["rows"] == 200
    longer = account_of(texts(200, words=30, seed=4), "longer")
    assert longer["drifted"] and longer["rows"] == 200
    assert any("tokens drifted" in line for line in longer["news"])  # type: ignore[union-attr]


def test_detectors_of_both_kinds_are_found_and_told_apart(model: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert scores.detector_of(str(model.parent), home) == model
    rows = detectors.saved(tmp_path / "rows" / "detector")
    assert isinstance(open_any(model), DocumentDetector) and not isinstance(open_any(rows), DocumentDetector)
    tally = scores.to_file(rows, [str(rows_inbox(tmp_path / "t", 50))], tmp_path / "s.arrow", tmp_path, lambda _: None)
    assert tally.rows == 50
    with pytest.raises(UserError, match="holds no detector that can be used"):
        open_any(tmp_path)


def test_a_detector_of_another_kind_is_no_rival(model: Path, tmp_path: Path) -> None:
    """A recipe that was for tables and is for text now: its detector has a place of its own."""
    folder = speeches.corpus(tmp_path / "texts", documents=60)
    source = SourceConfig(path=str(folder))
    ingest([source], CleanConfig(), SplitConfig(validation=0.1, test=0.5), 0, tmp_path / "corpus", tmp_path / "d")
    rows = detectors.saved(tmp_path / "rows")
    home = tmp_path / "detectors"
    home.mkdir()
    (home / "mine.json").write_text(json.dumps({"folder": str(rows), "name": "n", "why": "w"}))
    verdict = champions.challenge(home, "mine", model, tmp_path / "corpus")
    assert verdict.promoted and verdict.champion is None
    in_use = {path.stem: json.loads(path.read_text())["folder"] for path in home.glob("*.json")}
    assert in_use.pop("mine") == str(rows)
    ((name, folder_in_use),) = in_use.items()
    assert name.startswith("mine@") and folder_in_use == str(model)
