"""A store on a server that speaks the S3 protocol: made there, read from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.sources import files
from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.recipe.load import load
from pipeline.stage import Context
from pipeline.store.store import Store
from tests.pipeline import tiny

server = pytest.importorskip("moto.server", reason="the S3 server for tests is not installed")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"?scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
    system, _ = files._system(f"s3://sesame{options}", os.getpid())
    system.create_dir("sesame")
    yield Store(f"s3://sesame/store{options}", cache=tmp_path / "cache")
    running.stop()


def test_shards_are_trained_on_without_a_copy(store: Store, tmp_path: Path) -> None:
    recipe = load(tiny.recipe(tmp_path))
    context = Context(placement=recipe.placement.model_dump(mode="json"))
    artifacts: dict[str, Artifact] = {}
    nodes = dag.nodes(recipe, tmp_path / "downloads")[:4]
    for node in nodes[:3]:
        artifacts[node.name], _ = store.produce(node.stage, node.config, dag.inputs_of(node, artifacts), context)
    local, _ = Store(tmp_path / "local").produce(
        nodes[3].stage, nodes[3].config, dag.inputs_of(nodes[3], artifacts), context
    )
    copies = store.home / ".copies"
    assert any(path.name.startswith("shards-") for path in copies.iterdir())
    shutil.rmtree(copies)
    for name, artifact in artifacts.items():
        remote = store.get(artifact.key)
        assert remote is not None
        artifacts[name] = remote
    assert artifacts["shards"].uri.startswith("s3://sesame/store/shards-")
    trained, _ = store.produce(nodes[3].stage, nodes[3].config, dag.inputs_of(nodes[3], artifacts), context)
    assert trained.output_digest == local.output_digest
    assert not any(path.name.startswith("shards-") for path in copies.iterdir())
    assert any((store.downloads / "shards").iterdir())
