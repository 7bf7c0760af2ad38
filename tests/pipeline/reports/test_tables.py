"""Tables of every shards run: what they say is what was counted, and MLflow gives them back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline import dag
from pipeline.artifact import TABLES, Artifact, is_account
from pipeline.execute import Execution
from pipeline.recipe.load import load
from pipeline.stage import Context
from pipeline.store.store import Store
from pipeline.tracking.tracking import Tracker
from tests.pipeline import tiny
from tests.pipeline.tracked import runs_of, stored, table

NAMES = ("documents", "rejects", "rows", "sources", "tokens")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The tiny recipe as far as its shards, with a document that is there twice and one that is too short."""
    root = tmp_path_factory.mktemp("tables")
    path = tiny.recipe(root)
    (root / "texts" / "copy.txt").write_text((root / "texts" / "document-03.txt").read_text())
    (root / "texts" / "short.txt").write_text("No.")
    path.write_text(path.read_text().replace("  split:", "  clean: {max_rejects: 5, min_characters: 10}\n  split:"))
    store, artifacts = Store(root / "store"), dict[str, Artifact]()
    for node in dag.nodes(load(path), root / "downloads")[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), Context())
    return artifacts


def rows_of(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    content = json.loads((artifact.path / TABLES / f"{name}.json").read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def test_tables_say_what_was_counted(artifacts: dict[str, Artifact]) -> None:
    shards, summary = artifacts["shards"], artifacts["ingest"].summary
    splits = json.loads((shards.path / "stats.json").read_text())["splits"]
    corpus = json.loads((shards.path / "figures" / "corpus.json").read_text())
    rows = {row["split"]: row for row in rows_of(shards, "rows")}
    assert list(rows) == list(splits) == ["train", "validation"]
    for name, row in rows.items():
        assert (row["rows"], row["tokens"], row["length"]) == (shards.summary[name]["rows"], splits[name]["tokens"], 32)
        assert row["mean_length"] == pytest.approx(shards.summary[name]["mean_length"], abs=0.01)
        assert row["padding_share"] == pytest.approx(1 - row["tokens"] / row["rows"] / 32, abs=1e-6)
    train = [row for row in rows_of(shards, "tokens") if row["split"] == "train"]
    assert [row["rank"] for row in train] == [*range(1, 21)] and train[0]["piece"] == "the"
    assert [row["count"] for row in train] == sorted((row["count"] for row in train), reverse=True)
    documents = Counter[str]()
    for row in rows_of(shards, "documents"):
        assert (row["source"], row["counted_share"]) == ("texts", 1.0)
        documents[row["split"]] += row["documents"]
    assert documents == {name: split["documents"] for name, split in corpus["splits"].items()}
    (source,) = rows_of(shards, "sources")
    assert (source["rows"], source["kept"], source["rejected"]) == (summary["rows"], summary["kept"], 2)
    rejects = {row["reason"]: (row["source"], row["rows"]) for row in rows_of(shards, "rejects")}
    assert rejects == {"duplicate": ("texts", 1), "shorter than 10 characters": ("texts", 1)}


def test_names_of_columns_hold_no_dots_and_files_are_accounts(artifacts: dict[str, Artifact]) -> None:
    files = sorted(name for name in artifacts["shards"].manifest["files"] if name.startswith(f"{TABLES}/"))
    assert files == [f"{TABLES}/{name}.json" for name in NAMES] and all(map(is_account, files))
    for file in files:
        columns = json.loads((artifacts["shards"].path / file).read_text())["columns"]
        assert not [column for column in columns if "." in column]


@pytest.mark.usefixtures("elsewhere")
def test_mlflow_gives_them_back(artifacts: dict[str, Artifact], tmp_path: Path, uri: str, client: Any) -> None:
    tracker, shards = Tracker(tmp_path, uri, "tables of shards", "tables-of-shards"), artifacts["shards"]
    with tracker.run("shards") as run:
        Execution._show(None, run, shards.path, Context())  # type: ignore[arg-type]
    assert tracker.close() == 0
    (mlflow_run,) = runs_of(client, "tables of shards").values()
    logged = json.loads(mlflow_run.data.tags["mlflow.loggedArtifacts"])
    assert logged == [{"path": f"{TABLES}/{name}.json", "type": "table"} for name in NAMES]
    for name in NAMES:
        file = f"{TABLES}/{name}.json"
        assert stored(client, mlflow_run, file) == json.loads((shards.path / file).read_text())
        rows = rows_of(shards, name)
        assert table(client, mlflow_run, file) == [pytest.approx(row) for row in rows] and rows
    assert [entry.path for entry in client.list_artifacts(mlflow_run.info.run_id)] == [
        *("figures", "stats.json", "stats.md", "tables")
    ]
