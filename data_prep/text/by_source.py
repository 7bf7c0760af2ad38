"""How a tokenizer cuts the texts of each source of a mixture: tokens per word, and characters that it does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.corpus.documents import Corpus, Documents
from data_prep.rng import key
from data_prep.shards.order import permute
from data_prep.text.words import has_spaces
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import load

MOST = 1 << 20  # characters of a source that are looked at


@dataclass(frozen=True)
class SourceTokens:
    """Counts of a sample of one source's text. `words`: between spaces; `characters`: all but white space."""

    source: str
    words: int
    characters: int
    tokens: int
    unknown_characters: int
    has_spaces: bool
    token_counts: np.ndarray  # [ids that occur at most]

    @property
    def fertility(self) -> float:
        """Tokens per word; per character of a text that is written without spaces."""
        return self.tokens / max(1, self.words if self.has_spaces else self.characters)

    @property
    def unit(self) -> str:
        """What the fertility is of."""
        return "word" if self.has_spaces else "character"

    @property
    def unknown_share(self) -> float:
        return self.unknown_characters / max(1, self.characters)


def by_source(corpus: Path, tokenizer: Path, split: str = "validation", most: int = MOST) -> list[SourceTokens]:
    """The sources of a split, by name; one, "", if it is no mixture. Of each, documents are drawn up to `most`."""
    encoder = Encoder(load(tokenizer))
    return [_counted(part, Corpus(corpus, split, part), encoder, most) for part in Corpus(corpus, split).parts]


def _counted(source: str, documents: Documents, encoder: Encoder, most: int) -> SourceTokens:
    texts = list(_sentences(documents, most))
    sentences = pa.array(texts, pa.string())
    encoded = encoder.encode(sentences)
    return SourceTokens(
        source=source,
        words=sum(len(text.split()) for text in texts),
        characters=sum(len("".join(text.split())) for text in texts),
        tokens=len(encoded.values),
        unknown_characters=encoder.unknown_characters(sentences, encoded),
        has_spaces=has_spaces("".join(texts)),
        token_counts=np.bincount(encoded.values) if len(encoded.values) else np.zeros(1, np.int64),
    )


def _sentences(documents: Documents, most: int) -> Iterator[str]:
    """Sentences of documents in keyed order, up to so many characters."""
    size = 0
    for place in permute(np.arange(len(documents)), max(1, len(documents)), key(0, "by source")).tolist():
        for sentence in documents[place].sentences:
            yield sentence
            size += len(sentence)
            if size >= most:
                return


def lines_of_sources(corpus: Path, tokenizer: Path, shards: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Of a mixture, columns and a line for each source: see `data_prep.kinds.Kind.of_sources`.

    Tokens are those that are trained on; the others are of held-out documents, or of training ones without any.
    """
    split = "validation" if "validation" in shards else "train"
    counted = by_source(corpus, tokenizer, split)
    if len(counted) < 2:
        return [], []
    tokens = {name.partition("-")[2]: part["corpus_tokens"] for name, part in shards["parts"]["train"].items()}
    columns = ["tokens trained on", "tokens per word", "tokens per character", "unknown characters"]
    lines = [
        [
            counts.source,
            f"{tokens.get(counts.source, 0):,}",
            f"{counts.fertility:.3f}" if counts.has_spaces else "–",
            f"{counts.tokens / max(1, counts.characters):.3f}",
            f"{counts.unknown_share:.2%}",
        ]
        for counts in counted
    ]
    return columns, lines
