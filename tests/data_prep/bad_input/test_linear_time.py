"""What small inputs of one kind cost: twice the input, at most about twice the work, in every reader.

Work is counted in lines of Python and calls that are executed, so that the machine's load does not matter; in one
match of a pattern, in processor time.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_prep.images.pixels import MAX_SCANS, BadImageError, ImagesConfig, decoded
from data_prep.opening.files import UnfitError
from data_prep.sound import files as sound
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.dialect import unique_names
from data_prep.sources.records import Fields
from data_prep.tables import arff
from data_prep.tables import files as tables
from data_prep.text.formats import dump, web
from data_prep.text.formats.formats import read_opened
from data_prep.text.formats.wiki import plain_text
from tests.data_prep.bad_input import fuzz_time

PIECES = [
    " ",
    "\t",
    ",",
    "'",
    '"',
    "\\",
    "\\'",
    "{",
    "a,",
    '"",',
    "a\t",
    "\n",
    'a"\t"b\n',
    "[",
    '{"a":',
    "%\n",
    "a b ",
    "\u0301",
    "字",
]
MARKUP = [
    "{{a|",
    "[[",
    "[[File:",
    "{|",
    "<ref>",
    "<div>",
    "<b>",
    "<ref name=a ",
    "<!--",
    "<nowiki>",
    "[http://a ",
    "''",
]
MARKUP += ["'''", "=\n", "\n;a:", "\n*", "&#", "&amp;", "-{", "|", "\n|", "~~~~"]
FILES = {
    "rows.arff": "@relation a\n@attribute x numeric\n@attribute y string\n@data\n",
    "name.arff": "@relation a\n@attribute ",
    "nominal.arff": "@relation a\n@attribute x {",
    "header.csv": "",
    "rows.csv": "a,b\n1,2\n",
    "quoted.csv": 'a,b\n"',
    "header.tsv": "",
    "rows.tsv": "a\tb\tc\n1\t2\t3\n",
    "rows.jsonl": '{"a": 1}\n',
}
SIZE = 2000
SECONDS, RATIO = 1.0, 3.5  # of the processor for some kilobytes; of twice the input


def table(path: Path) -> Callable[[str], None]:
    def read(text: str) -> None:
        path.write_text(text, encoding="utf-8")
        for file in listed(SourceConfig(path=str(path)), tables.accepts(None), path.parent):
            for _ in tables.raw_batches(file, None, ()):
                pass

    return read


def document(name: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        data = text.encode()
        for _ in read_opened(lambda: io.BytesIO(data), len(data), name, Fields()):
            pass

    return read


def reasons(name: str, data: bytes) -> list[str]:
    """Why the rows of a file are rejected; "" for those that are not."""
    return [getattr(row, "reason", "") for row in read_opened(lambda: io.BytesIO(data), len(data), name, Fields())]


def is_quick(call: Callable[[], object]) -> bool:
    started = time.process_time()
    call()
    return time.process_time() - started < SECONDS


def is_linear(read: Callable[[str], Any], begin: str, piece: str) -> bool:
    """Whether some kilobytes of a piece take no time worth mentioning, or twice as many about twice the time."""

    def seconds(size: int) -> float:
        text = begin + piece * (size // len(piece))
        started = time.process_time()
        read(text)
        return time.process_time() - started

    if seconds(4 * SIZE) < SECONDS / 4:
        return True
    times = [median(seconds(size) for _ in range(3)) for size in (4 * SIZE, 8 * SIZE)]
    return times[1] < SECONDS or times[1] / times[0] < RATIO


@pytest.mark.alone
@pytest.mark.parametrize("name", FILES)
def test_tables_are_read_in_linear_time(name: str, tmp_path: Path) -> None:
    read = table(tmp_path / name)
    assert not [piece for piece in PIECES if not is_linear(read, FILES[name], piece)]


@pytest.mark.alone
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_documents_are_read_in_linear_time(name: str) -> None:
    assert not [piece for piece in PIECES if not is_linear(document(name), "", piece)]


@pytest.mark.parametrize(
    "row", [" " * 2000, "'" + " " * 2000, " " * 2000 + "{", ("\\'" * 1000), "'a' " + " " * 2000 + "x"]
)
def test_rows_of_arff_are_matched_once(row: str) -> None:
    """Each was tried in cubic time: 2,000 blanks took 40 seconds."""
    started = time.process_time()
    arff._fields(row)
    assert time.process_time() - started < SECONDS


def test_values_of_arff_are_as_before() -> None:
    assert arff._fields(" a b , 'c, d' ,\"e\" ,, 'f\\'g\\n'") == ["a b", "c, d", "e", "", "f'g\n"]
    assert arff._fields("'a' b") is None and arff._fields("a'b") is None and arff._fields("'a") is None
    match = arff._ATTRIBUTE.fullmatch("@attribute 'a b'   numeric ")
    assert match and match[1] == "a b" and match[4] == "numeric "


def test_names_of_columns_are_compared_in_linear_time(tmp_path: Path) -> None:
    """With a name looked for among all others, 12 KB of tabs took a minute on a busy machine."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def work(columns: int) -> int:
        nonlocal calls
        calls = 0
        sys.setprofile(count)
        try:
            table(tmp_path / "a.csv")(",".join(f"c{number}" for number in range(columns)) + "\n")
        finally:
            sys.setprofile(None)
        return calls

    assert work(4000) < 3 * work(2000)


