"""Rules as a whole: their config, their order, what they may never do; and the two without a module of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.errors import UserError
from data_prep.text.clean import CleanConfig
from data_prep.text.rules.config import Outcome, RulesConfig
from data_prep.text.rules.rules import Rules, digest
from data_prep.tokens.cleaning import clean
from tests.data_prep.rule_texts import GERMAN, PAGE, PERSONAL, PROSE, QUESTION, different, make, write_jsonl

# -- config -----------------------------------------------------------------------------------------------------------


def test_all_is_off_by_default() -> None:
    assert set(CleanConfig().rules.model_dump().values()) == {None}
    assert Rules(CleanConfig())("{ lorem ipsum") == Outcome("{ lorem ipsum")


@pytest.mark.parametrize(
    "bad",
    [
        {"c5": {}},
        {"c4": {"min_wordz": 3}},
        {"c4": {"min_sentences": "3"}},
        {"c4": {"min_sentences": -1}},
        {"gopher": {"duplicate_lines": 1.5}},
        {"language": {}},
        {"language": {"languages": []}},
        {"max_characters": 0},
        {"personal_data": {"region": "us"}},
        {"decontamination": {"evaluation": []}},
    ],
)
def test_bad_configs_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RulesConfig.model_validate(bad)


def test_config_survives_json_and_pickle() -> None:
    config = RulesConfig.model_validate(
        {"c4": {}, "gopher": {"max_words": None}, "decontamination": {"evaluation": [{"path": "x.txt"}]}}
    )
    assert RulesConfig.model_validate(config.model_dump(mode="json")) == config
    assert pickle.loads(pickle.dumps(config)) == config


def test_digest_follows_what_is_read(tmp_path: Path) -> None:
    assert digest(RulesConfig.model_validate({"c4": {}, "gopher": {}})) == ""
    words = tmp_path / "words"
    words.write_text("grog\n", encoding="utf-8")
    evaluation = write_jsonl(tmp_path / "quiz.jsonl", QUESTION)
    config = RulesConfig.model_validate(
        {"c4": {"bad_words": str(words)}, "decontamination": {"evaluation": [evaluation]}}
    )
    first = digest(config)
    assert first == digest(config) != ""
    words.write_text("grog\nrum\n", encoding="utf-8")
    second = digest(config)
    write_jsonl(tmp_path / "quiz.jsonl", QUESTION, QUESTION)
    assert len({first, second, digest(config)}) == 3


# -- language ---------------------------------------------------------------------------------------------------------

CHINESE = "参议院在旧大厅开会，听取了一份关于道路、运河和学校的长篇报告。很少有议员读过它。"


@pytest.fixture(scope="module")
def english_or_chinese() -> Rules:
    return make(language={"languages": ["en", "zh"], "min_probability": 0.6})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        (CHINESE, ""),
        (GERMAN, "language: not en or zh"),
        ("1234 5678", "language: probability below 0.6"),
        (GERMAN * 1000, "language: not en or zh"),  # judged by samples
        (PROSE * 1000, ""),
    ],
)
def test_language(english_or_chinese: Rules, text: str, reason: str) -> None:
    assert english_or_chinese(text) == Outcome(None if reason else text, reason)


def test_a_long_text_is_judged_as_a_whole() -> None:
    rules = make(language={"languages": ["en"], "min_probability": 0.9})
    assert rules(PROSE[:400] + "\n" + GERMAN * 200).text is None
    assert rules(GERMAN * 200 + PROSE[:400]).text is None


def test_unknown_language() -> None:
    with pytest.raises(UserError, match="'xx' is not a language that can be identified; allowed: af, am"):
        make(language={"languages": ["en", "xx"]})


# -- length -----------------------------------------------------------------------------------------------------------


def test_max_characters() -> None:
    assert make(max_characters=5)("12345").text == "12345"
    assert make(max_characters=5)("123456") == Outcome(None, "length: more than 5 characters")


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    evaluation = write_jsonl(tmp_path_factory.mktemp("evaluation") / "quiz.jsonl", QUESTION)
    return make(
        language={"languages": ["en"], "min_probability": 0.0},
        gopher={"min_words": 1, "min_stop_words": 0, "min_mean_word_length": None},
        c4={"min_sentences": 1, "min_words_per_line": 1},
        max_characters=5000,
        decontamination={"evaluation": [evaluation]},
        personal_data={"ips": True},
    )


@given(text=st.text(max_size=80).map(clean) | PAGE | PERSONAL)
def test_rules_never_raise(everything: Rules, text: str) -> None:
    outcome = everything(text)
    assert (outcome.text is None) == bool(outcome.reason)
    assert everything(text) == outcome
    assert all(count > 0 for count in outcome.counts.values())
    if outcome.reason:
        assert outcome.counts == {}


def test_order(everything: Rules) -> None:
    text = f"{PROSE}\nMail a@b.org for more on it[1].\nno end"
    assert everything(text) == Outcome(
        f"{PROSE}\nMail <email> for more on it.",
        counts={"c4: citation mark": 1, "c4: line without an end mark": 1, "masked e-mail": 1},
    )
    assert everything(f"{PROSE}\n{QUESTION}").reason == "decontamination: shares words with an evaluation text"
    assert everything(GERMAN).reason == "language: not en"
    assert everything(" ".join(different(1100))).reason.startswith(("language", "gopher", "c4"))
