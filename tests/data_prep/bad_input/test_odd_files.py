"""Odd files and folders, and files that change while they are read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import UserError
from data_prep.sources import records
from data_prep.text import documents
from data_prep.text.ingest import plan as plan_module
from tests.data_prep.bad_input.checks import SOUND, check, line, rejected, run, texts
from tests.data_prep.test_ingest import contents, prose
from tests.unprivileged import unprivileged


def test_names_that_repeat_keep_one_document_each(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": n % 3, "text": prose(n)}) + "\n" for n in range(9)))
    summary = run(path, out=tmp_path / "out", identity="id")
    check(tmp_path / "out", summary)
    assert (summary["kept"], summary["rejected"]) == (3, 6)
    assert all("is taken by a document of" in reject["reason"] for reject in rejected(tmp_path / "out"))


def test_folders_of_one_name_keep_one_document_each(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "texts").mkdir(parents=True)
        (tmp_path / parent / "texts" / "a.txt").write_text(f"This lies in {parent}.")
    (tmp_path / "two" / "texts" / "b.txt").write_text("This lies in one.")
    summary = run(tmp_path / "one" / "texts", tmp_path / "two" / "texts", out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert (summary["rows"], summary["kept"]) == (3, 1)


@pytest.mark.timeout(60)
def test_loops_pipes_and_sockets_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.txt").symlink_to(folder / "self.txt")
    (folder / "one.txt").symlink_to(folder / "other.txt")
    (folder / "other.txt").symlink_to(folder / "one.txt")
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    (folder / "to-pipe.txt").symlink_to(folder / "pipe.txt")
    (folder / "endless.txt").symlink_to("/dev/zero")
    (folder / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(str(folder / "plug.txt"))
        for path in (folder, folder / "**" / "*.*"):
            summary = run(path, out=tmp_path / "out", downloads=tmp_path / "downloads")
            check(tmp_path / "out", summary)
            assert sorted(texts(tmp_path / "out")) == sorted(SOUND) and summary["rejected"] == 0
            shutil.rmtree(tmp_path / "out")
        for name in ("pipe.txt", "plug.txt", "to-pipe.txt", "endless.txt", "self.txt", "gone.txt"):
            with pytest.raises(UserError, match=r"neither a file nor a folder|does not exist"):
                run(folder / name, out=tmp_path / "out")


def test_a_file_that_may_not_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "0.txt").chmod(0)
    with unprivileged(), pytest.raises(UserError, match=r"0\.txt cannot be read \(Permission denied\)"):
        run(folder, out=tmp_path / "out")


def test_names_that_are_not_unicode(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate((b"\xff.txt", b"\xe9t\xe9.jsonl", "日本.txt".encode(), b"new\nline.txt", b" .txt")):
        (folder / os.fsdecode(name)).write_bytes(line(prose(number)).encode())
    summary = run(folder, out=tmp_path / "out")
    check(tmp_path / "out", summary)
    assert summary["kept"] == len(SOUND) + 5


# -- while it is read -------------------------------------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write(line("Late."))


def replace(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(path.with_suffix(".old").read_bytes().replace(b"a", b"e"))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HAPPENS: dict[str, Callable[[Path], object]] = {
    "grows": append,
    "is emptied": lambda path: path.write_bytes(b""),
    "is replaced": replace,
    "vanishes": Path.unlink,
    "becomes a folder": to_folder,
}


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("when", [0, 1, 30])
@pytest.mark.parametrize("what", HAPPENS)
def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, what: str, when: int, cut: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(prose(number)) for number in range(60)))
    if cut:
        monkeypatch.setattr(plan_module, "UNIT_BYTES", 3000)
    count = 0

    def hooked(real: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def reader(*settings: Any) -> Iterator[Any]:
            nonlocal count
            for row in real(*settings):
                if count == when:
                    HAPPENS[what](path)
                count += 1
                yield row

        return reader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "read_opened", hooked(documents.read_opened))
        patch.setattr(documents, "read_stretch", hooked(documents.read_stretch))
        with pytest.raises(UserError, match=r"a\.jsonl (changed|went away) while it was read; run again"):
            run(path, out=tmp_path / "out", downloads=tmp_path / "downloads")
    assert not list((tmp_path / "downloads" / "units").glob(".*"))
    if path.is_dir():
        path.rmdir()
    path.write_text("".join(line(prose(number)) for number in range(40, 70)))
    run(path, out=tmp_path / "again", downloads=tmp_path / "downloads", split=0.1)
    run(path, out=tmp_path / "fresh", split=0.1)
    assert contents(tmp_path / "again") == contents(tmp_path / "fresh")


def test_a_fault_of_the_disk_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """A read that fails once must not be remembered as a bad row: the next run reads the file again."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(line(prose(number)) for number in range(100)))

    def failing(self: records.Lines, real: Any = records.Lines.__next__) -> Any:
        if self.number == 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records.Lines, "__next__", failing)
        with suppress(OSError, UserError):
            run(path, out=tmp_path / "first", downloads=tmp_path / "downloads")
    assert run(path, out=tmp_path / "second", downloads=tmp_path / "downloads")["kept"] == 100
