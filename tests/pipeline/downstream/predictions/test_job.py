"""The job on predictions, from a recipe to its report, for each way to predict tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import UserError
from data_prep.legible import escaped
from data_prep.shards.rows import Ragged
from pipeline.artifact import Artifact
from pipeline.downstream.predictions.copying import copied
from pipeline.downstream.predictions.report import interval
from pipeline.recipe.load import load
from pipeline.reports.report import Report, read
from pipeline.tracking import pages
from pipeline.tracking.tracking import LONGEST_TAG
from tests.pipeline import tiny_arrays, tiny_predictions
from tests.pipeline.job_checks import table, whole_report
from training.monitor import names

RESTORED = ("sequence", "denoising", "fragment")
LOSSES = {"masked": "mlm", "replaced": "mlm", "causal": "lm", "words": "lm", **dict.fromkeys(RESTORED, "lm")}
FILL_INS = ["unigram", "trigrams, from both sides", "trigram, from the left", "trigram, from the right"]
NEXT = ["unigram", "bigram", "trigram"]
NGRAMS = {"masked": FILL_INS, "replaced": FILL_INS, "causal": NEXT, "words": NEXT, **dict.fromkeys(RESTORED, NEXT)}
GAPS = "Gaps that were filled in (____ is asked for, ▁ is hidden, too)"


SOME = ("masked", "causal", "sequence")  # the others take as long again


@pytest.fixture(
    scope="module",
    params=[way if way in SOME else pytest.param(way, marks=pytest.mark.slow) for way in tiny_predictions.SECTIONS],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Artifact]]:
    folder = tmp_path_factory.mktemp(request.param)
    recipe = tiny_predictions.recipe(folder, request.param)
    return request.param, tiny_arrays.make(recipe, folder, "train.evaluate_rows=40")


@pytest.fixture(scope="module")
def report(made: tuple[str, dict[str, Artifact]]) -> Report:
    return whole_report(made[1]["said"])


def test_figures_are_those_of_training_and_beside_others(made: tuple[str, dict[str, Artifact]], report: Report) -> None:
    way, artifacts = made
    main = report.tables[0]
    copied = ["what it was given, copied"] if way in RESTORED else []
    assert [row[0] for row in main.rows] == ["**network**", "random weights", *NGRAMS[way], *copied]
    assert ("accuracy/copied" in report.numbers) == bool(copied)
    if way == "denoising":  # most of a noised text is the text
        assert report.numbers["accuracy/unigram"] < report.numbers["accuracy/copied"] < 1
    held_out = names.held_out(artifacts["pretrain"].summary)
    if NGRAMS[way] is FILL_INS:  # among all targets, also those that the network sees
        assert f"its loss is {held_out['mlm']:.3f} and it is right in {held_out['mlm_accuracy']:.1%}" in report.about
    elif way == "words":  # the direction onward, whose half of the loss is logged
        assert report.numbers["loss"] == pytest.approx(2 * held_out["forward"], rel=1e-4)
        assert "the direction onward, one of its two, predicts" in report.about
    else:
        assert report.numbers["loss"] == pytest.approx(held_out[LOSSES[way]], rel=1e-4)
        assert report.numbers["accuracy"] == pytest.approx(held_out[f"{LOSSES[way]}_accuracy"], abs=1e-3)
    assert main.rows[0][1].startswith(f"{report.numbers['loss']:.3f} (")
    vocabulary = artifacts["tokenizer"].summary["vocabulary"]
    assert report.numbers["loss/random_weights"] == pytest.approx(np.log(vocabulary), rel=0.15)
    learned = 0.9 if way in ("denoising", "fragment") else 0.6  # of all kinds of tokens, not of sentinels above all
    assert report.numbers["loss"] < learned * report.numbers["loss/random_weights"]
    for name in NGRAMS[way][1:]:
        slug = name.replace(", ", "_").replace(" ", "_")
        assert report.numbers[f"loss/{slug}"] < report.numbers["loss/unigram"]
    assert report.numbers["gain/low"] <= report.numbers["gain"] <= report.numbers["gain/high"]


def test_it_says_who_is_better(report: Report) -> None:
    low, high = report.numbers["gain/low"], report.numbers["gain/high"]
    said = "so it beats it." if low > 0 else "so it does not beat it." if high < 0 else "no more than chance"
    assert said in report.verdict and f"({report.notes['best_ngram']})" in report.verdict
    assert "Before training it" in report.verdict


def test_examples_are_text(made: tuple[str, dict[str, Artifact]], report: Report) -> None:
    titles = {
        "masked": [GAPS],
        "replaced": ["What was called replaced (⟦so⟧)", GAPS],
        "causal": ["How texts go on (the likeliest token each time)", "What comes next"],
        "words": ["What comes next"],
    }.get(made[0], ["Texts that were restored (the likeliest token each time)"])
    for title in titles:
        shown = table(report, title)
        assert len(shown.rows) == 4
        for row in shown.rows:
            assert "<" not in row[0] and "[" not in row[0].replace("[UNK]", ""), "special tokens are no text"
            if title in (GAPS, "What comes next"):
                assert row[0].count("____") == 1 and row[2].count("%") == 3
            if made[0] == "sequence":
                assert row[0].count("⟨") == row[2].count("⟨") > 0
            if made[0] in ("denoising", "fragment"):
                assert "▁" in row[0] and "▁" not in row[2]


def test_summaries_show_some_examples(report: Report) -> None:
    described = pages.of_job(report)
    assert 1 <= len(report.examples) <= 2 and len(described) < LONGEST_TAG
    for shown in report.examples:
        assert escaped(shown.title) in described
        assert all(escaped(row[0]) in described for row in shown.rows)


def test_bits_are_of_the_bytes_that_tokens_spell(made: tuple[str, dict[str, Artifact]], report: Report) -> None:
    if made[0] != "causal":
        assert not any(name.startswith("bits") for name in report.numbers)
        return
    bits, loss, tokens = (report.numbers[name] for name in ("bits_per_byte", "loss", "tokens"))
    assert 2 < loss * tokens / np.log(2) / bits / tokens < 8, "bytes of a token"
    assert "bits per byte" in report.tables[0].columns


def test_replaced_tokens_are_told_beside_ngrams(made: tuple[str, dict[str, Artifact]], report: Report) -> None:
    numbers = {name: value for name, value in report.numbers.items() if name.startswith("judged/")}
    if made[0] != "replaced":
        assert not numbers
        return
    assert 0.05 < numbers["judged/replaced"] < 0.15, "0.15 of the tokens, but for those that were drawn twice or hit"
    assert numbers["judged/auroc"] > 0.5 and numbers["judged/average_precision"] > numbers["judged/replaced"]
    assert numbers["judged/auroc/n-grams"] > 0.9, "a made-up language is plain"
    assert f"AUROC of {100 * numbers['judged/auroc']:.1f}" in report.verdict
    assert [row[0] for row in table(report, "Replaced tokens").rows] == ["**network**", "trigrams, from both sides"]


def test_weights_moved(report: Report) -> None:
    moved = {row[0]: float(row[2]) for row in table(report, "How far weights moved").rows}
    assert "embeddings" in moved and any("layer 1" in part for part in moved)
    assert all(change > 0.01 for change in moved.values())


def test_it_is_asked_the_same_twice(made: tuple[str, dict[str, Artifact]], tmp_path: Path) -> None:
    artifacts = made[1]
    artifacts = {**artifacts, "transform": artifacts["tokenizer"]}
    job = {**artifacts["said"].config["job"], "rows": 24, "train_tokens": 1500}
    first, second = (tiny_arrays.rerun(artifacts, "said", tmp_path / name, job=job) for name in ("a", "b"))
    assert first == second
    about = read(tmp_path / "a").about
    assert "training rows" in about and "of all training rows" not in about


def test_random_weights_are_those_that_training_began_with(tmp_path: Path) -> None:
    recipe = tiny_predictions.recipe(tmp_path, "causal", steps=1)
    artifacts = tiny_arrays.make(recipe, tmp_path, "train.lr=1e-9", "train.warmup_steps=0", "seed=5")
    report = whole_report(artifacts["said"])
    assert all(float(row[2]) < 1e-5 for row in table(report, "How far weights moved").rows)
    assert report.numbers["loss"] == pytest.approx(report.numbers["loss/random_weights"], abs=1e-5)
    assert "so it does not beat it" in report.verdict


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.split.validation=0"], r"data\.split\.validation: 'said' needs held-out documents"),
        (["downstream.0.rows=2"], r"downstream\.0\.rows"),
    ],
)
def test_what_cannot_be_asked_is_refused(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load(tiny_predictions.recipe(tmp_path, "causal"), overrides=settings)


def test_other_kinds_of_data_are_refused(tmp_path: Path) -> None:
    job = "[{name: said, task: predictions}]"
    with pytest.raises(UserError, match=r"predictions is of text, and the network reads table"):
        load(tiny_arrays.recipe(tmp_path, downstream=job))


def test_too_few_held_out_rows_are_refused(tmp_path: Path) -> None:
    rows = "{kind: stream, frame: bos-eos, length: 400}"
    recipe = tiny_predictions.recipe(tmp_path, "causal", steps=1, compose=rows)
    with pytest.raises(UserError, match=r"downstream\.said: \d held-out rows are too few"):
        tiny_arrays.make(recipe, tmp_path, "network.config.n_positions=400", "train.warmup_steps=0")


def test_what_is_copied_follows_the_truth() -> None:
    the, cat, sat, on, mat, a, mask = range(7)
    given = Ragged.from_rows([[the, mask, sat, on, the, mat], [], [sat, sat], [the, sat, the, mat]])
    truth = Ragged.from_rows([[the, cat, sat, on, a, mat], [a], [sat, sat, sat], [mat, the, sat, the, mat]])
    guesses = np.split(copied(given, truth, {mask}), truth.offsets[1:-1])
    assert guesses[0].tolist() == [the, sat, sat, on, the, the] and guesses[1].tolist() == [-1]
    assert guesses[2].tolist() == [sat, sat, -1]
    assert guesses[3].tolist() == [the, the, sat, the, mat]


def test_the_interval_is_that_of_rows_drawn_again() -> None:
    random = np.random.default_rng(1)
    means = random.normal(2.0, 1.0, 400)
    values, rows = np.repeat(means, 50), np.repeat(np.arange(400), 50)
    low, high = interval(values, rows, 0)
    assert low == pytest.approx(means.mean() - 1.96 * means.std() / 20, abs=0.02)
    assert high == pytest.approx(means.mean() + 1.96 * means.std() / 20, abs=0.02)
    assert interval(values, rows, 0) == (low, high)
