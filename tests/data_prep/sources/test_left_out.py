"""Which files are read: those that can be; others are counted where a folder holds them, and refused where named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import UserError
from data_prep.images import units as images
from data_prep.images.pixels import ImagesConfig, decoded
from data_prep.sound import files as sound
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig, describe_left_out, left_out, snapshot
from data_prep.sources.records import Document, Reject
from data_prep.text.documents import TEXT, documents
from tests.data_prep.text.formats.test_wiki import dump, page

OBJECTS = [{"text": f'Object {number}, with }}, ] and "quotes".'} for number in range(5)]
LINES = "".join(json.dumps(each) + "\n" for each in OBJECTS)


def names(path: Path) -> list[str]:
    return [Path(entry.uri).name for entry in snapshot([SourceConfig(path=str(path))], TEXT)]


def read(path: Path) -> list[Document | Reject]:
    return list(documents(SourceConfig(path=str(path)), path.parent / "downloads"))


def texts(path: Path) -> list[str]:
    return [row.text for row in read(path) if isinstance(row, Document)]


def put(folder: Path, *names: str, content: bytes = b"Some words.") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_all_parts_of_a_dump_are_read(tmp_path: Path) -> None:
    ends = ("", "1.xml-p1p100", "2.xml-p101p2000", "27.xml-p9p10")
    parts = [f"dewiki-20240501-pages-articles{part or '.xml'}.bz2" for part in ends]
    for number, name in enumerate(parts):
        (tmp_path / name).write_bytes(bz2.compress(dump(page(number + 1, f"Article {number}."))))
    assert names(tmp_path / "*.bz2") == names(tmp_path) == sorted(parts)
    assert sorted(texts(tmp_path)) == [f"Article {number}." for number in range(4)]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("c4-train.00000-of-01024.json", LINES),
        ("a.ndjson", LINES),
        ("A.JSONL", LINES),
        ("a.json", json.dumps(OBJECTS)),
        ("a.json", json.dumps(OBJECTS, indent=2)),
        ("a.json", "\ufeff \n" + json.dumps(OBJECTS, indent="\t")),
        ("a.json", "\n".join(json.dumps(each, indent=1) for each in OBJECTS)),
        ("a.json", "".join(map(json.dumps, OBJECTS))),
        ("a.jsonlines", LINES),
        ("a.json", LINES.strip()),
    ],
)
@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_json_under_its_usual_names(
    tmp_path: Path, name: str, raw: str, compress: Callable[[bytes], bytes] | None
) -> None:
    path = tmp_path / (name + (".gz" if compress else ""))
    path.write_bytes((compress or bytes)(raw.encode()))
    assert texts(tmp_path) == [each["text"] for each in OBJECTS]


def test_a_large_array_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_prep.text.formats import json_rows

    monkeypatch.setattr(json_rows, "_CHUNK", 37)
    (tmp_path / "a.json").write_text(json.dumps([*OBJECTS, 12345, {"text": 7}, {"text": "é€𝄞" * 50}]))
    rows = read(tmp_path / "a.json")
    assert [row.position for row in rows] == list(range(1, 9))
    assert texts(tmp_path / "a.json") == [*(each["text"] for each in OBJECTS), "é€𝄞" * 50]
    assert [row.reason for row in rows if isinstance(row, Reject)] == [
        "expected a JSON object, found a number",
        "field 'text': expected a string, found a number",
    ]


def test_what_systems_leave_in_folders_is_no_data(tmp_path: Path) -> None:
    litter = ["@eaDir/a.txt/x.txt", "__MACOSX/a.txt", "lost+found/a.txt", "#recycle/a.txt", "$RECYCLE.BIN/a.txt"]
    litter += ["~$a.txt", "Thumbs.db", "desktop.ini", ".DS_Store", "b/_SUCCESS", "_delta_log/0.json", ".hidden/a.txt"]
    put(tmp_path, "a.txt", "B/b.TEXT", *litter)
    source = SourceConfig(path=str(tmp_path))
    assert sorted(names(tmp_path)) == ["a.txt", "b.TEXT"] and not left_out([source], TEXT)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.txt", *litter, "notes.docx", "in.zip"):
            archive.writestr(name, "Some words.")
    counts: Counter[str] = Counter()
    files = listed(SourceConfig(path=str(tmp_path / "all.zip")), TEXT, tmp_path, left_out=counts)
    assert [file.name for file in files] == ["all.zip/a.txt"]
    assert counts == {".docx": 1, ".zip": 1}


def test_classes_are_folders_of_pictures_only(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/b.png", "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.png", "lost+found/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    pictures = images.all_images(SourceConfig(path=str(tmp_path)), ImagesConfig(), tmp_path)
    assert {image.label for image in pictures if not isinstance(image, Reject)} == {"cat", "dog"}


def test_what_is_left_out_of_a_folder_is_counted_by_suffix(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "b.XLSX", "in/c.xlsx", "d.heic", "e.xlsx.gz", "README")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for path in (tmp_path, tmp_path / "**" / "*", tmp_path / "**"):
        counts = left_out([SourceConfig(path=str(path))], TEXT)
        assert {**counts, "folders": 0} == {
            ".xlsx": 2,
            ".heic": 1,
            ".xlsx.gz": 1,
            "without a suffix": 1,
            "folders": 0,
        }
    assert left_out([SourceConfig(path=str(tmp_path))], TEXT)["folders"] == 1
    assert describe_left_out({".xlsx": 2, ".heic": 1}) == "3 files left out: .xlsx 2, .heic 1"
    assert describe_left_out({}) == ""


@pytest.mark.parametrize("pattern", ["*.xls*", "in/*.t*", "**/b*", "[ab].*", "?.xlsx"])
def test_what_a_glob_names_and_cannot_be_read_is_refused(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "a.xlsx", "b.tsv.xlsx", "in/b.txt", "in/b.tif")
    with pytest.raises(UserError, match=r"names .*, which cannot be read|holds no file whose name ends"):
        names(tmp_path / pattern)
    with pytest.raises(UserError, match="is not a file that can be read"):
        names(tmp_path / "a.xlsx")


def test_other_kinds_read_what_their_libraries_read(tmp_path: Path) -> None:
    assert all(sound.accepts().readable(name) for name in ("A.WAV", "a.wave", "a.oga", "a.opus", "a.FLAC"))
    assert not sound.accepts().readable("a.mp3") and not images.accepts(ImagesConfig()).readable("a.heic")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    for name, form in (("a.TIF", "TIFF"), ("a.tiff", "TIFF"), ("a.bmp", "BMP")):
        assert images.accepts(ImagesConfig()).readable(name)
        raw = io.BytesIO()
        Image.fromarray(picture).save(raw, form)
        pixels = decoded(raw.getvalue(), ImagesConfig(channels=3)).pixels
        assert np.array_equal(pixels, picture.transpose(2, 0, 1))


def test_links_to_nothing_and_pipes_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "in", "a.txt")
    put(tmp_path / "elsewhere", "b.txt")
    (tmp_path / "in" / "gone.txt").symlink_to(tmp_path / "nobody.txt")
    (tmp_path / "in" / "itself.txt").symlink_to(tmp_path / "in" / "itself.txt")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "in" / "pipe.txt")
    counts = left_out([SourceConfig(path=str(tmp_path / "in"))], TEXT)
    assert counts == Counter({"links to nothing": 2, "folders": 1, "pipes and devices": 1})
    assert names(tmp_path / "in") == ["a.txt"]


@pytest.mark.parametrize(("packed", "ending"), [(gzip.compress, ".gz"), (bz2.compress, ".bz2")])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_packed_file_under_another_name_is_told(
    tmp_path: Path, packed: Callable[[bytes], bytes], ending: str, name: str
) -> None:
    put(tmp_path, name, content=packed(LINES.encode()))
    [row, *_] = read(tmp_path)
    assert isinstance(row, Reject) and f"packed as a {ending} file is; give it that ending" in row.reason


def test_lines_that_end_in_carriage_returns_alone_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", content=LINES.replace("\n", "\r").encode())
    [row] = read(tmp_path)
    assert isinstance(row, Reject) and "its lines end in carriage returns alone" in row.reason
