"""`sesame stats`: the page of each kind of artifact, its values, and what the stage leaves in the store."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from data_prep.errors import UserError
from data_prep.shards.reader import Shards
from flows.cli import app
from flows.show.blocks import bar
from flows.show.stats import gather, show
from pipeline import dag
from pipeline.artifact import Artifact, is_account, output_digest
from pipeline.execute import Execution
from pipeline.recipe.load import load
from pipeline.reports import findings
from pipeline.runs import numbers
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.data_prep.corruptions.test_table import CASES, TEXT
from tests.pipeline import tiny

PACKED = (
    "compose.pack=true",
    "compose.length=64",
    "compose.short_probability=1",
    "network.config.max_position_embeddings=128",
    "train.longer.length=128",
    "train.longer.share=0.25",
)


def make(folder: Path, overrides: tuple[str, ...] = ()) -> dict[str, Artifact]:
    store, artifacts = Store(folder / "store"), dict[str, Artifact]()
    for node in dag.nodes(load(folder / "tiny.yaml", overrides=overrides), folder / "downloads")[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), Context())
    return artifacts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the tiny recipe went as far as its shards. One document is there twice, one is hostile."""
    root = tmp_path_factory.mktemp("stats")
    path = tiny.recipe(root)
    texts = root / "texts"
    (texts / "copy.txt").write_text((texts / "document-03.txt").read_text())
    with (texts / "document-04.txt").open("a") as file:
        file.write(" A bell\x07 and \x1b[2J in the valley.")
    path.write_text(path.read_text().replace("  split:", "  clean: {max_rejects: 5}\n  split:"))
    return root


@pytest.fixture(scope="module")
def artifacts(root: Path) -> dict[str, Artifact]:
    return make(root)


@pytest.fixture(scope="module")
def packed(root: Path) -> Artifact:
    return make(root, PACKED)["shards"]


