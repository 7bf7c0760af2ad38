from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.clean import CleanConfig, clean
from data_prep.errors import UserError
from data_prep.rules import Rules, digest, ngrams_of
from data_prep.rules_config import GopherConfig, Outcome, RulesConfig
from data_prep.rules_gopher import Gopher, duplicates, ngram_shares
from data_prep.rules_ngrams import SharedNgrams, words_of
from data_prep.rules_personal import luhn


def make(split_as: str = "en", **rules: Any) -> Rules:
    return Rules(CleanConfig.model_validate({"language": split_as, "rules": rules}))


PROSE = (
    "The senate met in the old hall and heard a long report on roads, canals and schools. Few members had read it, "
    "yet all of them spoke. A farmer from the valley asked whether bridges would be built before winter. Nobody could "
    "say. When the lamps were lit, somebody opened a window to let out smoke, and snow blew across the papers. The "
    "clerk gathered what he could. They have met every spring since then, with better lamps and shorter reports, but "
    "that first evening is still what people remember most."
)


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


# -- language ---------------------------------------------------------------------------------------------------------

GERMAN = "Der Senat trat in der alten Halle zusammen und hörte einen langen Bericht über Straßen und Schulen."
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
    with pytest.raises(UserError, match="'xx' is not a language that can be identified; known: af, am"):
        make(language={"languages": ["en", "xx"]})


# -- C4 ---------------------------------------------------------------------------------------------------------------

LINE = "This line has exactly six words."
THREE = f"{LINE} {LINE} {LINE}"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("This one ends with a dot.", True),
        ("Does this one end with one?", True),
        ("This one does so too!", True),
        ('He said that it was "over"', True),
        ("This one ends with a colon:", False),
        ("This one has no end mark", False),
        ("This one trails off into dots...", False),
        ("Only four words here.", False),
        ("There are five words here.", True),
        ("Please enable JavaScript in your browser.", False),
        ("By going on you accept our Terms of Use.", False),
        ("Here you find our privacy policy again.", False),
        ("This is our cookie policy for you.", False),
        ("This site uses cookies to know you.", False),
        ("Read about our use of cookies here.", False),
        ("We only use cookies that are needed.", False),
        (f"A word that is too long {'x' * 1001} stands here.", False),
        (f"A word that is long enough {'x' * 1000} stands here.", True),
    ],
)
def test_c4_lines(line: str, kept: bool) -> None:
    outcome = make(c4={"min_sentences": 1})(f"{LINE}\n\n{line}\n{LINE}")
    assert outcome.text == "\n".join([LINE, line, LINE] if kept else [LINE, LINE])
    assert sum(outcome.counts.values()) == (not kept)


def test_c4_counts_name_the_rule() -> None:
    text = "No end\nToo short.\nNeeds javascript to run at all.\nThis site uses cookies to know you.\nAlso none\n"
    text += f"What {'x' * 1001} a very long word.\n" + THREE
    assert make(c4={})(text).counts == {
        "c4: line without an end mark": 2,
        "c4: line of fewer than 5 words": 1,
        "c4: line with javascript": 1,
        "c4: line about a policy": 1,
        "c4: line with a word of more than 1000 characters": 1,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{LINE}\n{LINE}\n{LINE}", ""),
        (f"{LINE}\n{LINE}", "c4: fewer than 3 sentences"),
        (THREE, ""),
        (f"{THREE}\nno end {{", "c4: curly bracket"),
        (f"{THREE}\nno end }}", ""),
        (f"{THREE}\nLorem Ipsum dolor", "c4: lorem ipsum"),
        ("", "c4: fewer than 3 sentences"),
    ],
)
def test_c4_pages(text: str, reason: str) -> None:
    outcome = make(c4={"min_sentences": 3})(text)
    assert outcome.reason == reason
    assert (outcome.text is None) == bool(reason)


def test_c4_citation_marks_go() -> None:
    outcome = make(c4={"min_sentences": 1})(
        "Snow [1] fell on it[citation needed] again[23][].\nIt is [edit] white [a] now[[4]]."
    )
    assert outcome.text == "Snow fell on it again.\nIt is white [a] now."
    assert outcome.counts == {"c4: citation mark": 7}


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("He drank grog in the evening.", True),
        ("He drank GROG, in the evening.", True),
        ("He was groggy in the evening.", False),
        ("He drank dark  rum".replace("  ", " ") + " in the evening.", True),
        ("He drank dark rumour in the evening.", False),
        ("He was a c++ man at heart.", True),
    ],
)
def test_c4_bad_words(tmp_path: Path, text: str, bad: bool) -> None:
    path = tmp_path / "words"
    path.write_text("Grog\n\n dark rum \nc++\n", encoding="utf-8")
    rules = make(c4={"min_sentences": 1, "bad_words": str(path)})
    assert rules(text).reason == ("c4: bad word" if bad else "")


