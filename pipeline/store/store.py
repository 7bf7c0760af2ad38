"""The artifact store: artifacts by key.

    ROOT/KEY/ATTEMPT/...        files, in a fresh folder per attempt
    ROOT/KEY/manifest.json      names the attempt; written last, atomically; it *is* the commit
    ROOT/.work/KEY/             outlives failed attempts (on this machine)
    ROOT/.downloads/            what was fetched from elsewhere (on this machine)

Readers ignore everything without a manifest, so an artifact is complete or absent whatever was interrupted. Two
processes that make one key race harmlessly: the first manifest stays, the other attempt is discarded. Deleting an
artifact is the only way to invalidate it. The root may be anything that `pyarrow.fs` opens, such as
`s3://bucket/folder`; attempts are then written locally and uploaded, and readers get a verified local copy.
"""

from __future__ import annotations

import json
import math
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from data_prep.errors import UserError
from pipeline.artifact import (
    FORMAT,
    KEY,
    Artifact,
    FileEntry,
    Manifest,
    checks_itself,
    output_digest,
    read_manifest,
    write_manifest,
)
from pipeline.fingerprint import canonical, file_digest
from pipeline.stage import Context, Stage
from pipeline.store import live as store_live
from pipeline.store.gc import Garbage, collect
from pipeline.store.local import LocalFiles
from pipeline.store.provenance import provenance
from pipeline.store.why import explain

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from pipeline.store.remote import RemoteFiles

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Attempt:
    """An attempt at making one key, with an empty folder on this machine."""

    key: str
    name: str
    path: Path


