"""Scores of documents without a trained network, higher for the more unusual; none but the random network sees order.

    unigram          mean surprise of a document's tokens by how often training documents have them, one added to each
    tf-idf-knn       mean cosine distance to the nearest training documents, of weighted counts of words
    tf-idf-iforest   isolation forest (Liu et al. 2008) on the leading components of the same
    random-network   the mean surprise of a network of the same shape with random weights
    length           tokens

Settings are fixed, and were before any anomaly was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_prep.tokens.corpus import TokenCorpus
from training.inference.pseudo_likelihood import PseudoLikelihood, by_document

NEIGHBOURS = 5
COMPONENTS = 100
LEAST_FREQUENT = 2  # documents that have a word


class Read(NamedTuple):
    """Documents as text and as token ids."""

    texts: list[str]
    tokens: TokenCorpus


Score = Callable[[Read], np.ndarray]


class Unigram:
    """How surprising tokens are by their frequency alone."""

    def __init__(self, train: TokenCorpus, vocabulary: int) -> None:
        counts = np.bincount(train.tokens, minlength=vocabulary) + 1.0
        self.surprise = -np.log(counts / counts.sum())

    def __call__(self, read: Read) -> np.ndarray:
        """float64 [D]. Tokens are added up in the order of their ids: their order in the text changes no bit."""
        documents = by_document(read.tokens)
        rows = (np.sort(documents.row(number)) for number in range(len(documents)))
        return np.array([self.surprise[row].mean() for row in rows])


def fit(
    names: Sequence[str], train: Read, vocabulary: int, network: PseudoLikelihood | None, seed: int
) -> dict[str, Score]:
    """Scores by name of those in `pipeline.recipe.jobs.document_anomaly.DocumentBaseline`, learned from training
    documents.

    network: the one with random weights, where it is among the names.
    """
    found: dict[str, Score] = {}
    words = _tf_idf(train.texts) if any(name.startswith("tf-idf") for name in names) else None
    for name in names:
        if name == "unigram":
            found[name] = Unigram(train.tokens, vocabulary)
        elif name == "tf-idf-knn" and words:
            found[name] = _neighbours(*words)
        elif name == "tf-idf-iforest" and words:
            found[name] = _isolation_forest(*words, seed)
        elif name == "random-network" and network:
            found[name] = _random(network)
        elif name == "length":
            found[name] = _length
    return found


def _random(network: PseudoLikelihood) -> Score:
    return lambda read: network.surprises(read.tokens).mean()


def _length(read: Read) -> np.ndarray:
    return by_document(read.tokens).lengths.astype(np.float64)


def _tf_idf(texts: Sequence[str]) -> tuple[Any, Any]:
    """The weighting and what it makes of the training texts: sparse [D, W]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    weighting = TfidfVectorizer(sublinear_tf=True, min_df=min(LEAST_FREQUENT, len(texts)))
    return weighting, weighting.fit_transform(texts)


def _neighbours(weighting: Any, train: Any) -> Score:
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, train.shape[0]), metric="cosine", algorithm="brute").fit(train)
    return lambda read: near.kneighbors(weighting.transform(read.texts))[0].mean(1)


def _isolation_forest(weighting: Any, train: Any, seed: int) -> Score:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import IsolationForest

    reduced = TruncatedSVD(min(COMPONENTS, *(size - 1 for size in train.shape)), random_state=seed).fit(train)
    forest = IsolationForest(random_state=seed).fit(reduced.transform(train))
    return lambda read: -forest.score_samples(reduced.transform(weighting.transform(read.texts)))