def test_columns_of_one_name_are_numbered_in_linear_time() -> None:
    """4 KB of them took 9 seconds."""
    names, notes = unique_names(["a", "a (3)"] + ["a"] * 5000)
    assert names[:4] == ["a", "a (3)", "a (2)", "a (4)"] and len(set(names)) == 5002 and len(notes) == 5000
    assert is_quick(lambda: unique_names(["a"] * 20_000))


def test_the_fuzzer_of_time_tells_and_ends_what_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_time, "FREE", 0.1)
    assert fuzz_time.is_too_slow(lambda text: [len(text) for _ in iter(int, 1)], "a")
    assert not fuzz_time.is_too_slow(len, "a")


def test_patterns_of_readers_do_not_try_again() -> None:
    """Unbounded repetitions of what the next part matches, too, are possessive in the readers of rows."""
    for pattern in (arff._FIELD, arff._ATTRIBUTE):
        assert not re.search(r"(?:\\s|\]|\))[*+](?![+?])", pattern.pattern.removesuffix("(.+)"))


def test_markup_is_read_in_linear_time() -> None:
    """Openings that nothing closes were looked for in all that followed each of them."""
    assert not [piece for piece in MARKUP if not is_linear(plain_text, "", piece)]
    assert plain_text("<ref>" * 60 + "a <b>c</b><ref name=x/> [1] <ref>gone</ref>").endswith("<ref>a c [1]")


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    blocks = [info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % 512) for info, data in members]
    return b"".join(blocks) + bytes(1024)


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


@pytest.mark.parametrize("size", [-512, -513, -1024, -100])
def test_headers_of_tar_do_not_lead_backwards(size: int) -> None:
    """`tarfile` read the same header for ever."""
    data = tar_of((header("a.txt", 3), b"abc"), (header("b.txt", size), b""))
    assert reasons("a.tar", data)[-1] == "damaged archive: a header states a negative size"


def test_digits_in_headers_of_tar_are_read_once() -> None:
    extended = b"1" * 64_000
    data = tar_of((header("x", len(extended), tarfile.XHDTYPE), extended), (header("a.txt", 3), b"abc"))
    assert is_quick(lambda: reasons("a.tar", data))
    assert "digits in a row" in reasons("a.tar", data)[-1]


def test_links_in_a_tar_are_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.sources.compressed.FREE_BYTES", 0)
    text = b"words\n" * 5000
    links = [(header(f"l{number}.txt", 0, tarfile.LNKTYPE, "a.txt"), b"") for number in range(40)]
    data = tar_of((header("a.txt", len(text)), text), *links)
    refused = [reason for reason in reasons("a.tar", data) if reason]
    assert len(refused) == 40 - 10 * len(data) // len(text)
    assert set(refused) == {"a link; those before it are read as 10 times the archive"}


