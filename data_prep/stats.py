"""What a corpus, its rows or a vocabulary look like in numbers: plain JSON values, in bounded memory, in seconds.

    of_rows       shards: how often each token, how long the rows, how much padding, how many sequences in a row
    of_corpus     documents and sentences: how many, how long, from which source; what was rejected, and why
    of_tokenizer  a vocabulary: kinds of pieces, their lengths, their scripts

Everything is counted a record batch at a time. Of very large data some batches are read, one from each of as many
equal stretches, chosen by keyed draws: the same ones every time. `read` says how much that was. What is said depends
on the files alone, so equal files give equal values.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer
from typing_extensions import TypedDict

from data_prep.corpus import INDEX, SPLITS
from data_prep.corrupt import restore
from data_prep.errors import UserError
from data_prep.keyed import Draws, key
from data_prep.rows import Specials, num_rows, ragged
from data_prep.shards import Shards, unsealed
from data_prep.tokenizers import SPECIAL_TOKENS, load, specials

FORMAT = 1  # raised when the values mean something else
MOST_TOKENS = 1 << 26  # of a split of the shards that are counted
MOST_BYTES = 1 << 28  # of a split of the corpus
MOST_FILES = 1024  # of a split of the corpus that are opened
MOST_REJECTS = 1 << 20
MOST_REASONS, MOST_SOURCES = 100, 100  # that are told apart
FREQUENT, UNSEEN, EXAMPLES = 20, 24, 8  # pieces that are named
ROW_BINS = 16
COVERED = (50, 90, 99)  # per cent of the text
OTHERS = "(others)"

# Lengths are told apart as 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …: four bins to a doubling.
_EDGES = np.array([*range(4), *((4 + quarter) << octave for octave in range(40) for quarter in range(4))])
_PLACES = re.compile(r"\b(byte|line|column|char|character|row|position) [\d,]+")


class Read(TypedDict):
    """How much was looked at: `share` of the record batches, and what they held."""

    share: float
    items: int


class Lengths(TypedDict):
    """How long things are. `counts[i]` of them are at least `edges[i]` and less than `edges[i + 1]` long."""

    count: int
    total: int
    mean: float
    least: int
    median: int
    most: int
    edges: list[int]
    counts: list[int]


class Piece(TypedDict):
    id: int
    piece: str
    count: int
    share: float


class TokenCounts(TypedDict):
    """How often tokens occur; all but `special` are about text: pieces that are not special, and the unknown one.

    cover: for 50, 90 and 99 per cent of the text, how many of the most frequent pieces make that up. entropy: nats per
    token; what a network loses that knows the frequencies and nothing else. ranks, counts: of the piece at a rank.
    occurrences: how many pieces occur as often as [edges[i], edges[i + 1]).
    """

    pieces: int
    occurring: int
    coverage: float
    text: int
    special: int
    unknown: int
    unk_share: float
    entropy: float
    cover: dict[str, int]
    frequent: list[Piece]
    unseen: int
    unseen_pieces: list[str]
    ranks: list[int]
    counts: list[int]
    occurrences: dict[str, list[int]]


class RowCounts(TypedDict):
    """One split of shards. `rows` and `tokens` are all there are, the rest is about those read."""

    rows: int
    tokens: int
    read: Read
    length: int
    padding_share: float
    sequences: int
    sequences_per_row: float
    sequences_of_rows: dict[str, int]
    labels: dict[str, int]
    row_lengths: Lengths
    vocabulary: TokenCounts


class SourceCounts(TypedDict):
    source: str
    documents: int
    sentences: int
    characters: int
    lengths: Lengths


class DocumentCounts(TypedDict):
    """One split of a corpus. `documents` are all there are, the rest is about those read. Lengths in characters."""

    documents: int
    read: Read
    sentences: int
    characters: int
    document_lengths: Lengths
    document_sentences: Lengths
    sentence_lengths: Lengths
    sources: list[SourceCounts]


class RejectCounts(TypedDict):
    """Rows that were refused, of those read: by reason, and by source and reason; the most frequent first."""

    rows: int
    read: Read
    reasons: dict[str, int]
    sources: dict[str, dict[str, int]]


class CorpusCounts(TypedDict):
    format: int
    splits: dict[str, DocumentCounts]
    rejects: RejectCounts


class ShardsCounts(TypedDict):
    format: int
    splits: dict[str, RowCounts]


class Kind(TypedDict):
    kind: str
    pieces: int
    share: float
    mean_length: float
    examples: list[str]


class TokenizerCounts(TypedDict):
    """A vocabulary. Lengths are characters of a piece's text, without the mark of what it joins."""

    format: int
    vocabulary: int
    specials: dict[str, str]
    kinds: list[Kind]
    lengths: Lengths
    scripts: dict[str, int]


