"""The job `probe`: control labels, vectors that are asked, layers that validation chooses, a whole job's report."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.labelled.files import load
from data_prep.tokens.cleaning import Cleaning
from pipeline.artifact import Artifact
from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.probes import linear_accuracy
from pipeline.downstream.probing.controls import control_labels
from pipeline.downstream.probing.job import Config, needs, remarks, settings
from pipeline.downstream.probing.report import _Layer, chosen
from pipeline.downstream.probing.trials import Probe, Trials
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.downstream.languages.conftest import write
from tests.pipeline.job_checks import whole_report

WORDS = ("cat", "dog", "mat", "a", "the", "said")
TAGS = {"a": "DET", "the": "DET", "said": "VERB"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Sixty sentences of five words, whose tags follow from the words."""
    random, lines = np.random.default_rng(0), []
    for number in range(60):
        words = random.choice(WORDS, 5).tolist()
        split = "train" if number < 40 else "validation" if number < 50 else "test"
        lines.append({"words": words, "tags": [TAGS.get(word, "NOUN") for word in words], "split": split})
    path = tmp_path / "tagged.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    random, lines = np.random.default_rng(1), []
    for number in range(60):
        label = number % 2
        text = f"{' '.join(random.choice(WORDS, 3))} {'said' if label else 'cat'}"
        split = "train" if number < 40 else "validation" if number < 50 else "test"
        lines.append({"text": text, "label": "yes" if label else "no", "split": split})
    path = tmp_path / "classified.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def job(path: Path, **values: Any) -> Config:
    base = {"task": "probe", "name": "probed", "data": {"path": str(path)}, "length": 16}
    return Config.model_validate({**base, **values})


def trials(network: Path, config: Config) -> Trials:
    models = FrozenModels.of(config, {"seed": 3}, {"pretrained": SimpleNamespace(path=network)}, Context())  # type: ignore[dict-item]
    return Trials(config, models, load(config.data, Path()), Context())


def recipe() -> Any:
    return SimpleNamespace(kind="text", seed=3, cleaning=Cleaning(), other_networks={}, network=None)


def test_a_word_has_one_control_label_drawn_as_labels_are() -> None:
    words, labels = [f"w{number % 500}" for number in range(3000)], np.array([0] * 70 + [2] * 30)
    drawn = control_labels(words, labels, seed=1)
    assert all(len({label for word, label in zip(words, drawn.tolist(), strict=True) if word == f"w{n}"}) == 1
               for n in range(40))  # fmt: skip
    assert set(drawn.tolist()) == {0, 2} and abs((drawn[:500] == 0).mean() - 0.7) < 0.07
    assert control_labels(words[::-1], labels, 1).tolist() == drawn[::-1].tolist(), "whatever stands around a word"
    assert control_labels(words, labels, 2).tolist() != drawn.tolist()


def test_words_are_their_first_piece_and_rows_are_pooled(network: Path, tagged: Path, classified: Path) -> None:
    of_words = trials(network, job(tagged))
    opened: Any = of_words.models.open("pretrained")
    examples = of_words.data.splits["test"][:3]
    asked = of_words._asked(opened, examples)
    assert asked.words == [word for example in examples for word in example.words]
    assert asked.truth.tolist() == [tag for example in examples for tag in example.tags]
    encoding = opened.reader.tokenizer.encode(list(examples[0].words), is_pretokenized=True)
    with torch.no_grad():
        ids = torch.tensor([encoding.ids])
        states = opened.encoder.model(input_ids=ids, output_hidden_states=True).hidden_states
    first = [encoding.word_ids.index(number) for number in range(5)]
    for layer in range(3):
        assert np.allclose(asked.layers[layer][:5], states[layer][0, first].numpy(), atol=1e-5)
    poolings: dict[str, Any] = {
        "cls": lambda row: row[0], "mean": lambda row: row.mean(0), "last": lambda row: row[-1],
    }  # fmt: skip
    for pooling, reduced in poolings.items():
        of_rows = trials(network, job(classified, pooling=pooling))
        example = of_rows.data.splits["test"][0]
        row = of_rows._asked(opened, [example])
        ids = torch.tensor([opened.reader.tokenizer.encode(example.text).ids])
        with torch.no_grad():
            state = opened.encoder.model(input_ids=ids, output_hidden_states=True).hidden_states[1][0].numpy()
        assert np.allclose(row.layers[1][0], reduced(state), atol=1e-5) and row.truth.tolist() == [example.label]


