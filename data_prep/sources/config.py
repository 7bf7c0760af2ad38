"""Where data comes from: a registered package, or a user's files.

A source is listed before it is read: `snapshot` lists its files with size and modification time (a package by the
digest of its archive, without downloading it), and `digest` computes a digest of the files' contents from the listing.
`parts` cuts a source into parts that can be read independently. A kind's `Accepts` specifies which files it reads;
`data_prep.sources.files` accesses them. Documents and rows are identified by LABEL/relative/path and their position in
the file, where LABEL is the name of the package or the folder (for a glob, the folder before its first wildcard); a
single file has no label.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_prep.errors import UserError, choices
from data_prep.sealed import sealed, unsealed
from data_prep.sources import compressed, packages
from data_prep.sources.cuts import Stretch, cut_by, cut_groups, cut_lines, file_digest
from data_prep.sources.files import File, find, open_file, secret_in, shown, sibling
from data_prep.sources.files import stamp as stamp_now
from data_prep.sources.records import printable
from data_prep.sources.separated import with_version
from data_prep.sources.written import Delimiter, Encoding, as_of_old

TARGET = 16 << 20  # bytes per part: a few seconds of work
_STATE, _LARGEST_STATE = "state.json", 1 << 24
_MOST_SUFFIXES = 10


class Accepts(NamedTuple):
    """Which files and packages are sources of one kind of data."""

    kind: str
    readable: Callable[[str], bool]
    """Whether a file of this name is read."""
    allowed: str
    """The accepted suffixes, for messages."""
    any_file: bool = False
    """Whether a path to a single file is accepted regardless of its name."""


class SourceConfig(BaseModel):
    """One source of documents: exactly one of `package` and `path`."""

    model_config = ConfigDict(extra="forbid")

    package: str | None = Field(
        default=None,
        examples=list(packages.PACKAGES),
        json_schema_extra={
            "about": {name: f"{each.description}; {each.homepage}" for name, each in packages.PACKAGES.items()}
        },
    )
    """Name of a registered package."""
    path: str | None = None
    """A file, a folder (read recursively, by name) or a glob; `~` is the home folder; also `s3://bucket/…`, `gs://…`."""
    text_field: str = "text"
    """Field or column with the text."""
    id_field: str | None = None
    """Field or column with the document's name; by default, a document is named by its file and line number."""
    encoding: Encoding = None
    """Encoding of text files that are not UTF-8, such as cp1252, latin-1 or utf-16; those that are UTF-8 stay so."""
    delimiter: Delimiter = None
    """What parts the columns of `.csv` and `.tsv` files; null: what their names and their first lines say."""
    licence: str | None = None
    """Licence of the user's own files, for the records."""
    corpus: str | None = Field(default=None, pattern=r"^[a-z0-9]+$")
    """Corpus of a mixture that the source belongs to; `order` sets how they are mixed."""
    split: Literal["names", "train", "validation", "test"] | None = None
    """Split of its rows: `names` (train.csv, val/, KDDTest+.txt … say it), or that of all its files. From rows to train
    on, `data.split` holds out what no source has. null: files named as parts of one data set are refused."""

    @model_serializer(mode="wrap")
    def _as_of_old(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return as_of_old(dump(self), ("delimiter",))

    @model_validator(mode="after")
    def _one_of_two(self) -> SourceConfig:
        if (self.package is None) == (self.path is None):
            which_given = "neither" if self.package is None else "both"
            raise ValueError(f"a source takes either 'package' or 'path'; found {which_given}")
        if self.package is not None and self.package not in packages.PACKAGES:
            known = choices(self.package, packages.PACKAGES, packages.LISTED_BY)
            raise ValueError(f"no package is called {self.package!r}; {known}")
        if self.path is not None and secret_in(self.path):
            raise ValueError(
                f"'path' holds a password, and a recipe is recorded; write {shown(self.path)!r}"
                " and put it into the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for example)"
            )
        return self


class SnapshotEntry(NamedTuple):
    """One file of a snapshot.

    `stamp` is its modification time in ns, or `sha256:…` if the digest of the contents is known.
    """

    uri: str
    size: int
    stamp: str
    name: str
    """How documents refer to the file: the same on every machine."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or a stretch of a large one, that is read independently: plain values that are valid on any machine."""

    uri: str
    """Location: an absolute path, `s3://…`, or `pip:requirement` for a package."""
    name: str
    """How documents refer to the file: the same on every machine."""
    digest: str
    """Digest of the complete file's content: `sha256:…`, with the version of what reads it (`with_version`)."""
    size: int
    """Bytes of this stretch, or of the complete file."""
    start: int = 0
    """Text: bytes [start, stop), beginning after a line end. Parquet: row groups [start, stop)."""
    stop: int | None = None
    """None: the complete file."""
    first: int = 0
    """Number of lines or rows before it, so that positions refer to the complete file."""
    stamp: str = field(default="", compare=False)
    """`stamp_of` of the file when it was listed."""


def snapshot(sources: Iterable[SourceConfig], accepts: Accepts) -> list[SnapshotEntry]:
    """List the files of the sources without reading or downloading them.

    Raises `UserError` for a path without readable files, and for a package of another kind.
    """
    return [entry for source in sources for entry in _entries(source, accepts)]


def digest(entries: Iterable[SnapshotEntry], downloads: Path | None = None) -> str:
    """Digest of the names and contents of the files in a snapshot, as 32 hex digits.

    It does not depend on locations and modification times. With `downloads`, the digest of each
    file is cached there in `digests.json`, by (uri, size, stamp), so that an unchanged file is not
    read again.
    """
    total, listed = hashlib.blake2b(digest_size=16), list(entries)
    for entry, content in zip(listed, contents(listed, downloads), strict=True):
        total.update(json.dumps([entry.name, content]).encode())
    return total.hexdigest()


def contents(entries: Iterable[SnapshotEntry], downloads: Path | None = None) -> list[str]:
    """Digests of the contents of each file in a snapshot, cached as in `digest`, with versions (`with_version`)."""
    with _Digests(downloads) as digests:
        return [with_version(digests.of(entry), entry.name) for entry in entries]


def parts(source: SourceConfig, accepts: Accepts, downloads: Path, target: int = TARGET) -> list[Part]:
    """The parts of a source, in order. Each can be read independently, on any machine that can access the files.

    Plain `.jsonl` and `.parquet` files larger than `target` bytes are cut into stretches of about that size; a package
    is one part. Results are cached as in `digest`, so that an unchanged file is not read again.
    """
    if target < 1:
        raise ValueError(f"a part has 1 byte or more; found target {target}")
    planned = []
    with _Digests(downloads) as digests:
        for entry in _entries(source, accepts):
            content = with_version(digests.of(entry, target), entry.name)
            stamp = stamp_of(entry.size, entry.stamp)
            stretches = digests.stretches(entry, target)
            if len(stretches) < 2:
                planned.append(Part(entry.uri, entry.name, content, entry.size, stamp=stamp))
                continue
            for start, stop, first, size in stretches:
                planned.append(Part(entry.uri, entry.name, content, size, start, stop, first, stamp))
    return planned


def _entries(source: SourceConfig, accepts: Accepts) -> list[SnapshotEntry]:
    if source.package is not None:
        package = packages.lookup(source.package)
        if package.kind != accepts.kind:
            others = ", ".join(name for name, other in packages.PACKAGES.items() if other.kind == accepts.kind)
            raise UserError(
                f"the package {source.package!r} holds data of the kind {package.kind!r}, and this recipe's data.kind "
                f"is {accepts.kind!r}; set data.kind: {package.kind}, or take one of {others}"
            )
        uri = f"{package.client}:{package.requirement}"
        return [SnapshotEntry(uri, package.size, f"sha256:{package.sha256}", source.package)]
    return _files(source.path or "", accepts)


def stamp_of(size: int, time: str) -> str:
    """A string that changes when a file is modified."""
    return f"{size}@{time}"


def check_unchanged(uri: str, planned: str) -> None:
    """UserError if a file has changed since its `stamp_of` was `planned`."""
    now = stamp_now(uri)
    if now is None:
        raise UserError(f"{shown(uri)} went away while it was read; run again when nothing changes its folder")
    if stamp_of(*now) != planned:
        raise UserError(f"{shown(uri)} changed while it was read; run again when nothing writes to it")


class _Digests:
    """Cache of digests and stretches of files, in `downloads/digests.json`, by (uri, size, stamp)."""

    def __init__(self, downloads: Path | None) -> None:
        self._path = None if downloads is None else Path(downloads) / "digests.json"
        self._known = _read_cache(self._path)
        self._fresh: dict[str, Any] = {}

    def __enter__(self) -> _Digests:
        return self

    def __exit__(self, *exception: object) -> None:
        """Save new entries, even if a later file could not be read."""
        if self._path is None or not self._fresh:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        lasting = {key: value for key, value in self._fresh.items() if json.loads(key)[2]}  # of files with a stamp
        known_digests = _read_cache(self._path) | lasting  # includes entries that other processes wrote meanwhile
        try:
            temporary.write_bytes(sealed({"known": known_digests}))
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def of(self, entry: SnapshotEntry, target: int = TARGET) -> str:
        """Digest of a file's content. For a large file of lines, also finds its stretches of about `target` bytes."""
        if entry.stamp.startswith("sha256:"):
            return entry.stamp
        cached = self._get(entry)
        if not isinstance(cached, str):
            cut = entry.size > target and cut_by(entry.name) == "lines"
            content, stretches = _read_through(entry, target if cut else None)
            self._keep(entry, content)
            if cut:
                self._keep(entry, stretches, target)
            cached = content
        return cached

    def stretches(self, entry: SnapshotEntry, target: int) -> list[Stretch]:
        """The stretches of a file larger than `target` bytes; empty if it cannot be cut."""
        how = cut_by(entry.name)
        if entry.size <= target or how is None or entry.stamp.startswith("sha256:"):
            return []
        stretches = self._get(entry, target)
        if not isinstance(stretches, list):
            stretches = _read_through(entry, target)[1]
            self._keep(entry, stretches, target)
        return [Stretch(*stretch) for stretch in stretches]

    def _get(self, entry: SnapshotEntry, *key_numbers: int) -> Any:
        key = _key(entry, *key_numbers)
        return self._fresh.get(key) or (self._known.get(key) if entry.stamp else None)

    def _keep(self, entry: SnapshotEntry, value: str | list[Stretch], *key_numbers: int) -> None:
        self._fresh[_key(entry, *key_numbers)] = value


def _key(entry: SnapshotEntry, *key_numbers: int) -> str:
    return json.dumps([entry.uri, entry.size, entry.stamp, *key_numbers])


def _read_cache(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    with suppress(ValueError, KeyError):  # a damaged cache counts as empty
        return unsealed(path.read_bytes())["known"]
    return {}


def _read_through(entry: SnapshotEntry, target: int | None) -> tuple[str, list[Stretch]]:
    """Digest of a file, and its stretches if `target` is given."""
    stretches: list[Stretch] = []
    try:
        with open_file(entry.uri) as file:
            if target is None:
                content = file_digest(file)
            elif cut_by(entry.name) == "lines":
                content, stretches = cut_lines(file, target)
            else:
                content, stretches = "", cut_groups(file, target)
    except OSError as error:
        raise UserError(f"{shown(entry.uri)} cannot be read ({error.strerror}); mend it or leave it out") from error
    check_unchanged(entry.uri, stamp_of(entry.size, entry.stamp))
    return content, stretches


def licence(source: SourceConfig) -> str:
    """The licence of a source as one line, for the records of derived data."""
    if source.package is not None:
        return f"{source.package}: {packages.lookup(source.package).licence}"
    return f"{shown(source.path or '')}: {source.licence or 'not stated'}"


def left_out(sources: Iterable[SourceConfig], accepts: Accepts) -> Counter[str]:
    """How many files of folders and globs are not read, by suffix; links to folders, which are not followed, and to
    nothing, and pipes."""
    return sum((_listed(source.path, accepts)[1] for source in sources if source.path is not None), Counter[str]())


def describe_left_out(counts: Mapping[str, int]) -> str:
    """What was left out, for people; "" if nothing was."""
    if not counts:
        return ""
    total = sum(counts.values())
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_SUFFIXES]
    named = ", ".join(f"{suffix} {count:,}" for suffix, count in most)
    more = f", {len(counts) - _MOST_SUFFIXES} more" if len(counts) > _MOST_SUFFIXES else ""
    return f"{total:,} file{'s' * (total != 1)} left out: {named}{more}"


def suffix_of(name: str) -> str:
    """The suffix of a file that is left out, with that of its compression."""
    last = name.rpartition("/")[2]
    base, _ = compressed.split(last)
    return printable((PurePosixPath(base).suffix + last[len(base) :]).lower()) or "without a suffix"


def _files(path: str, accepts: Accepts) -> list[SnapshotEntry]:
    """The files of a path, sorted by name, without hidden ones."""
    return _listed(path, accepts)[0]


def _listed(path: str, accepts: Accepts) -> tuple[list[SnapshotEntry], Counter[str]]:
    """The files of a path, sorted by name, and how many are left out, by suffix.

    UserError for files that are named by the path, or by a glob that names kinds of files, and cannot be read.
    """
    listing = find(path)
    label, candidates = listing.label, listing.files
    if not label and candidates and not (accepts.any_file or accepts.readable(candidates[0].relative)):
        uri = shown(candidates[0].uri)
        raise UserError(f"{uri} is not a file that can be read; its name must end in one of {accepts.allowed}")
    files, others = [], []
    for file in candidates:
        if not label or accepts.readable(file.relative):
            if not label or _belongs(file):
                name = printable(f"{label}/{file.relative}" if label else file.relative)
                files.append(SnapshotEntry(file.uri, file.size, file.stamp, name))
        else:
            others.append(file)
    if not files:
        raise UserError(f"{shown(path)} holds no file whose name ends in one of {accepts.allowed}")
    if listing.names_them and others:
        first = shown(min(file.uri for file in others))
        raise UserError(
            f"{shown(path)} names {first}, which cannot be read; name files that end in one of {accepts.allowed}, or"
            " give the folder to leave others out"
        )
    counts = Counter(suffix_of(file.relative) for file in others)
    counts.update(listing.others)
    return sorted(files, key=lambda file: (file.name, file.uri)), counts


def _belongs(file: File) -> bool:
    """False for a file in a saved Hugging Face data set that is not part of its data, such as a cache file."""
    if file.relative.rpartition("/")[2] == _STATE:
        return not _is_state(file.uri)
    if not file.relative.lower().endswith(".arrow"):
        return True
    state = sibling(file.uri, _STATE)
    with suppress(ValueError, KeyError, TypeError, OSError):
        if stamp_now(state) is not None:
            with open_file(state) as stream:
                listed = {entry["filename"] for entry in json.loads(stream.read())["_data_files"]}
            return file.relative.rpartition("/")[2] in listed
    return True


def _is_state(uri: str) -> bool:
    """Whether a file describes a saved Hugging Face data set."""
    with suppress(ValueError, OSError), open_file(uri) as stream:
        state = json.loads(stream.read(_LARGEST_STATE))
        return isinstance(state, dict) and "_data_files" in state
    return False
