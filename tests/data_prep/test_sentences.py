from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.sentences import split, split_en, split_zh

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
