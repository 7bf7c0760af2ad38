"""A detector takes over by doing as well on rows that neither has seen."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SplitConfig
from data_prep.errors import UserError
from data_prep.sources.config import SourceConfig
from data_prep.tables.schema import TableConfig
from pipeline.gate import DETECTOR as KIND
from pipeline.gate import Candidate, Champion
from pipeline.scoring import champion, training_rows
from pipeline.scoring.detector import name_of
from tests.data_prep.ingesting import ingest_arrays
from tests.pipeline import detectors
from training.inference.anomaly import DISTANCE, Scorer


def corpus(folder: Path, labels: bool, usual: int = 120, odd: int = 40) -> Path:
    """Rows on the plane, and some beside it."""
    lines = [line.strip() + ",usual" for line in detectors.csv_lines(detectors.rows(usual, seed=3))]
    random = np.random.default_rng(4)
    lines += [",".join(f"{value:.4f}" for value in row) + ",red,odd" for row in 2 * random.normal(size=(odd, 5))]
    head = detectors.HEADER.strip() + ",kind"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text("\n".join([head, *lines]) + "\n")
    config = TableConfig(target="kind", normal=["usual"]) if labels else TableConfig(drop=["kind"])
    split = SplitConfig(validation=0.2, test=0.4)
    ingest_arrays([SourceConfig(path=str(folder / "rows.csv"))], config, 0, split, 0, folder / "corpus", folder)
    return folder / "corpus"


def blunted(folder: Path) -> Path:
    """The same detector, to which all rows are alike."""
    detector = detectors.detector()
    [(model, reference)] = detector.scorer.members
    scorer = Scorer([(model, replace(reference, precision=np.zeros_like(reference.precision)))])
    replace(detector, scorer=scorer, score_name=DISTANCE).save(folder)
    return folder


def test_the_first_one_takes_over_and_a_worse_one_does_not(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    good, worse = detectors.saved(tmp_path / "good"), blunted(tmp_path / "worse")
    assert champion.champion(home, "anomaly") is None
    first = champion.challenge(home, "anomaly", good, rows)
    assert first.promoted and first.champion is None and first.measure == "AUROC" and first.challenger > 0.9
    second = champion.challenge(home, "anomaly", worse, rows)
    assert not second.promoted and second.challenger < second.champion == first.challenger  # type: ignore[operator]
    held = champion.champion(home, "anomaly")
    assert held is not None and held.folder == str(good)
    assert "AUROC" in held.why
    decisions = [json.loads(line) for line in (home / "anomaly.decisions.jsonl").read_text().splitlines()]
    assert [(decision["promoted"], decision["challenger"] == first.challenger) for decision in decisions] == [
        (True, True),
        (False, False),
    ]
    assert decisions[1]["folder"] == str(worse) and decisions[1]["champion"] == first.challenger


def test_a_better_one_takes_over(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    worse, good = blunted(tmp_path / "worse"), detectors.saved(tmp_path / "good")
    champion.challenge(home, "anomaly", worse, rows)
    verdict = champion.challenge(home, "anomaly", good, rows)
    assert verdict.promoted
    assert champion.champion(home, "anomaly") == Champion(
        str(good), name_of(good), verdict.why, (str(worse), str(good)), detectors.detector().reads
    )


def test_a_detector_that_reads_other_columns_takes_nobodys_place(tmp_path: Path) -> None:
    """As that of a copied recipe that kept its name; it competes with those that read the same."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    good, detector = detectors.saved(tmp_path / "good"), detectors.detector()
    assert detector.transform is not None and detector.transform.schema is not None
    transform = copy(detector.transform)
    transform.schema = replace(detector.transform.schema, kinds={**detector.transform.schema.kinds, "z": "numeric"})
    others = [tmp_path / "other", tmp_path / "another"]
    for other in others:
        replace(detector, transform=transform).save(other)
    champion.challenge(home, "anomaly", good, rows)
    for number, other in enumerate(others):
        verdict = champion.propose(home, "anomaly", CANDIDATE, other, rows)
        assert verdict is not None and verdict.promoted and (verdict.champion is None) == (number == 0)
    name = f"anomaly@{replace(detector, transform=transform).reads}"
    held, copied = champion.champion(home, "anomaly"), champion.champion(home, name)
    assert held is not None and held.folder == str(good) and held.judged == (str(good),)
    assert copied is not None and copied.folder == str(others[-1])


