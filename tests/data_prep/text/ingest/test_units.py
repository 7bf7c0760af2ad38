"""What a document must be to be kept: also after rules have taken something from it."""

from __future__ import annotations

from data_prep.sources.records import Document, Reject
from data_prep.text.clean import CleanConfig
from data_prep.text.ingest.units import Cleaned, Cleaner, _Filtered
from data_prep.text.rules.rules import Rules


def cleaned(text: str, least: int, **rules: object) -> Cleaned | Reject:
    config = CleanConfig.model_validate({"min_characters": least, "rules": rules})
    return Cleaner(config, Rules(config))(Document("a", text, "a.txt", 1))


def test_what_rules_leave_must_be_long_enough_too() -> None:
    text, left = "Ask jane.doe+x@mail.example.org.", "Ask <email>."
    kept = cleaned(text, len(left), personal_data={})
    assert isinstance(kept, Cleaned) and kept.text == left
    rejected = cleaned(text, len(left) + 1, personal_data={})
    assert isinstance(rejected, _Filtered), "a rule took it, so it is not bad"
    assert rejected.reason == f"shorter than {len(left) + 1} characters"


def test_a_text_of_the_least_length_is_kept() -> None:
    assert isinstance(cleaned("Four", 4), Cleaned)
    rejected = cleaned(" Fou ", 4)
    assert isinstance(rejected, Reject) and not isinstance(rejected, _Filtered)
