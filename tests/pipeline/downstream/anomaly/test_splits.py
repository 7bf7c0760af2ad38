"""Which rows every method learns from, which draw thresholds, and which are reported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.downstream.anomaly import export, networks, splits
from pipeline.downstream.anomaly.job import Config
from pipeline.downstream.anomaly.networks import SELECTION, choose
from pipeline.downstream.anomaly.rows import Pool
from pipeline.scoring import thresholds
from pipeline.scoring.row_reasons import RowInputs
from pipeline.stage import Context
from tests.pipeline.downstream.anomaly.test_rows import PLAIN, table

SCORE = "standardised-error"
SETTINGS = {"seed": 3, "transform": {}}


def apart(rows: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Distance to the nearest row that was learned from: 0 for these, more for all others."""
    return np.abs(rows[:, None].astype(float) - learned).sum(2).min(1)


class Rows:
    """Scores a row by its first value, which is another one for every row, and by how far it is from rows learned."""

    def __init__(self) -> None:
        self.learned: list[tuple[np.ndarray, int, float]] = []

    name, score, judged_by, trim, members = "ours", SCORE, "ours: standardised-error", 0.5, 1

    def scorer(self, rows: np.ndarray, seed: int, contamination: float = 0.0) -> Any:
        self.learned.append((rows, seed, contamination))
        learned = rows
        return SimpleNamespace(
            scores=lambda rows, samples: {SCORE: rows[:, 0].astype(float), "error": apart(rows, learned)}
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("splits") / "rows", PLAIN)


def job(**settings: Any) -> Config:
    return Config.model_validate(
        {"task": "anomaly", "name": "anomaly", "seeds": 3, "marked": [2, 4], "contamination": 0.05,
         "baselines": ["pca", "knn"], **settings}
    )  # fmt: skip


def test_every_step_has_its_own_rows(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked, detector = job(), Rows()
    drawn_by: list[tuple[str, np.ndarray]] = []
    fitted: list[tuple[str, np.ndarray, int]] = []
    built: list[Any] = []
    labelled: list[np.ndarray] = []
    usual: list[tuple[float, float, int]] = []

    def noted(how: str) -> Any:
        def threshold(normal: np.ndarray, *more: Any) -> thresholds.Threshold:
            drawn_by.append((how, normal))
            labelled.extend(more if how == "by_labels" else [])
            return thresholds.Threshold(0.0, None)

        return threshold

    def fit(name: str, train: np.ndarray, seed: int) -> Any:
        fitted.append((name, train, seed))
        return {name: lambda rows: rows[:, 0].astype(float)}

    def classifiers(train: np.ndarray, marked: np.ndarray, seed: int) -> Any:
        fitted.append((f"{len(marked)} marked", np.concatenate([train, marked]), seed))
        return {"classifier": lambda rows: rows[:, 0].astype(float)}

    for how in ("by_quantile", "by_tail", "by_labels"):
        monkeypatch.setattr(thresholds, how, noted(how))
    monkeypatch.setattr(splits.baselines, "fit", fit)
    monkeypatch.setattr(splits.baselines, "classifiers", classifiers)
    monkeypatch.setattr(splits, "detectors", lambda *_: [detector])
    monkeypatch.setattr(
        splits.Usual, "raised", lambda of, scores, outside: (usual.append((of.low, of.high, len(scores))), scores)[1]
    )
    monkeypatch.setattr(splits, "seed_of", lambda settings, detector, number: 100 + number)
    monkeypatch.setattr(splits, "export", lambda *_: "")
    monkeypatch.setattr(splits, "build", lambda *arguments: built.append(arguments))
    inputs: Any = {"corpus": SimpleNamespace(path=corpus)}
    splits.evaluate(asked, SETTINGS, inputs, tmp_path, Context(downloads=tmp_path))
    pool, measured = built[0][1], built[0][3]
    for number in range(3):
        draw = pool.draw(number)
        scaled = pool.scaled(draw.learn, {})
        rows, within = scaled.inputs, scaled.within
        learned, seed, contamination = detector.learned[number]
        assert np.array_equal(learned, rows[draw.learn]) and (seed, contamination) == (100 + number, 0.05)
        held_out, marked = within[draw.held_out, 0], within[draw.marked, 0]
        quantile, tail, trimmed, labels = (values for _, values in drawn_by[4 * number : 4 * number + 4])
        assert [how for how, _ in drawn_by[4 * number :][:4]] == ["by_quantile", "by_tail", "by_quantile", "by_labels"]
        assert np.array_equal(quantile, held_out) and np.array_equal(tail, held_out)
        assert len(trimmed) == len(held_out) - round(0.05 * len(held_out)) and set(trimmed) <= set(held_out)
        assert np.array_equal(labels, np.concatenate([held_out, marked]))
        assert labelled[number].tolist() == [False] * len(held_out) + [True] * len(marked)
        normal = np.concatenate([learned[:, 0], held_out])
        assert (normal.min(), normal.max(), len(draw.test)) in usual, "the range is of all rows counted as normal"
        farthest = apart(within[draw.held_out], learned).max()
        assert farthest > 0
        assert {(low, high) for low, high, _ in usual[8 * number : 8 * number + 8]} == {
            (normal.min(), normal.max()),
            (0.0, farthest),
        }
        for name, train, seed in fitted[4 * number : 4 * number + 4]:
            few = {"2 marked": 2, "4 marked": 4}.get(name, 0)
            assert np.array_equal(train, rows[np.concatenate([draw.train, draw.marked[:few]])]) and seed == number
        truth = pool.anomalous[draw.test]
        area = np.mean(rows[draw.test, 0][truth][:, None] > rows[draw.test, 0][~truth])
        area_within = np.mean(within[draw.test, 0][truth][:, None] > within[draw.test, 0][~truth])
        assert measured.values["ours: standardised-error"]["auroc"][number] == pytest.approx(area_within, abs=0.01)
        for method in ("pca", "classifier, 4 marked"):
            assert measured.values[method]["auroc"][number] == pytest.approx(area), method
        assert measured.flagged["ours: standardised-error", "by quantile"][number] == pytest.approx(
            ((rows[draw.test, 0][~truth] > 0).mean(), (rows[draw.test, 0][truth] > 0).mean())
        )
    assert [name for name, _, _ in fitted[:4]] == ["pca", "knn", "2 marked", "4 marked"]


@pytest.mark.parametrize("contamination", [0.0, 0.1])
def test_no_row_is_in_two_places_of_a_split(corpus: Path, contamination: float) -> None:
    pool = Pool(corpus, job(contamination=contamination), 3)
    for number in (-1, 0, 1):
        draw = pool.draw(number)
        parts = [draw.learn, draw.held_out, draw.marked, draw.test]
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(pool.anomalous)))
        assert pool.anomalous[draw.marked].all() and np.array_equal(pool.anomalous[draw.test], draw.truth)
        assert len(draw.marked) == 4 and draw.truth.any() and not draw.truth.all()
        assert pool.anomalous[draw.train].mean() == pytest.approx(contamination, abs=0.01)
    first, second = (set(pool.draw(number).test.tolist()) for number in (0, 1))
    assert first != second


