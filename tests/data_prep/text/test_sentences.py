from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text import sentences as module
from data_prep.text.sentences import (
    LANGUAGES,
    SPLITTERS,
    by_paragraph,
    check_language,
    split,
    split_en,
    split_lines,
    split_zh,
)
from data_prep.tokens.cleaning import clean

# "|" marks where sentences part
ENGLISH = [
    # plain ends
    "It rained.| We stayed home.| Did you?| Yes!| Good.",
    "One sentence without a mark",
    # lower case continues
    "He asked what? and left.| Then he slept.",
    "The firm yahoo! grew.| It shrank.",
    # titles and initials
    "Mr. Adams met Mrs. Gore and Dr. King.| They spoke with Gen. U. S. Grant of St. Louis.",
    "The Hon. J. Q. Adams replied.| Messrs. Powell and Wells did not.",
    "It fell to George W. Bush.| He spoke.",
    # abbreviations inside a sentence and at its end
    "The U.S. Navy sailed.| It left the U.S. The crew stayed.".replace("U.S. The", "U.S.| The"),
    "He arrived at 5 p.m. on Jan. 5, 1893.| It was 9 a.m.| We slept.",
    "Smith Inc. and Jones Co. merged.| They make nails, screws, etc. They sell them.".replace(
        "etc. They", "etc.| They"
    ),
    "He was born in Washington, D.C.| His father worked there.",
    "The G.I. Bill passed.| See e.g. Article 5 or cf. Madison.",
    # numbers
    "It cost $2,000,000.50 in 1893.| The rest was paid.| No. 5 was missing.| No.| I said so.",
    "See Art. IV and Sec. 3, pp. 10 and vol. II.| The art.| The rest is lost.",
    "Growth was 3.5 percent.| 1 percent was lost.",
    # list marks stay with what they introduce
    "1. The plan is clear.| 2. The means are not.",
    "(a) Ships.| (b) Forts; (c) Guns.| II. Foreign relations.| (iv) Nothing.",
    # but years and amounts end sentences
    "So it was in 1893.| The tariff fell.",
    # quotations and brackets
    '"We go."| He said "Stay!"| "Why?" he asked.| (She knew.)| Then (at noon) they left.',
    "“Let us go.”| ‘Why?’| He stayed.",
    # stage directions
    "That was long ago. [Laughter]| The next matter is grave.| Thank you. [Applause]",
    "He sat. [Laughter] [Applause]| We went on.| [The audience rose.]| It was late.",
    # ellipses and repeated marks
    "Well... we waited... Nothing came.".replace("... N", "...| N"),
    "Really?!| No… not yet.| Never…| Perhaps.",
    "He paused . . . and went on.| She did not.",
    # starters with an apostrophe or a dash
    "He left the U.S.| It's gone.| I met Mr. O'Neill, Jr.| He's well.",
    # one-letter words
    "It is I.| The rest left.| Plan A. The other failed.".replace("A. The", "A.| The"),
    # dashes join
    "He left.—She stayed.| They--all of them--slept.",
]

CHINESE = [
    "今天下雨。|我们在家。|你呢？|好！",
    "他说：“你好。”|然后走了。",
    "“你去吗？”，他问。|她没有回答。",
    "“走吧！”|『好。』|（完。）",
    "他（真的！）走了。|我没走。",
    "我看了《你好，李焕英！》这部电影。|很好看。",
    "圆周率是3.14。|他等了很久……|终于来了；|她笑了。",
    "真的吗？！|真的！！！|嗯…",
    "没有标点的一行",
]


def _cut(marked: str) -> tuple[str, list[str]]:
    return marked.replace("|", ""), [piece.strip() for piece in marked.split("|")]


@pytest.mark.parametrize("marked", ENGLISH)
def test_english(marked: str) -> None:
    text, expected = _cut(marked)
    assert split_en(text) == expected


@pytest.mark.parametrize("marked", CHINESE)
def test_chinese(marked: str) -> None:
    text, expected = _cut(marked)
    assert split_zh(text) == expected


def test_english_blank_lines_end_and_line_ends_do_not() -> None:
    text = "A HEADING\n\nThe first\nline goes on.\nSo it does.\n \n  Last, without a mark"
    assert split_en(text) == [
        "A HEADING",
        "The first line goes on.",
        "So it does.",
        "Last, without a mark",
    ]


