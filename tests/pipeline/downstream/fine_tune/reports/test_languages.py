"""Languages that are learned from and tested: samples, the table over encoders and mixes, what is said."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import pytest

from data_prep.labelled import checks
from data_prep.labelled.examples import Example, Labelled
from pipeline.downstream.fine_tune import metrics
from pipeline.downstream.fine_tune.examples import some
from pipeline.downstream.fine_tune.heads import Predicted
from pipeline.downstream.fine_tune.reports import languages, report, suite
from pipeline.reports.report import Report, Table


def rows(language: str, count: int, prefix: str = "row") -> list[Example]:
    return [
        Example(
            text=f"{language} {prefix} {n}", label=n % 2, id=f"{prefix}{n}", language=language, place=f"{language}:{n}"
        )
        for n in range(count)
    ]


def data(train: list[Example], test: list[Example]) -> Labelled:
    splits = {"train": train, "validation": rows("en", 2, "held-out"), "test": test}
    return Labelled("classification", ["a", "b"], splits, "made up", "CC0-1.0", "none")


def test_a_sample_has_as_many_rows_of_each_language_and_the_same_of_parallel_ones() -> None:
    parallel = [*rows("en", 40), *rows("de", 40), *rows("zh", 40)]
    sample = some(parallel, 31, seed=3)
    by_language = {name: [row.id for row in sample if row.language == name] for name in ("en", "de", "zh")}
    assert sorted(map(len, by_language.values())) == [10, 10, 11]
    assert set(by_language["en"]) & set(by_language["de"]) == set(min(by_language.values(), key=len))
    few = some([*rows("en", 40), *rows("de", 3)], 20, seed=3)
    assert languages.counts(few) == {"de": 3, "en": 17} and len(set(few)) == 20
    one = rows("", 40)
    assert len({row.id for row in some(one, 9, seed=3)}) == 9
    assert some(one, 9, seed=3) != some(one, 9, seed=4) and some(one, 50, seed=3) == one


def test_rows_that_may_be_translations_of_training_rows_are_counted() -> None:
    shared = data(rows("en", 4), [*rows("zh", 2), *rows("zh", 3, "other")])
    said = list(checks.remarks(shared))
    assert "2 of 5 rows of test have the id of a row of train in another language" in " ".join(said)
    for unlike in (data(rows("en", 4), rows("zh", 3, "other")), data(rows("zh", 4), rows("zh", 2))):
        assert not [text for text in checks.remarks(unlike) if "in another language" in text]


def job(train: list[str], test: list[str], scores: dict[str, dict[str, list[float]]]) -> Report:
    """scores: by model and language, of each seed."""
    cells = []
    for model, by_language in scores.items():
        seeds = range(len(next(iter(by_language.values()))))
        pooled = [statistics.fmean(values[seed] for values in by_language.values()) for seed in seeds]
        apart = [{f"f1/{name}": values[seed] for name, values in by_language.items()} for seed in seeds]
        of_seeds = [{"f1": pooled[seed], **(apart[seed] if len(test) > 1 else {})} for seed in seeds]
        cells.append({"model": model, "kind": "network", "labels": 8, "scores": pooled, "all": of_seeds})
    notes = {
        "cells": cells, "metric": "f1", "split": "test", "rows": {"train": 8, "test": 4}, "test_rows": 4, "parts": [],
        "languages": {"train": dict.fromkeys(train, 4), "test": dict.fromkeys(test, 2)},
    }  # fmt: skip
    return Report("job", "", [Table("Scores", ["model"], [])], [], "", {}, notes=notes)


def about(tasks: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "name": "mine", "about": "", "average": "", "published": [], "missing": [],
        "metrics": {name: ["squad"] for name in tasks}, "tasks": {name: name for name in tasks}, **changes,
    }  # fmt: skip


REPORTS = {
    "from-zh": job(["zh"], ["zh"], {"pretrained": {"zh": [0.8, 0.6]}, "small": {"zh": [0.4, 0.4]}}),
    "from-en": job(["en"], ["zh"], {"pretrained": {"zh": [0.5, 0.48]}, "small": {"zh": [0.1, 0.1]}}),
    "from-both": job(["en", "zh"], ["zh"], {"pretrained": {"zh": [0.9, 0.7]}, "small": {"zh": [0.5, 0.4]}}),
}


def test_one_row_for_each_encoder_mix_and_tested_language() -> None:
    encoders = {"pretrained": {"title": "E5", "pretrained_on": "many"}}
    published = [{
        "name": "BERT", "source": "They 2019", "split": "test", "note": "", "average": None, "pretrained_on": "104",
        "scores": {"from-en": {"f1": 78.8}},
    }]  # fmt: skip
    made = suite.build(about([*REPORTS], encoders=encoders, published=published), REPORTS)
    first, by_model = made.tables
    assert first.columns == ["encoder", "pretrained on", "fine-tuned on", "tested on", "f1", "source"]
    assert first.rows == [
        ["**E5**", "many", "zh", "zh", "70.0 ± 14.1", ""],
        ["**E5**", "many", "en", "zh", "49.0 ± 1.4", ""],
        ["**E5**", "many", "en + zh", "zh", "80.0 ± 14.1", ""],
        ["small", "–", "zh", "zh", "40.0 ± 0.0", ""],
        ["small", "–", "en", "zh", "10.0 ± 0.0", ""],
        ["small", "–", "en + zh", "zh", "45.0 ± 7.1", ""],
        ["BERT", "104", "en", "zh", "78.8", "They 2019; test"],
    ]
    assert by_model.title == "Scores in percent" and by_model.rows[-1][0] == "BERT"
    assert "Tested on zh, E5 has f1 70.0 from zh, 49.0 from en (70%), 80.0 from en + zh (114%)." in made.verdict


@pytest.mark.parametrize(("tested", "few"), [({"en": 2, "zh": 1}, "1 to 2"), ({"en": 2, "zh": 2}, "2")])
def test_a_suite_says_how_few_rows_of_each_language_are_tested(tested: dict[str, int], few: str) -> None:
    scored = job(["en"], [*tested], {"pretrained": {name: [0.8] for name in tested}})
    notes = scored.notes | {"rows": {"train": 8, "test": 9}, "test_rows": sum(tested.values())}
    notes["languages"] = {"train": {"en": 8}, "test": tested}
    made = suite.build(about(["xnli"]), {"xnli": replace(scored, notes=notes)})
    rows = f"xnli {sum(tested.values())} of 9 of test ({few} of each of 2 languages)"
    assert f"Not all rows were used: {rows}." in made.verdict


def test_languages_of_one_test_have_a_row_each_and_published_ones_their_own() -> None:
    scores = {"pretrained": {"en": [0.9], "zh": [0.5]}, "scratch": {"en": [0.2], "zh": [0.2]}}
    reports = {"asked": job(["en"], ["en", "zh"], scores)}
    published = [{
        "name": "BERT", "source": "They 2019", "split": "test", "note": "", "average": None,
        "scores": {"asked/zh": {"f1": 58.0}, "asked/th": {"f1": 42.7}},
    }]  # fmt: skip
    made = suite.build(about(["asked"], published=published), reports)
    assert [row[:5] for row in made.tables[0].rows] == [
        ["**pretrained**", "–", "en", "en", "90.0"],
        ["**pretrained**", "–", "en", "zh", "50.0"],
        ["scratch", "nothing: random weights", "en", "en", "20.0"],
        ["scratch", "nothing: random weights", "en", "zh", "20.0"],
        ["BERT", "–", "en", "zh", "58.0"],
    ]
    assert [row[0] for row in made.tables[1].rows] == ["**pretrained**", "scratch"], "nothing of theirs is of the whole"


@pytest.mark.parametrize("trained", [[], ["en"]])
def test_rows_of_one_language_or_of_none_that_is_said_have_no_such_table(trained: list[str]) -> None:
    reports = {"asked": job(trained, trained, {"pretrained": {"en": [0.9]}})}
    assert [table.title for table in suite.build(about(["asked"]), reports).tables] == ["Scores in percent"]


def test_tasks_that_are_no_mixes_of_one_are_told_apart() -> None:
    english = job(["en"], ["en"], {"pretrained": {"en": [0.9]}})
    apart = {"chunks": english, "names": english, "tags": job(["es"], ["es"], {"pretrained": {"es": [0.4]}})}
    assert [table.title for table in suite.build(about([*apart]), apart).tables] == ["Scores in percent"]
    transfer = {**apart, "tags-from-en": job(["en"], ["es"], {"pretrained": {"es": [0.3]}})}
    published = [{
        "name": "BERT", "source": "They 2019", "split": "test", "note": "", "average": None,
        "scores": {"names": {"f1": 58.0}},
    }]  # fmt: skip
    made = suite.build(about([*transfer], published=published), transfer)
    assert made.tables[0].columns == ["encoder", "pretrained on", "task", "fine-tuned on", "tested on", "f1", "source"]
    assert [row[2:6] for row in made.tables[0].rows] == [
        ["chunks", "en", "en", "90.0"],
        ["names", "en", "en", "90.0"],
        ["tags", "es", "es", "40.0"],
        ["tags-from-en", "en", "es", "30.0"],
        ["names", "en", "en", "58.0"],
    ]
    assert "Tested on" not in made.verdict, "of other rows, a score says nothing of what is left"


@pytest.mark.parametrize("second", ["mismatched", "de"])
def test_rows_with_parts_and_languages_have_scores_of_both(second: str) -> None:
    """Also where a part is called as a language is."""
    test = [
        replace(row, part=part)
        for part in ("matched", second)
        for language in ("en", "de")
        for row in rows(language, 3)
    ]
    scored = data(rows("en", 4), test)
    answers = Predicted([0] * len(test), [None] * len(test))
    values = metrics.scores(scored, test, answers) | metrics.scores_of_parts(scored, test, answers)
    cells = [{"model": "pretrained", "kind": "network", "labels": 4, "scores": [values["accuracy"]], "all": [values]}]
    notes = {
        "cells": cells, "metric": "accuracy", "split": "test", "rows": {"train": 4, "test": 12}, "test_rows": 12,
        "parts": ["matched", second], "languages": languages.by_split(scored, test),
    }  # fmt: skip
    settings = about(["one"], metrics={"one": ["accuracy"]})
    by_language, by_model = suite.build(settings, {"one": Report("one", "", [], [], "", {}, notes=notes)}).tables
    assert [row[2:5] for row in by_language.rows] == [["en", "en", "66.7"], ["en", "de", "66.7"]]
    assert by_model.rows == [["**pretrained**", "66.7", "66.7", ""]]


def test_languages_without_a_score_have_no_row() -> None:
    scores = {"pretrained": {"en": [0.9], "zh": [0.5], "de": [0.4]}}
    reports = {"asked": job(["en"], ["en", "zh", "de"], scores)}
    del reports["asked"].notes["cells"][0]["all"][0]["f1/zh"]
    made = suite.build(about(["asked"]), reports)
    assert [row[2:5] for row in made.tables[0].rows] == [["en", "en", "90.0"], ["en", "de", "40.0"]]


def test_a_report_has_a_row_a_number_and_a_sentence_for_each_language() -> None:
    cells = job(["en"], ["en", "zh"], {"pretrained": {"en": [0.9, 0.7], "zh": [0.5, 0.5]}}).notes["cells"]
    for cell in cells:
        cell["mean"] = statistics.fmean(cell["scores"])
    numbers = report._numbers("f1", cells, [])
    assert numbers["f1/zh/pretrained_8"] == 0.5 and numbers["f1/en/pretrained_8"] == pytest.approx(0.8)
    (table,) = report._others(cells, [8])
    assert table.columns == ["model", "part", "f1"]
    assert table.rows == [["**pretrained**", "en", "0.800 ± 0.141"], ["**pretrained**", "zh", "0.500 ± 0.000"]]
    several = data(rows("en", 1200), [*rows("en", 3), *rows("zh", 5)])
    assert languages.sentence(several, several.splits["test"]).startswith(
        "Rows by language: train en 1,200; test en 3, zh 5."
    )
    assert languages.sentence(data(rows("en", 3), rows("en", 2)), rows("en", 2)) == ""