def test_what_follows_from_words_is_known_and_controls_are_learned_by_heart(network: Path, tagged: Path) -> None:
    (of,) = trials(network, job(tagged, labels=30, seeds=2, models=["pretrained"])).run()
    assert [(probe.seed, probe.layer) for probe in of.probes] == [(s, layer) for s in range(2) for layer in range(3)]
    embeddings = [probe for probe in of.probes if probe.layer == 0]
    assert all(probe.test == probe.accuracy == 1.0 for probe in embeddings), "a word's tag follows from the word"
    assert all(probe.control == 1.0 for probe in embeddings), "and so does its control label"
    assert {probe.stopped for probe in of.probes} == {0} and of.num_layers == 2 and not of.remarks


def test_a_probe_of_rows_is_logistic_regression_as_elsewhere(network: Path, classified: Path) -> None:
    probing = trials(network, job(classified, models=["pretrained"], seeds=1, layers=[1]))
    (of,) = probing.run()
    opened = probing.models.open("pretrained")
    train, test = (probing._asked(opened, probing.data.splits[split]) for split in ("train", "test"))
    expected = linear_accuracy(train.layers[1], train.truth, test.layers[1], test.truth)
    assert [probe.layer for probe in of.probes] == [1] and of.probes[0].control is None
    assert of.probes[0].test == of.probes[0].accuracy == expected


def test_what_is_cut_of_training_rows_is_said(network: Path, classified: Path) -> None:
    (of,) = trials(network, job(classified, models=["pretrained"], seeds=2, layers=[1], length=4, labels=30)).run()
    cut = "rows have over 4 tokens and are cut"
    assert of.remarks == [
        f"train by pretrained: 30 of 30 {cut}",
        f"validation by pretrained: 10 of 10 {cut}", f"test by pretrained: 10 of 10 {cut}",
    ]  # fmt: skip


def test_validation_chooses_the_layer() -> None:
    layers = [_Layer(number, [Probe(0, number, validation, test, test, 0.1, 0)])
              for number, (validation, test) in enumerate([(0.5, 0.9), (0.8, 0.6), (0.7, 0.8)])]  # fmt: skip
    assert chosen(layers).layer == 1 and layers[1].selectivity == [0.5]


@pytest.mark.parametrize("head", ["tags", "class"])
def test_a_whole_job_reports_layers_beside_random_weights_and_baselines(
    network: Path, tagged: Path, classified: Path, tmp_path: Path, head: str
) -> None:
    path, baselines = (tagged, ["majority", "unigram"]) if head == "tags" else (classified, ["majority", "tfidf"])
    config, out = job(path, labels=99, seeds=2, baselines=baselines, iterations=2), tmp_path / "out"
    known = settings(recipe(), config, tmp_path)
    assert any("labels asks for 99 rows, and train has 40" in text for text in remarks(recipe(), config))
    values = config.model_dump(mode="json")
    (out / "figures").mkdir(parents=True)
    inputs = {"pretrained": Artifact("init-1", network, {}, {})}
    summary = job_stage.run({"job": values, "version": 1, **known}, inputs, out, Context())
    report = whole_report(Artifact("job-1", out, {"summary": summary, "config": {"job": values}}, {}))
    main, by_layer = report.tables
    assert [row[0] for row in main.rows] == ["**pretrained**"] * 2 + ["random weights"] * 2 + baselines
    assert len(by_layer.rows) == 2 * 3
    has_control = head == "tags"
    assert [figure.file for figure in report.figures] == ["layers.png", "selectivity.png"][: 1 + has_control]
    assert ("selectivity/pretrained_best" in report.numbers) == has_control == ("control task" in report.about)
    assert "probes had not converged after 2 iterations" in report.about and "train has 40" in report.about
    assert "validation chooses layer" in report.verdict


def test_other_heads_and_settings_are_refused(tagged: Path, network: Path, tmp_path: Path) -> None:
    odd = job(tagged, models=["pretrained", "frozen"], baselines=["overlap"])
    assert [path for path, _ in needs(recipe(), odd)] == [".models", ".baselines.0"]
    with pytest.raises(UserError, match=r"has tags of words or segments, for which there is no baseline 'tfidf'"):
        settings(recipe(), job(tagged, baselines=["tfidf"]), tmp_path)
    (tmp_path / "scored.yaml").write_text("train: scored.tsv\nvalidation: scored.tsv\ninputs: [text]\nhead: score\n")
    (tmp_path / "scored.tsv").write_text("text\tlabel\n" + "".join(f"text {n}\t{n}.5\n" for n in range(9)))
    scored = Config(task="probe", name="probed", data={"task": str(tmp_path / "scored.yaml")})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has a number for each row, and probe asks labels of rows or words"):
        settings(recipe(), scored, tmp_path)
    with pytest.raises(UserError, match="has layers 0 to 2"):
        trials(network, job(tagged, layers=[3], models=["pretrained"])).run()
