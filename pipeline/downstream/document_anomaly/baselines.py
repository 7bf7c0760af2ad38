"""Baseline scores of documents, higher for more unusual ones; only the random network sees the order of words.

    unigram          mean surprisal of tokens by their frequency in training documents, with add-one smoothing
    tf-idf-knn       mean cosine distance of TF-IDF vectors to the nearest training documents
    tf-idf-iforest   isolation forest (Liu et al. 2008) on the leading components of TF-IDF vectors
    random-network   mean surprisal by a network of the same shape with random weights
    length           number of tokens

Settings were fixed before any anomaly was seen.
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


class TokenisedDocuments(NamedTuple):
    """Documents as text and as token ids."""

    texts: list[str]
    tokens: TokenCorpus


ScoreFunction = Callable[[TokenisedDocuments], np.ndarray]


class Unigram:
    """The surprisal of tokens, given only their frequency."""

    def __init__(self, train: TokenCorpus, vocabulary: int) -> None:
        counts = np.bincount(train.tokens, minlength=vocabulary) + 1.0
        self.surprisal = -np.log(counts / counts.sum())

    def __call__(self, texts: TokenisedDocuments) -> np.ndarray:
        """float64 [D]. Tokens are added up in the order of their ids: their order in the text changes no bit."""
        documents = by_document(texts.tokens)
        rows = (np.sort(documents.row(number)) for number in range(len(documents)))
        return np.array([self.surprisal[row].mean() for row in rows])


def fit(
    names: Sequence[str], train: TokenisedDocuments, vocabulary: int, network: PseudoLikelihood | None, seed: int
) -> dict[str, ScoreFunction]:
    """Scores by name of those in `pipeline.downstream.document_anomaly.job.Baseline`, learned from training documents.

    network: with random weights, if `random-network` is among the names.
    """
    scores: dict[str, ScoreFunction] = {}
    words = _tf_idf(train.texts) if any(name.startswith("tf-idf") for name in names) else None
    for name in names:
        if name == "unigram":
            scores[name] = Unigram(train.tokens, vocabulary)
        elif name == "tf-idf-knn" and words:
            scores[name] = _neighbours(*words)
        elif name == "tf-idf-iforest" and words:
            scores[name] = _isolation_forest(*words, seed)
        elif name == "random-network" and network:
            scores[name] = _random(network)
        elif name == "length":
            scores[name] = _length
    return scores


def _random(network: PseudoLikelihood) -> ScoreFunction:
    return lambda read: network.surprisals(read.tokens).mean()


def _length(read: TokenisedDocuments) -> np.ndarray:
    return by_document(read.tokens).lengths.astype(np.float64)


def _tf_idf(texts: Sequence[str]) -> tuple[Any, Any]:
    """The fitted vectorizer and the training texts as sparse vectors [D, W]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    weighting = TfidfVectorizer(sublinear_tf=True, min_df=min(LEAST_FREQUENT, len(texts)))
    return weighting, weighting.fit_transform(texts)


def _neighbours(weighting: Any, train: Any) -> ScoreFunction:
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, train.shape[0]), metric="cosine", algorithm="brute").fit(train)
    return lambda read: near.kneighbors(weighting.transform(read.texts))[0].mean(1)


def _isolation_forest(weighting: Any, train: Any, seed: int) -> ScoreFunction:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import IsolationForest

    reduced = TruncatedSVD(min(COMPONENTS, *(size - 1 for size in train.shape)), random_state=seed).fit(train)
    forest = IsolationForest(random_state=seed).fit(reduced.transform(train))
    return lambda read: -forest.score_samples(reduced.transform(weighting.transform(read.texts)))
