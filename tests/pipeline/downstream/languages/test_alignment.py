"""The job `alignment`: ranks and chance against plain code, vectors of texts, the report of a whole job."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.tokens.cleaning import Cleaning
from pipeline.artifact import Artifact
from pipeline.downstream import role_of
from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.languages import alignment_trials
from pipeline.downstream.languages.alignment import Config, needs, remarks, settings
from pipeline.downstream.languages.alignment_trials import Trials
from pipeline.downstream.languages.retrieval import centred, chance, cosines, ranks_of, retrieval
from pipeline.recipe.init import InitConfig
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.downstream.languages.conftest import ENGLISH, GREEK
from tests.pipeline.job_checks import table as table_of
from tests.pipeline.job_checks import whole_report
from tests.training.inference import writers


@given(st.integers(2, 6), st.data())
def test_a_rank_counts_the_wrong_ones_that_are_as_near(candidates: int, data: st.DataObject) -> None:
    shape = (3, candidates)
    similarities = np.array(data.draw(st.lists(st.integers(0, 3), min_size=shape[0] * shape[1],
                                               max_size=shape[0] * shape[1]))).reshape(shape) / 4  # fmt: skip
    right = np.zeros(shape, bool)
    for query in range(3):
        places = data.draw(st.lists(st.integers(0, candidates - 1), min_size=1, unique=True))
        right[query, places] = True
    ranks = ranks_of(similarities, right)
    for query in range(3):
        order = sorted(range(candidates), key=lambda place: (-similarities[query, place], right[query, place]))
        assert ranks[query] == 1 + [bool(right[query, place]) for place in order].index(True)
    scores = retrieval(similarities, right)
    assert scores.mrr == pytest.approx(statistics.fmean(1 / ranks)) and scores.top1 == (ranks == 1).mean()


def test_vectors_that_are_all_alike_find_nothing() -> None:
    same, right = np.ones((5, 3)), np.eye(5, dtype=bool)
    assert retrieval(cosines(same, same), right) == (pytest.approx(1 / 5), 0.0)
    assert retrieval(cosines(centred(same), centred(same)), right).top1 == 0.0


def test_chance_is_the_mean_over_all_orders() -> None:
    right = np.array([[True, False, False, False], [True, True, False, False], [True, True, True, True]])
    expected = []
    for query in right:
        orders = [list(query[list(order)]) for order in itertools.permutations(range(4))]
        expected.append([statistics.fmean(1 / (1 + order.index(True)) for order in orders),
                         statistics.fmean(order[0] for order in orders)])  # fmt: skip
    assert chance(right) == pytest.approx(np.mean(expected, axis=0))
    one = chance(np.eye(100, dtype=bool))
    assert one == pytest.approx((sum(1 / rank for rank in range(1, 101)) / 100, 0.01))


def test_centring_takes_away_what_a_language_has_of_its_own() -> None:
    random = np.random.default_rng(0)
    meaning = random.normal(size=(30, 8))
    first, second = meaning + 9 * random.normal(size=8), meaning + 9 * random.normal(size=8)
    assert retrieval(cosines(centred(first), centred(second)), np.eye(30, dtype=bool)).top1 == 1.0


def job(table: Path, **values: Any) -> Config:
    sentences = {"path": str(table), "languages": ["en", "el"]}
    return Config.model_validate({"task": "alignment", "name": "aligned", "sentences": sentences, **values})


def recipe(networks: Any = MappingProxyType({})) -> Any:
    return SimpleNamespace(kind="text", seed=3, cleaning=Cleaning(), other_networks=networks)


def models(network: Path, job: Config) -> FrozenModels:
    return FrozenModels.of(job, {"seed": 3}, {"pretrained": SimpleNamespace(path=network)}, Context())  # type: ignore[dict-item]


def test_a_word_is_the_mean_of_its_pieces_alone_and_a_sentence_of_all_tokens(network: Path, table: Path) -> None:
    words = {"path": str(table), "languages": ["en", "el"]}
    trials = Trials(job(table, words=words), models(network, job(table)), Cleaning(), Context())
    opened = trials.models.open("pretrained")
    ids = opened.reader.tokenizer.encode(ENGLISH[0]).ids
    with torch.no_grad():
        encoder: Any = opened.encoder
        states = encoder.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    sentence, word = (alignment_trials._vectors(opened, unit, list(ENGLISH)) for unit in ("sentences", "words"))
    assert len(sentence.layers) == len(states) == 3 and sentence.cut == 0
    for layer in range(3):
        assert np.allclose(sentence.layers[layer][0], states[layer][0].mean(0).numpy(), atol=1e-5)
        assert np.allclose(word.layers[layer][0], states[layer][0, 1:-1].mean(0).numpy(), atol=1e-5)


def test_a_whole_job_reports_layers_beside_random_weights_ngrams_and_chance(
    network: Path, table: Path, tmp_path: Path
) -> None:
    decoder = writers.write(tmp_path / "gpt2", "gpt2")
    words = {"path": str(table), "languages": ["en", "el"]}
    config = job(table, words=words, length=6, models=["pretrained", "early", str(decoder), "scratch"],
                 sizes={"early": 1.5, "pretrained": 20.0})  # fmt: skip
    networks = {"early": InitConfig(folder="somewhere", title="after a while")}
    about = recipe(networks)
    known = settings(about, config, tmp_path)
    assert set(known["contents"]) == {str(table), str(decoder)} and known["titles"] == {"early": "after a while"}
    assert [text for text in remarks(about, config) if "1 of 7 rows lack en or el" in text]
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    values = config.model_dump(mode="json")
    inputs = {"pretrained": Artifact("init-1", network, {}, {}), role_of("early"): Artifact("init-2", network, {}, {})}
    summary = job_stage.run({"job": values, "version": 1, **known}, inputs, out, Context())
    report = whole_report(Artifact("job-1", out, {"summary": summary, "config": {"job": values}}, {}))
    main, by_layer = report.tables[0], table_of(report, "By layer")
    assert {row[0] for row in main.rows} == {
        "**pretrained**", "after a while", "model", "random weights", "TF-IDF of character n-grams", "chance",
    }  # fmt: skip
    assert len(by_layer.rows) == 2 * 4 * 3, "units, networks, layers"
    assert report.numbers["sentences/mrr/pretrained_last"] == report.numbers["sentences/mrr/early_last"]
    assert report.numbers["sentences/mrr/pretrained_last"] != report.numbers["sentences/mrr/scratch_last"]
    harmonic = sum(1 / rank for rank in range(1, 7)) / 6
    assert report.numbers["sentences/mrr/chance_best"] == pytest.approx(harmonic)
    assert "6 and 6" in report.about and "are longer than pretrained reads, and are cut" in report.about
    assert {figure.file for figure in report.figures} == {"sentences.png", "words.png", "growth.png"}
    assert "sentences: at its best layer" in report.verdict.lower() and "of 2, pretrained finds" in report.verdict


def test_the_same_text_is_found_in_every_layer(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "same.tsv"
    path.write_text("en\tel\n" + "".join(f"{text}\t{text}\n" for text in (*ENGLISH, *GREEK)))
    scores = Trials(job(path), models(network, job(path)), Cleaning(), Context()).run()
    assert all(score.onward == score.back == (1.0, 1.0) for of in scores if of.model != "chance" for score in of.scores)


def test_what_cannot_be_done_is_said_before_anything_runs(table: Path, network: Path) -> None:
    odd = job(table, models=["pretrained", "frozen", "frozen"], baselines=["tf-idf"], sizes={"late": 2.0})
    assert [path for path, _ in needs(recipe(), odd)] == [".models", ".models", ".baselines.0", ".sizes.late"]
    assert [path for path, _ in needs(SimpleNamespace(kind="table", data=SimpleNamespace(kind="table")), job(table))]
    with pytest.raises(ValueError, match="found neither"):
        Config(task="alignment", name="aligned")
    with pytest.raises(UserError, match="length 99 exceeds its 32 positions"):
        models(network, job(table)).open("pretrained", 99)
