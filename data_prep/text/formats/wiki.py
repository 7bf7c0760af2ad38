"""MediaWiki dumps (`pages-articles.xml`): each article as plain text.

Redirects and pages of other namespaces (talk, templates, categories) are ignored. Of a page with its history, the last
revision is used. mwxml reads the dump, and mwparserfromhell removes the markup: templates, references, table markup,
files and categories.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

import mwparserfromhell
from mwxml.element_iterator import ElementIterator
from mwxml.errors import MalformedXML
from mwxml.iteration.page import Page
from mwxml.iteration.site_info import SiteInfo

from data_prep.sources import records
from data_prep.sources.records import Document, Reject, Row, lost
from data_prep.text import bounded
from data_prep.text.bounded import TooMuchError
from data_prep.text.formats import dump

_FILE, _CATEGORY = 6, 14  # namespaces whose links are not text
_NAMES = {"file", "image", "media", "category"}
_NO_WORDS = {"ref", "references", "gallery", "math", "chem", "score", "timeline", "graph", "syntaxhighlight", "source"}
_CLOSED_BY = {"{{": "}}", "[[": "]]", "{|": "|}", "[": "]", "<!--": "-->"}
_MARKS = re.compile(r"\{\{|\}\}|\[\[?|\]\]?|\{\||\|\}|<!--|-->|<(/?)([A-Za-z][\w-]*+)(?:[^<>]*+(?<=(/))>)?")
_NEVER_CLOSED = {"br", "wbr", "hr", "meta", "link", "img", "li", "dt", "dd", "th", "td", "tr"}
_FEW = 50  # openings without an end; more are in no page that people wrote
_DECLARATION = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml.*?\?>", re.DOTALL)
_WRONG = (
    ParseError,
    MalformedXML,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)  # raised by mwxml for malformed pages


def articles(name: str, stream: BinaryIO, seconds: int | None = None) -> Iterator[Row]:
    """The articles of a dump; their positions are page numbers. `seconds`: of processing, the most for one article."""
    head, ahead = dump.head(stream)
    if not _is_dump(head):
        yield lost(name, 1, "not a MediaWiki dump: an .xml file must begin with <mediawiki")
        return
    declared = _DECLARATION.match(head)
    links, rows = _NAMES | _link_names(head), 0
    for number, piece in enumerate(dump.pages(stream, ahead), 1):
        if piece.problem:
            row = Reject(name, number, piece.problem, records.excerpt(piece.xml), lost=piece.is_last)
        else:
            row = _article(name, number, (declared[0] if declared else b"") + piece.xml, links, seconds)
        if row is not None:
            rows += 1
            yield row
    if not rows:
        yield lost(name, 1, "the dump holds no article (redirects and other namespaces are left out)")


def _is_dump(head: bytes) -> bool:
    return _DECLARATION.sub(b"", head, count=1).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<mediawiki")


def _link_names(head: bytes) -> set[str]:
    """The names of the namespaces of files and categories in this wiki."""
    try:
        root = ElementIterator.from_file(io.BytesIO(head + b"</mediawiki>"))
        for element in root:
            if element.tag == "siteinfo":
                namespaces = SiteInfo.from_element(element).namespaces or []
                return {space.name.casefold() for space in namespaces if space.id in (_FILE, _CATEGORY) and space.name}
    except _WRONG:
        return set()
    return set()


def _article(name: str, number: int, xml: bytes, links: set[str], seconds: int | None) -> Row | None:
    """A page as a document; None if it is not an article."""
    try:
        page = Page.from_element(ElementIterator.from_file(io.BytesIO(xml)))
        if page.namespace != 0 or page.redirect is not None:
            return None
        revision = None
        for revision in page:  # noqa: B007
            pass
        title, identity = page.title, page.id
        markup: str = (revision.text if revision is not None else None) or ""
    except ParseError as error:
        return Reject(name, number, f"damaged XML: {records.first_line(error)}", records.excerpt(xml))
    except _WRONG as error:
        return Reject(name, number, f"not a page: {records.first_line(error)}", records.excerpt(xml))
    excerpt = records.excerpt(markup[:400].encode("utf-8", "replace"))
    if identity is None or not title:
        return Reject(name, number, "not a page: it has no title or no id", excerpt)
    model = getattr(revision, "model", None)
    if model not in (None, "wikitext"):
        return Reject(name, number, f"{title!r} is not wikitext but {model}", excerpt)
    if len(markup) > records.MAX_BYTES:
        return Reject(name, number, f"longer than {records.MAX_BYTES:,} characters", excerpt)
    try:
        text = bounded.call(plain_text, markup, links, seconds=seconds)
    except TooMuchError as error:
        return Reject(name, number, str(error), excerpt)
    except (mwparserfromhell.parser.ParserError, RecursionError, ValueError) as error:
        return Reject(name, number, f"wikitext that cannot be read: {records.first_line(error)}", excerpt)
    if not text:
        return Reject(name, number, f"{title!r} holds no text", excerpt)
    meta: dict[str, Any] = {"title": title, "id": identity}
    stamp = getattr(revision, "timestamp", None)
    if stamp is not None:
        meta["date"] = str(stamp)
    return records.checked(Document(f"{name}:{identity}", text, name, number, meta), excerpt)


def plain_text(markup: str, links: set[str] = _NAMES) -> str:
    """Plain text of wikitext; `links`: prefixes of links to files or categories, which are removed."""
    code = mwparserfromhell.parse(_without_unclosed(markup))
    tags = [tag for tag in code.filter_tags() if str(tag.tag).strip().casefold() in _NO_WORDS]
    images = [link for link in code.filter_wikilinks() if _prefix(str(link.title)) in links]
    for node in (*tags, *images):
        with suppress(ValueError):  # removed along with its parent
            code.remove(node)
    lines = (line.strip() for line in str(code.strip_code()).splitlines())
    paragraphs: list[str] = []
    for line in lines:
        if line or (paragraphs and paragraphs[-1]):
            paragraphs.append(line)
    return "\n".join(paragraphs).strip()


def _without_unclosed(markup: str) -> str:
    """Markup whose openings that nothing closes are written as entities, if there are many.

    To the parser they are text as well, but it looks for the end of each in all that follows.
    """
    if sum(map(markup.count, "{[<")) <= _FEW:
        return markup
    unclosed: list[int] = []
    waiting: list[tuple[str, int]] = []
    open_marks: Counter[str] = Counter()
    for match in _MARKS.finditer(markup):
        mark, name = match[0], (match[2] or "").lower()
        if name in _NEVER_CLOSED or match[3]:
            continue
        if mark in _CLOSED_BY or match[1] == "":
            closing = f"</{name}" if name else _CLOSED_BY[mark]
            waiting.append((closing, match.start()))
            open_marks[closing] += 1
            continue
        mark = f"</{name}" if name else mark
        while open_marks[mark]:
            closing, place = waiting.pop()
            open_marks[closing] -= 1
            if closing == mark:
                break
            unclosed.append(place)
    unclosed += [place for _, place in waiting]
    if len(unclosed) <= _FEW:
        return markup
    pieces, start = [], 0
    for place in sorted(unclosed):
        pieces += [markup[start:place], f"&#{ord(markup[place])};"]
        start = place + 1
    return "".join([*pieces, markup[start:]])


def _prefix(title: str) -> str:
    prefix, colon, _ = title.partition(":")
    return prefix.strip().casefold() if colon else ""
