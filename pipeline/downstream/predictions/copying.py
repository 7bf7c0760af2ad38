"""What copying tells of a sequence that is predicted from another: the baseline of those who restore texts.

At each token, the guess is what follows the token before it in the network's input: next to the last guess
if that was right, else at the first such place after it, else at the first of all.

    given    the  ▁  sat  on  the  mat
    truth    the  cat  sat  on  a  mat
    guesses  the  sat  sat  on  the  the
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection

import numpy as np

from data_prep.shards.rows import Ragged


def copied(given: Ragged, truth: Ragged, hidden: Collection[int]) -> np.ndarray:
    """[M] guesses at the tokens of `truth` [R, ragged] by copying `given` [R, ragged]; −1 where nothing is left.

    hidden: ids that stand for what is not given, which are no guesses.
    """
    guesses = np.full(len(truth.values), -1, np.int64)
    for row in range(len(truth)):
        tokens = [token for token in given.row(row).tolist() if token not in hidden]
        behind: dict[int, list[int]] = {}  # places by the token before them
        for place, token in enumerate(tokens[:-1], 1):
            behind.setdefault(token, []).append(place)
        start, at = int(truth.offsets[row]), 0
        for number, token in enumerate(truth.row(row).tolist()):
            if at < len(tokens):
                guesses[start + number] = tokens[at]
            if at < len(tokens) and tokens[at] == token:
                at += 1
            elif places := behind.get(token):
                at = places[bisect_right(places, at) % len(places)]
    return guesses
