from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.tables.number_text import canonical, plain
from data_prep.tables.values import numbers


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1234.5", 1234.5, None),
        ("1234,5", None, 1234.5),
        ("1,234.50", 1234.5, None),
        ("1.234,50", None, 1234.5),
        ("1,234", 1234, 1.234),
        ("1.234", 1.234, 1234),
        ("1 234 567", 1234567, 1234567),
        ("1\u202f234,5", None, 1234.5),
        ("1'234.5", 1234.5, None),
        ("$1,234.50", 1234.5, None),
        ("-$5", -5, -5),
        ("$-5", -5, -5),
        ("5 €", 5, 5),
        ("EUR 12,5", None, 12.5),
        ("(1,234.50)", -1234.5, None),
        ("12.5%", 0.125, None),
        ("12,5 %", None, 0.125),
        ("\u22125", -5, -5),
        ("1e3", 1000, 1000),
        *(
            (text, None, None)
            for text in ("", "-", "x", "$", "%", "1.2.3", "1,2,3", "1 2", "(1)", "--5", "5-", "EURO 5")
        ),
        ("1,23,456", 123456, None),  # as in India
        ("₹12,34,56,789.50", 123456789.5, None),
        ("1,23,45", None, None),
        ("٣٤", 34, 34),
        ("１２．５", None, None),
        ("１２.５", 12.5, None),
        ("1:02:03", 3723, 3723),
        ("1:02:03.5", 3723.5, 3723.5),
        ("01:02:03,5", 3723.5, 3723.5),
        ("12:30", 45000, 45000),
        ("-0:00:01", -1, -1),
        ("2 days 00:00:01", 172801, 172801),
        ("-1 days +23:59:59", -1, -1),
        ("1 day, 1:00:00", 90000, 90000),
        ("PT5M30S", 330, 330),
        ("P1DT2H", 93600, 93600),
        ("-PT0.5S", -0.5, -0.5),
        *((text, None, None) for text in ("P", "PT", "1:60", "12:3", "1:2:3", "::", "12:30 pm", "10:00:00:00")),
    ],
)
def test_numbers_as_people_write_them(text: str, point: float | None, comma: float | None) -> None:
    for value, has_comma in ((point, False), (comma, True)):
        written = plain(text, has_comma)
        assert (None if written is None else float(written)) == value


@settings(max_examples=200, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_equal_numbers_have_one_text(value: Decimal) -> None:
    spellings = [str(value), f"{value:+f}", f"{value:e}", f"{value:f}000" if "." in f"{value:f}" else f"{value:f}"]
    assert len({canonical(text) for text in spellings}) == 1
    text = canonical(str(value))
    assert Decimal(text) == value and canonical(text) == text and (len(text) == 1 or not text.endswith(".0"))
    grouped = [f"{value:,f}", f"$ {value:,f}".replace("$ -", "-$"), f"{value:,f}".replace(",", " ")]
    read, bad = numbers(pa.array(grouped))
    assert not bad.any() and (read == float(value)).all()
    german = f"{value:,f}".translate(str.maketrans(",.", ".,"))
    assert numbers(pa.array([german]), comma=True)[0].tolist() == [float(value)]


def test_codes_stay_as_they_are() -> None:
    for code in ("007", "1.2.3", "1e", "x", "", "+", "0x10", "1_000", "12 ", "００"):
        assert canonical(code) == code
    assert canonical("1e999999999999999999999") == "1e999999999999999999999"
    assert [canonical(text) for text in ("-0", "0.00", "-0e5", "1e15", "100")] == ["0", "0", "0", "1" + "0" * 15, "100"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_no_text_is_an_error(text: str) -> None:
    canonical(text)
    for comma in (False, True):
        written = plain(text, comma)
        values, bad = numbers(pa.array([text]), comma)
        if written is not None:
            assert not bad[0] and (np.isnan(values[0]) or values[0] == float(written))
