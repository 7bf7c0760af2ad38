"""Stores of every sort."""

from __future__ import annotations

import pytest
from pyarrow import fs

from pipeline.store.store import Store
from tests.pipeline.store.stores import ObjectStore


@pytest.fixture(params=["folder", "file uri", "subtree", "mock", "object store"])
def store(request, tmp_path):
    if request.param == "folder":
        return Store(tmp_path / "root")
    if request.param == "file uri":
        return Store(f"file://{tmp_path}/ro%20ot")
    if request.param == "subtree":
        (tmp_path / "root").mkdir()
        return Store(fs.SubTreeFileSystem(str(tmp_path / "root"), fs.LocalFileSystem()), cache=tmp_path / "cache")
    if request.param == "mock":
        return Store(fs._MockFileSystem(), cache=tmp_path / "cache")
    return Store(ObjectStore(fs._MockFileSystem()), cache=tmp_path / "cache")  # type: ignore[arg-type]
