"""What is shown is safe: no secrets, no control characters, neither HTML nor Markdown of others; and in linear time."""

from __future__ import annotations

import html
import io
import logging
import re
import sys
import threading
import time
import traceback
import unicodedata
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from data_prep.errors import UserError
from data_prep.legible import LegibleRecord, escaped, log_legibly, masked, plain, prose, safe, safe_errors, safe_values
from data_prep.opening.files import clause
from data_prep.sources.files import secret_in

WORDS = st.text("abcXYZ019-._~%+/", min_size=1)


@given(st.text())
@example("".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x2028, 0x202E, 0x2066, 0xD800, 0xE0041])))
def test_nothing_that_a_terminal_would_obey_is_left(text: str) -> None:
    shown = plain(text)
    categories = {unicodedata.category(character) for character in shown}
    assert not categories & {"Cc", "Cs", "Zl", "Zp"} and not set(shown) & set("\u061c\u200e\u200f\u202e\u2066\u2069")
    assert len(shown) == len(text) and safe(text).encode().decode() == safe(text)
    assert all(new == old for new, old in zip(shown, text, strict=True) if old.isprintable())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@h:5000/x", "http://me:***@h:5000/x"),
        ("no answer from http://me:s/e@c@h, trying", "no answer from http://me:***@h, trying"),
        ("postgresql+psycopg2://u:p@db:5432/mlflow", "postgresql+psycopg2://u:***@db:5432/mlflow"),
        ("https://ghp_0123@github.com/a", "https://***@github.com/a"),
        ("s3://AKIA:ab/cd@bucket/x", "s3://AKIA:***@bucket/x"),
        ("abfs://c@h/x?sig=AbC%3D&se=1", "abfs://c@h/x?sig=***&se=1"),
        ("abfs://c@h/x?%73ig=AbC&s%65=1", "abfs://c@h/x?%73ig=***&s%65=1"),
        ("gs://b/x?credential=/k.json", "gs://b/x?credential=***"),
        ("https://h/?X-Amz-Signature=a&X-Amz-Credential=b&X-Amz-Security-Token=c&d=1",
         "https://h/?X-Amz-Signature=***&X-Amz-Credential=***&X-Amz-Security-Token=***&d=1"),
        ("s3://b?access_key=A&secret_key=B&region=eu", "s3://b?access_key=***&secret_key=***&region=eu"),
        ("AccountKey=abc==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
        ("Authorization: Basic c2VzYW1lOnB3", "Authorization: Basic ***"),
        ("{'authorization': 'Bearer abc.def'}", "{'authorization': 'Bearer ***'}"),
        ("psycopg: host=h password=a!b user=me", "psycopg: host=h password=*** user=me"),
        ("connect(host='h', passwd='a b')", "connect(host='h', passwd='*** b')"),
        ('{"user": "me", "password": "ab"}', '{"user": "me", "password": "***"}'),
        ("https://h/?sig=abc: refused", "https://h/?sig=*** refused"),
        ("http://127.0.0.1:4200/?password=a%2Fb#/x", "http://127.0.0.1:4200/?password=***#/x"),
    ],
)  # fmt: skip
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == safe(text) == masked(shown) == shown
    assert str(UserError(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["http://h:5000/a@b", "http://127.0.0.1:5000, me@example.org", "abfss://container@account.dfs/x", "s3://bucket/a=b",
     "--set data.tokens=5", "tokenizer=wordpiece", "git@github.com:x", "12:30@noon", "a Token Ring",
     "Basic understanding", "http://[::1]:5000/", "see x?author=me&keys=1", "train.lr=1e-3 & seed=1"],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@given(WORDS, WORDS, st.sampled_from(["http", "https", "s3", "postgresql", "abfss", "ray"]))
def test_no_password_of_an_address_is_shown(user: str, secret: str, scheme: str) -> None:
    secret = f"~{secret}~"
    address = f"{scheme}://{user.replace('/', '')}:{secret}@host/path"
    assert secret not in masked(f"cannot reach {address}: refused")


@given(
    WORDS,
    st.sampled_from(
        ["sig", "token", "PASSWORD", "X-Amz-Signature", "x-goog-credential", "sas", "api_key", "key", "%6Bey"]
    ),
)
def test_no_secret_parameter_is_shown_and_no_source_may_have_one(secret: str, name: str) -> None:
    secret = f"~{secret}~"
    address = f"s3://bucket/folder?region=eu&{name}={secret}&a=1"
    assert secret not in masked(address) and masked(address).endswith("&a=1") and secret_in(address)
    assert not secret_in("s3://bucket/folder?region=eu&scheme=https")


def test_the_values_of_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "/abc+DEF",
        "HF_TOKEN": "hf_1234567",
        "MLFLOW_TRACKING_PASSWORD": "correct horse",
    }
    others = {"PWD": "/home/me/text", "RAY_AUTH_TOKEN_PATH": "/home/me/.ray", "TOKENIZERS_PARALLELISM": "false"}
    others |= {"GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key.json", "HOME_TOWN": "Reykjavik"}
    for name, value in (secrets | others).items():
        monkeypatch.setenv(name, value)
    assert masked(f"signed with {' '.join(secrets.values())}.") == "signed with *** *** ***."
    assert masked(" ".join(others.values())) == " ".join(others.values())


def test_values_inside_of_others_are_masked() -> None:
    values = {"a": [{"url": "http://u:p@h"}, 1, None, 2.5], "http://u:p@h": ("x", True)}
    assert safe_values(values) == {"a": [{"url": "http://u:***@h"}, 1, None, 2.5], "http://u:***@h": ["x", True]}


PIECES = ["a", "token", "?token", "://a:b", "http://", "@", "a:@", "&x=", "AccountKey ", "authorization ", "http://a@",
          "://", "x.y-z", "&amp;"]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_time_is_linear(piece: str) -> None:
    text = (piece * 200_000)[:200_000] + "@=  "
    began = time.process_time()
    safe(text)
    assert time.process_time() - began < 5


HTML = re.compile(r"<(?!/?(?:p|h1|em|strong)>)")


@given(st.text("<>&\"'`*_[]()!#|~$\\\n- abcj:/\x1b=x1.") | st.text())
@example("<img src=x onerror=alert(1)>")
@example("[a](javascript:alert(1)) ![b](http://h/x.png) **c** `d` # e")
@example("&lt;script&gt; <http://h> &#x41;")
def test_pages_show_text_as_it_is(text: str) -> None:
    """Rendered as Markdown it is one paragraph of just this text."""
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).renderInline(escaped(f"x{text}"))
    assert not HTML.search(rendered.replace("&lt;", ""))
    assert html.unescape(rendered) == f"x{plain(text)}"


