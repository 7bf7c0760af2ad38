"""Baselines without a network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_prep.labelled.files import Example, Labelled
from pipeline.downstream.fine_tune.examples import drawn, some
from pipeline.downstream.fine_tune.job import Config
from pipeline.downstream.fine_tune.metrics import score_answers

Method = Callable[[Labelled, Sequence[Example], Sequence[Example]], np.ndarray]


def score(name: str, data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> float:
    """Fit the named baseline on `train`, score it on `test`."""
    return score_answers(data, _truth(data, test), METHODS[data.task][name](data, train, test))


def cells(job: Config, seed: int, data: Labelled) -> list[dict[str, Any]]:
    """Scores of the baselines on the same draws."""
    test = some(data.splits["test"], job.test_rows, seed)
    baseline_cells = []
    for name in job.baselines:
        for labels in job.labels:
            scores = []
            for number in range(job.seeds):
                train = data.splits["train"]
                chosen = [train[i] for i in drawn(len(train), labels, seed, number)]
                scores.append(score(name, data, chosen, test))
            baseline_cells.append(
                {"model": name, "kind": "baseline", "labels": labels, "scores": scores, "lr": None, "tried": {}}
            )
    return baseline_cells


def _truth(data: Labelled, examples: Sequence[Example]) -> np.ndarray:
    if data.task == "classification":
        return np.array([e.label for e in examples])
    return np.array([tag for e in examples for tag in e.tags])


def majority(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> np.ndarray:
    """Always the most frequent label."""
    commonest = Counter(_truth(data, train).tolist()).most_common(1)[0][0]
    return np.full(len(_truth(data, test)), commonest)


def unigram(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> np.ndarray:
    """Each word's most frequent tag; for unseen words the most frequent of all."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for example in train:
        for word, tag in zip(example.words, example.tags, strict=True):
            counts[word][tag] += 1
    best = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    other = int(majority(data, train, test)[0])
    return np.array([best.get(word, other) for example in test for word in example.words])


def window(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> np.ndarray:
    """Logistic regression on the word, its two neighbours on either side and its ending."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    features = [feature for example in train for feature in _window_features(example.words)]
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=1.0, max_iter=300))
    model.fit(features, _truth(data, train))
    return model.predict([feature for example in test for feature in _window_features(example.words)])


def tfidf(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> np.ndarray:
    """Logistic regression on TF-IDF of words and word pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=1000)
    )
    model.fit([_text(e) for e in train], _truth(data, train))
    return model.predict([_text(e) for e in test])


def _text(example: Example) -> str:
    return example.text if example.text_pair is None else f"{example.text} {example.text_pair}"


def _window_features(words: Sequence[str]) -> list[dict[str, Any]]:
    padded = ["<", "<", *words, ">", ">"]
    return [
        {**{f"{k}": padded[i + k] for k in range(5)}, "ending": word[-3:], "next": f"{word} {padded[i + 3]}"}
        for i, word in enumerate(words)
    ]


METHODS: dict[str, dict[str, Method]] = {
    "classification": {"majority": majority, "tfidf": tfidf},
    "tagging": {"majority": majority, "unigram": unigram, "window": window},
}
