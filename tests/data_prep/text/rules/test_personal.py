"""Personal data: what is masked, and what looks like it and is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.text.rules.config import Outcome
from data_prep.text.rules.personal import luhn
from data_prep.text.rules.rules import Rules
from tests.data_prep.rule_texts import MASKED, PERSONAL, make


@pytest.fixture(scope="module")
def mask() -> Rules:
    return make(personal_data={"ips": True})


@pytest.mark.parametrize(("text", "expected"), MASKED)
def test_masks(mask: Rules, text: str, expected: str | None) -> None:
    outcome = mask(text)
    assert outcome.text == (text if expected is None else expected)
    assert sum(outcome.counts.values()) == (0 if expected is None else expected.count("<"))


def test_masks_are_counted_by_kind(mask: Rules) -> None:
    text = "a@b.org c@d.org 10.0.0.1 4111111111111111 +1 415 555 2671 +1 415 555 2672 +1 415 555 2673"
    assert mask(text).counts == {"masked e-mail": 2, "masked IP address": 1, "masked card": 1, "masked phone": 3}


def test_masks_can_be_switched_off() -> None:
    text = "a@b.org 10.0.0.1 4111111111111111 +1 415 555 2671"
    for name, left in [("emails", "a@b.org"), ("cards", "4111111111111111"), ("phones", "+1 415 555 2671")]:
        outcome = make(personal_data={name: False})(text)
        assert outcome.text is not None and left in outcome.text and "10.0.0.1" in outcome.text
        assert len(outcome.counts) == 2


def test_region() -> None:
    assert make(personal_data={"region": "DE"})("Ruf 030 123456 an").text == "Ruf <phone> an"
    assert make(personal_data={"region": None})("030 123456, +49 30 123456").text == "030 123456, <phone>"
    with pytest.raises(UserError, match="'ZZ' is not a region"):
        make(personal_data={"region": "ZZ"})


@pytest.mark.parametrize("number", ["79927398713", "4111111111111111", "378282246310005", "0", "18"])
def test_luhn(number: str) -> None:
    assert luhn(number)
    assert not luhn(number[:-1] + str((int(number[-1]) + 1) % 10))


@given(digits=st.text("0123456789", min_size=1, max_size=18))
def test_luhn_has_one_check_digit(digits: str) -> None:
    assert sum(luhn(digits + last) for last in "0123456789") == 1


@given(text=PERSONAL)
def test_nothing_personal_is_left(mask: Rules, text: str) -> None:
    once = mask(text)
    assert once.text is not None
    assert mask(once.text) == Outcome(once.text)
    added = sum(once.text.count(marker) for marker in ("<email>", "<phone>", "<card>", "<ip>"))
    assert added == sum(once.counts.values())


@given(text=st.text("0123456789 -.+()/", max_size=40))
@settings(max_examples=200)
def test_no_phone_number_is_passed_over(text: str) -> None:
    """The cheap look for digits lets no line go that the library would find a number in."""
    import phonenumbers

    left = make(personal_data={"cards": False})(text).text
    assert left is not None
    assert not phonenumbers.PhoneNumberMatcher(left, "US").has_next()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4111111111111111::1:2:3", "<card><ip>"),  # the address begins where the card ends
        ("no 4111111111111111::1:2:3 and a@b.org", "no <card><ip> and <email>"),
    ],
)
def test_what_a_mask_frees_is_masked_too(mask: Rules, text: str, expected: str) -> None:
    outcome = mask(text)
    assert outcome.text == expected and sum(outcome.counts.values()) == expected.count("<")
    assert mask(expected).text == expected
