from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import array_kind
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.errors import UserError
from data_prep.images.pixels import ImagesConfig
from data_prep.sources import compressed, packages
from data_prep.sources.packages import PACKAGES
from data_prep.tables.schema import TableConfig
from tests.data_prep.arrays_input import columns_of, ingested, rejected
from tests.data_prep.images.test_pixels import encoded, idx, picture

CSV = b"a,b\n1,x\n2,y\n"
MODES = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
ENDS = ["zip", *MODES]


def packed(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """An archive as its name says."""
    if path.suffix != ".zip":
        with tarfile.open(path, MODES[path.name.partition(".")[2]]) as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("end", ENDS)
def test_a_table_in_an_archive_as_it_was_downloaded(tmp_path: Path, end: str) -> None:
    files = {"log.csv": CSV, "__MACOSX/._log.csv": b"\0", ".hidden.csv": CSV, "x.md": b"", "more.zip": b"", "a/": b""}
    path = packed(tmp_path / f"archive.{end}", files)
    ingested(path, out=tmp_path / "out", config=TableConfig(), max_rejects=0)
    assert columns_of(tmp_path / "out") == {"a": [1, 2], "b": ["x", "y"]}
    assert ArrayCorpus(tmp_path / "out").names([0]) == [f"archive.{end}/log.csv:2"]


@pytest.mark.parametrize("end", ["zip", "tar", "tgz"])
def test_files_in_an_archive_are_those_of_a_folder(tmp_path: Path, end: str) -> None:
    (tmp_path / "d" / "more").mkdir(parents=True)
    (tmp_path / "d" / "z.csv").write_bytes(b"a,b\n9,z\n")
    packed(tmp_path / "d" / "more" / f"two.{end}", {"2.csv": b"a,b\n4,w\n", "in/1.csv.gz": gzip.compress(CSV)})
    summary = ingested(tmp_path / "d", out=tmp_path / "out", config=TableConfig(), max_rejects=0)
    assert columns_of(tmp_path / "out")["a"] == [4, 1, 2, 9] and summary["sources"][0]["files"] == 3


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz"])
def test_pictures_in_an_archive(tmp_path: Path, end: str) -> None:
    files = {f"{kind}/{n}.png": encoded(picture(n + ord(kind), 6, 6)) for kind in "ab" for n in range(3)}
    path = packed(tmp_path / f"p.{end}", files, zipfile.ZIP_STORED)
    ingested(path, out=tmp_path / "out", config=ImagesConfig(), max_rejects=0)
    assert ArrayCorpus(tmp_path / "out").labels(range(6)) == list("aaabbb")
    sets = {"t-images-idx3-ubyte": idx(picture(0, 3, 6, 6)), "t-labels-idx1-ubyte": idx(np.arange(3, dtype=np.uint8))}
    ingested(packed(tmp_path / f"idx.{end}", sets), out=tmp_path / "idx", config=ImagesConfig(), max_rejects=0)
    assert ArrayCorpus(tmp_path / "idx").labels(range(3)) == list("012")
    inner = io.BytesIO()
    np.savez(inner, x=picture(0, 3, 6, 6))
    ingested(packed(tmp_path / f"npz.{end}", {"x.npz": inner.getvalue()}), out=tmp_path / "npz", config=ImagesConfig())
    assert len(ArrayCorpus(tmp_path / "npz")) == 3


@pytest.mark.parametrize("end", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("member", ["../out.csv", "/etc/out.csv", "a/../../out.csv"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, end: str, member: str) -> None:
    path = packed(tmp_path / f"a.{end}", {member: CSV, "good.csv": CSV})
    ingested(path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out")["a"] == [1, 2]
    (bad,) = rejected(tmp_path / "out")
    assert bad["source"] == f"a.{end}" and bad["reason"] == f"the member {member!r} would leave the archive"


def test_links_and_devices_of_an_archive_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(CSV)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"{number}.csv")
            info.type, info.linkname = kind, str(tmp_path / "secret.csv")
            tar.addfile(info)
    (tmp_path / "more.csv").write_bytes(b"a,b\n3,z\n")
    ingested(tmp_path / "a.tar", tmp_path / "more.csv", out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out")["a"] == [3]
    link = f"a link to {str(tmp_path / 'secret.csv')!r}, which is not in the archive"
    assert [reject["reason"] for reject in rejected(tmp_path / "out")] == [link, link, "not a plain file"]


def test_an_archive_that_grew_is_read_again_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in "ab":
        packed(tmp_path / "d" / f"{name}.tar.gz", {"1.csv": CSV.replace(b"x", name.encode())})
    ingested(tmp_path / "d", out=tmp_path / "out", config=TableConfig())
    before = {path.name for path in (tmp_path / "out-downloads" / "units").iterdir()}
    packed(tmp_path / "d" / "a.tar.gz", {"1.csv": CSV.replace(b"x", b"a"), "2.csv": b"a,b\n7,v\n"})
    ingested(tmp_path / "d", out=tmp_path / "out", config=TableConfig())
    after = {path.name for path in (tmp_path / "out-downloads" / "units").iterdir()}
    assert len(before) == 2 and len(after - before) == 2
    assert columns_of(tmp_path / "out")["a"] == [1, 2, 7, 1]


def damaged(content: bytes) -> bytes:
    """An archive whose member is not what its check sum says."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("t.csv", content)
    return out.getvalue().replace(b"2,y", b"2,z")


def tarred(content: bytes, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        info = tarfile.TarInfo("t.csv")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def encrypted() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("t.csv", CSV)
    raw = bytearray(out.getvalue())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("end", "raw", "reason"),
    [
        ("zip", b"no archive", "damaged archive: File is not a zip file"),
        ("zip", b"", "damaged archive: File is not a zip file"),
        ("zip", b"PK\x05\x06" + bytes(18), "it holds no file of a format that can be read"),
        ("zip", damaged(CSV), "damaged archive: Bad CRC-32"),
        ("zip", encrypted(), "encrypted"),
        ("tar", b"no archive", "damaged archive: "),
        ("tar", b"", "damaged archive: empty file"),
        ("tar", bytes(10240), "it holds no file of a format that can be read"),
        ("tar.gz", b"no archive", "damaged archive: "),
        ("tar.gz", gzip.compress(b"no archive"), "damaged archive: "),
    ],
)
def test_bad_archives_are_one_reject(tmp_path: Path, end: str, raw: bytes, reason: str) -> None:
    (tmp_path / f"a.{end}").write_bytes(raw)
    (tmp_path / "t.csv").write_bytes(CSV)
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out")["a"] == [1, 2]
    (bad,) = rejected(tmp_path / "out")
    assert reason in bad["reason"] and f"a.{end}" in bad["source"]


@pytest.mark.parametrize(
    ("end", "raw"),
    [
        ("tar", tarred(CSV)[:1024]),  # after the last member
        ("tar", tarred(CSV + b"3,z\n4,")[: 512 + 17]),  # within it
        ("tgz", tarred(CSV, "w:gz")[:-9]),
        ("tar.xz", tarred(CSV, "w:xz")[:-20]),
    ],
)
def test_an_archive_that_is_cut_short_gives_what_is_whole(tmp_path: Path, end: str, raw: bytes) -> None:
    (tmp_path / f"a.{end}").write_bytes(raw)
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert columns_of(tmp_path / "out")["a"][:2] == [1, 2]
    assert {bad["reason"].partition(": ")[0] for bad in rejected(tmp_path / "out")} == {"damaged archive"}


def test_archives_one_after_another_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred(CSV) + tarred(b"a,b\n3,z\n"))
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig(), max_rejects=0)
    assert columns_of(tmp_path / "out")["a"] == [1, 2, 3]


@pytest.mark.parametrize("end", ["zip", "tar.gz"])
def test_what_expands_as_no_honest_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1 << 16)
    packed(tmp_path / f"a.{end}", {"t.csv": b"a,b\n" + b"\n" * (8 << 20)})
    (tmp_path / "t.csv").write_bytes(CSV)
    ingested(tmp_path, out=tmp_path / "out", config=TableConfig())
    assert "expands more than 1,000-fold" in rejected(tmp_path / "out")[0]["reason"]


def test_a_picture_that_went_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(picture(ord(name), 5, 5)).save(folder / f"{name}.png")
    real = array_kind.listed

    def gone(*arguments: object, **more: object) -> object:
        listing = real(*arguments, **more)  # type: ignore[arg-type]
        (folder / "b.png").unlink()
        return listing

    monkeypatch.setattr(array_kind, "listed", gone)
    with pytest.raises(UserError, match=r"b\.png went away while it was read"):
        ingested(folder, out=tmp_path / "out", config=ImagesConfig())


def test_a_wheel_of_one_platform_is_asked_for_on_any() -> None:
    """Its files are read and not run, so the digest that is registered is the one that comes."""
    options = packages._platform(PACKAGES["digits"].filename)
    assert options == [
        *("--implementation", "cp", "--python-version", "311", "--abi", "cp311"),
        *("--platform", "manylinux_2_27_x86_64", "--platform", "manylinux_2_28_x86_64"),
    ]
    assert packages._platform(PACKAGES["mnist-5000"].filename) == packages._platform(PACKAGES["brown"].filename) == []
