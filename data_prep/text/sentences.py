"""Sentence splitting: own rules for English and Chinese, the library sentencex for other languages.

English: a word that ends in `.`, `?`, `!` or `…` (and closing quotes or brackets) ends a sentence
if the next word may begin one, that is, is not in lower case. A dot after a title, an initial or a
list mark does not end a sentence ("Mr. Adams", "J. Adams", "2. The"); a dot after another
abbreviation only does if the next word often begins sentences ("in the U.S. The" but "the U.S.
Navy"). A remark in brackets without its own mark belongs to the sentence before it ("Thank you.
[Laughter]"). A blank line always ends a sentence; a single line end counts as a space.

Chinese: 。！？；… and their closing quotes end a sentence, unless a comma follows or the mark
belongs to a title 《…》. Every line end ends a sentence, because Chinese plain text is not wrapped.

Others: the library has the marks and abbreviations of each language. Blank lines and line ends are treated as in
English or, for scripts without spaces between words, as in Chinese.

Whatever the language, a mark that ends sentences in some script and means nothing else (。 । ؟ ۔ ። ။ ។ ། …) ends one.
Thai and Lao have no such marks: there, a space between two letters ends a clause, and clauses of CLAUSE characters or
more are taken as sentences.

Only white space is lost: the joined sentences are the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import groupby


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPENERS = "\"'“”‘’([{«—–-•*_¿¡$£€#&"
_CLOSERS = "\"'”’)]}»"

# Titles and the like: followed by the rest of a name, never by a new sentence.
_BEFORE_NAMES = _words(
    """mr mrs ms mx dr prof hon rev messrs mme mlle gen col maj capt cpt lt sgt cpl pvt adm cmdr
    comdr brig gov sen rep pres supt atty sec'y st ste mt ft fr vs viz cf e.g i.e al"""
)
# Abbreviations only before a number or a single letter: "No. 5", "Art. IV", but "No. I said so."
_BEFORE_NUMBERS = _words("no nos art arts sec secs fig figs p pp vol vols ch chap eq ex stat")
# May end a sentence or stand inside one.
_ABBREVIATIONS = _words(
    """jr sr inc co cos corp ltd bros dept univ assn ave blvd rd etc esq ph.d est approx dist jan
    feb mar apr jun jul aug sept sep oct nov dec mon tues wed thurs fri ala ariz ark calif colo conn
    del fla ga ill ind kan kans ky la md mass mich minn miss mo mont neb nebr nev okla ore pa tenn
    tex va vt wash wis wyo"""
)
_AMBIGUOUS = _words("mar jun jul sep mon wed fri ill ind la mass miss mo ore pa wash ex est sec")
# Words that begin sentences far more often than they begin names.
_STARTERS = _words(
    """a after all although an and any are as at because before both but by can did do does during
    each even every everybody everyone finally first following for from further he hence her here
    his how however i if in indeed is it its last let many may meanwhile more moreover most much my
    neither never next no nobody nor not nothing now of on once one only or other our over perhaps
    please she should since so some somebody someone something soon still such thank thanks that the
    their then there therefore these they this those though thus to today together tomorrow tonight
    too under unless until upon we well were what whatever when whenever where whether which while
    who whose why will with within without would yes yesterday yet you your"""
)
_ROMAN = re.compile(r"[ivxlc]+\Z")
_LIST_MARK = re.compile(r"[(\[]?(?:\d{1,3}|[A-Za-z]|[IVXLC]{1,6}|[ivxlc]{1,6})[)\]]?\.\Z")
_ITEM = re.compile(r"\((?:[a-z]|[ivx]{1,5})\) ")  # (b), (iv)
_DOTTED = re.compile(r"(?:\w\.)+\w\Z")  # u.s, a.m, d.c
_MARKS = (".", "?", "!", "…")
# The common end of a sentence: ". " between a word with two final lower-case letters and a capital, where neither the
# word nor its end is an abbreviation or a list number.
_PLAIN_WORD = r"(?<=[a-z]{2}\. )(?<![ivxlc]{2}\. )" + "".join(
    rf"(?<!(?<![A-Za-z])(?i:{'|'.join(words)})\. )"
    for _, words in groupby(
        sorted(filter(str.isalpha, _BEFORE_NAMES | _BEFORE_NUMBERS | _ABBREVIATIONS), key=lambda w: (len(w), w)), len
    )
)
# Candidates for the end of a sentence; the empty group matches if it certainly is one.
_CANDIDATE = re.compile(rf"[{''.join(_MARKS)}](?: (?=[A-Z])(?:(?<=[?!…] )|{_PLAIN_WORD})()|[{re.escape(_CLOSERS)}]* )")
_BLANK_LINE = re.compile(r"\n\s*\n")
_REMARK = re.compile(r"(?:\[[^\[\].?!…]*\]\s*)+(?=\S|\Z)")


