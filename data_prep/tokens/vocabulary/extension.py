"""Pieces of a text, added to the vocabulary of a tokenizer that exists, so that it cuts the text into fewer tokens.

    words of the text, in old pieces ─► the pair of neighbours that occurs most often becomes a piece, N times

Each joined pair saves a token wherever it stands, so the most frequent one saves most. Ids of old tokens stay, new ones
follow the last, and a text in which no new piece occurs is encoded as before: merges of byte-pair encoding are made in
the order of their list, to which new ones are appended, and WordPiece takes the longest piece that continues a word.
WordPiece makes no merges and leaves pieces unused that others begin with: pairs are joined until N pieces are used.

Unigram models choose the likeliest way to cut a word, which every new piece would change elsewhere, too.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.opening.files import UnfitError, read_json
from data_prep.tokens.vocabulary.wordpiece import MIN_COUNT

FILE = "added_pieces.json"
_TRIED = (1, 1.5, 2, 3, 4, 6, 8)  # pieces of WordPiece for each that is wanted


class Added(NamedTuple):
    """Pieces that a tokenizer was given, with ids from `first` on; of each, the old ids that it was made of before."""

    first: int
    pieces: list[str]
    parts: list[list[int]]


class Extension(NamedTuple):
    """A tokenizer with new pieces, and the number of tokens of the text before and after."""

    tokenizer: Tokenizer
    added: Added
    before: int
    after: int


def extend(tokenizer: Tokenizer, weighted: Iterable[tuple[Iterable[str], float]], number: int) -> Extension:
    """The tokenizer with the `number` pieces that save most tokens in the sentences; fewer if there are not so many.

    weighted: sentences, and how often each of them counts: of a mixture, those of a part by its share. UserError where
    the tokenizer's kind takes no new pieces.
    """
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    if problem := _refusal(spec):
        raise UserError(f"tokenizer.add: this tokenizer takes no new pieces, for {problem}; leave it out.")
    words = _words(tokenizer, weighted)
    is_wordpiece = spec["model"]["type"] == "WordPiece"
    prefix = spec["model"]["continuing_subword_prefix"] if is_wordpiece else ""
    spelt = _spelt(tokenizer, words, spec["model"].get("unk_token"))
    merges = learn(
        {tuple(pieces): words[word] for word, pieces in spelt.items()},
        round(number * _TRIED[-1]) if is_wordpiece else number,
        set(tokenizer.get_vocab(with_added_tokens=True)),
        lambda left, right: left + right.removeprefix(prefix),
    )
    parts: dict[str, list[str]] = {}
    for left, right in merges:
        parts.setdefault(left + right.removeprefix(prefix), [*parts.get(left, [left]), *parts.get(right, [right])])
    if is_wordpiece:
        parts = _most_useful(spec, words, parts, number)
    else:
        spec["model"]["merges"] += [[left, right] for left, right in merges]
    extended, first = _with(spec, list(parts))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    added = Added(first, list(parts), [[ids[piece] for piece in pieces] for pieces in parts.values()])
    before = sum(len(pieces) * words[word] for word, pieces in spelt.items())
    after = sum(len(extended.model.tokenize(word)) * words[word] for word in spelt)
    return Extension(extended, added, before, after)


def learn(
    words: Mapping[tuple[str, ...], int],
    number: int,
    known: set[str],
    join: Callable[[str, str], str],
) -> list[tuple[str, str]]:
    """Pairs of pieces to join, in this order, until that has made `number` new pieces.

    words: as pieces, with their counts. known: pieces that are there already, which no pair may become, or old texts
    would be encoded in another way. The pair is taken that occurs most often; of several, the first by its spelling.
    """
    spelt, counts = [list(word) for word in words], list(words.values())
    pairs: Counter[tuple[str, str]] = Counter()
    places: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for place, (pieces, count) in enumerate(zip(spelt, counts, strict=True)):
        for pair in pairwise(pieces):
            pairs[pair] += count
            places[pair].add(place)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    merges: list[tuple[str, str]] = []
    made: set[str] = set()
    while heap and len(made) < number:
        negative, pair = heapq.heappop(heap)
        if -negative != pairs[pair]:
            continue  # its count has changed since
        if -negative < MIN_COUNT:
            break
        piece = join(*pair)
        if piece in known:
            continue
        merges.append(pair)
        made.add(piece)
        changed: set[tuple[str, str]] = set()
        for place in sorted(places.pop(pair)):
            before = Counter(pairwise(spelt[place]))
            spelt[place] = _joined(spelt[place], pair, piece)
            after = Counter(pairwise(spelt[place]))
            for other in before.keys() | after.keys():
                if difference := after[other] - before[other]:
                    pairs[other] += difference * counts[place]
                    changed.add(other)
                    (places[other].add if after[other] else places[other].discard)(place)
        for other in changed - {pair}:
            heapq.heappush(heap, (-pairs[other], other))
    return merges


def write(added: Added, folder: Path) -> None:
    """Write what was added into the folder of the tokenizer."""
    text = json.dumps(added._asdict(), ensure_ascii=False, indent=1) + "\n"
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path) -> Added | None:
    """What was added to the tokenizer of a folder; None if nothing was."""
    try:
        return Added(**read_json(folder / FILE)) if (folder / FILE).is_file() else None
    except (UnfitError, TypeError) as error:
        raise UserError(f"{folder / FILE} cannot be used ({error}); delete the tokenizer and run again.") from error


def _refusal(spec: Mapping[str, Any]) -> str:
    """Why a tokenizer cannot be extended, in a clause; empty if it can."""
    model = spec["model"]
    if model["type"] not in ("WordPiece", "BPE"):
        return f"{model['type']} is neither WordPiece nor byte-pair encoding"
    if spec["pre_tokenizer"] is None:
        return "it does not part texts into words before it cuts them"
    if model["type"] == "BPE":
        odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(name)]
        if odd:
            return f"its byte-pair encoding has {odd[0]}"
    return ""


def _words(tokenizer: Tokenizer, weighted: Iterable[tuple[Iterable[str], float]]) -> Counter[str]:
    """How often each word occurs, as the tokenizer cuts texts; in whole numbers, those of a part times its factor."""
    words: Counter[str] = Counter()
    normalizer, split = tokenizer.normalizer, tokenizer.pre_tokenizer.pre_tokenize_str  # type: ignore[union-attr]
    for sentences, factor in weighted:
        of_part: Counter[str] = Counter()
        for sentence in sentences:
            text = normalizer.normalize_str(sentence) if normalizer else sentence
            of_part.update([word for word, _ in split(text)])
        words.update({word: round(count * factor) for word, count in of_part.items()})
    return words


def _spelt(tokenizer: Tokenizer, words: Iterable[str], unknown: str | None) -> dict[str, list[str]]:
    """The pieces of each word that has several, all of them known."""
    spelt = {}
    for word in sorted(words):
        pieces = [token.value for token in tokenizer.model.tokenize(word)]
        if unknown not in pieces:
            spelt[word] = pieces
    return spelt


def _joined(pieces: Sequence[str], pair: tuple[str, str], piece: str) -> list[str]:
    joined: list[str] = []
    place = 0
    while place < len(pieces):
        if place + 1 < len(pieces) and (pieces[place], pieces[place + 1]) == pair:
            joined.append(piece)
            place += 2
        else:
            joined.append(pieces[place])
            place += 1
    return joined


def _most_useful(
    spec: dict[str, Any], words: Mapping[str, int], parts: Mapping[str, list[str]], number: int
) -> dict[str, list[str]]:
    """Of the first pieces of which so many are used in the text, those that save most tokens; none that is not used."""
    saved: dict[str, int] = {}
    for times in _TRIED:
        tried = list(parts)[: round(number * times)]
        tokenizer, _ = _with(json.loads(json.dumps(spec)), tried)
        uses = dict.fromkeys(tried, 0)
        for word, count in words.items():
            for token in tokenizer.model.tokenize(word):
                if token.value in uses:
                    uses[token.value] += count
        saved = {piece: uses[piece] * (len(parts[piece]) - 1) for piece in tried if uses[piece]}
        if len(saved) >= number:
            break
    best = sorted(saved, key=lambda piece: (-saved[piece], piece))[:number]
    return {piece: parts[piece] for piece in best}


def _with(spec: dict[str, Any], pieces: Sequence[str]) -> tuple[Tokenizer, int]:
    """The tokenizer with these pieces after all others, and the id of the first of them.

    Tokens outside of the model's vocabulary are made part of it: without a place there, they would be renumbered.
    """
    vocabulary = spec["model"]["vocab"]
    vocabulary |= {token["content"]: token["id"] for token in spec["added_tokens"]}
    first = max(vocabulary.values()) + 1
    vocabulary |= {piece: first + number for number, piece in enumerate(pieces)}
    extended = Tokenizer.from_str(json.dumps(spec))
    extended.encode_special_tokens = True
    return extended, first
