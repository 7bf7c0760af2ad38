"""A recipe with phrases: of a lexicon, whose content is in the key of the shards, or found in the training text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corpus.documents import Corpus
from data_prep.errors import UserError
from data_prep.shards.reader import Shards
from data_prep.shards.rows import ragged
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.dag import Node
from pipeline.recipe.load import load
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.pipeline import tiny

SETTINGS = ("compose.columns=[unit]", "corruption.unit=phrase", "corruption.at=shards", "corruption.rate=0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lexicon")
    tiny.recipe(folder)
    (folder / "phrases.txt").write_text("at night\nin the valley\nbefore the harvest\n\nAt night\nthe żółw\n")
    return folder


def node_of(folder: Path, lexicon: Path, *settings: str) -> Node:
    recipe = load(folder / "tiny.yaml", overrides=(*SETTINGS, f"compose.lexicon={lexicon}", *settings))
    return next(node for node in dag.nodes(recipe, folder / "downloads") if node.name == "shards")


def shards(folder: Path, progress: Any, *settings: str) -> Artifact:
    return made_by(folder, progress, f"compose.lexicon={folder / 'phrases.txt'}", *settings)["shards"]


def made_by(folder: Path, progress: Any, *settings: str) -> dict[str, Artifact]:
    """Corpus, tokenizer and shards."""
    overrides = (*SETTINGS, *settings)
    store, artifacts = Store(folder / "store"), dict[str, Artifact]()
    for node in dag.nodes(load(folder / "tiny.yaml", overrides=overrides), folder / "downloads")[:3]:
        context = Context(files=node.files, progress=progress)
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    return artifacts


def test_phrases_are_masked_whole_and_what_is_not_used_is_said(folder: Path) -> None:
    warnings: list[str] = []
    made = shards(folder, lambda message, done=None, warning="": warnings.append(warning))
    assert [warning for warning in warnings if warning] == [
        f"compose.lexicon: 3 of 6 lines of {folder / 'phrases.txt'} are not used: 1 blank, 1 repeated, "
        "1 that the tokenizer cannot spell (such as 'the żółw')"
    ]
    assert made.summary["lexicon"]["phrases"] == 3
    train = made.summary["train"]
    assert 0 < train["words_in_phrases"] < train["words"] < train["corpus_tokens"] + 1
    assert train["phrase_share"] == round(train["words_in_phrases"] / train["words"], 4)
    table = Shards(made.path / "train")
    rows = table.read(np.arange(table.rows))
    unit, several = ragged(rows, "unit"), 0
    for row in range(len(unit)):
        chosen = np.zeros(len(unit.row(row)), bool)
        chosen[ragged(rows, "target_positions").row(row)] = True
        for number in np.unique(unit.row(row)):
            of_unit = chosen[unit.row(row) == number]
            assert of_unit.all() or not of_unit.any()
            several += len(of_unit) > 1 and bool(of_unit.all())
    assert several > 10


def test_the_parts_of_a_mixture_are_summed_up(folder: Path) -> None:
    path = folder / "texts/document"
    sources = f"[{{path: {path}-0*, corpus: a}}, {{path: {path}-1*, corpus: b}}]"
    summary = shards(folder, lambda *_, **__: None, f"data.sources={sources}").summary
    parts = list(summary["parts"]["train"].values())
    train = summary["train"]
    assert len(parts) == 2 and train["words"] == sum(part["words"] for part in parts)
    assert train["phrase_share"] == round(sum(part["words_in_phrases"] for part in parts) / train["words"], 4)


def test_the_key_has_the_content_and_not_the_path(folder: Path, tmp_path: Path) -> None:
    first, moved = folder / "phrases.txt", tmp_path / "other.txt"
    moved.write_bytes(first.read_bytes())
    config = node_of(folder, first).config
    assert node_of(folder, moved).config == config and str(folder) not in str(config)
    moved.write_bytes(first.read_bytes() + b"builds\n")
    assert node_of(folder, moved).config != config
    assert node_of(folder, first, "data.clean.normalisation=none").config != config


def test_a_lexicon_is_found_from_the_current_folder_and_from_home(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = node_of(folder, folder / "phrases.txt").config
    monkeypatch.chdir(folder)
    assert node_of(folder, Path("phrases.txt")).config == config
    monkeypatch.setenv("HOME", str(folder))
    assert node_of(folder, Path("~/phrases.txt")).config == config


def test_recipes_without_a_lexicon_keep_their_keys(folder: Path) -> None:
    recipe = load(folder / "tiny.yaml")
    node = next(node for node in dag.nodes(recipe, folder / "downloads") if node.name == "shards")
    assert node.config == {
        "kind": "text",
        "settings": {"name": "tiny", "seed": 0, "compose": {"kind": "sop", "length": 32}, "compose_version": 2},
    }
    assert node.files == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"phrases\.txt cannot be read \(No such file or directory\)"),
        (b"\xff", r"phrases\.txt cannot be read \(line 1 holds the byte 0xff, not UTF-8\)"),
        (b" \n", r"phrases\.txt has no phrase"),
    ],
)
def test_a_bad_lexicon_is_refused_before_anything_runs(
    folder: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "phrases.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"compose\.lexicon: .*{message}"):
        node_of(folder, path)


def test_a_lexicon_that_changes_while_the_run_waits_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("at night\n")
    overrides = (*SETTINGS, f"compose.lexicon={path}")
    store, artifacts = Store(folder / "store"), dict[str, Artifact]()
    *earlier, node = dag.nodes(load(folder / "tiny.yaml", overrides=overrides), folder / "downloads")[:3]
    for other in earlier:
        artifacts[other.name], _ = store.produce(other.stage, other.config, dag.inputs_of(other, artifacts))
    path.write_text("in the valley\n")
    with pytest.raises(UserError, match=r"compose\.lexicon: .*phrases\.txt changed after the run began; run again"):
        store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), Context(files=node.files))


FIND = "compose.phrases={min_count: 10, npmi: 0.3}"


def test_phrases_are_found_in_training_text_alone_and_told(folder: Path) -> None:
    made = made_by(folder, lambda *_, **__: None, FIND)
    listed = [json.loads(line) for line in (made["shards"].path / "phrases.jsonl").read_text().splitlines()]
    summary = made["shards"].summary
    assert len(listed) == summary["phrases"]["phrases"] > 3 and summary["phrases"]["counted_share"] == 1
    assert 0 < summary["train"]["phrase_share"] < 1
    words = [re.findall(r"[\w']+|[^\w\s]", line.lower()) for line in Corpus(made["ingest"].path, "train").sentences()]
    assert sum(word.isalnum() for line in words for word in line) == summary["phrases"]["counted_words"]
    for phrase in listed:
        parts, size = phrase["phrase"].split(), phrase["words"]
        count = sum(line[i : i + size] == parts for line in words for i in range(len(line) - size + 1))
        assert len(parts) == size and count == phrase["count"] and phrase["npmi"] >= 0.3
    page = (made["shards"].path / "stats.md").read_text()
    assert "Phrases that were found" in page and f"| {listed[0]['phrase']} |" in page


def test_what_is_looked_for_is_in_the_key_and_nothing_found_is_said(folder: Path) -> None:
    def config(*settings: str) -> Any:
        recipe = load(folder / "tiny.yaml", overrides=(*SETTINGS, *settings))
        return next(node for node in dag.nodes(recipe, folder / "downloads") if node.name == "shards").config

    assert config(FIND) != config("compose.phrases={min_count: 10, npmi: 0.5}")
    with pytest.raises(UserError, match=r"compose\.phrases: no run of up to 4 words occurs 99999 times with an NPMI"):
        made_by(folder, lambda *_, **__: None, "compose.phrases={min_count: 99999}")
