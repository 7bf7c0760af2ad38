"""The job on restored texts, from a recipe to its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline.artifact import Artifact
from pipeline.downstream.metrics import text as text_metrics
from pipeline.recipe.load import load
from pipeline.reports.report import read
from tests.pipeline import tiny_arrays, tiny_predictions
from tests.pipeline.job_checks import table, whole_report

JOB = "[{name: said, task: text-restoration, rows: 24, examples: 4}]"


@pytest.fixture(scope="module", params=["sequence", "denoising"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp(request.param)
    return tiny_arrays.make(tiny_predictions.recipe(folder, request.param, downstream=JOB), folder)


def test_texts_are_scored_beside_what_was_given(made: dict[str, Artifact]) -> None:
    report = whole_report(made["said"])
    main, shown = report.tables[0], table(report, "Restored texts")
    assert [row[0] for row in main.rows] == ["**network**", "what it was given"]
    assert "24 held-out rows" in report.about and len(shown.rows) == 4
    for row in shown.rows:
        assert row[0] != row[2] and "[" not in row[2] and "<" not in row[2]
    assert 0 < report.numbers["chrf/given"] < 100 and 0 <= report.numbers["chrf"] <= 100
    assert report.numbers["gain/low"] <= report.numbers["gain"] <= report.numbers["gain/high"]
    side = "closer" if report.numbers["gain/low"] > 0 else "further" if report.numbers["gain/high"] < 0 else "no diff"
    assert side in report.verdict


def test_what_is_shown_is_what_is_scored(made: dict[str, Artifact], tmp_path: Path) -> None:
    """With all rows as examples, the texts of the page have the score of the report."""
    job = {**made["said"].config["job"], "examples": 24}
    tiny_arrays.rerun({**made, "transform": made["tokenizer"]}, "said", tmp_path / "again", job=job)
    report = read(tmp_path / "again")
    rows = table(report, "Restored texts").rows
    if "spans" in made["pretrain"].config["corruption"]["kind"]:  # whole texts take longer to learn than these steps
        assert len({row[1] for row in rows}) > 1, "it writes what depends on what it was given"
    written = ["" if row[1] == "–" else row[1] for row in rows]
    assert text_metrics.chrf(written, [[row[2]] for row in rows]) == pytest.approx(report.numbers["chrf"], abs=0.5)


@pytest.mark.parametrize(
    ("way", "settings", "message"),
    [
        ("fragment", [], r"downstream\.0\.task: corruption\.kind mass leaves no sequence to write; leave out 'said'"),
        ("sequence", ["data.split.validation=0"], r"data\.split\.validation: 'said' needs held-out documents"),
    ],
)
def test_what_cannot_be_restored_is_refused(way: str, settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(tiny_predictions.recipe(tmp_path, way, downstream=JOB), overrides=settings)
