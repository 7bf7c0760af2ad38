"""Lines end in line feeds and in nothing else; what is no text in UTF-8 is refused by its line."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from data_prep.opening.files import UnfitError
from data_prep.sources.lines import lines_of, text_lines

INSIDE = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\rh"  # all characters but \n at which str.splitlines breaks lines


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_feeds_end_lines(end: str, tmp_path: Path) -> None:
    raw = f"\ufeff{INSIDE}{end}{end} last ".encode()
    wanted = [(1, INSIDE), (2, ""), (3, " last ")]
    assert list(text_lines(io.BytesIO(raw))) == wanted
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(raw))
    assert list(lines_of(tmp_path / "a.txt.gz")) == wanted


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"a\n\xff\n", "^line 2 holds the byte 0xff, not UTF-8$"),
        ("a.txt", "a\nb".encode("utf-16"), "^not UTF-8: byte 0xff at offset 0$"),
        ("a.txt", "a\nb".encode("utf-16-le"), "^not UTF-8, by its NUL characters$"),
        ("a.txt", b"a\rb\r", "^its lines end in carriage returns alone, not in line feeds$"),
        ("a.txt.gz", gzip.compress(b"a\n" * 99)[:-9], "^is a damaged gzip file"),
        ("a.txt", None, r"^cannot be read \(No such file"),
    ],
)
def test_what_has_no_lines_of_text_is_refused(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnfitError, match=said):
        list(lines_of(tmp_path / name))
