"""Types of statistics, which are plain JSON values."""

from __future__ import annotations

from typing_extensions import TypedDict

FORMAT = 1  # incremented when the meaning of values changes


class Read(TypedDict):
    """How much was read: `share` of the record batches, and their contents."""

    share: float
    items: int


class Lengths(TypedDict):
    """A histogram of lengths. `counts[i]` lengths are at least `edges[i]` and less than `edges[i + 1]`."""

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
    """Frequencies of tokens; all values except `special` are about text: ordinary pieces and the unknown one.

    cover: for 50, 90 and 99 per cent of the text, the number of most frequent pieces that make it up. entropy: nats per
    token; the loss of a network that knows only the frequencies. ranks, counts: of the piece at a rank.
    occurrences: numbers of pieces with a count in [edges[i], edges[i + 1]).
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
    """One split of shards. `rows` and `tokens` are totals, the rest is about those read."""

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
    """One split of a corpus. `documents` is the total, the rest is about those read. Lengths in characters."""

    documents: int
    read: Read
    sentences: int
    characters: int
    document_lengths: Lengths
    document_sentences: Lengths
    sentence_lengths: Lengths
    sources: list[SourceCounts]


class RejectCounts(TypedDict):
    """Numbers of rejected rows among those read, by reason and by source and reason, in descending order."""

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
    """A vocabulary. Lengths are in characters of a piece's text, without word-boundary or continuation marks."""

    format: int
    vocabulary: int
    specials: dict[str, str]
    kinds: list[Kind]
    lengths: Lengths
    scripts: dict[str, int]
