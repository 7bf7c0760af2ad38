"""MediaWiki dumps, whole and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.sources import records
from data_prep.sources.records import Document, Fields, Reject, Row
from data_prep.text.formats.formats import read
from data_prep.text.formats.wiki import plain_text

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename><dbname>dewiki</dbname>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""


def page(number: int, text: str | None, title: str = "", ns: int = 0, more: str = "", model: str = "wikitext") -> str:
    body = "<text />" if text is None else f'<text xml:space="preserve">{escape(text)}</text>'
    return f"""  <page>
    <title>{escape(title or f"Page {number}")}</title><ns>{ns}</ns><id>{number}</id>{more}
    <revision><id>{number}0</id><timestamp>2024-05-0{number % 9 + 1}T12:00:00Z</timestamp>
      <contributor><username>x</username><id>1</id></contributor>
      <model>{model}</model><format>text/x-wiki</format>{body}<sha1>x</sha1></revision>
  </page>
"""


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>\n").encode()


def rows(folder: Path, raw: bytes, name: str = "a.xml") -> list[Row]:
    (folder / name).write_bytes(raw)
    return list(read(folder / name, name, Fields()))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_articles(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    raw = dump(
        page(7, "'''Berlin''' ist eine [[Stadt]] & mehr.", "Berlin"),
        page(8, "#REDIRECT [[Berlin]]", more='<redirect title="Berlin" />'),
        page(9, "A talk.", "Diskussion:Berlin", ns=1),
        page(11, "Zwei.", "Zwei_Wörter"),
    )
    assert rows(tmp_path, compress(raw), f"a.xml{suffix}") == [
        Document(
            f"a.xml{suffix}:7",
            "Berlin ist eine Stadt & mehr.",
            f"a.xml{suffix}",
            1,
            {"title": "Berlin", "id": 7, "date": "2024-05-08T12:00:00Z"},
        ),
        Document(
            f"a.xml{suffix}:11",
            "Zwei.",
            f"a.xml{suffix}",
            4,
            {"title": "Zwei Wörter", "id": 11, "date": "2024-05-03T12:00:00Z"},
        ),
    ]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("{{Infobox|a=b}}\n'''One''' [[Two|two]].", "One two."),
        ("A<ref>Source</ref> fact.<!-- hidden -->", "A fact."),
        ("== Head ==\n\n\n\nText.\n", "Head\n\nText."),
        ("[[Datei:x.jpg|mini|Eine [[Stadt]] mit {{x}}]]Text.[[Kategorie:Orte]]", "Text."),
        ("[[File:x.jpg|thumb|A [[File:y.jpg|b]] c]]Text.", "Text."),
        ("[[:Category:Places]] and [http://x.y a link].", ":Category:Places and a link."),
        ("&nbsp;&amp; more", "& more"),
        ("", ""),
    ],
)
def test_markup_goes_and_words_stay(markup: str, text: str) -> None:
    plain = plain_text(markup, {"datei", "kategorie", "file", "category"})
    assert plain.replace("\xa0", " ").strip() == text


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (page(2, None), "'Page 2' holds no text"),
        (page(2, "{{only|a|template}}"), "'Page 2' holds no text"),
        (page(2, "{}", model="json"), "'Page 2' is not wikitext but json"),
        (page(2, "x").replace("<id>2</id>", "<id>two</id>"), "not a page: invalid literal"),
        (page(2, "x").replace("<id>2</id>", ""), "not a page: it has no title or no id"),
        (page(2, "x").replace("<title>Page 2</title>", ""), "not a page: "),
        (page(2, "x").replace("<ns>", "<nonsense/><ns>"), "not a page: Unexpected tag"),
        (page(2, "x").replace("Page 2", "One & two"), "damaged XML: not well-formed"),
        (page(2, "x").replace("Page 2", "&bomb;"), "damaged XML: undefined entity"),
        (page(2, "x").replace("</page>", ""), "the page does not end before the next one"),
        (page(2, "x").replace("</text>", ""), "damaged XML: mismatched tag"),
        (page(2, "\x01"), "damaged XML: not well-formed"),
    ],
)
def test_a_bad_page_costs_that_page(tmp_path: Path, bad: str, reason: str) -> None:
    first, reject, last = rows(tmp_path, dump(page(1, "One."), bad, page(3, "Three.")))
    assert isinstance(first, Document) and isinstance(last, Document) and last.position == 3
    assert isinstance(reject, Reject) and reject.position == 2 and reject.reason.startswith(reason), reject


def test_the_last_revision_counts(tmp_path: Path) -> None:
    new = page(1, "New.").partition("<revision>")[2].partition("</revision>")[0]
    both = page(1, "Old.").replace("</revision>", f"</revision><revision>{new}</revision>")
    [document] = rows(tmp_path, dump(both))
    assert isinstance(document, Document) and document.text == "New."


@pytest.mark.parametrize("cut", [0.5, 0.97])
def test_damage_is_told_with_its_place(tmp_path: Path, cut: float) -> None:
    raw = dump(*(page(number, "Text.") for number in range(1, 9)))
    *good, last = rows(tmp_path, raw[: int(len(raw) * cut)])
    assert len(good) >= 3 and all(isinstance(row, Document) for row in good)
    assert isinstance(last, Reject) and last.position == len(good) + 1
    assert last.lost and last.reason == "the dump is cut short within a page"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a MediaWiki dump: an .xml file must begin with <mediawiki"),
        (b"<html><body>Text.</body></html>", "not a MediaWiki dump"),
        (b"<?xml version='1.0'?><rss/>", "not a MediaWiki dump"),
        (dump(), "the dump holds no article"),
        (dump()[:-20], "the dump is cut short: it does not end with </mediawiki>"),
        (b'<?xml version="1.0"?>\n<mediawiki>', "the dump is cut short"),
        (b"<mediawiki>" + b"&bomb;" * 9, "the dump is cut short"),
    ],
)
def test_a_file_that_is_no_dump_is_one_reject(tmp_path: Path, raw: bytes, reason: str) -> None:
    [reject] = rows(tmp_path, raw)
    assert isinstance(reject, Reject) and reject.lost and reject.position == 1 and reject.reason.startswith(reason)


def test_an_endless_page_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 10_000)
    first, long, last = rows(tmp_path, dump(page(1, "One."), page(2, "x" * 20_000_000), page(3, "Three.")))
    assert isinstance(first, Document) and isinstance(last, Document) and last.position == 3
    assert isinstance(long, Reject) and (long.position, long.reason) == (2, "longer than 40,000 bytes")
    first, long, last = rows(tmp_path, dump(page(1, "One."), page(2, "x" * 20_000), page(3, "Three.")))
    assert isinstance(long, Reject) and long.reason == "longer than 10,000 characters" and isinstance(last, Document)


RAW = dump(*(page(number, f"'''Text''' {number} of [[some]] {{{{words}}}}.") for number in range(1, 5)))


@settings(max_examples=150, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 1 << 20)),
)
def test_whatever_the_bytes_reading_goes_on(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int | None
) -> None:
    data = bytearray(RAW)
    for place, value in flips:
        data[place % len(data)] = value
    read_rows = rows(tmp_path_factory.mktemp("fuzz"), bytes(data[: cut and cut % len(data)]))
    assert read_rows, "a file that yields nothing was lost without a word"
    for row in read_rows:
        assert row.position >= 1
        assert row.text.strip() if isinstance(row, Document) else row.reason, row


BAD = [
    page(9, None),
    page(9, "{}", model="json"),
    page(9, "x").replace("<id>9</id>", ""),
    page(9, "x").replace("<ns>", "<nonsense/><ns>"),
]


@settings(max_examples=50, deadline=None)
@given(kinds=st.lists(st.sampled_from(["good", "bad", "talk", "redirect"]), min_size=1, max_size=12), data=st.data())
def test_each_article_is_kept_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], data: st.DataObject
) -> None:
    pages = [
        data.draw(st.sampled_from(BAD))
        if kind == "bad"
        else page(i, "Text.", ns=int(kind == "talk"), more="<redirect title='x'/>" * (kind == "redirect"))
        for i, kind in enumerate(kinds, 1)
    ]
    read_rows = rows(tmp_path_factory.mktemp("wiki"), dump(*pages))
    expected = [(i, kind == "good") for i, kind in enumerate(kinds, 1) if kind in ("good", "bad")]
    assert [(row.position, isinstance(row, Document)) for row in read_rows] == (expected or [(1, False)])
    assert all(row.reason and row.source == "a.xml" for row in read_rows if isinstance(row, Reject))
