"""What a corpus, its rows or a vocabulary look like in numbers: plain JSON values, in bounded memory, in seconds.

    of_shards     shards: how often each token, how long the rows, how much padding, how many sequences in a row
    of_corpus     documents and sentences: how many, how long, from which source; what was rejected, and why
    of_tokenizer  a vocabulary: kinds of pieces, their lengths, their scripts

Everything is counted a record batch at a time. Of very large data some batches are read, one from each of as many
equal stretches, chosen by keyed draws: the same ones every time. `read` says how much that was. What is said depends
on the files alone, so equal files give equal values. `stats_types` says what each value means.
"""

from __future__ import annotations

from data_prep.stats.corpus import of_corpus
from data_prep.stats.rows import of_shards
from data_prep.stats.types import FORMAT
from data_prep.stats.vocabulary import of_tokenizer

__all__ = ["FORMAT", "of_corpus", "of_shards", "of_tokenizer"]