# -- rows -------------------------------------------------------------------------------------------------------------


def of_shards(folders: dict[str, Path], tokenizer: Path, lengths: dict[str, int]) -> ShardsCounts:
    """The splits of shards by name; `lengths` are those that their rows may have."""
    known = Pieces(load(tokenizer), specials(tokenizer))
    return {
        "format": FORMAT,
        "splits": {name: of_rows(Shards(folder), known, lengths.get(name)) for name, folder in folders.items()},
    }


def of_rows(shards: Shards, known: Pieces, length: int | None, most: int = MOST_TOKENS) -> RowCounts:
    """One split of shards. `length`: of a row with its padding (default: of the longest one)."""
    special = known.specials
    tokens = np.zeros(special.vocabulary, np.int64)
    long, several, labels = _Exact(), _Exact(), _Exact()
    wanted = shards.num_batches if shards.tokens <= most else max(1, shards.num_batches * most // shards.tokens)
    chosen = evenly(shards.num_batches, wanted, "rows")
    for number in chosen:
        batch = shards.batch(number)
        rows = restore(batch) if "target_ids" in batch else ragged(batch, "tokens")
        found = np.bincount(rows.values, minlength=special.vocabulary)
        if len(found) > special.vocabulary:
            raise UserError(
                f"{shards.artifact} holds the token {len(found) - 1}, but its tokenizer has only "
                f"{special.vocabulary}; give the tokenizer that it was made with"
            )
        tokens += found
        sizes = rows.lengths
        if found[special.pad]:
            sizes = sizes - np.bincount(rows.row_index(), rows.values == special.pad, len(rows)).astype(np.int64)
        long.add(sizes)
        if "sequence" in batch:
            within = ragged(batch, "sequence")
            several.add(within.values[within.offsets[1:] - 1].astype(np.int64) + 1)
        else:
            several.add(np.ones(num_rows(batch), np.int64))
        if "label" in batch:
            label = batch["label"]
            labels.add(label if isinstance(label, np.ndarray) else label.values)
    read, used, sequences = long.count, long.total, several.total
    room = length or long.most
    return {
        "rows": shards.rows,
        "tokens": shards.tokens,
        "read": {"share": _share(len(chosen), shards.num_batches), "items": used},
        "length": room,
        "padding_share": round(1 - _ratio(used, read * room, 1.0), 6),
        "sequences": sequences,
        "sequences_per_row": round(_ratio(sequences, read), 4),
        "sequences_of_rows": several.by_value(),
        "labels": labels.by_value(),
        "row_lengths": long.lengths(room),
        "vocabulary": _of_tokens(tokens, known),
    }


def _of_tokens(tokens: np.ndarray, known: Pieces) -> TokenCounts:
    """What there is to say of counts [vocabulary] of tokens."""
    special = known.specials
    ordinary = known.ordinary
    unknown = int(tokens[special.unk])
    counts = tokens[ordinary]
    order = np.argsort(-counts, kind="stable")
    ranked = counts[order]
    occurring = int((ranked > 0).sum())
    text = int(counts.sum()) + unknown
    running = np.cumsum(ranked)
    needed = [-(-int(running[-1]) * percent // 100) if occurring else 0 for percent in COVERED]
    ranks = _EDGES[(occurring >= _EDGES) & (_EDGES > 0)]
    if occurring and ranks[-1] != occurring:
        ranks = np.append(ranks, occurring)
    share = ranked[:occurring] / max(int(ranked.sum()), 1)
    unseen = ordinary[counts == 0]
    edges = [0, 1, *(10**power for power in range(1, len(str(int(ranked[0]) if occurring else 0)) + 1))]
    return {
        "pieces": len(ordinary),
        "occurring": occurring,
        "coverage": round(_ratio(occurring, len(ordinary)), 6),
        "text": text,
        "special": int(tokens.sum()) - text,
        "unknown": unknown,
        "unk_share": round(_ratio(unknown, text), 8),
        "entropy": round(float(-(share * np.log(share)).sum()) + 0.0, 4),
        "cover": {
            str(percent): int(np.searchsorted(running, amount)) + 1 if occurring else 0
            for percent, amount in zip(COVERED, needed, strict=True)
        },
        "frequent": [
            {
                "id": int(ordinary[place]),
                "piece": known.shown(int(ordinary[place])),
                "count": int(counts[place]),
                "share": round(_ratio(int(counts[place]), text), 6),
            }
            for place in order[: min(FREQUENT, occurring)].tolist()
        ],
        "unseen": len(unseen),
        "unseen_pieces": [known.shown(number) for number in unseen[:UNSEEN].tolist()],
        "ranks": ranks.tolist(),
        "counts": ranked[ranks - 1].tolist(),
        "occurrences": {"edges": edges, "counts": np.histogram(counts, edges)[0].tolist()},
    }


# -- documents --------------------------------------------------------------------------------------------------------


def of_corpus(folder: Path) -> CorpusCounts:
    """A corpus's splits and its rejects. UserError where the folder holds no corpus."""
    path = Path(folder) / INDEX
    try:
        files = unsealed(path.read_bytes())["splits"]
        return {
            "format": FORMAT,
            "splits": {
                split: of_documents(
                    [path.parent / file["file"] for file in files[split]],
                    sum(file["documents"] for file in files[split]),
                )
                for split in SPLITS
                if files[split]
            },
            "rejects": of_rejects(path.parent / "rejects.arrow"),
        }
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} is not a corpus ({error}); ingest it again") from error


class _Documents:
    """Documents of one source, or of all."""

    def __init__(self) -> None:
        self.characters, self.sentences = _Binned(), _Binned()

    def add(self, characters: np.ndarray, sentences: np.ndarray) -> None:
        self.characters.add(characters)
        self.sentences.add(sentences)


def of_documents(files: Sequence[Path], documents: int, most: int = MOST_BYTES) -> DocumentCounts:
    """One split, which has so many `documents` in all, of its files."""
    everything, sentences = _Documents(), _Binned()
    sources: dict[str, _Documents] = {}
    for batch in _batches(files, most, "documents"):
        column = batch["sentences"]
        characters_of = pc.utf8_length(column.flatten())  # type: ignore[attr-defined]
        long = characters_of.to_numpy(zero_copy_only=False).astype(np.int64)
        count = np.diff(column.offsets.to_numpy())
        ends = np.cumsum(count)
        running = np.concatenate([[0], np.cumsum(long)])
        characters = running[ends] - running[ends - count]
        sentences.add(long)
        everything.add(characters, count)
        for label, rows in _by_source(batch["source"]):
            if label not in sources and len(sources) >= MOST_SOURCES:
                label = OTHERS
            sources.setdefault(label, _Documents()).add(characters[rows], count[rows])
    ordered = sorted(sources.items(), key=lambda item: (item[0] == OTHERS, -item[1].characters.total, item[0]))
    return {
        "documents": documents,
        "read": {"share": _share(everything.characters.count, documents), "items": everything.characters.count},
        "sentences": sentences.count,
        "characters": sentences.total,
        "document_lengths": everything.characters.lengths(),
        "document_sentences": everything.sentences.lengths(),
        "sentence_lengths": sentences.lengths(),
        "sources": [
            {
                "source": label,
                "documents": one.characters.count,
                "sentences": one.sentences.total,
                "characters": one.characters.total,
                "lengths": one.characters.lengths(),
            }
            for label, one in ordered
        ],
    }


def of_rejects(path: Path, most: int = MOST_REJECTS) -> RejectCounts:
    """The rows that a corpus refused, of its `rejects.arrow`."""
    counts: Counter[tuple[str, str]] = Counter()
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    rows = read = 0
    # Batches are of up to 1024 rows: as many as that makes, evenly spaced.
    chosen = evenly(reader.num_record_batches, max(1, most >> 10), "rejects")
    for number in chosen:
        batch = reader.get_batch(number)
        read += batch.num_rows
        for label, places in _by_source(batch["source"]):
            for reason in _kinds(batch["reason"].take(pa.array(places))).value_counts().to_pylist():
                pair = label, _PLACES.sub(r"\1 …", reason["values"])
                counts[pair if pair in counts or len(counts) < MOST_REASONS * 10 else (OTHERS, OTHERS)] += reason[
                    "counts"
                ]
    rows = (
        read
        if len(chosen) == reader.num_record_batches
        else sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
    )
    reasons, sources = Counter[str](), Counter[str]()
    for (label, reason), count in counts.items():
        reasons[reason] += count
        sources[label] += count
    kept = [reason for reason, _ in _ordered(reasons)[:MOST_REASONS]]
    told = [label for label, _ in _ordered(sources)[:MOST_SOURCES]]
    return {
        "rows": rows,
        "read": {"share": _share(read, rows), "items": read},
        "reasons": {reason: reasons[reason] for reason in kept},
        "sources": {label: {r: counts[label, r] for r in kept if counts[label, r]} for label in told},
    }


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _kinds(reasons: pa.Array) -> pa.Array:
    """Reasons that name another row, without its name."""
    for begin, kind in (("duplicate of ", "duplicate"), ("near duplicate of ", "near duplicate")):
        reasons = pc.if_else(pc.starts_with(reasons, begin), kind, reasons)  # type: ignore[attr-defined]
    return pc.if_else(pc.match_substring(reasons, " is taken by a document of "), "name taken", reasons)  # type: ignore[attr-defined]


def _by_source(column: pa.Array) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of each source in a batch: what documents' names begin with, a package's or a folder's name."""
    found = column.dictionary_encode()
    labels = [(name or "").partition("/")[0] for name in found.dictionary.to_pylist()]
    distinct = {label: place for place, label in enumerate(sorted(set(labels)))}
    number = np.array([distinct[label] for label in labels], np.int64)[found.indices.to_numpy()]
    for label, place in distinct.items():
        yield label, np.flatnonzero(number == place)


def _batches(files: Sequence[Path], most: int, purpose: str) -> Iterator[pa.RecordBatch]:
    """Record batches of Arrow files, evenly spaced ones if the files are larger than `most` bytes."""
    chosen = [files[number] for number in evenly(len(files), MOST_FILES, purpose)]
    readers = [pa.ipc.open_file(pa.memory_map(str(file))) for file in chosen]
    size = sum(file.stat().st_size for file in chosen)
    starts = np.cumsum([0, *(reader.num_record_batches for reader in readers)])
    count = int(starts[-1])
    for number in evenly(count, count if size <= most else max(1, count * most // size), purpose):
        file = int(np.searchsorted(starts, number, side="right")) - 1
        yield readers[file].get_batch(number - int(starts[file]))


def evenly(count: int, wanted: int, purpose: str) -> list[int]:
    """`wanted` numbers below `count`, one of each of as many equal stretches: the same ones every time."""
    if wanted >= count:
        return list(range(count))
    bounds = np.arange(wanted + 1) * count // wanted
    draws = Draws(key(0, "statistics", purpose), 0, np.arange(wanted))
    return (bounds[:-1] + draws.below(np.diff(bounds), 0)).tolist()


# -- counting ---------------------------------------------------------------------------------------------------------


class _Exact:
    """Counts of small whole numbers, each by itself."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, values: np.ndarray) -> None:
        found = np.bincount(values, minlength=len(self.counts))
        found[: len(self.counts)] += self.counts
        self.counts = found

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        return int((self.counts * np.arange(len(self.counts))).sum())

    @property
    def most(self) -> int:
        return int(np.flatnonzero(self.counts)[-1]) if self.count else 0

    def by_value(self) -> dict[str, int]:
        return {str(value): int(self.counts[value]) for value in np.flatnonzero(self.counts).tolist()}

    def lengths(self, room: int) -> Lengths:
        """In equal bins up to `room`, which has its full rows in the last one."""
        some = np.flatnonzero(self.counts)
        width = max(1, -(-room // ROW_BINS))
        top = max(room, self.most)
        edges = [*range(max(top, 1) + 1, 0, -width)][::-1]
        edges = edges if edges[0] == 1 else [1, *edges]
        if self.counts[0]:
            edges = [0, *edges]
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        at = bounds[np.minimum(edges, len(self.counts))]
        middle = np.searchsorted(np.cumsum(self.counts), (self.count + 1) // 2)
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(_ratio(self.total, self.count), 2),
            "least": int(some[0]) if len(some) else 0,
            "median": int(middle) if len(some) else 0,
            "most": self.most,
            "edges": edges,
            "counts": np.diff(at).tolist(),
        }


class _Binned:
    """Counts of whole numbers of any size, in bins that widen with them."""

    def __init__(self) -> None:
        self.bins = np.zeros(len(_EDGES) - 1, np.int64)
        self.count = self.total = self.least = self.most = 0

    def add(self, values: np.ndarray) -> None:
        if not len(values):
            return
        least = int(values.min())
        self.least = least if not self.count else min(self.least, least)
        self.most = max(self.most, int(values.max()))
        self.count += len(values)
        self.total += int(values.sum())
        self.bins += np.bincount(np.searchsorted(_EDGES, values, side="right") - 1, minlength=len(self.bins))

    def lengths(self) -> Lengths:
        """The median is that of a bin in which values are spread evenly."""
        some = np.flatnonzero(self.bins)
        first, last = (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 0)
        running = np.cumsum(self.bins)
        place = int(np.searchsorted(running, (self.count + 1) // 2))
        low, high = max(int(_EDGES[place]), self.least), min(int(_EDGES[place + 1]), self.most + 1)
        before = int(running[place]) - int(self.bins[place])
        inside = ((self.count + 1) // 2 - before - 1) * (high - low) // max(int(self.bins[place]), 1)
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(_ratio(self.total, self.count), 2),
            "least": self.least,
            "median": low + inside if self.count else 0,
            "most": self.most,
            "edges": _EDGES[first : last + 1].tolist(),
            "counts": self.bins[first:last].tolist(),
        }


def _ratio(part: float, whole: float, nothing: float = 0.0) -> float:
    return part / whole if whole else nothing


def _share(part: int, whole: int) -> float:
    return round(_ratio(part, whole, 1.0), 6)


# -- pieces -----------------------------------------------------------------------------------------------------------


class _Text(NamedTuple):
    """A piece as text: without marks, whether it may begin a word, and whether it is whole characters."""

    text: str
    begins: bool
    whole: bool


class Pieces:
    """The pieces of a vocabulary as people can read them."""

    def __init__(self, tokenizer: Tokenizer, specials: Specials) -> None:
        self.tokenizer, self.specials = tokenizer, specials
        spec = json.loads(tokenizer.to_str())
        is_wordpiece = spec["model"]["type"] == "WordPiece"
        self.prefix: str | None = spec["model"]["continuing_subword_prefix"] if is_wordpiece else None
        self.is_bytes = "ByteLevel" in json.dumps(spec["decoder"])
        present = set(tokenizer.get_vocab(with_added_tokens=True).values())
        self.ordinary = np.array([number for number in specials.ordinary.tolist() if number in present], np.int64)

    def spelt(self, number: int) -> str:
        return self.tokenizer.id_to_token(number) or f"<{number}>"

    def shown(self, number: int) -> str:
        """On one line: a space before a word as ␣, what continues one as the vocabulary has it."""
        piece = self.spelt(number)
        if self.is_bytes:
            text = self.tokenizer.decode([number], skip_special_tokens=False)
            piece = text if text and "\ufffd" not in text else piece
        return piece.replace("▁", "␣").replace(" ", "␣").replace("\n", "↵")

    def text(self, number: int) -> _Text:
        piece = self.spelt(number)
        if self.prefix is not None:
            inside = piece.startswith(self.prefix) and piece != self.prefix
            return _Text(piece.removeprefix(self.prefix) if inside else piece, not inside, True)
        if self.is_bytes:
            text = self.tokenizer.decode([number], skip_special_tokens=False)
            return _Text(text.removeprefix(" ") or text, text.startswith(" "), "\ufffd" not in text)
        text = piece.replace("▁", " ")
        return _Text(text.removeprefix(" ") or text, text.startswith(" "), True)


def of_tokenizer(folder: Path) -> TokenizerCounts:
    """A tokenizer's vocabulary. UserError where the folder holds none."""
    known = Pieces(load(folder), specials(folder))
    lengths, scripts, found = _Exact(), Counter[str](), dict[str, list[int]]()
    sizes: Counter[str] = Counter()
    for number in known.ordinary.tolist():
        piece = known.text(number)
        kind = _kind(piece, joins=known.prefix is not None or known.is_bytes)
        found.setdefault(kind, []).append(number)
        size = len(piece.text) if piece.whole else 0
        sizes[kind] += size
        if piece.whole:
            lengths.add(np.array([size]))
            letter = next((character for character in piece.text if character.isalpha()), None)
            if letter:
                scripts[unicodedata.name(letter, "OTHER").split()[0].partition("-")[0].capitalize()] += 1
    special = known.specials
    kinds: list[Kind] = [
        {
            "kind": kind,
            "pieces": len(numbers),
            "share": round(len(numbers) / len(known.ordinary), 6),
            "mean_length": round(sizes[kind] / len(numbers), 2),
            "examples": [known.shown(numbers[place]) for place in evenly(len(numbers), EXAMPLES, f"examples {kind}")],
        }
        for kind, numbers in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return {
        "format": FORMAT,
        "vocabulary": special.vocabulary,
        "specials": {role: known.spelt(getattr(special, role)) for role in SPECIAL_TOKENS},
        "kinds": kinds,
        "lengths": lengths.lengths(min(max(lengths.most, 1), ROW_BINS)),
        "scripts": dict(_ordered(scripts)[:ROW_BINS]),
    }


def _kind(piece: _Text, joins: bool) -> str:
    text = piece.text
    if not piece.whole:
        return "part of a character"
    if text.isspace() or not text:
        return "white space"
    if not any(character.isalnum() for character in text):
        return "punctuation and symbols"
    if not any(character.isalpha() for character in text):
        return "numbers"
    if len(text) == 1:
        return "single letters"
    return "inside words" if joins and not piece.begins else "words or beginnings"