def test_paragraphs_stay() -> None:
    assert prose("a *b*\nc\n\n<d>") == "a \\*b\\* c\n\n&lt;d&gt;"


def test_logs_and_tracebacks_are_safe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    try:
        log_legibly()
        stream = io.StringIO()
        logger = logging.getLogger("sesame.test_legible")
        logger.propagate = False
        logger.addHandler(logging.StreamHandler(stream))
        try:
            raise ValueError("\x1b]0;owned\x07 at http://me:secret@h")
        except ValueError as error:
            logger.exception("failed for %s", "http://me:secret@h\x1b[2J")
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        logging.setLogRecordFactory(before)
    for shown in (stream.getvalue(), capsys.readouterr().err):
        assert "ValueError: ␛]0;owned␇ at http://me:***@h" in shown and "Traceback" in shown
        assert "secret" not in shown and "\x1b" not in shown
    assert isinstance(logger.makeRecord("a", 1, "f", 1, "m", (), None), logging.LogRecord) and LegibleRecord


# -- exceptions -------------------------------------------------------------------------------------------------------

SECRET = "hunter2"
ADDRESS = f"http://me:{SECRET}@h/x?sig={SECRET}"


class WithPartsError(Exception):
    """Says what it holds, as errors of libraries do; not by `args`."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.__address = [address]

    def __str__(self) -> str:
        return f"at {self.__address[0]}"


class WithoutPartsError(ValueError):
    __slots__ = ()

    def __str__(self) -> str:
        return f"at {ADDRESS}"


def chained(how: str) -> Exception:
    try:
        try:
            raise KeyError(ADDRESS)
        except KeyError as error:
            if how == "cause":
                raise ValueError("failed") from error
            if how == "hidden":
                raise ValueError("failed") from None
            raise ValueError("failed")  # noqa: B904 - a context
    except ValueError as error:
        return error


def retried(times: int) -> Exception:
    """The newest of many attempts, each of which failed while the one before was handled."""
    newest = ValueError(ADDRESS)
    for number in range(times):
        after = ValueError(f"attempt {number} at {ADDRESS}")
        after.__context__ = newest
        newest = after
    return newest


def noted() -> Exception:
    error = ValueError("failed")
    error.add_note(f"see {ADDRESS}")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(ADDRESS), KeyError((ADDRESS, 1)), OSError(f"{ADDRESS}: refused"), SystemExit(ADDRESS),
        FileNotFoundError(2, f"nothing at {ADDRESS} now", ADDRESS), UnicodeDecodeError("utf-8", b"x", 0, 1, ADDRESS),
        WithPartsError(ADDRESS), WithoutPartsError(), chained("cause"), chained("context"), chained("hidden"), noted(),
        ConnectionError(ValueError(ADDRESS)), retried(2_000),
        ExceptionGroup(f"all of {ADDRESS}", [ValueError(ADDRESS), ExceptionGroup("inner", [WithPartsError(ADDRESS)])]),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_an_exception_says_is_safe_and_it_stays_what_it_is(error: BaseException) -> None:
    before, text, kinds = str(error), masked(str(error)), [type(link).__name__ for link in links(error)]

    @safe_errors
    def fail() -> None:
        raise error

    with pytest.raises(BaseException) as caught:
        fail()
    raised = caught.value
    assert SECRET not in "".join(traceback.format_exception(raised)) + repr(raised) + repr(raised.args)
    assert all(SECRET not in f"{link}{link!r}{vars(link)}" for link in links(raised))
    assert str(raised) == text and [type(link).__name__ for link in links(raised)] == kinds
    assert raised.__suppress_context__ == error.__suppress_context__ and "fail" in str(
        traceback.extract_tb(raised.__traceback__)
    )
    in_place = isinstance(error, WithoutPartsError | UnicodeDecodeError | ExceptionGroup)
    assert raised is error or (in_place and before != text)


def links(error: BaseException | None) -> list[BaseException]:
    errors = []
    while error is not None:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


@pytest.mark.parametrize("length", range(270, 300))
def test_what_is_cut_was_masked_before(length: int) -> None:
    """Half a password behind a colon is none that could be found."""
    assert "hunt" not in clause(ValueError(f"{'x' * length} http://me:{SECRET}@h"))


def test_an_exception_without_secrets_is_left_alone() -> None:
    error = ValueError({"a": 1}, "http://h:5000/x", 2)
    error.__cause__ = cause = KeyError("b")
    arguments = error.args

    @safe_errors
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="5000") as caught:
        fail()
    assert caught.value is error and error.args is arguments and error.__cause__ is cause


def test_warnings_and_the_errors_of_threads_are_safe(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    before = logging.getLogRecordFactory()
    for owner, name in ((sys, "excepthook"), (threading, "excepthook"), (warnings, "formatwarning")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    try:
        log_legibly()
    finally:
        logging.setLogRecordFactory(before)

    def fail() -> None:
        raise ValueError(f"\x1b[2J{ADDRESS}")

    thread = threading.Thread(target=fail, name="sends")
    thread.start()
    thread.join()
    printed = capsys.readouterr().err + warnings.formatwarning(f"\x1b[2J{ADDRESS}", UserWarning, "a.py", 1)
    assert "thread sends" in printed and "ValueError: ␛[2Jhttp://me:***@h/x?sig=***" in printed
    assert "a.py:1: UserWarning: ␛[2Jhttp://me:***@h" in printed
    assert SECRET not in printed and "\x1b" not in printed
