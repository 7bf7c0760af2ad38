"""The same findings from a recipe and from the artifacts that it left."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.corpus.documents import Corpus
from data_prep.shards.reader import Shards
from data_prep.shards.rows import Ragged, ragged
from data_prep.shards.writer import ShardWriter
from data_prep.tokens import tokenizers
from data_prep.tokens.detokenize import Pieces
from data_prep.tokens.tokenizers import TokenizerConfig
from pipeline import dag
from pipeline.recipe.load import load_pretraining, recipes
from pipeline.recipe.recipe import Recipe
from pipeline.reports.findings import of_artifacts, of_recipe
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.pipeline import packaged

SUMMARIES: dict[str, dict[str, Any]] = {
    "ingest": {"splits": {"train": {"documents": 9, "sentences": 9, "characters": 9}, "validation": {"documents": 1}}},
    "tokenizer": {"kind": "wordpiece", "vocabulary": 4096},
    "shards": {
        "length": 40,
        "train": {
            "rows": 50,
            "corpus_tokens": 2000,
            "left_out": 500,
            "labels": [50, 0],
            "mean_length": 10.0,
            "padding_share": 0.75,
            "characters": 9000,
            "unknown_characters": 4000,
        },
    },
    "pretrain": {},
}  # fmt: skip


def made(recipe: Recipe, downloads: Path) -> dict[str, Any]:
    """Artifacts of a recipe, with summaries in which much is odd."""
    return {
        node.name: SimpleNamespace(config=node.config, summary=SUMMARIES[node.name])
        for node in dag.nodes(recipe, downloads)
        if node.name in SUMMARIES
    }


def test_a_report_says_what_was_said_before(tmp_path: Path) -> None:
    recipe = load_pretraining("quickstart", None, ["corruption.max_predictions=12", "train.steps=100000"])
    artifacts = made(recipe, tmp_path)
    findings = of_recipe(recipe, artifacts, tmp_path)
    assert findings == of_artifacts(artifacts, tmp_path)
    words = (
        "validation is 1",
        "test is empty",
        "a step takes",
        "passes over",
        "12 of 40 tokens",
        "unknown",
        "leaves out",
    )
    for word in (*words, "100.0% of the pairs of sop are in order", "is padding", "tokenizer.vocabulary 4,096"):
        assert sum(word in finding.text for finding in findings) == 1, word
    assert of_recipe(recipe, {}, tmp_path) == [finding for finding in findings if "12 of 40 tokens" in finding.text]


@pytest.mark.parametrize(("every", "share", "refused"), [(1, "0.0%", True), (3, "12.5%", False), (9, None, False)])
def test_words_too_long_to_be_hidden_are_found(tmp_path: Path, every: int, share: str | None, refused: bool) -> None:
    """Every so many rows are one word of 30 tokens, of which 6 may be hidden; in the others each token is a word."""
    tokenizers.train(TokenizerConfig(kind="wordpiece", vocabulary=60), ["a b c d e f"] * 9, tmp_path / "tokenizer")
    special = tokenizers.specials(tmp_path / "tokenizer")
    starts = np.ones((96, 32), np.uint8)
    starts[::every, 2:-1] = 0
    ids = np.full((96, 32), special.ordinary[0], np.uint16)
    ids[:, 0], ids[:, -1] = special.need("cls"), special.need("sep")
    writer = ShardWriter(tmp_path / "shards" / "train", 96)
    columns = {"input": ids, "word_start": starts}
    writer.write({name: Ragged(values.ravel(), np.arange(0, 97 * 32, 32)) for name, values in columns.items()})
    writer.close({"split": "train"})
    summary = {**SUMMARIES["shards"], "parts": {"train": {"train": {}}}}
    artifacts: Any = {
        "tokenizer": SimpleNamespace(path=tmp_path / "tokenizer", summary=SUMMARIES["tokenizer"]),
        "shards": SimpleNamespace(uri=str(tmp_path / "shards"), summary=summary),
    }
    recipe = load_pretraining("bert", "tiny", ["corruption.unit=word", "corruption.rate=0.2"])
    findings = [each for each in of_recipe(recipe, artifacts, tmp_path) if "a word that is longer than" in each.text]
    expected = [(f"{share} of tokens are to be predicted, of 18.8% that", refused)] if share else []
    assert [
        (each.text[: len(text)], each.refused) for each, (text, _) in zip(findings, expected, strict=True)
    ] == expected


def test_partners_of_held_out_pairs_are_of_the_same_source(tmp_path: Path) -> None:
    """But where one document of a source is held out, which is told."""
    for source, count in (("x", 8), ("y", 8), ("z", 3)):
        (tmp_path / source).mkdir()
        for number in range(count):
            sentences = [f"The {source} number {number} has a sentence {place}." for place in range(9)]
            (tmp_path / source / f"{number}.txt").write_text(" ".join(sentences))
    sources = ", ".join(f"{{path: {tmp_path / source}, corpus: {source}}}" for source in "xyz")
    overrides = [
        f"data.sources=[{sources}]", "data.clean.min_characters=1", "data.split.validation=0.3",
        "compose={kind: nsp, length: 32}", "objective.options={sentence: nsp}", "tokenizer.vocabulary=200",
        "order={weights: {x: 1, y: 1, z: 1}}",
    ]  # fmt: skip
    recipe, store, artifacts = load_pretraining("bert", "tiny", overrides), Store(tmp_path / "store"), dict[str, Any]()
    for node in dag.nodes(recipe, tmp_path / "downloads")[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), Context())
    held = Corpus(artifacts["ingest"].path, "validation")
    counts = Counter(source for source, count in held.runs for _ in range(count))
    source_of = [source for source, count in held.runs for _ in range(count)]
    rows = Shards(artifacts["shards"].path / "validation").read(np.arange(20))
    texts = Pieces(tokenizers.load(artifacts["tokenizer"].path), tokenizers.specials(artifacts["tokenizer"].path))
    for number, document in enumerate(np.asarray(rows["document"]).tolist()):
        own = source_of[document]
        words = set("".join(texts.texts(ragged(rows, "input").row(number).tolist())).split()) & set("xyz")
        assert words <= {own} or counts[own] == 1
    warnings = [each.text for each in of_recipe(recipe, artifacts, tmp_path) if "one document is held" in each.text]
    assert bool(warnings) == (1 in counts.values())


CHINESE = "今天天气很好，我们使用语言模型来预测下一个词的概率。"
JAPANESE = "わたしはきのうともだちとえきまであるいていきました。"
THAI = "ฉันเดินทางไปโรงเรียนทุกวันกับเพื่อนของฉัน"
ENGLISH = "We use models of language to predict the next word."


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (CHINESE, ["corruption.unit=word"], "100.0% of the letters .* a word has 1.0 of them .*single characters"),
        (CHINESE, ["corruption={kind: masked-spans}"], "a word has 1.0 of them"),
        (CHINESE, ["corruption.unit=word", "compose.segmenter=jieba"], None),
        (CHINESE, [], None),
        (THAI, ["corruption.unit=word"], r"a word has \d\d.\d of them on average.*stretches between blanks"),
        (JAPANESE, ["corruption.unit=word"], r"a word has \d\d.\d of them"),
        (ENGLISH, ["corruption.unit=word"], None),
        (f"{ENGLISH} {CHINESE}", ["corruption.unit=word"], r"[34]\d\.\d% of the letters"),
    ],
)
def test_words_that_are_not_found_are_told(text: str, options: list[str], said: str | None, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / f"texts/{number}.txt").write_text("\n\n".join([text] * 4 + [str(number)]))
    overrides = [
        f"data.sources=[{{path: {tmp_path / 'texts'}}}]", "data.clean.min_characters=1", "tokenizer.vocabulary=200",
        "data.split.validation=0.2", "compose={kind: packed, length: 64}", "objective.options={}", *options,
    ]  # fmt: skip
    recipe, store, artifacts = load_pretraining("bert", "tiny", overrides), Store(tmp_path / "store"), dict[str, Any]()
    for node in dag.nodes(recipe, tmp_path / "downloads")[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), Context())
    findings = [each for each in of_recipe(recipe, artifacts, tmp_path) if "of them on average" in each.text]
    assert (len(findings) == 0) if said is None else re.search(said, findings[0].text), findings


@pytest.mark.parametrize("name", packaged.pretraining())
def test_packaged_recipes_are_in_order(name: str, tmp_path: Path) -> None:
    scales = next(listing.scales for listing in recipes() if listing.name == name)
    for scale in scales or [None]:
        assert of_recipe(load_pretraining(name, scale), {}, tmp_path) == []