def test_c4_bad_words_inside_characters(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("坏\n", encoding="utf-8")
    c4 = {"min_words_per_line": 1, "min_sentences": 1, "end_marks": ["。"], "bad_words": str(path)}
    assert make("zh", c4=c4)("这是坏话。").reason == "c4: bad word"
    assert make("zh", c4=c4)("这是好话。").text == "这是好话。"


@pytest.mark.parametrize("content", [None, b"", b"\xff\n"])
def test_c4_list_of_bad_words_must_be_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="list of bad words"):
        make(c4={"bad_words": str(path)})


def test_c4_rules_can_be_switched_off() -> None:
    off = {
        "end_marks": [],
        "min_words_per_line": 0,
        "max_word_length": None,
        "min_sentences": 0,
        "citations": False,
        "javascript": False,
        "policies": False,
        "lorem_ipsum": False,
        "curly_brackets": False,
    }
    text = f"lorem ipsum {{ javascript [1] use cookies...\nx\n{'x' * 2000}"
    assert make(c4=off)(text) == Outcome(text)


PAGE = st.lists(
    st.lists(
        st.sampled_from(["snow", "fell", "all", "night", "[1]", "[", "]", "[citation needed]", ".", "lorem", "ipsum"]),
        max_size=9,
    ).map(" ".join)
    | st.sampled_from([LINE, "Use cookies if you like to.", "A line which does not end", ""]),
    max_size=9,
).map("\n".join)


@given(text=PAGE)
def test_c4_accounts_for_every_line_and_is_idempotent(text: str) -> None:
    rules = make(c4={"citations": False, "min_sentences": 0})
    outcome = rules(clean(text))
    if outcome.text is not None:
        lines = [line for line in clean(text).split("\n") if line]
        assert len(lines) == len(outcome.text.split("\n")) + sum(outcome.counts.values())
    rules = make(c4={"min_sentences": 1})
    outcome = rules(clean(text))
    if outcome.text is not None:
        assert rules(outcome.text) == Outcome(outcome.text)
        assert clean(outcome.text) == outcome.text


# -- Gopher -----------------------------------------------------------------------------------------------------------


def test_gopher_has_the_published_thresholds() -> None:
    assert list(GopherConfig().model_dump().values()) == [
        *(50, 100_000, 3, 10, 0.1, 0.9, 0.3, 0.8, ["the", "be", "to", "of", "and", "that", "have", "with"], 2),
        *(0.30, 0.30, 0.20, 0.20, 0.20, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
    ]


def _different(count: int, length: int = 5) -> list[str]:
    """Words of one length, all different."""
    return [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}".ljust(length, "x") for i in range(count)]


def _text(*words: str) -> str:
    return " ".join(["the", "of", *words])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, ""),
        (_text(*_different(48)), ""),
        (_text(*_different(47)), "fewer than 50 words"),
        (_text(*["a"] * 99_998), "words too short"),
        (_text(*["a"] * 99_999), "more than 100000 words"),
        (_text(*_different(100, 10)), ""),
        (_text(*_different(100, 11)), "words too long"),
        (_text(*_different(98), *["#"] * 10).replace(" #", "#"), ""),
        (_text(*_different(98), *["#"] * 11).replace(" #", "#"), "too many hash signs"),
        (
            _text(*_different(98), *["…"] * 5, *["..."] * 6).replace(" …", "…").replace(" ...", "..."),
            "too many ellipses",
        ),
        (_text(*_different(78), *(f"{i}{i}" for i in range(10, 30))), ""),
        (_text(*_different(77), *(f"{i}{i}" for i in range(10, 31))), "too few words with a letter"),
        (" ".join(["The", *_different(60)]), "too few stop words"),
        (" ".join(["The", "the", *_different(60)]), "too few stop words"),
        (" ".join(["The", "there", "with,", *_different(60)]), ""),
        ("\n".join(["•" + word for word in _text(*_different(88, 7)).split()]), "too many bullets"),
        ("\n".join(["-" + word for word in _text(*_different(88, 7)).split()][:81]) + "\na" * 9, ""),
        ("\n".join(["-" + word for word in _text(*_different(88, 7)).split()][:82]) + "\na" * 9, "too many bullets"),
        (f"{_text(*_different(60))}\na…\nb...\nc…" + "\n1\n2\n3\n4\n5\n6", ""),
        (f"{_text(*_different(60))}\na…\nb...\nc…" + "\n1\n2\n3\n4\n5", "too many lines that end in an ellipsis"),
        (f"{_text(*_different(60))}\na…\nb...", "too many lines that end in an ellipsis"),
    ],
)
def test_gopher_quality(text: str, reason: str) -> None:
    outcome = make(gopher={})(text)
    assert outcome == Outcome(None if reason else text, reason and f"gopher: {reason}")


