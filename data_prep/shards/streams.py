"""Names of the random streams that corrupt rows, so that writing, loading and display use the same draws."""

from __future__ import annotations

CORRUPT, CORRUPT_HELD_OUT = "corrupt", "corrupt held-out"
LONGER = "longer"  # the split with the longer rows of the last steps


def stream_of(split: str, name: str) -> tuple[str, str]:
    """(stream, corpus) that key the draws that corrupt the rows of a split.

    A split is "train", "longer", "validation", or the part of a mixture, as in "train-web".
    """
    kind, _, part = split.partition("-")
    words = [name, LONGER if kind == LONGER else "", part]
    return (CORRUPT_HELD_OUT if kind == "validation" else CORRUPT), " ".join(filter(None, words))