def test_chinese_line_ends_end() -> None:
    assert split_zh("标题\n第一句。第二句\n\n第三句") == ["标题", "第一句。", "第二句", "第三句"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", ["", " \n\n \t"])
def test_nothing_gives_nothing(language: str, text: str) -> None:
    assert split(text, language) == []


TEXT = st.text(alphabet="aB I.?!…'\"()[]\n1,-—。！？；“”（）《》，中U", max_size=60)


@given(text=TEXT, language=st.sampled_from(["en", "zh"]))
def test_only_white_space_is_lost(text: str, language: str) -> None:
    sentences = split(text, language)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


@given(text=TEXT)
def test_english_paragraphs_do_not_touch_each_other(text: str) -> None:
    assert split_en(text + "\n\nX y.") == [*split_en(text), "X y."]


WORDS = (
    "a A I B iv IV x mr Mr St st Gen D.C U.S u.s etc co Co. no No p. Art art Ph.D e.g sec'y civil will The the Navy 5 "
    "(b) (iv) [x] [Laughter] [A.] ( “ — * _mr -st foo-st Éco éco ſt Kans prof pRof messrs dept also Cuba I'll 中 İ ..."
)
JOINTS = ". |? |! |… |.\" |.) |?” |.|?!|... |.] |'. |.\n|.\n\n|.\xa0| |, "
PIECES = st.lists(
    st.tuples(st.sampled_from(WORDS.split()), st.sampled_from(JOINTS.split("|"))).map("".join), max_size=12
).map("".join)


@given(text=PIECES | TEXT)
def test_what_surely_ends_a_sentence_ends_it_by_the_rules_too(text: str) -> None:
    sentences = split_en(text)
    with pytest.MonkeyPatch.context() as patch:
        every = re.compile(rf"[{''.join(module._MARKS)}][{re.escape(module._CLOSERS)}]* ")  # and none of them surely
        patch.setattr(module, "_CANDIDATE", every)
        assert sentences == split_en(text)


@given(text=PIECES | TEXT | st.text(max_size=40))
def test_clean_text_needs_no_second_look_at_its_spaces(text: str) -> None:
    text = clean(text)
    assert split(text, "en", tidy=True) == split(text, "en")


# -- other languages, by sentencex ------------------------------------------------------------------------------------

OTHERS = [
    ("de", "Am 3. Oktober ist z. B. ein Feiertag.| Dr. Müller kam.| Ging er?| Ja!"),
    ("fr", "Il pleut.| « Ça va ? » dit-il.| Oui !"),
    ("es", "¿Qué?| El Sr. López vino.| ¡Sí!"),
    ("ru", "Это проф. Иванов.| Он живёт на ул. Ленина.| Вот."),
    ("ar", "هذا نص.| ماذا؟| نعم!"),
    ("hi", "यह एक वाक्य है।| यह दूसरा है।| और क्या?"),
    ("ja", "今日は雨です。|彼は行った。|終わり！"),
    ("sv", "Det regnar.| Vi stannar hemma."),  # by its default
]
SOME = ["de", "fr", "es", "it", "pt", "nl", "ru", "uk", "el", "ar", "fa", "he", "hi", "ta", "th", "ja", "ko", "yue"]


@pytest.mark.parametrize(("language", "marked"), OTHERS)
def test_other_languages(language: str, marked: str) -> None:
    text, expected = _cut(marked)
    assert split(text, language) == expected


def test_lines_are_wrapped_where_words_have_spaces() -> None:
    assert split("EIN TITEL\n\nDer erste\nSatz. Der\nzweite.", "de") == ["EIN TITEL", "Der erste Satz.", "Der zweite."]
    assert split("題名\n雨です。行く\n\n終わり", "ja") == ["題名", "雨です。", "行く", "終わり"]


OTHER_TEXT = st.text(
    alphabet="aB I.?!…'\"()[]\n1,-—。！？；“”（）《》，中Uéß۔؟।॥։።’«»¿¡ \u3000\u2028\x0b\u200d अ्कمゃ「」\x00😀D r.",
    max_size=60,
)


@given(text=OTHER_TEXT | st.text(max_size=40), language=st.sampled_from(SOME))
def test_other_languages_lose_only_white_space(text: str, language: str) -> None:
    sentences = split(text, language)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == " ".join(sentence.split()) != "" for sentence in sentences)


@given(text=OTHER_TEXT, language=st.sampled_from(SOME))
def test_paragraphs_of_other_languages_do_not_touch_each_other(text: str, language: str) -> None:
    assert split(text + "\n\nX y.", language) == [*split(text, language), *split("X y.", language)]


def test_languages() -> None:
    assert set(SPLITTERS) == LANGUAGES
    assert {"en", "zh", "de", "sw", "yue"} <= LANGUAGES
    assert SPLITTERS["en"] is split_en
    assert SPLITTERS["zh"] is split_zh