def test_duplicates() -> None:
    assert duplicates(["aa", "b", "aa", "aa", "cccc"]) == (pytest.approx(2 / 5), pytest.approx(4 / 11))
    assert duplicates(["a", "b"]) == (0, 0)


def test_gopher_duplicate_lines_and_paragraphs() -> None:
    prose = " ".join(_text(*_different(60)).split())
    assert make(gopher={})("\n".join([prose, *"abc", *"ab"])).reason == "gopher: duplicate lines"
    assert make(gopher={})("\n".join([prose, *"abcd", *"ab"])).text
    long = " ".join(_different(300)[200:])
    assert make(gopher={})("\n".join([prose, *"abc", long, long])).reason == "gopher: characters in duplicate lines"
    lines_off = {"duplicate_lines": None, "duplicate_line_characters": None}
    text = "\n\n".join([prose, *"abc", *"ab"])
    assert make(gopher=lines_off)(text).reason == "gopher: duplicate paragraphs"
    text = "\n\n".join([prose, *"abc", long, long])
    assert make(gopher=lines_off)(text).reason == "gopher: characters in duplicate paragraphs"


def test_ngram_shares_by_hand() -> None:
    # 11 words of 1 character; "a b" three times (6 of 11), "a b c" twice, "a b c d e" once
    assert dict(ngram_shares(["a", "b", "x", "a", "b", "c", "y", "a", "b", "c", "z"])) == {2: 6 / 11, 3: 6 / 11}
    twice = ["a", "b", "c", "d", "e", "f"]
    assert dict(ngram_shares([*twice, *twice])) == {2: 4 / 12, 3: 6 / 12, 4: 8 / 12, 5: 1, 6: 1}
    # the longer of two that are as frequent
    assert dict(ngram_shares(["a", "b", "a", "b", "cc", "dd", "cc", "dd"]))[2] == pytest.approx(8 / 12)
    # duplicates that overlap count once
    assert dict(ngram_shares(["a"] * 7))[5] == 1
    assert dict(ngram_shares([*"abcde", "z", *"abcde", "yyyy"]))[5] == pytest.approx(10 / 15)


def _naive_shares(words: list[str]) -> dict[int, float]:
    shares = {}
    total = sum(map(len, words))
    for n in range(2, 11):
        ngrams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        counts = Counter(ngrams)
        if not any(count > 1 for count in counts.values()):
            break
        if n < 5:
            most = max(counts.values())
            longest = max(len("".join(ngram)) for ngram in counts if counts[ngram] == most)
            shares[n] = min(1, most * longest / total)
        else:
            covered = {i + j for i, ngram in enumerate(ngrams) if counts[ngram] > 1 for j in range(n)}
            shares[n] = sum(len(words[i]) for i in covered) / total
    return shares


@given(words=st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=60) | st.lists(st.sampled_from("ab"), max_size=60))
def test_ngram_shares_are_those_of_the_definition(words: list[str]) -> None:
    assert dict(ngram_shares(words)) == pytest.approx(_naive_shares(words))


PHRASE = ["eleven", "different", "words", "that", "come", "back", "once", "and", "then", "no", "more"]


@pytest.mark.parametrize(
    ("repeated", "times", "reason"),
    [
        (["averyverylongword!", "averyverylongword?"], 8, "most frequent 2-gram"),
        (PHRASE, 2, ""),
        (PHRASE, 3, "duplicate 8-grams"),
        (PHRASE, 4, "duplicate 5-grams"),
    ],
)
def test_gopher_repetition(repeated: list[str], times: int, reason: str) -> None:
    words = _different(200)
    parts = [words[i * 25 : (i + 1) * 25] for i in range(8)]
    for part in parts[:times]:
        part.extend(repeated)
    outcome = make(gopher={"max_mean_word_length": None})(_text(*(word for part in parts for word in part)))
    assert outcome.reason == (reason and f"gopher: {reason}")