@pytest.fixture(autouse=True)
def here(root: Path, artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_HOME", str(root))
    monkeypatch.setenv("COLUMNS", "80")


def shown(artifact: Artifact, colour: bool = False, **inputs: Any) -> str:
    file, split = io.StringIO(), inputs.pop("split", "train")
    console = Console(file=file, width=80, force_terminal=colour, color_system="truecolor" if colour else None)
    show(artifact, gather(artifact, **inputs), console, split)
    return file.getvalue()


def without(artifact: Artifact, *names: str) -> Artifact:
    """The artifact as it was before its stage wrote these files."""
    files = {name: entry for name, entry in artifact.manifest["files"].items() if name not in names}
    return Artifact(artifact.key, artifact.path, {**artifact.manifest, "files": files})


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shards", "ingest", "tokenizer"])
def test_a_page_and_its_values(artifacts: dict[str, Artifact], kind: str) -> None:
    page = CliRunner().invoke(app, ["stats", artifacts[kind].key])
    assert page.exit_code == 0, page.exception
    assert artifacts[kind].key in page.stdout and "█" in page.stdout
    values = CliRunner().invoke(app, ["stats", artifacts[kind].key[:-4], "--json"])
    statistics = json.loads(values.stdout)
    assert (statistics["artifact"], statistics["stage"]) == (artifacts[kind].key, artifacts[kind].stage)


def test_shards_tell_of_rows_documents_and_rejects(artifacts: dict[str, Artifact]) -> None:
    statistics = json.loads(CliRunner().invoke(app, ["stats", artifacts["shards"].key, "--json"]).stdout)
    train = statistics["rows"]["splits"]["train"]
    table = Shards(artifacts["shards"].path / "train")
    assert (train["rows"], train["tokens"]) == (table.rows, table.items)
    assert sum(train["row_lengths"]["counts"]) == table.rows
    assert statistics["corpus"]["splits"]["train"]["sources"][0]["source"] == "texts"
    assert statistics["corpus"]["rejects"]["reasons"] == {"duplicate": 1} and statistics["ingested"]["duplicates"] == 1
    text = shown(artifacts["shards"], corpus=artifacts["ingest"])
    for line in ("Row lengths in train", "most frequent", "never seen", "Document lengths in train", "figures  "):
        assert line in text
    lengths = statistics["corpus"]["splits"]["train"]["document_sentences"]
    assert f"Document lengths in train  sentences\nleast {lengths['least']}  median {lengths['median']}  " in text
    assert re.search(r"^ +the █{30} ", text, re.M)
    assert "Rejected  1 of 13 rows" in text
    assert "Row lengths in validation" in shown(artifacts["shards"], split="validation")


def test_packed_and_longer_rows(packed: Artifact) -> None:
    splits = gather(packed)["rows"]["splits"]
    assert list(splits) == ["train", "longer", "validation"]
    assert (splits["train"]["length"], splits["longer"]["length"]) == (64, 128)
    assert splits["train"]["sequences_per_row"] > 1
    text = shown(packed, split="longer")
    assert "Sequences in a row" in text and "of at most 128" in text


WRITTEN = {
    "masked-lm": "bert", "masked-spans": "spanbert", "masked-slots": "electra", "spans": "t5", "bart": "bart",
    "mass": "mass",
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind, (of, _) in CASES.items() if of == TEXT and kind != "none"])
def test_rows_that_were_corrupted_when_written(kind: str, root: Path) -> None:
    """Whatever a corruption leaves: counted as they were, shown, whole, and looked at for findings."""
    overrides = [
        "tokenizer.vocabulary=400", f"data.sources=[{{path: {root / 'texts'}}}]", "data.clean.max_rejects=5",
        "compose.length=32",
    ]  # fmt: skip
    store, made, counted = Store(root / "store"), dict[str, Artifact](), []
    for at in ("load", "shards"):
        recipe: Any = load(WRITTEN[kind], scale="tiny", overrides=[*overrides, f"corruption.at={at}"])
        for node in dag.nodes(recipe, root / "downloads")[:3]:
            made[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, made), Context())
        counted.append(gather(made["shards"], corpus=made["ingest"])["rows"]["splits"])
    assert recipe.corruption.kind == kind
    for clean, corrupted in zip(counted[0].values(), counted[1].values(), strict=True):
        assert {**corrupted, "tokens": clean["tokens"]} == clean
    shards = made["shards"]
    for command in ("stats", "inspect", "verify"):
        page = CliRunner().invoke(app, [command, shards.key])
        assert page.exit_code == 0, (command, page.exception, page.output)
    assert isinstance(findings.of_recipe(recipe, made, root / "downloads"), list)


def test_a_vocabulary(artifacts: dict[str, Artifact]) -> None:
    text = shown(artifacts["tokenizer"])
    assert "inside words" in text and "Lengths of pieces" in text and "mask [MASK]" in text


def test_what_was_not_counted_before_is_counted_now(artifacts: dict[str, Artifact]) -> None:
    shards = artifacts["shards"]
    old = without(shards, "stats.json", "figures/corpus.json")
    assert gather(old, artifacts["tokenizer"], artifacts["ingest"]) == gather(shards, corpus=artifacts["ingest"])
    assert "corpus" not in gather(old, artifacts["tokenizer"])
    with pytest.raises(UserError, match=f"without its tokenizer {artifacts['tokenizer'].key}: make it again"):
        gather(old)


def test_mistakes_are_sentences(artifacts: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match="has no split 'tes'; it has train, validation"):
        shown(artifacts["shards"], split="tes")
    with pytest.raises(UserError, match="has no split 'longer'; it has train, validation, test"):
        shown(artifacts["ingest"], split="longer")
    with pytest.raises(UserError, match="is neither shards nor a corpus nor a tokenizer; `sesame inspect shards-"):
        gather(without(artifacts["shards"], *artifacts["shards"].manifest["files"]))
    done = CliRunner().invoke(app, ["stats", "nothing-like-this"])
    assert isinstance(done.exception, UserError)