def split_en(text: str, tidy: bool = False) -> list[str]:
    """Sentences of English text, without surrounding white space; never an empty one.

    `tidy`: the text is the output of `data_prep.tokens.cleaning.clean`, which halves the time.
    """
    sentences: list[str] = []
    if tidy:
        paragraphs = [paragraph.replace("\n", " ").strip() for paragraph in text.split("\n\n")]
    else:
        paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINE.split(text)]
    for paragraph in paragraphs:
        _split_paragraph(paragraph, sentences)
    return sentences


def _split_paragraph(text: str, sentences: list[str]) -> None:
    """Append the sentences of a text whose only white space is single spaces between words."""
    start = 0
    for match in _CANDIDATE.finditer(text):
        end = match.end()
        if match.lastindex is None:
            if text[end] == "[":
                remark = _REMARK.match(text, end)  # has no mark, so it contains no candidates
                end = remark.end() if remark else end
            if end == len(text) or not _ends(text, start, match.start(), end):
                continue
        sentences.append(text[start:end].rstrip())
        start = end
    if start < len(text):
        sentences.append(text[start:])


def _ends(text: str, start: int, place: int, end: int) -> bool:
    """Whether the sentence begun at `start` ends with the mark at `place`; the next word begins at `end`."""
    stop = text.find(" ", end)
    following = text[end : stop if stop >= 0 else len(text)].lstrip(_OPENERS)
    if not following:  # a lone dash, quote or bracket: look at what follows it
        return text[end] in "[(“‘"
    if _ITEM.match(text, end):
        return True
    if following[0].islower() or following[0] in ".,;:?!…%)]}":
        return False
    if text[place] != "." or text.endswith(_MARKS, start, place):
        return True
    begin = text.rfind(" ", start, place) + 1 or start
    word = text[begin:place]
    if begin == start and _LIST_MARK.match(word + "."):
        return False
    return not _is_abbreviation(word.lstrip(_OPENERS), following)


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether the dot after `word` is part of an abbreviation, given the following word."""
    lower = word.lower()
    if lower in _BEFORE_NAMES:
        return True
    next_word = following.rstrip(".,;:?!…" + _CLOSERS)
    initial = len(word) == 1 and word.isalpha() and word.isupper()
    if lower in _BEFORE_NUMBERS and not initial:
        numbered = next_word[:1].isdigit() or bool(_ROMAN.match(next_word.lower())) or len(next_word) == 1
        return numbered and next_word not in ("I", "A")
    is_known = lower in _ABBREVIATIONS and (lower not in _AMBIGUOUS or word[:1].isupper())
    if initial or is_known or _DOTTED.match(lower):
        first = re.split(r"['’—–-]", next_word.lower(), maxsplit=1)[0]
        return first not in _STARTERS
    return False


_ENDS_ZH = re.compile(r"[。！？!?；…]+[”’」』\"）)】]*")
_FIRST = re.compile(r"\s*(\S?)")
_CONTINUES_ZH = frozenset("，、；：,;:》〉。！？!?…")


def split_zh(text: str) -> list[str]:
    """Sentences of Chinese text, without surrounding white space; never an empty one."""
    sentences: list[str] = []
    for line in text.splitlines():
        start = 0
        for match in _ENDS_ZH.finditer(line):
            end = match.end()
            if line[end : end + 1] in _CONTINUES_ZH and end < len(line):
                continue
            inside = line[end - 1] in "）)】" and _FIRST.match(line, start)[1] not in "（(【"  # pyright: ignore[reportOptionalSubscript]
            if inside and end < len(line):  # a remark in brackets within a sentence
                continue
            _append(sentences, line[start:end])
            start = end
        _append(sentences, line[start:])
    return sentences


def _append(sentences: list[str], piece: str) -> None:
    if piece := piece.strip():
        sentences.append(piece)


# ISO 639-1, and longer codes for which sentencex has rules or uses those of a related language; others use its default.
LANGUAGES = _words(
    """aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
    eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka
    kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl
    nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv
    sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    abs ace ady aeb aln alt ami anp arn arq ary arz ast atj avk awa azb ban bar bbc bcc bgn bjn bpy bqi btm bug bxr cdo
    crh csb dsb dtp dty egl eml ext fit frc frp frr fur gag gan gcr glk gom gor gsw guc hak hif hrx hsb hyw inh jam jut
    kaa kab kbd kbp khw kiu kjp koi krc krl ksh kum lad lbe lez lij liv lki lld lmo lrc ltg luz lzh lzz mad mai mdf mhr
    min mnw mrj mwl myv mzn nah nan nap nds nia nrm olo pcd pdc pdt pfl pih pms pnt qug rgn rmy rue rup ruq sah scn sco
    sdc sdh ses sgs shi shy skr sli smn srn stq sty szl szy tay tcy tet trv tyv udm vec vep vls vmf vot vro wuu xal xmf
    yue zea zgh"""
)
_NOT_WRAPPED = _words("bo dz gan hak ja km lo lzh my nan th wuu yue")


def check_language(language: str) -> None:
    """Raise `ValueError` if the language is not supported."""
    if language not in LANGUAGES:
        base = re.split("[-_]", language.lower())[0]
        near = [code for code in (base, base[:2]) if code in LANGUAGES] if len(base) < 4 else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no language is known by the code {language!r}; give one of ISO 639, such as en or pt{hint}")


def split_other(text: str, language: str) -> list[str]:
    """Sentences of text by the library sentencex, without surrounding white space; never an empty one."""
    from sentencex import segment  # type: ignore[attr-defined]  (it is compiled)

    sentences: list[str] = []
    for paragraph in text.splitlines() if language in _NOT_WRAPPED else _BLANK_LINE.split(text):
        for piece in segment(language, " ".join(paragraph.split())):  # it fails on multi-byte white space
            _append(sentences, piece)
    return sentences


SPLITTERS: dict[str, Callable[[str], list[str]]] = {
    **{language: partial(split_other, language=language) for language in LANGUAGES},
    "en": split_en,
    "zh": split_zh,
}


# Unicode's Sentence_Terminal beyond ASCII, without the full-width full stop, which numbers have, and with the marks of
# Khmer and Tibetan.
_TERMINALS = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965\u0f0d\u0f0e\u104a\u104b\u1362"
    "\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5e\u1b5f\u1c3b"
    "\u1c3c\u1c7e\u1c7f\u203c\u203d\u2047-\u2049\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f"
    "\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe56\ufe57\uff01\uff1f\uff61"
)
_CJK_CLOSERS = "」』）】》〉］｝〕"
# Ethiopic's ። is often written as two word separators.
_TERMINAL = re.compile(
    rf"(?:[{_TERMINALS}]|\u1361\u1361)+(?: ?[{_TERMINALS}])*[{re.escape(_CLOSERS)}{_CJK_CLOSERS}]*\s*"
)
_CONTINUES = _CONTINUES_ZH | frozenset(_CLOSERS + _CJK_CLOSERS)
_CLAUSE_END = re.compile(r"(?<=[\u0e00-\u0eff])[ \u200b]+(?=[\u0e00-\u0eff“\"(])")
CLAUSE = 40
_OWN_RULES = frozenset({"zh", "ja", "yue", "wuu", "gan", "hak", "lzh"})  # their splitters know quotations and brackets


def _cut_further(sentence: str, language: str) -> list[str]:
    """Parts of a sentence as found by the rules of a language, cut at marks of other scripts, and between clauses."""
    if sentence.isascii():
        return [sentence]
    parts, start = list[str](), 0
    if language not in _OWN_RULES:
        for match in _TERMINAL.finditer(sentence):
            if match.end() < len(sentence) and sentence[match.end()] not in _CONTINUES:
                parts.append(sentence[start : match.end()].rstrip())
                start = match.end()
    parts.append(sentence[start:])
    clauses = list[str]()
    for part in parts:
        start = 0
        for match in _CLAUSE_END.finditer(part):
            if match.start() - start >= CLAUSE and len(part) - match.end() >= CLAUSE:
                clauses.append(part[start : match.start()])
                start = match.end()
        clauses.append(part[start:])
    return clauses


def split_lines(text: str) -> list[str]:
    """The non-blank lines of a text, with their indentation."""
    return [line for line in text.split("\n") if line.strip()]


def by_paragraph(text: str, split: Callable[[str], list[str]]) -> tuple[list[str], list[int]]:
    """Sentences of a text, and the paragraph number of each. Paragraphs are separated by blank lines."""
    sentences, numbers, number = list[str](), list[int](), 0
    for paragraph in _BLANK_LINE.split(text) if "\n" in text else [text]:
        added = split(paragraph)
        sentences += added
        numbers += [number] * len(added)
        number += bool(added)
    return sentences, numbers


def split(text: str, language: str, tidy: bool = False) -> list[str]:
    """Sentences of a text in a language of `SPLITTERS`; `tidy`: it is what `data_prep.tokens.cleaning.clean` gave."""
    sentences = split_en(text, tidy) if language == "en" else SPLITTERS[language](text)
    return (
        sentences if text.isascii() else [part for sentence in sentences for part in _cut_further(sentence, language)]
    )
