"""The output of a stage: files, and the manifest that describes them.

    ROOT/KEY/manifest.json      names the attempt; written last; its presence is the commit
    ROOT/KEY/ATTEMPT/...        the files
    ROOT/KEY/ATTEMPT.live       a heartbeat while the attempt runs

The output digest covers the files' names and contents and nothing else: an artifact's children depend on what they
can read, so the summary, the duration and the machine may differ without forking the children. The manifest's own
digest covers everything in it, so that damage to the rest is detected, too; no key depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from data_prep.errors import UserError
from pipeline.fingerprint import digest

FORMAT = 2
TABLES = "tables"  # the folder of tables for people, JSON as MLflow has it: {"columns": […], "data": [[…], …]}
MODEL = "model"  # the folder of a trained network
KEY = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{16}")
ATTEMPT = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")
_SHARD = re.compile(r"shard-[0-9]{5,}\.arrow")

_STRICT = ConfigDict(extra="forbid", strict=True)


@with_config(_STRICT)
class FileEntry(TypedDict):
    size: int
    digest: str


@with_config(_STRICT)
class InputEntry(TypedDict):
    key: str
    digest: str


@with_config(_STRICT)
class Manifest(TypedDict):
    """`manifest.json`; `provenance` and `summary` enter neither keys nor the output digest."""

    format: int
    key: str
    stage: str
    version: int
    attempt: str
    config: dict[str, Any]
    inputs: dict[str, InputEntry]
    files: dict[str, FileEntry]
    summary: dict[str, Any]
    output_digest: str
    provenance: dict[str, Any]
    digest: NotRequired[str]
    """Of all other entries. Early manifests have none."""


_MANIFEST = TypeAdapter(Manifest)


class Artifact:
    """A committed artifact. From a remote store, `path` fetches the files on first use."""

    def __init__(self, key: str, path: Path | Callable[[], Path], manifest: Manifest, uri: str | None = None) -> None:
        self.key = key
        self.manifest = manifest
        self._path = path
        self._uri = uri

    @property
    def path(self) -> Path:
        """The folder of its files on this machine. Read only: what changes there is damage."""
        if not isinstance(self._path, Path):
            self._path = self._path()
        return self._path

    @property
    def uri(self) -> str:
        """Location of its files: a URI of a remote store, or `path`."""
        return self._uri or str(self.path)

    @property
    def stage(self) -> str:
        return self.manifest["stage"]

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest["config"]

    @property
    def summary(self) -> dict[str, Any]:
        return self.manifest["summary"]

    @property
    def output_digest(self) -> str:
        return self.manifest["output_digest"]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(entry["size"] for entry in self.manifest["files"].values())

    def __repr__(self) -> str:
        return f"Artifact({self.key!r})"


def output_digest(files: Mapping[str, FileEntry]) -> str:
    """The digest of an artifact's contents: of its files' names and digests.

    Reports and logs are left out: they contain times, and the same network made twice is the same network.
    """
    return digest({name: entry["digest"] for name, entry in files.items() if not is_account(name)})


def is_account(name: str) -> bool:
    """Whether a file is a report or log: a page, a figure, a table, the log of metrics."""
    folders = PurePosixPath(name).parts[:-1]
    if folders == (TABLES,) and name.endswith(".json"):
        return True
    return name.endswith(".md") or name == "metrics.jsonl" or "figures" in folders


def checks_itself(name: str) -> bool:
    """Whether a file is a shard, whose blocks have digests of their own that are checked as they are read."""
    return _SHARD.fullmatch(PurePosixPath(name).name) is not None


def write_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is stored: JSON with its own digest inside."""
    sealed = {**manifest, "digest": _digest_of(manifest)}
    return (json.dumps(sealed, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in manifest.items() if name != "digest"})


def read_manifest(data: bytes, key: str, where: str) -> Manifest:
    """Parse and check a manifest read from `where`. UserError for a bad one, which is damage: writes are atomic."""
    try:
        manifest = _MANIFEST.validate_python(json.loads(data))  # pydantic's own JSON refuses lone surrogates
    except (ValueError, RecursionError) as error:
        damage = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            path = ".".join(map(str, first["loc"]))
            damage = f"{path}: {first['msg']}" if path else first["msg"]
        raise UserError(f"{where} is damaged ({damage}); delete the artifact {key} and rerun") from None
    try:
        problem = _inconsistency(manifest, key)
    except TypeError as error:  # a number that nobody writes, such as 1e999
        problem = str(error)
    if problem:
        raise UserError(f"{where} is damaged ({problem}); delete the artifact {key} and rerun")
    return manifest


def _inconsistency(manifest: Manifest, key: str) -> str:
    if manifest["format"] != FORMAT:
        return f"format {manifest['format']}, and this version reads format {FORMAT}"
    if manifest["key"] != key:
        return f"it belongs to {manifest['key']}"
    if not ATTEMPT.fullmatch(manifest["attempt"]):
        return f"attempt {manifest['attempt']!r} is not a name of ours"
    for name in manifest["files"]:
        parts = PurePosixPath(name)
        if not name or parts.is_absolute() or ".." in parts.parts or str(parts) != name or "\\" in name:
            return f"file {name!r} does not stay inside the artifact"
    if manifest["output_digest"] != output_digest(manifest["files"]):
        return "its output digest is not that of its files"
    if "digest" in manifest and manifest["digest"] != _digest_of(manifest):
        return "its own digest is not that of what it says"
    return ""
