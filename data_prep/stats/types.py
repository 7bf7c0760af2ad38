"""What statistics say: plain JSON values, and what each means."""

from __future__ import annotations

from typing_extensions import TypedDict

FORMAT = 1  # raised when the values mean something else


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
