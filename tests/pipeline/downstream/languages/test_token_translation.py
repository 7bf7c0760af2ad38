"""The job `token-translation`: a shift in a layer against forwards by hand, what is counted, a whole job's report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.shards.rows import Ragged, Rows
from data_prep.tokens.cleaning import Cleaning
from pipeline.artifact import Artifact
from pipeline.downstream.frozen_models import FrozenModels
from pipeline.downstream.languages.token_translation import Config, check_fills, needs, settings
from pipeline.downstream.languages.translation_trials import Trials, _language, measured
from pipeline.downstream.metrics.text import unigram_precision
from pipeline.stage import Context
from pipeline.stages import job as job_stage
from tests.pipeline.downstream.languages.conftest import ENGLISH, GREEK, write
from tests.pipeline.job_checks import whole_report
from tests.training.inference import writers
from training.config import NetworkConfig
from training.inference.shifted import ShiftedMaskedLM

IDS = [[2, 9, 8, 30, 12, 3], [2, 40, 3], [2, 7, 7, 3]]
ROWS: Rows = {"input": Ragged.from_rows(IDS, np.uint32)}


@pytest.fixture(scope="module")
def opened(network: Path) -> ShiftedMaskedLM:
    return ShiftedMaskedLM.open(network / "model")


def by_hand(model: Any, layer: int, shift: torch.Tensor, ids: list[int]) -> list[int]:
    """The likeliest tokens of a row: layer by layer, with the shift after one of them."""
    with torch.no_grad():
        states = model.bert.embeddings(input_ids=torch.tensor([ids]))
        states = states + shift if layer == 0 else states
        for number, module in enumerate(model.bert.encoder.layer, 1):
            output = module(states)
            states = output[0] if isinstance(output, tuple) else output
            states = states + shift if layer == number else states
        return model.cls(states)[0].argmax(-1).tolist()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_shift_is_what_is_added_by_hand_and_by_a_hook_on_the_next_layer(opened: ShiftedMaskedLM, layer: int) -> None:
    shift = np.random.default_rng(layer).normal(size=16).astype(np.float32)
    read = opened.read(ROWS, layer, shift)
    added = torch.from_numpy(shift)
    assert [read.row(row).tolist() for row in range(3)] == [by_hand(opened.model, layer, added, ids) for ids in IDS]
    plain = opened.read(ROWS)
    assert [plain.row(row).tolist() for row in range(3)] == [by_hand(opened.model, 0, 0 * added, ids) for ids in IDS]
    assert plain.values.tolist() != read.values.tolist()
    if layer < 2:
        next_layer = opened.model.bert.encoder.layer[layer]
        hook = next_layer.register_forward_pre_hook(lambda _, given: (given[0] + added, *given[1:]))
        assert opened.read(ROWS).values.tolist() == read.values.tolist()
        hook.remove()
    assert opened.read(ROWS).values.tolist() == plain.values.tolist(), "nothing of a shift stays behind"
    assert opened.read(ROWS, layer, 0 * shift).values.tolist() == plain.values.tolist()


def test_what_is_counted() -> None:
    given = Ragged.from_rows([[1, 2, 9], [3]], np.int64)
    read = Ragged.from_rows([[1, 11, 9], [12]], np.int64)
    scores = measured(given, read, [[[11, 9, 9]], [[13], [3, 12]]], source={1, 2, 3, 9}, target={9, 11, 12, 13})
    assert scores.converted == 2 / 3, "11 and 12 of 1, 11 and 12: 9 is of both"
    assert scores.bleu1 == pytest.approx(75.0), "11, 9 and 12 of four tokens"
    assert scores.unchanged == 2 / 4
    assert scores.bleu1_of_others == 0.0
    other = measured(given, Ragged.from_rows([[3, 13, 5], [11]], np.int64), [[[11, 9, 9]], [[13], [3, 12]]], {1}, {2})
    assert (other.bleu1, other.bleu1_of_others) == (0.0, pytest.approx(75.0)), "each reads the other's translation"
    both = measured(given, Ragged.from_rows([[9, 9, 9], [9]], np.int64), [[[11]], [[13]]], {9}, {9})
    assert (both.converted, both.bleu1) == (0.0, 0.0)


def test_bleu_1_is_clipped_and_has_no_brevity_penalty() -> None:
    assert unigram_precision([[1, 1, 1]], [[[1, 2, 3, 4, 5, 6]]]) == pytest.approx(100 / 3)
    assert unigram_precision([[1, 1, 2]], [[[1, 2, 7], [1, 1]]]) == pytest.approx(100.0), "several translations"
    assert unigram_precision([[1], [5, 6, 7]], [[[1]], [[5]]]) == pytest.approx(50.0), "of the corpus"
    assert unigram_precision([[]], [[[1]]]) == 0.0


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.tsv"
    texts = [(f"{a} {b}", f"{x} {y}") for a, x in zip(ENGLISH, GREEK, strict=True)
             for b, y in zip(ENGLISH, GREEK, strict=True)]  # fmt: skip
    path.write_text("en\tel\n" + "".join(f"{en}\t{el}\n" for en, el in texts))
    return path


def job(path: Path, **values: Any) -> Config:
    sentences = {"path": str(path), "languages": ["en", "el"]}
    base = {"task": "token-translation", "name": "translated", "sentences": sentences, "rows": 5}
    return Config.model_validate({**base, **values})


def recipe(architecture: str | None = None, folder: Path | None = None) -> Any:
    network = None if architecture is None else NetworkConfig(architecture=architecture)
    init = None if folder is None else SimpleNamespace(folder=str(folder), title="")
    return SimpleNamespace(kind="text", seed=3, cleaning=Cleaning(), other_networks={}, network=network, init=init)


def test_a_mean_is_of_each_text_s_mean_without_its_first_token(network: Path, many: Path) -> None:
    models = FrozenModels.of(job(many), {"seed": 3}, {"pretrained": SimpleNamespace(path=network)}, Context())  # type: ignore[dict-item]
    trials = Trials(job(many), models, Cleaning(), Context())
    lm, reader = ShiftedMaskedLM.open(network / "model"), models.reader("pretrained", 32)
    language = _language(lm, reader, trials.others.texts("en"))
    expected = []
    for text in trials.others.texts("en"):
        ids = torch.tensor([reader.tokenizer.encode(text).ids])
        with torch.no_grad():
            states = lm.model.bert(input_ids=ids, output_hidden_states=True).hidden_states
        expected.append([layer[0, 1:].mean(0).numpy() for layer in states])
    assert np.allclose(language.means, np.mean(expected, axis=0), atol=1e-5)
    pieces = {piece for text in trials.others.texts("en") for piece in reader.tokenizer.encode(text).ids[1:-1]}
    assert language.tokens == pieces
    asked = {text for row in trials.asked.rows for text in row["en"]}
    assert not asked & set(trials.others.texts("en")) and trials.directions == [("en", "el"), ("el", "en")]


def test_a_whole_job_reports_layers_beside_what_no_shift_does(network: Path, many: Path, tmp_path: Path) -> None:
    config, out = job(many, alphas=[1.0, 4.0], shown=2), tmp_path / "out"
    known = settings(recipe(folder=network / "model"), config, tmp_path)
    values = config.model_dump(mode="json")
    (out / "figures").mkdir(parents=True)
    inputs = {"pretrained": Artifact("init-1", network, {}, {})}
    summary = job_stage.run({"job": values, "version": 1, **known}, inputs, out, Context())
    report = whole_report(Artifact("job-1", out, {"summary": summary, "config": {"job": values}}, {}))
    main, by_layer, examples = report.tables
    assert [row[2] for row in main.rows] == ["difference", "random direction", "no shift", "the text itself"] * 2
    assert len(by_layer.rows) == 3 * 2 and len(examples.rows) == 2 * 2 * 2 and examples.examples
    cells = report.notes["cells"]
    assert len(cells) == 2 * (2 + 2 * 3 * 2)
    copied = [cell for cell in cells if cell["how"] == "the text itself"]
    assert all(cell["unchanged"] == 1.0 and cell["converted"] == 0.0 for cell in copied)
    shifted = [cell["unchanged"] for cell in cells if cell["how"] == "difference"]
    assert len(set(shifted)) > 1 and report.numbers["unchanged/pretrained_copied"] == 1.0
    assert {figure.file for figure in report.figures} == {"converted-pretrained.png", "bleu1-pretrained.png"}
    assert "times the difference in layer" in report.verdict and "en 31, el 31" in report.about


def test_networks_without_a_head_are_refused_in_a_sentence(network: Path, many: Path, tmp_path: Path) -> None:
    assert [path for path, _ in needs(recipe("gpt2"), job(many))] == ["network.architecture"]
    assert [path for path, _ in needs(recipe("electra"), job(many))] == ["network.architecture"]
    odd = job(many, models=["pretrained", "scratch"], alphas=[0.0])
    assert [path for path, _ in needs(recipe("bert"), odd)] == [".models", ".alphas"]
    check_fills(network / "model")
    headless = shutil.copytree(network / "model", tmp_path / "headless")
    about = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps({**about, "architectures": ["BertModel"]}))
    for folder, name in ((headless, "BertModel"), (writers.write(tmp_path / "gpt2", "gpt2"), "GPT2LMHeadModel")):
        with pytest.raises(UserError, match=f"{name} has no head that fills gaps"):
            settings(recipe(folder=folder), job(many), tmp_path)
    with pytest.raises(UserError, match="holds no network"):
        check_fills(tmp_path / "absent")
    with pytest.raises(UserError, match=r"leaves 6 texts of en for its mean, and 20 are needed"):
        settings(recipe(), job(many, rows=30), tmp_path)
    with pytest.raises(UserError, match="is no stack of layers with weights of their own"):
        ShiftedMaskedLM.open(write(tmp_path / "albert", "albert") / "model")
