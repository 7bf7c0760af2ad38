from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.corpus.summary import allowed_rejects
from data_prep.text.clean import CleanConfig, fingerprint
from data_prep.tokens import cleaning as module
from data_prep.tokens.cleaning import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\t b\u00a0\u3000c", "a b c"),
        ("a \n\n \n\n b", "a\n\nb"),
        ("x\x00\x07y\ufeffz\u00ad", "xyz"),
        ("cafe\u0301", "café"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),  # joiners have a meaning
        ("ﬁ²Ａ", "ﬁ²Ａ"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


def test_normal_forms() -> None:
    assert clean("ﬁ²Ａ", "nfkc") == "fi2A"
    assert clean("cafe\u0301", "none") == "cafe\u0301"


@given(text=st.text(max_size=40), form=st.sampled_from(["nfc", "nfkc", "none"]))
def test_clean_is_idempotent(text: str, form: str) -> None:
    once = clean(text, form)  # type: ignore[arg-type]
    assert clean(once, form) == once  # type: ignore[arg-type]


@given(words=st.lists(st.text("abc", min_size=1), min_size=1))
def test_words_are_kept(words: list[str]) -> None:
    assert clean("\t".join(words)).split() == words


def test_fingerprint_ignores_white_space_only() -> None:
    assert fingerprint("a b\n\nc") == fingerprint(" a  b c ")
    assert fingerprint("ab c") != fingerprint("a bc")
    assert len({fingerprint(text) for text in ("Ab c", "ab c", "ab c.", "ab C")}) == 4


@given(
    st.lists(
        st.sampled_from(["a", "é", "字", " ", "\n", "\t", "\u2003", "\r", "\ufeff", "\x00", "e\u0301"]), max_size=9
    )
)
def test_what_is_in_order_is_left_as_the_long_way_leaves_it(characters):
    text = "".join(characters)
    expected = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
    assert fingerprint(text) == expected
    by_form = {form: clean(text, form) for form in ("nfc", "nfkc", "none")}
    assert all(fingerprint(cleaned, tidy=True) == fingerprint(cleaned) for cleaned in by_form.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_in_order", lambda text: False)
        assert by_form == {form: clean(text, form) for form in ("nfc", "nfkc", "none")}


@pytest.mark.parametrize(
    ("limit", "rows", "expected"),
    [(3, 10, 3), (0, 10, 0), (0.01, 249, 2), (0.29, 100, 29), (1.0, 7, 7), (0.0, 7, 0)],
)
def test_allowed_rejects(limit: int | float, rows: int, expected: int) -> None:
    assert allowed_rejects(limit, rows) == expected


@pytest.mark.parametrize("bad", [-1, 1.5, True, "2"])
def test_max_rejects_is_a_count_or_a_share(bad: object) -> None:
    with pytest.raises(ValidationError, match="max_rejects"):
        CleanConfig(max_rejects=bad)  # type: ignore[arg-type]


def test_max_rejects_keeps_its_type() -> None:
    assert isinstance(CleanConfig(max_rejects=1).max_rejects, int)
    assert isinstance(CleanConfig(max_rejects=1.0).max_rejects, float)


def test_language() -> None:
    assert CleanConfig(language="de").language == "de"
    with pytest.raises(ValidationError, match=r"language\n.*the code 'deu'.*did you mean 'de'\?"):
        CleanConfig(language="deu")


def test_rules_are_off_and_unknown_ones_refused() -> None:
    config = CleanConfig.model_validate({"rules": {"c4": {}}})
    assert config.rules.c4 is not None
    assert config.rules.gopher is None
    assert CleanConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError, match="c5"):
        CleanConfig.model_validate({"rules": {"c5": {}}})


def test_the_config_imports_no_library_of_the_rules() -> None:
    code = """
import sys
import data_prep.text.clean
assert not {"py3langid", "phonenumbers", "sentencex"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lines_and_their_indentation_may_be_kept() -> None:
    code = "\n\ndef f():\r\n\tif  x:   \n        return\x00 1\n\n\n\nprint( )\n"
    kept = "def f():\n\tif  x:\n        return 1\n\nprint( )"
    assert clean(code, keep_lines=True) == kept == clean(kept, keep_lines=True)
    assert clean("A line\nand  one.\n\n\nNext.") == "A line\nand one.\n\nNext."