# -- what is on the screen --------------------------------------------------------------------------------------------


def test_pages_fit_80_columns_and_need_no_colour(artifacts: dict[str, Artifact], packed: Artifact) -> None:
    for artifact in (*artifacts.values(), packed):
        text = shown(artifact, corpus=artifacts["ingest"])
        lines = [line for line in text.splitlines() if not line.startswith("figures")]
        assert max(map(cell_len, lines)) <= 80, max(lines, key=cell_len)
        assert "\x1b" not in text and "\x07" not in text
        assert "\x1b[36m█" in shown(artifact, colour=True)


def test_bars() -> None:
    assert [bar(count, 100, 10) for count in (0, 1, 50, 99, 100)] == ["", "▏", "█████", "█████████▉", "██████████"]
    assert bar(1, 10**9) == "▏" and len(bar(7, 7)) == 30


# -- what the stage leaves --------------------------------------------------------------------------------------------


def test_figures_tables_and_the_page_are_accounts_and_the_numbers_are_not(artifacts: dict[str, Artifact]) -> None:
    files = artifacts["shards"].manifest["files"]
    figures = {f"figures/{name}.png" for name in ("token-frequencies", "row-lengths", "document-lengths", "rejects")}
    accounts = {name for name in files if is_account(name)}
    tables = {f"tables/{name}.json" for name in ("rows", "tokens", "documents", "sources", "rejects")}
    assert accounts == {*figures, *tables, "figures/corpus.json", "stats.md"} and "stats.json" in files
    page = (artifacts["shards"].path / "stats.md").read_text()
    assert set(re.findall(r"!\[[\w-]+\]\((.*?)\)", page)) == figures
    assert "| train | 1 | the |" in page and "| texts | duplicate | 1 |" in page and "\x1b" not in page


def test_equal_data_have_equal_numbers(root: Path, artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    """Where the texts lie does not show, nor does a copy more: training need not begin anew."""
    tiny.labelled(tmp_path / "labelled.jsonl")
    (tmp_path / "texts").mkdir()
    for text in (root / "texts").iterdir():
        (tmp_path / "texts" / text.name).write_text(text.read_text())
    (tmp_path / "texts" / "zzz.txt").write_text((root / "texts" / "document-03.txt").read_text())
    (tmp_path / "tiny.yaml").write_text((root / "tiny.yaml").read_text().replace(str(root), str(tmp_path)))
    again = make(tmp_path)
    assert again["ingest"].output_digest != artifacts["ingest"].output_digest
    assert (
        again["shards"].output_digest
        == artifacts["shards"].output_digest
        == output_digest(artifacts["shards"].manifest["files"])
    )


def test_mlflow_gets_figures_tables_page_and_numbers(artifacts: dict[str, Artifact]) -> None:
    sent: list[tuple[str, str]] = []

    class Child:
        def artifact(self, path: Path, folder: str = "") -> None:
            sent.append((path.name, folder))

        def table(self, columns: list[str], data: list[list[Any]], file: str) -> None:
            sent.append((file, columns[0]))

    Execution._show(None, Child(), artifacts["shards"].path, Context())  # type: ignore[arg-type]
    assert (
        ("stats.md", "") in sent and ("token-frequencies.png", "figures") in sent and ("rejects.png", "figures") in sent
    )
    assert ("tables/rows.json", "split") in sent and ("tables/rejects.json", "source") in sent
    assert not [name for name, folder in sent if folder == "tables"], "sent twice"
    metrics = numbers(artifacts["shards"].summary)
    assert metrics["stats.corpus.duplicates"] == 1 and metrics["stats.train.unk_share"] == 0
    assert 0 < metrics["stats.train.vocabulary_coverage"] <= 1 and metrics["stats.train.entropy"] > 1
    assert metrics["stats.train.padding_share"] == pytest.approx(metrics["train.padding_share"], abs=1e-4)