def test_a_home_may_move(tmp_path: Path) -> None:
    """What lies in it is found in it, also in a copy."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    champion.challenge(home / "detectors", "anomaly", detectors.saved(home / "store" / "job" / champion.DETECTOR), rows)
    shutil.copytree(home, tmp_path / "copy")
    for place in ("copy", "home"):
        held = champion.champion(tmp_path / place / "detectors", "anomaly")
        assert held is not None and held.judged == (held.folder,)
        assert held.folder == str(tmp_path / place / "store" / "job" / champion.DETECTOR)
    blunt = blunted(tmp_path / "copy" / "store" / "worse" / champion.DETECTOR)
    home.rename(tmp_path / "gone")
    assert not champion.challenge(tmp_path / "copy" / "detectors", "anomaly", blunt, rows).promoted


CANDIDATE = Candidate(KIND, "", champion.DETECTOR, "auroc")


def made(folder: Path, *names: str) -> dict[str, Path]:
    """What runs of a recipe propose, each a detector of its own."""
    return {name: detectors.saved(folder / name / champion.DETECTOR) for name in names}


def test_what_was_compared_before_does_not_come_back(tmp_path: Path) -> None:
    """The store gives a recipe whose data are what they were once its old detector again."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    runs = made(tmp_path, "old", "new")
    for name in ("old", "new"):
        verdict = champion.propose(home, "anomaly", CANDIDATE, runs[name], rows)
        assert verdict is not None and verdict.promoted
    assert all(champion.propose(home, "anomaly", CANDIDATE, runs[name], rows) is None for name in ("old", "new"))
    held = champion.champion(home, "anomaly")
    assert held is not None and held.folder == str(tmp_path / "new" / champion.DETECTOR)


def test_without_labels_the_share_that_is_flagged_decides(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=False), tmp_path / "home"
    verdict = champion.challenge(home, "anomaly", detectors.saved(tmp_path / "good"), rows)
    assert verdict.measure == "share flagged" and 0 < verdict.challenger < 1
    assert verdict.why.endswith("asked for 0.0100: the nearer the better, and 0.0124 off is chance")


def drawn(folder: Path, threshold: float | None = None, asked: float = 0.01) -> Path:
    """The detector with another threshold."""
    detector = detectors.detector()
    replace(detector, threshold=detector.threshold if threshold is None else threshold, false_alarms=asked).save(folder)
    return folder


