"""MediaWiki dumps (`pages-articles.xml`): each article as plain text.

Redirects and pages of other namespaces (talk, templates, categories) are ignored. Of a page with its history, the last
revision is used. mwxml reads the dump, and mwparserfromhell removes the markup: templates, references, table markup,
files and categories.
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
_FILE, _CATEGORY = 6, 14  # namespaces whose links are not text
_NAMES = {"file", "image", "media", "category"}
_NO_WORDS = {"ref", "references", "gallery", "math", "chem", "score", "timeline", "graph", "syntaxhighlight", "source"}
_WRONG = (
    MalformedXML,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
)  # raised by mwxml for malformed pages


class _TooLongError(Exception):
    pass


class _Source:
    """A stream for the parser that limits how much it reads before the end of a page."""

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
    """The articles of a dump; their positions are page numbers."""
    source = _Source(stream)
    if not source.is_dump():
        yield Reject(name, 1, "not a MediaWiki dump: an .xml file must begin with <mediawiki")
        return
    number = rows = 0
    begins = 1  # number of the current or next page
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
            del root.element[:]  # otherwise the parser keeps an element for every page
            source.since = 0
    except (ParseError, MalformedXML, ValueError, LookupError) as error:  # the last two: unusual encodings
        rows += 1
        yield Reject(name, begins, f"damaged XML, not read from here on: {records.first_line(error)}")
    except _TooLongError:
        rows += 1
        yield Reject(name, begins, f"a page longer than {4 * records.MAX_BYTES:,} bytes; not read from here on")
    if not rows:
        yield Reject(name, 1, "the dump holds no article (redirects and other namespaces are left out)")


def _link_names(element: ElementIterator) -> set[str]:
    """The names of the namespaces of files and categories in this wiki."""
    try:
        namespaces = SiteInfo.from_element(element).namespaces or []
    except _WRONG:
        return set()
    return {space.name.casefold() for space in namespaces if space.id in (_FILE, _CATEGORY) and space.name}


def _article(name: str, number: int, element: ElementIterator, links: set[str]) -> Row | None:
    """A page as a document; None if it is not an article."""
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
    """Plain text of wikitext; `links`: prefixes of links to files or categories, which are removed."""
    code = mwparserfromhell.parse(markup)
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


def _prefix(title: str) -> str:
    prefix, colon, _ = title.partition(":")
    return prefix.strip().casefold() if colon else ""
