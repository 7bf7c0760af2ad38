"""The limit for one document: what takes too long is rejected by name, and the next one is read."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from data_prep.sources.records import Document, Fields, Reject
from data_prep.text import bounded
from data_prep.text.bounded import TooMuchError, call
from data_prep.text.formats.formats import read_opened
from data_prep.text.formats.web import text_of
from data_prep.text.formats.wiki import plain_text
from tests.data_prep.text import busy
from tests.data_prep.text.formats.test_wiki import dump, page


def test_a_call_is_made_elsewhere_and_limited() -> None:
    assert call(busy.own, seconds=None) == os.getpid()
    helper = call(busy.own, seconds=5)
    assert helper not in (os.getpid(), 0) and call(busy.own, seconds=5) == helper, "one process for all"
    with pytest.raises(ValueError, match="a fault of the document"):
        call(busy.fail, seconds=5)
    began = time.process_time()
    with pytest.raises(TooMuchError, match="takes more than 1 seconds of processing"):
        call(busy.compute, seconds=1)
    assert time.process_time() - began < 1, "the work is not done here"
    assert call(busy.own, seconds=5) != helper
    with pytest.raises(TooMuchError, match=r"ends its parser \(SIGSEGV"):
        call(busy.end, seconds=5)
    assert call(busy.own, seconds=5) > 0


def test_a_document_that_waits_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "PATIENCE", 0.3)
    call(busy.own, seconds=30)
    with pytest.raises(TooMuchError, match="takes more than 1 seconds"):
        call(busy.sleep, seconds=1)


def test_it_serves_threads_and_survives_its_helper() -> None:
    process_ids: list[int] = []
    threads = [threading.Thread(target=lambda: process_ids.append(call(busy.own, seconds=5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(process_ids)) == 1
    os.kill(process_ids[0], signal.SIGKILL)
    assert call(busy.own, seconds=5) != process_ids[0]


def test_a_page_that_takes_too_long_is_rejected_by_name(tmp_path: Path) -> None:
    raw = dump(page(1, "One."), page(2, "* [[a]] <b>c</b>\n" * 40_000), page(3, "Three."))
    (tmp_path / "a.xml").write_bytes(raw)
    opener = (tmp_path / "a.xml").open
    rows = list(read_opened(lambda: opener("rb"), len(raw), "a.xml", Fields(seconds=1)))
    assert [type(row) for row in rows] == [Document, Reject, Document]
    assert isinstance(rows[1], Reject) and (rows[1].position, rows[1].lost) == (2, False)
    assert rows[1].reason == "takes more than 1 seconds of processing"


@pytest.mark.parametrize("mark", ["{{a|", "{{a|b=", "[[a|", "[[", "{|\n|-\n|a\n", "{{{"])
def test_openings_without_an_end_cost_linear_time(mark: str) -> None:
    began = time.process_time()
    text = plain_text("Before. " + mark * 3000 + " and after.")
    assert time.process_time() - began < 4, "8 to 60 s as the square of their number"
    assert "Before." in text and "after." in text


@pytest.mark.parametrize(
    "markup",
    ["a {{b|{{c}} d}} [[e|f]] {| g |} h", "{{" * 60 + "a" + "}}" * 60 + "b", "[[c|d]] " * 60, "{| a |}\n" * 60],
)
def test_markup_that_is_closed_is_left_as_it_is(markup: str) -> None:
    from data_prep.text.formats.wiki import _without_unclosed

    assert _without_unclosed(markup) == markup


def test_pages_nested_deep_cost_linear_time() -> None:
    body = "<p>Some words of a text.</p>"
    began = time.process_time()
    text = text_of(f"<html><body>{'<div>' * 50_000}{body}{'</div>' * 50_000}<p>After.</p>".encode(), None)
    assert time.process_time() - began < 4, "half a minute as the square of their depth"
    assert "Some words of a text." in text
    usual = "<div><section><p>One.</p><br><ul><li>Two.<li>Three.</ul></section></div>"
    page_of_many = f"<html><body>{usual * 800}"
    from data_prep.text.formats.web import _less_deep

    assert _less_deep(page_of_many) == page_of_many
