"""Finds the phrases and entities of a lexicon in tokens (ERNIE: Sun et al. 2019, section 3.2).

    lexicon   New York · New York Times
    units     He | reads | the | New York Times | in | New York | .

A unit is the longest phrase that begins at a word, else that word; sentences are read from left to right. A phrase
consists of whole words of one sentence. Where punctuation is part of a word ("York," in byte-level BPE), it is ignored
at both ends of a phrase and belongs to the unit.

Phrases are compared as token ids, so they match as the tokenizer spells them: an uncased one ignores case.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError
from data_prep.shards.rows import Ragged, Specials, offsets_of
from data_prep.sources.lines import text_lines
from data_prep.tokens.corpus import TokenCorpus
from data_prep.tokens.encoder import Encoder

SETTING = "compose.lexicon"


class LexiconFile(NamedTuple):
    """A user's file: its lines, without white space at their ends, and the digest of its bytes."""

    lines: list[str]
    digest: str


def read(path: Path | str) -> LexiconFile:
    """Read a lexicon: UTF-8, one phrase a line. UserError if it cannot be read or has no phrase."""
    try:
        content = Path(path).expanduser().read_bytes()
        lines = [line.strip() for _, line in text_lines(io.BytesIO(content))]
    except (OSError, UnfitError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        message = f"{SETTING}: {path} cannot be read ({problem}); give a text file with one phrase a line"
        raise UserError(message) from None
    if not any(lines):
        raise UserError(f"{SETTING}: {path} has no phrase; write one a line")
    return LexiconFile(lines, hashlib.blake2b(content, digest_size=16).hexdigest())


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Phrases as a trie over token ids, whose nodes are numbered level by level; node 0 is the root.

    edges: [E] int64, ascending, node · V + token, where V is the size of the vocabulary; the child of edge e is node
    e + 1. completes: [E + 1] bool, nodes at which a phrase ends. is_punctuation: [V] bool, tokens of punctuation or
    white space only.
    """

    edges: np.ndarray
    completes: np.ndarray
    is_punctuation: np.ndarray

    @staticmethod
    def of(phrases: Sequence[Sequence[int]], is_punctuation: np.ndarray) -> Lexicon:
        """From phrases of token ids, none of them empty."""
        ids = Ragged.from_lengths(np.fromiter(chain(*phrases), np.int64), [len(phrase) for phrase in phrases])
        edges, nodes, count = [np.empty(0, np.int64)], np.zeros(len(ids), np.int64), 1
        growing, depth = np.arange(len(ids)), 0
        while len(growing):
            tokens = ids.values[ids.offsets[growing] + depth]
            level, child = np.unique(nodes[growing] * len(is_punctuation) + tokens, return_inverse=True)
            edges.append(level)
            nodes[growing] = count + child
            count, depth = count + len(level), depth + 1
            growing = growing[ids.lengths[growing] > depth]
        ends = np.zeros(count, bool)
        ends[nodes] = True
        return Lexicon(np.concatenate(edges), ends, is_punctuation)

    @cached_property
    def _opens(self) -> np.ndarray:
        """[V] bool: tokens with which a phrase begins."""
        opens = np.zeros(len(self.is_punctuation), bool)
        opens[self.edges[: np.searchsorted(self.edges, len(opens))]] = True
        return opens

    def units(self, corpus: TokenCorpus, documents: range) -> tuple[np.ndarray, int]:
        """([n] bool, tokens of the documents that begin a unit; number of words in phrases)."""
        first, last = corpus.document_offsets[[documents.start, documents.stop]]
        sentences = np.asarray(corpus.sentence_offsets[first : last + 1])
        here = slice(int(sentences[0]), int(sentences[-1]))
        begins = np.array(corpus.word_start[here])
        sentences = sentences - here.start
        begins[sentences[:-1]] = True
        words = np.append(np.flatnonzero(begins), len(begins))
        first_word, end_word = _leftmost_longest(*self._matches(corpus.tokens[here], words, sentences))
        change = np.zeros(len(words), np.int8)  # +1 at the second word of a phrase, -1 after its last
        change[first_word + 1] += 1
        change[end_word] -= 1
        begins[words[np.cumsum(change, dtype=np.int8) > 0]] = False
        return begins, int((end_word - first_word).sum())

    def _matches(self, tokens: np.ndarray, words: np.ndarray, sentences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first word, and the one after the last, of the longest phrase at each place where one begins. Both [M].

        tokens: [n]. words: [W + 1], where words begin, and n. sentences: [S + 1], where sentences begin, and n.
        """
        solid = offsets_of(~self.is_punctuation[tokens])  # number of tokens before each that are no punctuation
        begin = np.flatnonzero(self._opens[tokens])
        word = np.searchsorted(words, begin, side="right") - 1
        is_first = solid[begin] == solid[words[word]]
        begin, word = begin[is_first], word[is_first]
        limit = sentences[np.searchsorted(sentences, begin, side="right")]
        end_word = np.zeros(len(begin), np.int64)  # of the longest phrase yet; 0: none
        active, node, depth = np.arange(len(begin)), np.zeros(len(begin), np.int64), 0
        while len(active):
            is_inside = begin[active] + depth < limit[active]
            active, node = active[is_inside], node[is_inside]
            wanted = node * len(self.is_punctuation) + tokens[begin[active] + depth]
            edge = np.minimum(np.searchsorted(self.edges, wanted), len(self.edges) - 1)
            is_edge = self.edges[edge] == wanted
            active, node, depth = active[is_edge], edge[is_edge] + 1, depth + 1
            complete = active[self.completes[node]]
            end = begin[complete] + depth
            after = np.searchsorted(words, end)  # the next word
            is_whole = solid[words[after]] == solid[end]
            end_word[complete[is_whole]] = after[is_whole]
        is_match = end_word > 0
        return word[is_match], end_word[is_match]


def _leftmost_longest(first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of matches of words first … end-1, those that remain if each begins after the last one, the longest first."""
    order = np.lexsort((-end, first))
    chosen, free = [], 0
    for place, start, stop in zip(order.tolist(), first[order].tolist(), end[order].tolist(), strict=True):
        if start >= free:
            chosen.append(place)
            free = stop
    return first[chosen], end[chosen]


def build(lines: Sequence[str], tokenizer: Tokenizer, specials: Specials) -> tuple[Lexicon, dict[str, Any]]:
    """The lexicon of a file's lines, and what became of them: counts, and the first that cannot be spelled.

    Lines that a tokenizer spells alike are duplicates; one that it cannot spell contains unknown tokens, or none at
    all. UserError if no line is left.
    """
    phrases: list[tuple[int, ...]] = []
    known: set[tuple[int, ...]] = set()
    counts: dict[str, Any] = {"lines": len(lines), "phrases": 0, "blank": 0, "duplicates": 0, "unspellable": 0}
    for line, spellings in zip(lines, _spellings(lines, tokenizer, is_blank(specials)), strict=True):
        if not line:
            counts["blank"] += 1
        elif not spellings[0] or specials.is_special[list(spellings[0])].any():
            counts["unspellable"] += 1
            counts.setdefault("first_unspellable", line)
        elif spellings[0] in known:
            counts["duplicates"] += 1
        else:
            counts["phrases"] += 1
            known.add(spellings[0])
            phrases += {ids for ids in spellings if ids and not specials.is_special[list(ids)].any()}
    if not phrases:
        raise UserError(
            f"{SETTING}: the tokenizer can spell none of its phrases, such as {counts['first_unspellable']!r}; "
            "give phrases of the corpus, or another tokenizer"
        )
    return Lexicon.of(phrases, is_punctuation(specials)), counts


def is_blank(specials: Specials) -> np.ndarray:
    """[vocabulary] bool: tokens of nothing but white space."""
    return np.array([text.isspace() for text in _texts(specials)])


def is_punctuation(specials: Specials) -> np.ndarray:
    """[vocabulary] bool: tokens of nothing but punctuation or white space."""
    return np.array([_is_punctuation(text) for text in _texts(specials)])


def _spellings(lines: Sequence[str], tokenizer: Tokenizer, is_blank: np.ndarray) -> Iterator[list[tuple[int, ...]]]:
    """The ids of each line: by itself, after a space, and after a bracket; their first tokens may differ."""
    encoder = Encoder(tokenizer)
    bracket = encoder.encode(["("]).values.tolist()
    alone, spaced, bracketed = (encoder.encode([before + line for line in lines]) for before in ("", " ", "("))
    for number in range(len(lines)):
        ids = [spelling.row(number) for spelling in (alone, spaced, bracketed)]
        if ids[2][: len(bracket)].tolist() == bracket:
            ids[2] = ids[2][len(bracket) :]
        else:
            del ids[2]
        yield [_stripped(each, is_blank) for each in ids]


def _stripped(ids: np.ndarray, is_blank: np.ndarray) -> tuple[int, ...]:
    """The ids without white space at either end."""
    visible = np.flatnonzero(~is_blank[ids])
    return tuple(ids[visible[0] : visible[-1] + 1].tolist()) if len(visible) else ()


def _texts(specials: Specials) -> list[str]:
    """The text of every id by itself; "" for special tokens and incomplete characters."""
    return ["" if token in specials.all or "\ufffd" in text else text for token, text in enumerate(specials.texts)]


def _is_punctuation(text: str) -> bool:
    return bool(text) and all(unicodedata.category(character)[0] in "PZ" or character.isspace() for character in text)
