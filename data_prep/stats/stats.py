"""Statistics of a corpus, its rows or a vocabulary: plain JSON values, in bounded memory, in seconds.

    of_shards     shards: token frequencies, row lengths, padding, sequences per row
    of_corpus     documents and sentences: numbers, lengths, sources; numbers of and reasons for rejects
    of_tokenizer  a vocabulary: kinds of pieces, their lengths, their scripts

Everything is counted by record batch. Of very large data only some batches are read, one from each of as many equal
intervals, chosen by keyed draws; `read` has the share. Results depend only on the files.
`data_prep.stats.types` documents each value.
"""

from __future__ import annotations

from data_prep.stats.corpus import of_corpus
from data_prep.stats.rows import of_shards
from data_prep.stats.types import FORMAT
from data_prep.stats.vocabulary import of_tokenizer

__all__ = ["FORMAT", "of_corpus", "of_shards", "of_tokenizer"]
