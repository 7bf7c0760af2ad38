"""What a command is told to write is refused in a sentence, before it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.errors import UserError
from flows.show.outputs import check_output


def test_a_file_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores.arrow"
    assert check_output(out, [str(tmp_path / "rows.csv")]) == out and out.parent.is_dir() and not out.exists()


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "same.csv").symlink_to(tmp_path / "rows.csv")
    for out in (tmp_path / "rows.csv", tmp_path / "same.csv"):
        with pytest.raises(UserError, match="is one of the files that are read, and would be lost"):
            check_output(out, [str(tmp_path / "rows.csv")])
    assert (tmp_path / "rows.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("out", [".", "folder", "/proc/none/x.arrow", "file/x.arrow"])
def test_places_that_cannot_be_written(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"is a folder; name a file|its folder cannot be made"):
        check_output(Path(out))
