"""The cleaning that every text goes through before it is made token ids: corpus, labelled rows, prompts, users' texts.

Cleaning changes only characters: Unicode normalisation, uniform line ends, no control characters, single spaces. Words
are not changed. It is idempotent. It exists twice, and both give the same text:

    clean(text)             in Python, for whole corpora
    Cleaning.normalizers()  the first steps of a tokenizer's normalizer, by which `tokenizer.json` carries it elsewhere

A corpus keeps the sentences of clean texts; `white_space` is what stands between them, `whole_text` the text again.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, starmap
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from tokenizers import Regex, Tokenizer, normalizers

from data_prep.arrow import pc

Form = Literal["nfc", "nfkc", "none"]

_LINE_ENDS = "\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]"
# control characters, soft hyphens, byte order marks and word joiners; joiners that shape Arabic or
# emoji stay
_INVISIBLE = "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u2060\ufeff]"
_SPACE = "[\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]"  # what is left of white space, but line ends
_BESIDE_LINE_END = " \n ?|\n "
_BLANK_LINES = "\n{3,}"
# None of the above characters, listed explicitly because a class with \s is ten times slower.
_IN_ORDER = re.compile(
    "[^\x00-\x09\x0b-\x1f\x7f-\xa0\xad\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]*"
)
# Ends of sentences of scripts without blanks between words, with the quotes and brackets that close them.
_UNSPACED = (
    "[\\p{Han}\\p{Hiragana}\\p{Katakana}\\x{3001}-\\x{303f}\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff20}\\x{ff5b}-\\x{ff65}]"
    "[”’\"'…—)\\]]*$"
)
_FORMS: dict[str, Literal["NFC", "NFKC"] | None] = {"nfc": "NFC", "nfkc": "NFKC", "none": None}

_line_ends, _invisible = re.compile(_LINE_ENDS), re.compile(_INVISIBLE)
_spaces = re.compile(f"{_SPACE}{{2,}}|{_SPACE.replace(' ', '', 1)}")
_nfc, _nfkc = normalizers.NFC(), normalizers.NFKC()
_many_marks = re.compile("[^\\w\x00-\u02ff]{64,}")  # or other signs
_beside_line_end, _blank_lines = re.compile(_BESIDE_LINE_END), re.compile(_BLANK_LINES)


def clean(text: str, normalisation: Form = "nfc", keep_lines: bool = False) -> str:
    """Normalised text without control characters, with single spaces and single blank lines.

    keep_lines: spaces and tabs are kept, except at the end of lines.
    """
    if keep_lines:
        text = _invisible.sub("", _line_ends.sub("\n", text))
        text = _normalised(text, normalisation)
        return _blank_lines.sub("\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip("\n")
    stripped, form = text.strip(), _FORMS[normalisation]
    if _in_order(stripped) and (form is None or unicodedata.is_normalized(form, stripped)):
        return stripped  # the common case, and much faster to check than to clean
    text = _line_ends.sub("\n", text)
    text = _invisible.sub("", text)
    text = _normalised(text, normalisation)
    text = _spaces.sub(" ", text)
    text = _beside_line_end.sub("\n", text)
    return _blank_lines.sub("\n\n", text).strip()


def _normalised(text: str, normalisation: Form) -> str:
    """NFKC is the library's, whose tables are those of Unicode 12; NFC of what is assigned never changes.

    Python puts the marks of one character in order in quadratic time, the library in linear time.
    """
    if normalisation == "nfkc":
        return _nfkc.normalize_str(text)
    if normalisation == "none" or unicodedata.is_normalized("NFC", text):
        return text
    return _nfc.normalize_str(text) if _many_marks.search(text) else unicodedata.normalize("NFC", text)


def _in_order(text: str) -> bool:
    """Whether `clean` would not change the spaces, line ends and control characters of a stripped text."""
    if "  " in text or "\n\n\n" in text:
        return False
    lines = text.split("\n")
    if any(line[:1] == " " or line[-1:] == " " for line in lines):
        return False
    # printable text is in order; other text needs a slower check
    return all(map(str.isprintable, lines)) or _IN_ORDER.fullmatch(text) is not None


class Documents(Protocol):
    """The interface of a corpus that is made tokens."""

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, np.ndarray | None]]:
        """Batches of documents: the sentence counts, the sentences, and the paragraph number of each sentence.

        If the last is None, each document is one paragraph.
        """
        ...


@dataclass(frozen=True)
class Cleaning:
    """How text is cleaned: the settings of `clean`."""

    normalisation: Form = "nfc"
    keep_lines: bool = False

    def __call__(self, text: str) -> str:
        return clean(text, self.normalisation, self.keep_lines)

    def normalizers(self) -> list[Any]:
        """`clean` as steps of a tokenizer's normalizer."""
        form = {"nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()], "none": []}[self.normalisation]
        steps = [_replace(_LINE_ENDS, "\n"), _replace(_INVISIBLE, ""), *form]
        if self.keep_lines:
            ends = [_replace(f"{_SPACE}+(?=\n)", ""), normalizers.Strip(left=False), _replace("\\A\n+", "")]
            return [*steps, *ends, _replace(_BLANK_LINES, "\n\n")]
        spaces = [_replace(f"{_SPACE}+", " "), _replace(_BESIDE_LINE_END, "\n"), _replace(_BLANK_LINES, "\n\n")]
        return [*steps, *spaces, normalizers.Strip()]


def add_cleaning(tokenizer: Tokenizer, cleaning: Cleaning) -> None:
    """Let a tokenizer clean texts before it does anything else to them, if it does not so already."""
    own, steps = tokenizer.normalizer, _steps(cleaning)
    if own and json.loads(tokenizer.to_str())["normalizer"].get("normalizers", [])[: len(steps)] == steps:
        return
    tokenizer.normalizer = normalizers.Sequence([*cleaning.normalizers(), *([own] if own else [])])


def without_cleaning(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that takes texts as they are; for clean texts it gives the same ids."""
    spec = json.loads(tokenizer.to_str())
    if cleaning := cleaning_of(tokenizer):
        own = spec["normalizer"]["normalizers"][len(_steps(cleaning)) :]
        spec["normalizer"] = own[0] if len(own) == 1 else {"type": "Sequence", "normalizers": own} if own else None
    return Tokenizer.from_str(json.dumps(spec))


def cleaning_of(tokenizer: Tokenizer) -> Cleaning | None:
    """How a tokenizer cleans texts, if `add_cleaning` was told to let it."""
    steps = (json.loads(tokenizer.to_str())["normalizer"] or {}).get("normalizers", [])
    return next((cleaning for cleaning, own in _CLEANINGS.items() if steps[: len(own)] == own), None)


def white_space(
    sentences: pa.StringArray, counts: np.ndarray, paragraphs: np.ndarray | None, keep_lines: bool = False
) -> pa.StringArray:
    """The white space before each sentence in the text of its document; null where a document begins.

    A blank; nothing after a sentence of Chinese or Japanese; a line break if sentences are lines (`keep_lines`); a
    blank line between paragraphs. counts: sentences of each document. paragraphs: number of each sentence's paragraph;
    None: each document is one.
    """
    number = np.zeros(len(sentences), np.int64) if paragraphs is None else np.asarray(paragraphs)
    document = np.repeat(np.arange(len(counts)), counts)
    opens = np.diff(number, prepend=0) != 0
    if keep_lines:
        within = pa.scalar("\n")
    else:
        unspaced = pc.match_substring_regex(sentences, _UNSPACED).to_numpy(zero_copy_only=False)
        within = pc.if_else(pa.array(np.append(False, unspaced)[: len(sentences)]), "", " ")
    begins = np.diff(document, prepend=-1) != 0
    return pc.if_else(pa.array(begins), pa.scalar(None, pa.string()), pc.if_else(pa.array(opens), "\n\n", within))


def pieces(documents: Documents, keep_lines: bool = False) -> Iterator[str]:
    """Every sentence of some documents, preceded by its white space: joined, their texts."""
    for counts, sentences, paragraphs in documents.batches():
        before = pc.fill_null(white_space(sentences, counts, paragraphs, keep_lines), "")
        yield from pc.binary_join_element_wise(before, sentences, "").to_pylist()


def whole_text(sentences: Sequence[str], paragraphs: Sequence[int], keep_lines: bool = False) -> str:
    """The clean text of a document. paragraphs: number of each sentence's paragraph."""
    texts = pa.array(sentences, pa.string())
    before = white_space(texts, np.array([len(texts)]), np.array(paragraphs, np.int64), keep_lines)
    return "".join(f"{space or ''}{text}" for space, text in zip(before.to_pylist(), sentences, strict=True))


def _replace(pattern: str, content: str) -> Any:
    return normalizers.Replace(Regex(pattern), content)


def _steps(cleaning: Cleaning) -> list[dict[str, Any]]:
    return json.loads(normalizers.Sequence(cleaning.normalizers()).__getstate__())["normalizers"]


_CLEANINGS = {
    cleaning: _steps(cleaning) for cleaning in starmap(Cleaning, product(("nfc", "nfkc", "none"), (False, True)))
}
