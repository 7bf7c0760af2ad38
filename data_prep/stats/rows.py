"""Statistics of rows of shards: lengths, fill and frequencies of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corruptions import Corruption, build, config_of
from data_prep.errors import UserError
from data_prep.shards.reader import Shards
from data_prep.shards.rows import num_rows, ragged
from data_prep.stats.counts import EDGES, Exact, evenly, ratio, share_of
from data_prep.stats.types import FORMAT, RowCounts, ShardsCounts, TokenCounts
from data_prep.stats.vocabulary import Vocabulary
from data_prep.tokens.tokenizers import load, specials

MOST_TOKENS = 1 << 26  # of a split to count
FREQUENT, UNSEEN = 20, 24  # numbers of pieces to list
COVERED = (50, 90, 99)  # per cent of the text


def of_shards(
    folders: Mapping[str, Path],
    tokenizer: Path,
    lengths: Mapping[str, int],
    corruptions: Mapping[str, Mapping[str, Any]] | None = None,
) -> ShardsCounts:
    """Statistics of the splits of shards by name.

    lengths: maximum row length of each. corruptions: settings of what the rows of a split were written with.
    """
    vocabulary = Vocabulary(load(tokenizer), specials(tokenizer))
    built = {name: build(config_of(config), vocabulary.specials) for name, config in (corruptions or {}).items()}
    return {
        "format": FORMAT,
        "splits": {
            name: of_rows(Shards(folder), vocabulary, lengths.get(name), corruption=built.get(name))
            for name, folder in folders.items()
        },
    }


def of_rows(
    shards: Shards,
    vocabulary: Vocabulary,
    length: int | None,
    max_tokens: int = MOST_TOKENS,
    corruption: Corruption | None = None,
) -> RowCounts:
    """Statistics of one split of shards, whose rows count as they were before they were corrupted.

    length: of a row including padding (default: of the longest row). corruption: what the rows were written with.
    """
    special = vocabulary.specials
    pad = special.get("pad")
    tokens = np.zeros(special.vocabulary, np.int64)
    long, several, labels = Exact(), Exact(), Exact()
    wanted = (
        shards.num_batches if shards.items <= max_tokens else max(1, shards.num_batches * max_tokens // shards.items)
    )
    chosen = evenly(shards.num_batches, wanted, "rows")
    for number in chosen:
        batch = shards.batch(number)
        rows = ragged(corruption.restore(batch) if corruption else batch, "input")
        token_counts = np.bincount(rows.values, minlength=special.vocabulary)
        if len(token_counts) > special.vocabulary:
            raise UserError(
                f"{shards.artifact} holds the token {len(token_counts) - 1}, but its tokenizer has only "
                f"{special.vocabulary}; give the tokenizer that it was made with"
            )
        tokens += token_counts
        sizes = rows.lengths
        if pad is not None and token_counts[pad]:
            sizes = sizes - np.bincount(rows.row_index(), rows.values == pad, len(rows)).astype(np.int64)
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
        "tokens": shards.items,
        "read": {"share": share_of(len(chosen), shards.num_batches), "items": used},
        "length": room,
        "padding_share": round(1 - ratio(used, read * room, 1.0), 6),
        "sequences": sequences,
        "sequences_per_row": round(ratio(sequences, read), 4),
        "sequences_of_rows": several.by_value(),
        "labels": labels.by_value(),
        "row_lengths": long.lengths(room),
        "vocabulary": _of_tokens(tokens, vocabulary),
    }


def _of_tokens(tokens: np.ndarray, vocabulary: Vocabulary) -> TokenCounts:
    """Statistics of counts [vocabulary] of tokens."""
    special = vocabulary.specials
    ordinary = vocabulary.ordinary
    unk = special.get("unk")
    unknown = 0 if unk is None else int(tokens[unk])
    counts = tokens[ordinary]
    order = np.argsort(-counts, kind="stable")
    ranked = counts[order]
    occurring = int((ranked > 0).sum())
    text = int(counts.sum()) + unknown
    running = np.cumsum(ranked)
    needed = [-(-int(running[-1]) * percent // 100) if occurring else 0 for percent in COVERED]
    ranks = EDGES[(occurring >= EDGES) & (EDGES > 0)]
    if occurring and ranks[-1] != occurring:
        ranks = np.append(ranks, occurring)
    share = ranked[:occurring] / max(int(ranked.sum()), 1)
    unseen = ordinary[counts == 0]
    edges = [0, 1, *(10**power for power in range(1, len(str(int(ranked[0]) if occurring else 0)) + 1))]
    return {
        "pieces": len(ordinary),
        "occurring": occurring,
        "coverage": round(ratio(occurring, len(ordinary)), 6),
        "text": text,
        "special": int(tokens.sum()) - text,
        "unknown": unknown,
        "unk_share": round(ratio(unknown, text), 8),
        "entropy": round(float(-(share * np.log(share)).sum()) + 0.0, 4),
        "cover": {
            str(percent): int(np.searchsorted(running, amount)) + 1 if occurring else 0
            for percent, amount in zip(COVERED, needed, strict=True)
        },
        "frequent": [
            {
                "id": int(ordinary[place]),
                "piece": vocabulary.shown(int(ordinary[place])),
                "count": int(counts[place]),
                "share": round(ratio(int(counts[place]), text), 6),
            }
            for place in order[: min(FREQUENT, occurring)].tolist()
        ],
        "unseen": len(unseen),
        "unseen_pieces": [vocabulary.shown(number) for number in unseen[:UNSEEN].tolist()],
        "ranks": ranks.tolist(),
        "counts": ranked[ranks - 1].tolist(),
        "occurrences": {"edges": edges, "counts": np.histogram(counts, edges)[0].tolist()},
    }
