"""A detector takes over by doing as well on rows that neither has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from data_prep.arrays import ingest_arrays
from data_prep.corpus import SplitConfig
from data_prep.errors import UserError
from data_prep.sources import SourceConfig
from data_prep.tables import TableConfig
from pipeline import promotion
from pipeline.artifact import Artifact, Manifest
from tests.pipeline import detectors
from training.anomaly import DISTANCE, Scorer


def corpus(folder: Path, labels: bool) -> Path:
    """Rows on the plane, and some beside it."""
    lines = [line.strip() + ",usual" for line in detectors.csv_lines(detectors.rows(120, seed=3))]
    random = np.random.default_rng(4)
    odd = 2 * random.normal(size=(40, 5))
    lines += [",".join(f"{value:.4f}" for value in row) + ",red,odd" for row in odd]
    head = detectors.HEADER.strip() + ",kind"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("\n".join([head, *lines]) + "\n")
    config = TableConfig(target="kind", normal=["usual"]) if labels else TableConfig(drop=["kind"])
    split = SplitConfig(validation=0.2, test=0.4)
    ingest_arrays([SourceConfig(path=str(folder / "rows.csv"))], config, 0, split, 0, folder / "corpus", folder)
    return folder / "corpus"


def blunted(folder: Path) -> Path:
    """The same detector, to which all rows are alike."""
    whole = detectors.detector()
    [(model, reference)] = whole.scorer.members
    scorer = Scorer([(model, replace(reference, precision=np.zeros_like(reference.precision)))])
    replace(whole, scorer=scorer, score=DISTANCE).save(folder)
    return folder


def test_the_first_one_takes_over_and_a_worse_one_does_not(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    good, worse = detectors.saved(tmp_path / "good"), blunted(tmp_path / "worse")
    assert promotion.champion(home, "anomaly") is None
    first = promotion.challenge(home, "anomaly", good, rows)
    assert first.promoted and first.champion is None and first.measure == "AUROC" and first.challenger > 0.9
    second = promotion.challenge(home, "anomaly", worse, rows)
    assert not second.promoted and second.challenger < second.champion == first.challenger  # type: ignore[operator]
    held = promotion.champion(home, "anomaly")
    assert held is not None and held.folder == str(good)
    assert "AUROC" in held.why


def test_a_better_one_takes_over(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    worse, good = blunted(tmp_path / "worse"), detectors.saved(tmp_path / "good")
    promotion.challenge(home, "anomaly", worse, rows)
    verdict = promotion.challenge(home, "anomaly", good, rows)
    assert verdict.promoted
    assert promotion.champion(home, "anomaly") == promotion.Champion(
        str(good), promotion.name_of(good), verdict.why, (str(worse), str(good))
    )


def test_what_was_compared_before_does_not_come_back(tmp_path: Path) -> None:
    """The store gives a recipe whose data are what they were once its old detector again."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    folders = {}
    for name in ("ingest", "old", "new"):
        folder = rows if name == "ingest" else tmp_path / name
        if name != "ingest":
            detectors.saved(folder / promotion.DETECTOR)
        folders[name] = Artifact(name, folder, cast(Manifest, {"config": {"job": {}}}))

    def challenged(name: str) -> promotion.Verdict | None:
        return promotion.challenge_with(home, "anomaly", {one: folders[one] for one in ("ingest", name)})

    for name in ("old", "new"):
        verdict = challenged(name)
        assert verdict is not None and verdict.promoted
    assert challenged("old") is None and challenged("new") is None
    held = promotion.champion(home, "anomaly")
    assert held is not None and held.folder == str(tmp_path / "new" / promotion.DETECTOR)


def test_without_labels_the_share_that_is_flagged_decides(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=False), tmp_path / "home"
    verdict = promotion.challenge(home, "anomaly", detectors.saved(tmp_path / "good"), rows)
    assert verdict.measure == "share flagged" and 0 < verdict.challenger < 1


def test_too_few_rows_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = corpus(tmp_path / "rows", labels=True)
    monkeypatch.setattr(promotion, "LEAST_ROWS", 1000)
    with pytest.raises(UserError, match=r"64 test rows are too few to compare detectors; raise data\.split\.test"):
        promotion.challenge(tmp_path, "anomaly", detectors.saved(tmp_path / "good"), rows)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "anomaly.json").write_text('{"folder": ')
    with pytest.raises(UserError, match=r"anomaly\.json is damaged"):
        promotion.champion(tmp_path, "anomaly")
