"""A stage and a file system for tests of the store."""

from __future__ import annotations

import shutil

from pipeline.stage import Stage


def write(config, inputs, out, context):
    """A stage that writes what it was told, and what its inputs hold."""
    (out / "deep" / "er").mkdir(parents=True)
    (out / "deep" / "er" / "text").write_text(str(config["text"]))
    (out / "read").write_text(
        "".join((artifact.path / "read").read_text() for artifact in inputs.values()) + config["text"]
    )
    (out / "empty").touch()
    return {"length": len(config["text"]), "licences": config.get("licences", [])}


WRITE = Stage("write", 1, write)
KEY = WRITE.key({"text": "a"}, {})


class ObjectStore:
    """A pyarrow file system that behaves like S3: no folders to make, and one PUT writes a file whole."""

    type_name = "s3"

    def __init__(self, system):
        self._system = system

    def __getattr__(self, name):
        return getattr(self._system, name)

    def open_output_stream(self, path):
        self._system.create_dir(path.rpartition("/")[0], recursive=True)
        return self._system.open_output_stream(path)

    def create_dir(self, path, recursive=True):
        raise AssertionError("an object store has no folders")

    def move(self, path, to):
        raise AssertionError("an object store copies what it moves")


def fresh(store):
    """The same store, as another machine sees it: without local copies."""
    shutil.rmtree(store.home / ".copies", ignore_errors=True)
    return store
