"""Which places MLflow's server may touch."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.confined import NOT_SERVED, is_below

FOLDER = "/home/me/.sesame/mlflow/artifacts"
NAMES = st.text(st.characters(exclude_characters="/\0%\\", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(NAMES, max_size=4))
def test_paths_below_the_folder_are_allowed(names: list[str]) -> None:
    path = "/".join([FOLDER, *names])
    assert is_below(path, FOLDER) and is_below(Path(path).as_uri(), FOLDER) and is_below(FOLDER, Path(FOLDER).as_uri())
    assert is_below("/".join(["s3://bucket/folder", *names]), "s3://bucket/folder")


@given(st.lists(NAMES, max_size=4), st.integers(0, 4), st.sampled_from(["..", "%2e%2e", "..%2f..", "%252e.", "..\\.."]))
def test_no_way_up_leads_out(names: list[str], place: int, up: str) -> None:
    names.insert(place, up)
    for folder in (FOLDER, f"file://{FOLDER}", "s3://bucket/folder", "mlflow-artifacts:/a"):
        assert not is_below("/".join([folder, *names]), FOLDER)
        assert not is_below("/".join([folder, *names]), "s3://bucket/folder")


@pytest.mark.parametrize(
    "location",
    ["/", "/etc", "file:///etc/passwd", "FILE:///etc", "file:/etc", "file://localhost/etc", "relative", "file:relative",
     "~", "/home/me/.sesame/mlflow/artifacts2", "/home/me/.sesame/mlflow", "/home/me/.sesame/mlflow/mlflow.db",
     f"file://host{FOLDER}", f"file://{FOLDER}?a=b", f"file://{FOLDER}#a", f"//host{FOLDER}", f"{FOLDER}/a\0b",
     "s3://bucket/folder", "gs://b/x", "dbfs:/x", "hdfs://h/x", "ftp://h/x", "sftp://h/x", "http://h/x",
     "https://h/x", "abfss://c@h/x", "wasbs://c@h/x", "r2://b/x", "b2://b/x", "viewfs://h/x", "mlflow-artifacts://host/x",
     "unknown:x"],
)  # fmt: skip
def test_no_other_place_is_below_the_folder(location: str) -> None:
    assert not is_below(location, FOLDER)


def test_a_bucket_is_no_folder_and_has_no_longer_name() -> None:
    assert is_below("s3://bucket/folder", "s3://bucket/folder") and is_below(
        "s3://bucket/folder/a", "s3://bucket/folder/"
    )
    for location in (
        "s3://bucket",
        "s3://bucket/folder2",
        "s3://bucket2/folder",
        "S3://bucket/folder/a",
        "/folder",
        "/etc",
    ):
        assert not is_below(location, "s3://bucket/folder")


def test_what_refers_to_a_place_is_asked_about_again() -> None:
    assert is_below("runs:/0123/model", FOLDER) and is_below("models:/name/1", FOLDER)
    assert is_below("mlflow-artifacts:/1/2/artifacts", FOLDER)


def test_links_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "out").symlink_to("/etc")
    (tmp_path / "other").symlink_to(folder)
    assert not is_below(str(folder / "out" / "passwd"), str(folder))
    assert is_below(str(tmp_path / "other" / "run"), str(folder)) and is_below(str(folder), str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("path", "is_served"),
    [("/ajax-api/3.0/mlflow/assistant/message", False), ("/ajax-api/3.0/jobs/", False),
     ("/api/3.0/mlflow/webhooks", False), ("/api/2.0/mlflow/runs/create", True),
     ("/gateway/mlflow/v1/models", False), ("/ajax-api/2.0/mlflow/gateway-proxy", False), ("/", True),
     ("/api/2.0/mlflow-artifacts/artifacts/1/jobs/report.json", True)],
)  # fmt: skip
def test_only_tracking_is_served(path: str, is_served: bool) -> None:
    assert (NOT_SERVED.match(path) is None) == is_served