@pytest.mark.parametrize("wrong", [1e30, -1.0], ids=["flags nothing", "flags all"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_without_labels_the_one_that_flags_what_was_asked_wins(tmp_path: Path, wrong: float, first: bool) -> None:
    rows, home = corpus(tmp_path / "rows", labels=False, usual=2000, odd=0), tmp_path / "home"
    good, bad = drawn(tmp_path / "good"), drawn(tmp_path / "bad", wrong)
    order = [bad, good] if first else [good, bad]
    verdicts = [champion.challenge(home, "anomaly", challenger, rows) for challenger in order]
    held = champion.champion(home, "anomaly")
    assert held is not None and held.folder == str(good)
    assert verdicts[1].promoted is first and verdicts[1].rows == 800
    again = champion.challenge(home, "anomaly", drawn(tmp_path / "again"), rows)
    assert again.promoted, "as good as the one before"


def test_each_is_held_to_what_was_asked_of_it(tmp_path: Path) -> None:
    """One that is to flag a third of the rows and does is as good as one that is to flag a hundredth and does."""
    rows, home = corpus(tmp_path / "rows", labels=False, usual=2000, odd=0), tmp_path / "home"
    champion.challenge(home, "anomaly", drawn(tmp_path / "good"), rows)
    detector = detectors.detector()
    scores = detector.score(detector.inputs(detectors.rows(2000, seed=9))).score
    verdict = champion.challenge(
        home, "anomaly", drawn(tmp_path / "third", float(np.quantile(scores, 2 / 3)), 1 / 3), rows
    )
    assert verdict.promoted and verdict.challenger > 0.3
    assert "asked for 0.3333, before 0.0100: the nearer the better" in verdict.why
    assert not champion.challenge(home, "anomaly", drawn(tmp_path / "other", asked=1 / 3), rows).promoted


def test_a_champion_that_is_gone_is_not_replaced_unseen(tmp_path: Path) -> None:
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    champion.challenge(home, "anomaly", detectors.saved(tmp_path / "good"), rows)
    before = champion.champion(home, "anomaly")
    (tmp_path / "good").rename(tmp_path / "elsewhere")
    worse = blunted(tmp_path / "worse")
    with pytest.raises(
        UserError, match=r"in use, .*/good, is gone.* put it back, or delete .*/home/anomaly\.json and run"
    ):
        champion.challenge(home, "anomaly", worse, rows)
    assert champion.champion(home, "anomaly") == before
    (tmp_path / "elsewhere").rename(tmp_path / "good")
    assert not champion.challenge(home, "anomaly", worse, rows).promoted


def test_a_champion_that_cannot_be_read_any_more_gives_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an update that reads another format: nobody can use it, and whoever reruns its recipe expects one."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    champion.challenge(home, "anomaly", detectors.saved(tmp_path / "old"), rows)
    path = tmp_path / "old" / "detector.json"
    path.write_text(path.read_text().replace('"format": ', '"format": 1'))
    new = detectors.saved(tmp_path / "new")
    assert champion.challenge(home, "anomaly", new, rows).promoted
    held = champion.champion(home, "anomaly")
    assert held is not None and held.folder == str(new)
    assert "anomaly: the detector in use takes no part in comparisons: " in caplog.text and "/old" in caplog.text


@pytest.mark.parametrize("proposed", [False, True])
def test_two_runs_do_not_overwrite_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proposed: bool) -> None:
    """Both have read who is the champion before either writes, unless one waits for the other."""
    rows, home, meeting = corpus(tmp_path / "rows", labels=True), tmp_path / "home", threading.Barrier(2)
    runs, evaluated = made(tmp_path, "one", "two"), champion._evaluated

    def slow(*given: object) -> object:
        with suppress(threading.BrokenBarrierError):  # where the other one waits, as it should
            meeting.wait(1)
        return evaluated(*given)  # type: ignore[arg-type]

    def compare(name: str) -> None:
        if proposed:
            champion.propose(home, "anomaly", CANDIDATE, runs[name], rows)
        else:
            champion.challenge(home, "anomaly", tmp_path / name / champion.DETECTOR, rows)

    monkeypatch.setattr(champion, "_evaluated", slow)
    both = [threading.Thread(target=compare, args=(name,)) for name in runs]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    held = champion.champion(home, "anomaly")
    assert held is not None and len(held.judged) == 2


def test_rows_that_either_has_learned_from_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Test rows of a grown corpus may have been training rows of the champion."""
    rows, home = corpus(tmp_path / "rows", labels=True), tmp_path / "home"
    test = training_rows.of_rows(ArrayCorpus(rows, "test").read(np.arange(64)).input)
    runs = made(tmp_path, "old", "new", "newer")
    training_rows.save(tmp_path / "old" / champion.DETECTOR, test[:14])
    training_rows.save(tmp_path / "new" / champion.DETECTOR, test[10:20])
    first = champion.propose(home, "anomaly", CANDIDATE, runs["old"], rows)
    assert first is not None and (first.rows, first.left_out) == (50, 14)
    second = champion.propose(home, "anomaly", CANDIDATE, runs["new"], rows)
    assert second is not None and (second.rows, second.left_out) == (44, 20)
    assert "on 44 test rows (without 20 that one of them learned from)" in second.why

    training_rows.save(tmp_path / "newer" / champion.DETECTOR, test[:50])
    with caplog.at_level(logging.WARNING):
        assert champion.propose(home, "anomaly", CANDIDATE, runs["newer"], rows) is None
    assert "anomaly: 14 test rows that neither has learned from, of 64, are too few" in caplog.text
    held = champion.champion(home, "anomaly")
    assert held is not None and held.folder == str(tmp_path / "new" / champion.DETECTOR)


def test_what_is_measured_is_of_the_rows_that_are_left(tmp_path: Path) -> None:
    rows, detector = corpus(tmp_path / "rows", labels=False), detectors.detector()
    inputs = ArrayCorpus(rows, "test").read(np.arange(64)).input
    flagged = detector.score(detector.inputs(inputs)).flag
    learned = flagged & (np.cumsum(flagged) % 2 == 0)
    good = drawn(tmp_path / "good")
    training_rows.save(good, training_rows.of_rows(inputs)[learned])
    verdict = champion.challenge(tmp_path / "home", "anomaly", good, rows)
    assert (verdict.rows, verdict.left_out) == (64 - learned.sum(), learned.sum()) and learned.any()
    assert verdict.challenger == pytest.approx(flagged[~learned].mean())


def test_too_few_rows_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = corpus(tmp_path / "rows", labels=True)
    monkeypatch.setattr(champion, "LEAST_ROWS", 1000)
    with pytest.raises(
        UserError, match=r"(?<![\d.,])64 test rows are too few to compare detectors; raise data\.split\.test"
    ):
        champion.challenge(tmp_path, "anomaly", detectors.saved(tmp_path / "good"), rows)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "anomaly.json").write_text('{"folder": ')
    with pytest.raises(UserError, match=r"anomaly\.json is damaged"):
        champion.champion(tmp_path, "anomaly")