def test_candidates_are_chosen_on_splits_that_are_not_reported(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, seen = Pool(corpus, job(), 3), []
    draw = pool.draw
    monkeypatch.setattr(pool, "draw", lambda number: (seen.append(number), draw(number))[1])

    class Candidate(Rows):
        def __init__(self, loss: float) -> None:
            super().__init__()
            self.network, self.loss, self.trials = f"of {loss}", loss, []

        def trained(self, rows: np.ndarray, seed: int, held_out: np.ndarray) -> tuple[None, float]:
            self.trials.append((rows, held_out, seed))
            return None, self.loss + len(self.trials)

    candidates: list[Any] = [Candidate(2.0), Candidate(1.0), Candidate(3.0)]
    best, tried = choose(candidates, pool, SETTINGS, Context(downloads=Path()))
    assert best is candidates[1] and tried == [("of 2.0", 4.0), ("of 1.0", 3.0), ("of 3.0", 5.0)]
    assert len(SELECTION) == 3 and seen == list(SELECTION) * 3 and max(SELECTION) < 0
    for number, (rows, held_out, _) in zip(SELECTION, candidates[0].trials, strict=True):
        chosen = draw(number)
        inputs = pool.scaled(chosen.learn, {}).inputs
        assert np.array_equal(rows, inputs[chosen.learn]) and np.array_equal(held_out, inputs[chosen.held_out])
    assert len({seed for _, _, seed in candidates[0].trials}) == 3
    alone: list[Any] = [Candidate(1.0)]
    assert choose(alone, pool, SETTINGS, Context(downloads=Path())) == (alone[0], []) and not alone[0].trials


def test_the_first_detector_of_a_job_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    detectors: list[Any] = [Rows(), Rows()]
    exported: list[tuple[Any, Path]] = []
    draw = SimpleNamespace(learn=np.array([0]), truth=np.array([False]))
    pool = SimpleNamespace(draw=lambda number: draw, scaled=lambda *_: SimpleNamespace(inputs=np.zeros((1, 1))))
    monkeypatch.setattr(splits, "Pool", lambda *_: pool)
    monkeypatch.setattr(splits, "detectors", lambda settings, number, context: number)
    monkeypatch.setattr(splits, "choose", lambda number, *_: (detectors[number], []))
    monkeypatch.setattr(splits, "seed_of", lambda *_: 0)
    monkeypatch.setattr(splits, "_judged", lambda *_: (np.zeros(1), {}, None))
    monkeypatch.setattr(splits, "export", lambda detector, *given: (exported.append((detector, given[-1])), "")[1])
    monkeypatch.setattr(splits, "build", lambda *arguments: arguments)
    inputs: Any = {"corpus": SimpleNamespace(path=tmp_path)}
    asked = job(seeds=1).model_copy(update={"detectors": [0, 1]})
    evaluated: Any = splits.evaluate(asked, SETTINGS, inputs, tmp_path, Context(downloads=tmp_path))
    *_, first_split, _, folder = evaluated
    assert exported == [(detectors[0], tmp_path / "detector")] and folder == tmp_path
    assert first_split.detector is detectors[0] and [len(rows.learned) for rows in detectors] == [1, 1]


def test_a_scorer_is_measured_on_what_it_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, fitted, judged = np.arange(40.0)[:, None], [], []

    class Scorer:
        @staticmethod
        def fit(models: Any, train: np.ndarray) -> Any:
            fitted.append((models, train[:, 0]))

            def scores(others: np.ndarray, samples: int) -> dict[str, np.ndarray]:
                judged.append((train[:, 0], others[:, 0]))
                return {SCORE: others[:, 0]}

            return SimpleNamespace(scores=scores)

    monkeypatch.setattr(networks, "Scorer", Scorer)
    seeds: list[int] = []
    monkeypatch.setattr(
        networks.Detector, "trained", lambda detector, rows, seed: (seeds.append(seed), (rows[:, 0], 0.0))[1]
    )
    detector = networks.Detector("ours", {}, 2, SCORE, Context(downloads=Path()), trim=2.0)
    detector.scorer(rows, 7, 0.05)
    models, kept = fitted[-1]
    assert kept.tolist() == list(range(36)), "a tenth, the most unusual, is left out"
    assert len(models) == 2 and all(np.array_equal(model, kept) for model in models)
    assert len(set(seeds)) == len(seeds) == 2 * 4
    (first, others), (second, others_of_second), (core, everything) = judged
    for learned, scored in ((first, others), (second, others_of_second)):
        assert not set(learned) & set(scored) and len(learned) == len(scored) == 20
    assert core.tolist() == list(range(20)) and everything.tolist() == list(range(40))


def test_the_detector_that_stays_has_its_threshold_from_rows_it_did_not_learn_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"train": np.arange(0.0, 50)[:, None], "validation": np.arange(100.0, 130)[:, None]}
    digests = {"train": np.arange(5, dtype=np.uint64), "validation": np.arange(7, 9, dtype=np.uint64)}
    given = {split: RowInputs(rows, np.zeros((len(rows), 1))) for split, rows in values.items()}
    monkeypatch.setattr(export, "_rows", lambda job, inputs, split, transform: (given[split], digests[split]))
    monkeypatch.setattr(
        export, "drift_columns", lambda scores, transform, inputs: {"score": scores, "x": inputs.values[:, 0]}
    )
    monkeypatch.setattr(export.Baseline, "of", lambda columns: columns)
    monkeypatch.setattr(
        thresholds, "by_quantile", lambda normal, share: thresholds.Threshold(float(np.sort(normal)[20]), share)
    )
    kept: list[Any] = []
    saved: list[Path] = []

    class Saved:
        def __init__(self, *made_of: Any) -> None:
            kept.append(made_of)

        save = staticmethod(saved.append)
        open = staticmethod(lambda folder: folder)

    monkeypatch.setattr(export, "RowDetector", Saved)
    monkeypatch.setattr(export, "_tested", lambda *given: given)
    detector: Any = Rows()
    inputs: Any = {"corpus": SimpleNamespace(config={"data": {}}, path=tmp_path / "corpus")}
    exported: Any = export.export(detector, SETTINGS, job(false_alarms=0.1), inputs, tmp_path)
    opened, seen, *_ = exported
    ((learned, _, contamination),) = detector.learned
    assert np.array_equal(learned, values["train"]) and contamination == 0
    assert saved == [opened] == [tmp_path], "what was saved is opened again and tested"
    assert seen.tolist() == [0, 1, 2, 3, 4, 7, 8], "rows that it has seen are no test"
    ((_, score, threshold, drift, *_),) = kept
    assert (score, threshold) == (SCORE, float(np.sort(values["validation"][:, 0])[20]))
    assert np.array_equal(drift["score"], values["validation"][:, 0]) and np.array_equal(drift["x"], drift["score"])
    assert (given_usual := kept[0][-2]) and (given_usual.low, given_usual.high) == (0.0, 129.0)  # of all normal rows
    assert export.training_rows.load(tmp_path).tolist() == [0, 1, 2, 3, 4, 7, 8]