def test_every_ngram_has_its_threshold() -> None:
    words = _text(*_different(60), *_different(60)).split()
    names = [name for name in GopherConfig.model_fields if "gram_" in name]
    for name, n in zip(names, range(2, 11), strict=True):
        only = GopherConfig(**{other: None for other in names if other != name})
        kind = f"most frequent {n}-gram" if n < 5 else f"duplicate {n}-grams"
        text = (
            " ".join(words) if n > 4 else " ".join(words[:60] + [w for i in range(30) for w in ("the", "of", "a", "b")])
        )
        only = only.model_copy(update={"min_mean_word_length": None})
        assert Gopher(only)(text).reason == f"gopher: {kind}"


@given(words=st.lists(st.sampled_from(["the", "of", "snow", "fell", "#", "…", "\n", "1"]), max_size=200))
def test_gopher_changes_nothing(words: list[str]) -> None:
    text = clean(" ".join(words))
    outcome = make(gopher={"min_words": 5})(text)
    assert outcome.text == text if not outcome.reason else outcome.text is None
    assert outcome.counts == {}


# -- length -----------------------------------------------------------------------------------------------------------


def test_max_characters() -> None:
    assert make(max_characters=5)("12345").text == "12345"
    assert make(max_characters=5)("123456") == Outcome(None, "length: more than 5 characters")


# -- personal data ----------------------------------------------------------------------------------------------------

MASKED = [
    ("Write to jane.doe+x@mail.example.co.uk, or müller@web.de.", "Write to <email>, or <email>."),
    ("联系我abc@qq.com谢谢", "联系我<email>谢谢"),
    ("a@b is none, @home is none, x@y.z is none", None),
    ("Call (415) 555-2671 or 415-555-2671 or +44 20 7946 0958.", "Call <phone> or <phone> or <phone>."),
    ("Ring\n+49 30 123456\nnow", "Ring\n<phone>\nnow"),
    ("Visa 4111 1111 1111 1111 12/27", "Visa <card> 12/27"),
    ("4111-1111-1111-1111, 4111111111111111", "<card>, <card>"),
    ("In 2020 4111 1111 1111 1111 was stolen", "In 2020 <card> was stolen"),
    ("3782 822463 10005 and 378282246310005", "<card> and <card>"),
    ("5555555555554444 6011111111111117", "<card> <card>"),
    ("3530111333300000 30569309025904 2223003122003222", "<card> <card> <card>"),
    ("4222222222222 and 6304000000000000 and 6205500000000000004", "<card> and <card> and <card>"),
    ("4111 1111 1111 1112", None),  # a wrong check digit
    ("4111-1111 1111-1111", None),  # two kinds of separators
    ("41 11 11 11 11 11 11 11", None),  # not as cards are grouped
    ("94111111111111111", None),  # no issuer
    ("0.4111111111111111 and x4111111111111111", None),
    ("2012-05-12, 12/05/2012, 1990-1995, 1809-02-12T12:30:45", None),
    ("1990 1991 1992 1993 1994 1995 1996 1997 1998 1999 2000", None),
    ("ISBN 978-0-306-40615-7, ISBN 0-306-40615-2, 9780306406157", None),
    ("$1,000,000,000, 3.14159265358979, 8336817 people, pp. 123-145", None),
    ("Sent from 192.168.0.1. To 255.255.255.255:80", "Sent from <ip>. To <ip>:80"),
    ("256.1.1.1, 1.2.3, 1.2.3.4.5, §1.2.3", None),
    ("2001:db8::8a2e:370:7334 or FE80:0:0:0:0:0:0:1:", "<ip> or <ip>:"),
    ("at 12:30:45, std::vector, ab::cd, ::1, 1:2, a:b:c:1", None),
]


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


PERSONAL = st.lists(
    st.sampled_from([text for text, _ in MASKED] + ["a@b.org", "@", ".com", "4111", "415", "555", "2671", "+1", "::1"])
    | st.text("0123456789 -.:@ab+()", max_size=20),
    max_size=6,
).flatmap(lambda parts: st.sampled_from(["", " ", "\n", "-", "."]).map(lambda glue: glue.join(parts)))


@given(text=PERSONAL)
def test_nothing_personal_is_left(mask: Rules, text: str) -> None:
    once = mask(text)
    assert once.text is not None
    assert mask(once.text) == Outcome(once.text)
    added = sum(once.text.count(one) for one in ("<email>", "<phone>", "<card>", "<ip>"))
    assert added == sum(once.counts.values())


@given(text=st.text("0123456789 -.+()/", max_size=40))
@settings(max_examples=200)
def test_no_phone_number_is_passed_over(text: str) -> None:
    """The cheap look for digits lets no line go that the library would find a number in."""
    import phonenumbers

    left = make(personal_data={"cards": False})(text).text
    assert left is not None
    assert not phonenumbers.PhoneNumberMatcher(left, "US").has_next()