@pytest.mark.parametrize(
    ("language", "hint"),
    [("DE", "de"), ("pt-br", "pt"), ("pt_BR", "pt"), ("eng", "en"), ("deu", "de"), ("german", None), ("", None)],
)
def test_unknown_languages(language: str, hint: str | None) -> None:
    with pytest.raises(ValueError, match=f"no language is known by the code '{language}'") as error:
        check_language(language)
    assert ("did you mean" in str(error.value)) == (hint is not None)
    assert hint is None or str(error.value).endswith(f"did you mean {hint!r}?")


@pytest.mark.parametrize("language", ["en", "zh", "de", "th"])
@given(text=st.text(alphabet="ab. !。A\n\n ", max_size=60))
def test_paragraphs_divide_what_would_be_split_anyway(language: str, text: str) -> None:
    sentences, paragraphs = by_paragraph(text, lambda part: split(part, language))
    assert sentences == split(text, language)
    assert len(paragraphs) == len(sentences) and paragraphs == sorted(paragraphs)
    assert sorted(set(paragraphs)) == list(range(len(set(paragraphs))))


def test_a_blank_line_begins_a_paragraph() -> None:
    text = "One. Two\ngoes on.\n\nThree.\n \n\nFour."
    assert by_paragraph(text, lambda part: split(part, "en")) == (
        ["One.", "Two goes on.", "Three.", "Four."],
        [0, 0, 1, 2],
    )
    assert by_paragraph("def f():\n    pass\n\n\n    x\n", split_lines) == (
        ["def f():", "    pass", "    x"],
        [0, 0, 1],
    )


OTHER_SCRIPTS = {
    "ja": "吾輩は猫である。|名前はまだ無い！|どこで生れたか。",
    "hi": "यह पहला वाक्य है।|यह दूसरा है॥|तीसरा?",
    "ur": "یہ پہلا جملہ ہے۔|کیا یہ دوسرا ہے؟|ہاں",
    "am": "ይህ አንድ ነው።|ይህ ሁለት ነው፡፡|ሦስት",
    "my": "ပထမ ဝါကျ။|ဒုတိယ ဝါကျ။",
    "km": "នេះជាប្រយោគទីមួយ។|នេះជាប្រយោគទីពីរ។",
    "bo": "འདི་དང་པོ་ཡིན།|འདི་གཉིས་པ་ཡིན། །|གསུམ་པ།",
    "hy": "Սա առաջինն է։|Սա երկրորդն է։",
}


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_marks_of_other_scripts_end_sentences_whatever_the_language(language):
    parts = OTHER_SCRIPTS[language].split("|")
    text = "\n\n".join([" ".join(parts), " ".join(parts[:2])])
    assert split(text, language) == parts + parts[:2]
    assert split(text, "en") == parts + parts[:2]


@pytest.mark.parametrize(
    ("language", "text"), [("th", "การอยู่ร่วมกันอย่างสันติเป็นสิ่งที่ดีงามมาก"), ("lo", "ການຮັບຮູ້ກຽດຕິສັກອັນມີປະຈຳຢູ່ຕົວບຸກຄົນທຸກຄົນ")]
)
def test_spaces_end_clauses_where_a_script_has_no_marks(language, text):
    assert len(text) >= module.CLAUSE
    for chosen in (language, "en"):
        assert split(f"{text} {text} {text[:5]} 12 {text}", chosen) == [text, text, f"{text[:5]} 12 {text}"]
        assert split(f"{text[:5]} {text[:6]} {text}", chosen) == [f"{text[:5]} {text[:6]} {text}"]


@given(st.text(alphabet="ab .。।۔།။๑กข \n」)", max_size=60), st.sampled_from(["en", "th", "ja", "hi", "zh"]))
def test_no_character_is_lost_at_marks_of_any_script(text, language):
    sentences = split(text, language)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize(("language", "unit"), [("en", "Dr. "), ("zh", "好。）")])
def test_a_sentence_that_does_not_end_is_looked_at_once(language: str, unit: str) -> None:
    def seconds(count: int) -> float:
        began = time.process_time()
        assert split(unit * count, language) == [(unit * count).strip()]
        return time.process_time() - began

    assert seconds(64_000) < 16 * max(seconds(8_000), 0.01), "the work grows with the square of the length"


@given(st.text(alphabet="ab .A[\n", max_size=30))
def test_a_text_that_ends_in_blanks_is_split_as_one_without(text: str) -> None:
    """Though what `clean` gives never does."""
    assert split(f" {text} ", "en", tidy=True) == split(text.strip(), "en", tidy=True)
    assert split("One. Two. ", "en", tidy=True) == ["One.", "Two."]
