"""The YAML of recipes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.errors import UserError
from pipeline.fingerprint import canonical
from pipeline.recipe import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@example({"\x85": "\u2028", "\ufeff": "a\nb", " ": "\t", "#": "- a", "": "!x"})
@given(JSON)
def test_what_is_dumped_is_parsed_back(value):
    assert canonical(parse.parse(parse.dump(value), "here")) == canonical(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-1.5e+3", -1500.0), (".5", 0.5), ("5.", 5.0), ("1_000", 1000), ("-7", -7),
        ("0", 0), ("007", "007"), ("0x10", "0x10"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("no", "no"),
        ("on", "on"), ("True", True), ("FALSE", False), ("~", None), ("null", None), ("''", ""), ("'1'", "1"),
        (".inf", ".inf"), ("nan", "nan"), ("e5", "e5"), ("1e", "1e"), ("_1", "_1"), ("=", "="), ("+3", 3),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text, value):
    parsed = parse.parse(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


def test_keys_are_always_text():
    assert parse.parse("{1: a, true: b, null: c, 1e-4: d}", "here") == {
        "1": "a",
        "true": "b",
        "null": "c",
        "1e-4": "d",
    }


def test_a_path_of_very_many_keys_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"--set x\.x\.x.*…: nested too deeply$"):
        parse.parse_setting("x." * 5000 + "y=1")