# -- decontamination --------------------------------------------------------------------------------------------------

QUESTION = "Which river flows through the capital of the country that lies west of Germany and north of Spain?"


def test_words() -> None:
    assert words_of("Don’t STOP — it's “Straße” 中文字, a_b 3.5") == [
        *("don", "t", "stop", "it", "s", "strasse", "中", "文", "字", "a", "b", "3", "5")
    ]
    assert words_of("हिन्दी में") == ["हिन्दी", "में"]


def test_hashes_are_the_same_everywhere() -> None:
    found = ngrams_of(["one two three", "Two, three FOUR!"], 2)
    assert found.dtype == np.uint64
    assert found.tolist() == [444245091633210196, 10993520877187551212, 13764245666506251179]


def _write(path: Path, *texts: str, field: str = "text") -> dict[str, Any]:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return {"path": str(path), "text_field": field}


@pytest.mark.parametrize(
    ("text", "clean_of_it"),
    [
        (f"Quiz: {QUESTION} The Seine.", False),
        ("quiz - WHICH river flows, through the 'capital' of the country that lies west... of Gerbils", False),
        ("river flows through the capital of the country that lies west of Gerbils and north of", True),  # 12 words
        ("river flows through the capital of the country that lies west of Germany", False),  # 13 words
        ("Eight words are enough to be found here", False),
        ("They said: eight words are enough to be found here, I think", False),
        ("Eight words are enough to be found", True),
        ("Seven words of it are not enough", True),
        ("", True),
    ],
)
def test_decontamination(tmp_path: Path, text: str, clean_of_it: bool) -> None:
    evaluation = _write(
        tmp_path / "quiz.jsonl",
        *(QUESTION, "Eight words are enough to be found here.", "Seven words of it are not enough"),
        field="question",
    )
    outcome = make(decontamination={"evaluation": [evaluation]})(text)
    reason = "decontamination: shares words with an evaluation text"
    assert outcome == (Outcome(text) if clean_of_it else Outcome(None, reason))


def test_decontamination_reads_text_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("one two three", encoding="utf-8")
    (tmp_path / "b.txt").write_text("four five six", encoding="utf-8")
    rules = make(decontamination={"evaluation": [{"path": str(tmp_path)}], "n": 3})
    assert rules("one two three").text is None
    assert rules("four, five, six").text is None
    assert rules("three four five").text is not None


def test_an_evaluation_text_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        make(decontamination={"evaluation": [{"path": str(tmp_path / "none.txt")}]})
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\nnot json\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"bad.jsonl line 2: .*mend this evaluation text"):
        make(decontamination={"evaluation": [{"path": str(path)}]})


WORDS = st.lists(st.sampled_from("abc"), max_size=14)


def _ngrams(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@given(evaluation=st.lists(WORDS, max_size=3), text=WORDS, n=st.integers(1, 10))
def test_texts_share_ngrams_by_the_definition(evaluation: list[list[str]], text: list[str], n: int) -> None:
    wanted: set[tuple[str, ...]] = set()
    for words in evaluation:
        wanted |= _ngrams(words, n) if len(words) >= n else {tuple(words)} if len(words) >= 8 else set()
    shared = any(_ngrams(text, len(ngram)) & wanted for ngram in wanted)
    texts = [" ".join(words) for words in evaluation]
    assert (SharedNgrams(texts, n)(" ".join(text)).text is None) == shared
    hashes = ngrams_of(texts, n)
    assert len(hashes) == len(wanted)
    assert np.all(hashes[1:] > hashes[:-1])


def test_digest_follows_what_is_read(tmp_path: Path) -> None:
    assert digest(RulesConfig.model_validate({"c4": {}, "gopher": {}})) == ""
    words = tmp_path / "words"
    words.write_text("grog\n", encoding="utf-8")
    evaluation = _write(tmp_path / "quiz.jsonl", QUESTION)
    config = RulesConfig.model_validate(
        {"c4": {"bad_words": str(words)}, "decontamination": {"evaluation": [evaluation]}}
    )
    first = digest(config)
    assert first == digest(config) != ""
    words.write_text("grog\nrum\n", encoding="utf-8")
    second = digest(config)
    _write(tmp_path / "quiz.jsonl", QUESTION, QUESTION)
    assert len({first, second, digest(config)}) == 3


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    evaluation = _write(tmp_path_factory.mktemp("evaluation") / "quiz.jsonl", QUESTION)
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
    assert everything(" ".join(_different(1100))).reason.startswith(("language", "gopher", "c4"))