def test_members_of_a_zip_do_not_share_their_bytes() -> None:
    """Of 4 KB and a name for each of 400 members, 1.6 GB were read."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"a" * (1 << 22))
    raw = file.getvalue()
    begin, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    last = bytearray(raw[end:])
    struct.pack_into("<HHI", last, 8, 400, 400, 400 * (end - begin))
    data = raw[:begin] + raw[begin:end] * 400 + bytes(last)
    assert is_quick(lambda: reasons("a.zip", data))
    assert reasons("a.zip", data) == [
        "damaged archive: its members are longer than the archive together: many names for the same bytes"
    ]


class Counted(io.BytesIO):
    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_records_of_web_archives_are_not_read_before_they_are_known_to_end() -> None:
    """Each of many headers that state a wrong length cost the whole file."""
    headers = b"".join(b"WARC/1.0\nWARC-Type: response\nContent-Length: %d\n\n" % (99_000 + n) for n in range(1000))
    stream = Counted(headers + b"x" * 200_000)
    rows = list(web.plain("a.warc", stream))
    assert len(rows) >= 1000 and stream.read_bytes < len(stream.getvalue())


def test_pages_of_a_dump_are_not_copied_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "_CHUNK", 1 << 24)
    data = b"<mediawiki>" + b"<page></page>" * 100_000 + b"</mediawiki>"

    def read() -> None:
        stream = io.BytesIO(data)
        _, ahead = dump.head(stream)
        assert {piece.problem for piece in dump.pages(stream, ahead)} == {""}

    assert is_quick(read)


def test_a_number_without_end_is_no_error() -> None:
    assert reasons("a.json", b"1" * 5000) == ["expected a JSON object, found a number"]


# -- sound and images -------------------------------------------------------------------------------------------------


def wav(rate: int, samples: int = 4000, width: int = 1) -> bytes:
    data = bytes([127]) * samples
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, width, 8 * width)
    body = b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("rate", [0, 1, 99, 999_983, 99_999_989, 4_294_967_291])
def test_rates_of_recordings_are_those_of_sound(rate: int) -> None:
    """4 KB at 999,983 Hz took gigabytes for a filter, and at 1 Hz became 64 million samples."""
    with pytest.raises(sound.BadSoundError, match=f"its rate of {rate:,} Hz cannot be brought to 16,000"):
        sound.decoded(wav(rate), 16_000)


def test_rates_that_have_no_common_divisor_are_brought_together() -> None:
    assert len(sound.decoded(wav(44_101), 16_000)) == -(-4000 * 16_000 // 44_101)


def test_recordings_have_an_end() -> None:
    most, file = sound.Limits(20_000, 10_000), io.BytesIO()
    soundfile.write(file, np.zeros((6000, 2)), 16_000, format="FLAC")
    for raw, rate in ((wav(1000), 16_000), (wav(16_000, 10_001), None), (file.getvalue(), None)):
        with pytest.raises(sound.BadSoundError, match=r"longer than 10,000 samples"):
            sound.decoded(raw, rate, most)
    with pytest.raises(sound.BadSoundError, match=r"longer than 20,000 bytes"):
        sound.decoded(wav(16_000, 20_000), None, most)


def test_recordings_that_are_sent_end_sooner() -> None:
    """62 KB of a FLAC file are 42 minutes of silence."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(sound.SENT.samples + 1, np.int16), 8000, format="FLAC")
    with pytest.raises(UnfitError, match=r"what was sent is no recording .*\(longer than 16,777,216 samples\)"):
        sound.recording(file.getvalue())


def test_odd_widths_of_samples_are_refused() -> None:
    with pytest.raises(sound.BadSoundError, match="samples of 40 bits"):
        sound.decoded(wav(16_000, width=5), 16_000)


def test_scans_of_a_jpeg_file_are_counted() -> None:
    """57 bytes of a scan of nothing cost the work for all pixels."""
    file = io.BytesIO()
    Image.new("L", (64, 64), 128).save(file, "JPEG", progressive=True)
    raw = file.getvalue()
    last = raw.rindex(b"\xff\xda")
    many = raw[:-2] + raw[last:-2] * MAX_SCANS + raw[-2:]
    decoded(raw, ImagesConfig())
    with pytest.raises(BadImageError, match="more than 100 scans"):
        decoded(many, ImagesConfig())
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 4 * MAX_SCANS) + b"\xff\xda\0\0" * MAX_SCANS
    decoded(raw[:2] + comment + raw[2:], ImagesConfig())  # what looks like scans, within a comment


def test_frames_of_a_tiff_file_are_counted_up_to_a_limit() -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2), 7).save(file, "TIFF", save_all=True, append_images=[Image.new("L", (2, 2))] * 3)
    assert decoded(file.getvalue(), ImagesConfig()).lost == ("further frames: 3",)
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 4)]
    entries += [(278, 3, 1, 1), (279, 4, 1, 1)]
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    ends = [8 + (len(table) + 4) * number for number in range(1, 8000)]
    many = b"II*\0\x08\0\0\0" + b"".join(table + struct.pack("<I", end) for end in [*ends, 0])
    assert is_quick(lambda: decoded(many, ImagesConfig()))
    assert decoded(many, ImagesConfig()).lost == ("further frames: 999 or more",)