class Store:
    """See the module. `cache` is the local folder that a remote root uses for work, downloads and copies."""

    def __init__(self, root: str | Path | FileSystem, cache: Path | None = None) -> None:
        self._files = _open_root(root, cache)
        self._whole: set[tuple[str, int, int, int]] = set()
        """Files that were found whole: path, inode, size, time."""

    @property
    def home(self) -> Path:
        """The folder on this machine for work and downloads; for a local store, its root."""
        return self._files.home

    @property
    def downloads(self) -> Path:
        return self.home / ".downloads"

    def work(self, key: str) -> Path:
        """The work folder of `key`, which outlives attempts; it may not exist."""
        return self.home / store_live.WORK / _checked(key)

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Artifact | None:
        """The committed artifact, or None. Raises UserError if its manifest is damaged."""
        where = self._files.where(_checked(key), MANIFEST)
        try:
            data = self._files.read(key, MANIFEST)
        except OSError as error:
            raise UserError(f"{where} cannot be read: {error}") from error
        if data is None:
            return None
        manifest = read_manifest(data, key, where)
        attempt = manifest["attempt"]
        uri = self._files.uri(key, attempt)
        return Artifact(key, lambda: self._files.open(key, attempt, manifest["files"]), manifest, uri)

    def keys(self) -> list[str]:
        """Keys of all committed artifacts, damaged ones included."""
        return [key for key in self._files.folders() if KEY.fullmatch(key) and MANIFEST in self._files.names(key)]

    def list(self) -> list[Artifact]:
        """All committed artifacts, by key."""
        artifacts = (self.get(key) for key in self._files.folders() if KEY.fullmatch(key))
        return [artifact for artifact in artifacts if artifact is not None]

    def find(self, prefix: str) -> str:
        """The one key that starts with `prefix`, or whose hash does."""
        keys = self.keys()
        matches = [key for key in keys if key == prefix] or [
            key for key in keys if key.startswith(prefix) or key.rpartition("-")[2].startswith(prefix)
        ]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise UserError(f"no artifact in {self._files.where('')} has a key that starts with {prefix!r}")
        listed = ", ".join(matches[:5]) + (f" and {len(matches) - 5} more" if len(matches) > 5 else "")
        raise UserError(f"{prefix!r} stands for several artifacts, give more of the key: {listed}")

    def resolve(self, prefix: str) -> Artifact:
        """The one artifact that `prefix` stands for."""
        key = self.find(prefix)
        artifact = self.get(key)
        if artifact is None:
            raise UserError(f"{key} was deleted just now")
        return artifact

    def verify(self, artifact: Artifact) -> list[str]:
        """Problems with its files, one line each; reads every byte."""
        key, attempt = artifact.key, artifact.manifest["attempt"]
        problems = self._misfits(artifact)
        files = artifact.manifest["files"]
        for name, size in self._files.listing(key, attempt).items():
            if name not in files:
                problems.append(f"{self._files.where(key, attempt)}/{name}: not in the manifest")
            elif size == files[name]["size"] and self._files.digest(key, attempt, name) != files[name]["digest"]:
                problems.append(f"{self._files.where(key, attempt)}/{name}: its digest is not the manifest's")
        return problems

    def check_whole(self, artifact: Artifact) -> Artifact:
        """The artifact, once its files on this machine are those that were committed: to be called before their use.

        A file is read once a process, unless its size or time changes. Artifacts with shards are left out, which may be
        read from afar: their blocks are checked as they are read. UserError for damage.
        """
        files = artifact.manifest["files"]
        if any(map(checks_itself, files)):
            return artifact
        folder = artifact.path
        for name, entry in files.items():
            path = folder / name
            try:
                status = path.stat()
                seen = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
                if seen not in self._whole and status.st_size == entry["size"] and file_digest(path) == entry["digest"]:
                    self._whole.add(seen)
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}); {_again(artifact)}") from error
            if seen not in self._whole:
                raise UserError(f"{path} is damaged: its digest is not the manifest's; {_again(artifact)}")
        return artifact

    def why(self, stage: Stage, config: Mapping[str, Any], inputs: Mapping[str, Artifact | None]) -> str:
        """ "stored", "never made", or what differs from the nearest artifact of this stage.

        Inputs that are not made yet are None.
        """
        known_inputs = {name: artifact for name, artifact in inputs.items() if artifact is not None}
        if len(known_inputs) == len(inputs) and self.get(stage.key(config, known_inputs)) is not None:
            return "stored"
        return explain(stage, json.loads(canonical(dict(config))), inputs, self.list())

    # -- making -------------------------------------------------------------------------------------------------------

    def produce(
        self,
        stage: Stage,
        config: Mapping[str, Any],
        inputs: Mapping[str, Artifact] | None = None,
        context: Context | None = None,
    ) -> tuple[Artifact, bool]:
        """The stored artifact and True, or a new one and False.

        A stage that raises leaves no files but those in its work folder. If another process commits the same key
        first, its artifact is returned, with True.
        """
        inputs, context = dict(inputs or {}), context or Context()
        config_text, placement = canonical(dict(config)), canonical(dict(context.placement))
        key = stage.key(config, inputs)
        stored = self.get(key)
        if stored is not None:
            self._check_reuse(stored, stage, json.loads(config_text), inputs)
            return stored, True
        for artifact in inputs.values():
            self.check_whole(artifact)
        with self.attempt(key) as attempt, self._work(attempt) as work:
            downloads = context.downloads if context.has_downloads else self.downloads
            downloads.mkdir(parents=True, exist_ok=True)
            context = replace(context, downloads=downloads, work=work, key=key, attempt=attempt.name)
            start = time.monotonic()
            summary = stage.run(json.loads(config_text), dict(inputs), attempt.path, context)
            notes = {"seconds": time.monotonic() - start, "placement": json.loads(placement)}
            artifact, won = self.commit(attempt, stage, json.loads(config_text), inputs, summary, notes)
            return artifact, not won

    @contextmanager
    def attempt(self, key: str) -> Iterator[Attempt]:
        """A folder to make `key` in, live inside the block; its files are removed afterwards unless committed."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        live = name + store_live.LIVE_SUFFIX
        files = self._files

        def end() -> None:
            files.drop(key, live)
            files.tidy(key)

        try:
            files.put(_checked(key), live, store_live.sign_of_life())
        except OSError as error:
            raise UserError(f"the store at {files.where('')} cannot be written: {error}") from error
        with store_live.heartbeat(lambda data: files.put(key, live, data), end):
            try:
                yield Attempt(key, name, files.draft(key, name))
            except BaseException as error:
                try:
                    self._discard_unless_committed(key, name)
                except (OSError, UserError) as second:
                    error.add_note(f"and the attempt {files.where(key, name)} is still there: {second}")
                raise
            self._discard_unless_committed(key, name)

    def commit(
        self,
        attempt: Attempt,
        stage: Stage,
        config: dict[str, Any],
        inputs: Mapping[str, Artifact],
        summary: dict[str, Any],
        notes: Mapping[str, Any] | None = None,
    ) -> tuple[Artifact, bool]:
        """Make the attempt's files the artifact; (the other's artifact, False) if another attempt came first.

        `notes` join the provenance. Raises TypeError for a summary that is not made of JSON values.
        """
        key = attempt.key
        if not isinstance(summary, dict):
            raise TypeError(f"stage {stage.name} returned {type(summary).__name__} instead of a summary dict")
        noted = {**provenance(), **(notes or {}), "licences": _licences(summary, inputs)}
        for value in (summary, noted):
            canonical(value)
        entries = _scan(attempt.path)
        manifest: Manifest = {
            "format": FORMAT,
            "key": key,
            "stage": stage.name,
            "version": stage.version,
            "attempt": attempt.name,
            "config": config,
            "inputs": {name: {"key": a.key, "digest": a.output_digest} for name, a in inputs.items()},
            "files": entries,
            "summary": summary,
            "output_digest": output_digest(entries),
            "provenance": noted,
        }
        self._files.publish(key, attempt.name, entries)
        won = self._files.put_new(key, MANIFEST, write_manifest(manifest))
        artifact = self.get(key)
        if artifact is None:
            raise UserError(f"{key} was deleted while it was being committed; rerun")
        return artifact, won

    # -- removing -----------------------------------------------------------------------------------------------------

    def delete(self, key: str) -> int:
        """Delete an artifact and its work, and return the bytes freed; live attempts are left alone."""
        if MANIFEST not in self._files.names(_checked(key)):
            raise UserError(f"no artifact {key} in {self._files.where('')}")
        self._files.drop(key, MANIFEST)
        return sum(garbage.size for garbage in collect(self._files, MANIFEST, older_than=-math.inf, only=key))

    def gc(self, dry_run: bool = False, older_than: float = 7 * 86400.0) -> list[Garbage]:
        """Remove what is not committed, not live, and unchanged for `older_than` seconds; returns what was removed.

        That includes work folders, and with them the checkpoints of runs that were interrupted longer ago.
        """
        return collect(self._files, MANIFEST, older_than=older_than, dry_run=dry_run)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _work(self, attempt: Attempt) -> AbstractContextManager[Path]:
        shared = self.work(attempt.key)
        return store_live.work_folder(shared, shared.with_name(f"{attempt.key}.{attempt.name}"))

    def _discard_unless_committed(self, key: str, attempt: str) -> None:
        stored = self.get(key)
        if stored is None or stored.manifest["attempt"] != attempt:
            self._files.discard(key, attempt)

    def _check_reuse(self, stored: Artifact, stage: Stage, config: Any, inputs: Mapping[str, Artifact]) -> None:
        old = stored.manifest
        input_digests = {name: artifact.output_digest for name, artifact in inputs.items()}
        stored_inputs = {name: entry["digest"] for name, entry in old["inputs"].items()}
        same = canonical([old["stage"], old["version"], old["config"], stored_inputs]) == canonical(
            [stage.name, stage.version, config, input_digests]
        )
        if not same:
            raise RuntimeError(f"{stored.key} is the key of two different things; raise the version of {stage.name}")
        problems = self._misfits(stored)
        if problems:
            raise UserError(f"{problems[0]}; {_again(stored)}")

    def _misfits(self, artifact: Artifact) -> list[str]:
        """Files that are missing or of the wrong size."""
        key, attempt = artifact.key, artifact.manifest["attempt"]
        present = self._files.listing(key, attempt)
        problems = []
        for name, entry in artifact.manifest["files"].items():
            where = f"{self._files.where(key, attempt)}/{name}"
            if name not in present:
                problems.append(f"{where}: missing")
            elif present[name] != entry["size"]:
                problems.append(f"{where}: {present[name]} bytes instead of {entry['size']}")
        return problems


def _open_root(root: str | Path | FileSystem, cache: Path | None) -> LocalFiles | RemoteFiles:
    if isinstance(root, str) and "://" in root:
        parts = urlsplit(root)
        if parts.scheme == "file":
            return LocalFiles(Path(unquote(parts.path)))
        from pipeline.store.remote import open_uri

        return open_uri(root, cache)
    if isinstance(root, str | Path):
        path = Path(root).expanduser().absolute()
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is not a folder; name another one for the store")
        return LocalFiles(path)
    if cache is None:
        raise ValueError("a store on a file system object needs a cache folder")
    from pipeline.store.remote import RemoteFiles

    return RemoteFiles(root, "", cache, f"{root.type_name}:")


def _again(artifact: Artifact) -> str:
    """What to do about damage."""
    return f"delete the artifact {artifact.key} and rerun"


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise UserError(f"{key!r} is not an artifact's key: a stage's name and 16 hex digits, joined by a hyphen")
    return key


def _licences(summary: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> list[str]:
    own = summary.get("licences", [])
    inherited = [artifact.manifest["provenance"].get("licences", []) for artifact in inputs.values()]
    return sorted({name for names in (own, *inherited) for name in names})


def _scan(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of every file below `folder`. Raises for links and devices."""
    entries: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{name}: an artifact holds plain files and folders only")
        entries[name] = {"size": status.st_size, "digest": file_digest(path)}
    return entries
