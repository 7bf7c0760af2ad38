"""MediaWiki dumps (`pages-articles.xml`): each article as plain text.

Redirects and pages of other namespaces (talk, templates, categories) are no rows. Of a page with its history, the last
revision counts. mwxml reads the dump, mwparserfromhell takes the markup away: templates, references, tables' markup,
files and categories go, the words stay.
"""

from __future__ import annotations

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
from data_prep.sources.records import Document, Reject, Row

_HEAD = 4096
_FILE, _CATEGORY = 6, 14  # namespaces whose links are no words
_NAMES = {"file", "image", "media", "category"}
_NO_WORDS = {"ref", "references", "gallery", "math", "chem", "score", "timeline", "graph", "syntaxhighlight", "source"}
_WRONG = (
    MalformedXML,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)  # what mwxml raises for a page that is none


class _TooLongError(Exception):
    pass


class _Source:
    """A stream for the parser, which may not read for ever without coming to the end of a page."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._head = stream.read(_HEAD)
        self.since = 0

    def is_dump(self) -> bool:
        head = self._head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"<?xml"):
            head = head.partition(b"?>")[2].lstrip()
        return head.startswith(b"<mediawiki")

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        data = head or self._stream.read(size if size > 0 else 1 << 16)
        self.since += len(data)
        if self.since > 4 * records.MAX_BYTES:
            raise _TooLongError
        return data


def articles(name: str, stream: BinaryIO) -> Iterator[Row]:
    """The articles of a dump, by their number among its pages."""
    source = _Source(stream)
    if not source.is_dump():
        yield Reject(name, 1, "not a MediaWiki dump: an .xml file must begin with <mediawiki")
        return
    number = rows = 0
    begins = 1  # number of the page that is being read, or comes next
    try:
        root = ElementIterator.from_file(source)
        links = set(_NAMES)
        for element in root:
            if element.tag == "siteinfo":
                links |= _link_names(element)
            elif element.tag == "page":
                number += 1
                row = _article(name, number, element, links)
                element.clear()
                begins = number + 1
                if row is not None:
                    rows += 1
                    yield row
            del root.element[:]  # else the parser keeps every page's shell
            source.since = 0
    except (ParseError, MalformedXML, ValueError, LookupError) as error:  # the latter two: of an odd encoding
        rows += 1
        yield Reject(name, begins, f"damaged XML, not read from here on: {records.first_line(error)}")
    except _TooLongError:
        rows += 1
        yield Reject(name, begins, f"a page longer than {4 * records.MAX_BYTES:,} bytes; not read from here on")
    if not rows:
        yield Reject(name, 1, "the dump holds no article (redirects and other namespaces are left out)")


def _link_names(element: ElementIterator) -> set[str]:
    """What this wiki calls the namespaces of files and categories."""
    try:
        namespaces = SiteInfo.from_element(element).namespaces or []
    except _WRONG:
        return set()
    return {space.name.casefold() for space in namespaces if space.id in (_FILE, _CATEGORY) and space.name}


def _article(name: str, number: int, element: ElementIterator, links: set[str]) -> Row | None:
    """A page as a document; None if it is no article."""
    try:
        page = Page.from_element(element)
        if page.namespace != 0 or page.redirect is not None:
            return None
        revision = None
        for revision in page:  # noqa: B007
            pass
        title, identity = page.title, page.id
        markup: str = (revision.text if revision is not None else None) or ""
    except _WRONG as error:
        return Reject(name, number, f"not a page: {records.first_line(error)}")
    excerpt = records.excerpt(markup[:400].encode("utf-8", "replace"))
    if identity is None or not title:
        return Reject(name, number, "not a page: it has no title or no id", excerpt)
    model = getattr(revision, "model", None)
    if model not in (None, "wikitext"):
        return Reject(name, number, f"{title!r} is not wikitext but {model}", excerpt)
    if len(markup) > records.MAX_BYTES:
        return Reject(name, number, f"longer than {records.MAX_BYTES:,} characters", excerpt)
    try:
        text = plain_text(markup, links)
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
    """The words of wikitext; `links`: prefixes of links that are images or categories."""
    code = mwparserfromhell.parse(markup)
    tags = [tag for tag in code.filter_tags() if str(tag.tag).strip().casefold() in _NO_WORDS]
    images = [link for link in code.filter_wikilinks() if _prefix(str(link.title)) in links]
    for node in (*tags, *images):
        with suppress(ValueError):  # it went with what it lay in
            code.remove(node)
    lines = (line.strip() for line in str(code.strip_code()).splitlines())
    paragraphs: list[str] = []
    for line in lines:
        if line or (paragraphs and paragraphs[-1]):
            paragraphs.append(line)
    return "\n".join(paragraphs).strip()


def _prefix(title: str) -> str:
    prefix, colon, _ = title.partition(":")
    return prefix.strip().casefold() if colon else ""
