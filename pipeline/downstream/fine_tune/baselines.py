"""Baselines without a network: answers to test examples after a fit to training examples."""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from data_prep.kinds import FileReader
from data_prep.labelled.examples import Example, Labelled, Task
from data_prep.labelled.segments import UNKNOWN, as_span
from data_prep.shards.rows import Ragged
from data_prep.text.words import places
from pipeline.downstream.fine_tune import metrics
from pipeline.downstream.fine_tune.checks import WEIGHTED
from pipeline.downstream.fine_tune.examples import drawn, label_weights, some
from pipeline.downstream.fine_tune.heads import Predicted, segments, spans
from pipeline.downstream.fine_tune.heads.arrays import array_of

_MOST_WORDS = 5  # of an answer
_COPIES = 20  # of its weights, which scikit-learn's L-BFGS keeps
_MOST_FRAMES = 10_000
_AROUND = 10  # frames on either side of one
_SENTENCE_END = re.compile(r"[.!?。！？\n]")
Method = Callable[..., list[Any]]
"""(data, training examples, test examples) ↦ answers; those of `WEIGHTED` take `weights` of labels, too."""


class Compares(Protocol):
    """What baselines need of a job that compares networks with them."""

    @property
    def baselines(self) -> Sequence[str]: ...

    @property
    def label_counts(self) -> Sequence[int]: ...

    @property
    def seeds(self) -> int: ...

    @property
    def test_rows(self) -> int | None: ...

    @property
    def class_weights(self) -> Literal["balanced"] | Mapping[str, float] | None: ...


def cells(job: Compares, seed: int, data: Labelled, read: FileReader | None = None) -> list[dict[str, Any]]:
    """Scores of the baselines on the same draws. read: what makes arrays of examples that are files."""
    test = some(data.splits[data.reported], job.test_rows, seed)
    methods = methods_of(data, read)
    return [
        _cell(job, name, methods[name], labels, seed, data, test)
        for name in job.baselines
        for labels in job.label_counts
    ]


def _cell(
    job: Compares, name: str, method: Method, labels: int, seed: int, data: Labelled, test: Sequence[Example]
) -> dict[str, Any]:
    train, by_seed = data.splits["train"], []
    for number in range(job.seeds):
        chosen = [train[i] for i in drawn(len(train), labels, seed, number)]
        weights = {"weights": label_weights(job.class_weights, data, chosen)} if name in WEIGHTED else {}
        answers = method(data, chosen, test, **weights)
        predicted = Predicted(answers, [None] * len(answers))
        by_seed.append(metrics.scores(data, test, predicted) | metrics.scores_of_parts(data, test, predicted))
    main = metrics.main_metric(data)
    scores = [scores[main] for scores in by_seed]
    return {
        "model": name, "kind": "baseline", "labels": labels, "scores": scores, "all": by_seed, "lr": None, "tried": {}
    }  # fmt: skip


def majority(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """Always the most frequent label, or number of a choice."""
    if data.head == "choice":
        return [_commonest(example.label for example in train)] * len(test)
    commonest = _commonest(tag for example in train for tag in example.tags or (example.label,) if tag != UNKNOWN)
    return [commonest if data.head == "class" else [commonest] * len(example.tags) for example in test]


def _commonest(numbers: Iterable[int]) -> int:
    return Counter(numbers).most_common(1)[0][0]


def unigram(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """Each word's most frequent tag; for unseen words the most frequent of all."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for example in train:
        for word, tag in zip(example.words, example.tags, strict=True):
            counts[word][tag] += 1
    best = {word: tags.most_common(1)[0][0] for word, tags in counts.items()}
    other = _commonest(tag for example in train for tag in example.tags)
    return [[best.get(word, other) for word in example.words] for example in test]


def window(
    data: Labelled, train: Sequence[Example], test: Sequence[Example], weights: np.ndarray | None = None
) -> list[Any]:
    """Logistic regression on the word, its two neighbours on either side and its ending. weights: of labels."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    features = [feature for example in train for feature in _window_features(example.words)]
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=1.0, max_iter=300, class_weight=_by_label(weights)))
    model.fit(features, np.array([tag for example in train for tag in example.tags]))
    tags = model.predict([feature for example in test for feature in _window_features(example.words)])
    of_examples = Ragged.from_lengths(tags, [len(example.words) for example in test])
    return [of_examples.row(row).tolist() for row in range(len(test))]


def tfidf(
    data: Labelled, train: Sequence[Example], test: Sequence[Example], weights: np.ndarray | None = None
) -> list[Any]:
    """Logistic regression on TF-IDF of words and word pairs; of texts without blanks between words, of characters.

    weights: of labels.
    """
    from sklearn.linear_model import LogisticRegression

    texts, truth = [_text(example) for example in train], np.array([example.label for example in train])
    num_classes = len(set(truth.tolist()))
    if num_classes < 2:
        return majority(data, train, test)
    vectorizer = _vectorizer(texts)
    features = vectorizer.fit_transform(texts)
    tested = vectorizer.transform([_text(example) for example in test])
    if len(texts) ** 2 < _COPIES * num_classes * features.shape[1]:
        features, tested = _in_row_space(features, tested)
    regression = LogisticRegression(C=10.0, max_iter=1000, class_weight=_by_label(weights))
    return regression.fit(features, truth).predict(tested).tolist()


def _in_row_space(features: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of sparse rows [N, F] and [M, F] in the space of the first ones, [N, R] and [M, R], R ≤ N.

    Weights with an L2 penalty lie in that space (the representer theorem), so whoever learns from the coordinates
    says the same as from the features. Many features of many classes take gigabytes, rows do not.
    """
    values, vectors = np.linalg.eigh((features @ features.T).toarray())
    kept = values > values[-1] * len(values) * np.finfo(float).eps
    scales = np.sqrt(values[kept])
    return vectors[:, kept] * scales, (others @ features.T) @ (vectors[:, kept] / scales)


def mean(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """Always the mean score."""
    return [statistics.fmean(example.score or 0.0 for example in train)] * len(test)


def methods_of(data: Labelled, read: FileReader | None) -> dict[str, Method]:
    """The methods for a task by name. read: what makes arrays of examples that are files; each is read once."""
    return METHODS[data.task] if read is None else _methods_of_files(data.task, read)


def _methods_of_files(task: Task, read: FileReader) -> dict[str, Method]:
    if task == "tagging":
        return {"majority": majority, "statistics": functools.partial(_of_positions, read)}
    if task == "question-answering":
        return {"no-answer": no_answer, "nearest-statistics": functools.partial(_nearest_span, read)}
    vectors = functools.cache(
        lambda example: np.stack([_moments(array_of(example, read, number)) for number in range(len(example.files))])
    )

    def of_examples(examples: Sequence[Example]) -> np.ndarray:
        """Vectors of the files of each example, and of two also how they differ."""
        of_files = [vectors(example) for example in examples]
        return np.stack([np.concatenate([*each, *abs(each[1:] - each[0])]) for each in of_files])

    def statistics_of(
        data: Labelled, train: Sequence[Example], test: Sequence[Example], weights: np.ndarray | None = None
    ) -> list[Any]:
        """Logistic or ridge regression on each band's mean and standard deviation. weights: of labels."""
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        is_class = data.head == "class"
        if is_class and len({example.label for example in train}) < 2:
            return majority(data, train, test)
        truth = [example.label if is_class else example.score or 0.0 for example in train]
        model = LogisticRegression(max_iter=2000, class_weight=_by_label(weights)) if is_class else Ridge()
        fitted = make_pipeline(StandardScaler(), model).fit(of_examples(train), truth)
        return fitted.predict(of_examples(test)).tolist()

    def nearest_statistics(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
        """The choice whose means and standard deviations of bands are nearest, in their spread over training."""
        spread = np.concatenate([vectors(example) for example in train]).std(0) + 1e-9
        scaled = [vectors(example) / spread for example in test]
        return [int(np.linalg.norm(each[1:] - each[0], axis=1).argmin()) for each in scaled]

    if task == "choice":
        return {"majority": majority, "nearest-statistics": nearest_statistics}
    simple: dict[Task, Method] = {"classification": majority, "regression": mean}
    return {simple[task].__name__: simple[task], "statistics": statistics_of}


def _of_positions(
    read: FileReader,
    data: Labelled,
    train: Sequence[Example],
    test: Sequence[Example],
    weights: np.ndarray | None = None,
) -> list[Any]:
    """Logistic regression on each frame's bands, and their means and standard deviations around it. weights: of labels.

    Of training about `_MOST_FRAMES` frames at most are learned, evenly taken. Labels are smoothed as those of networks.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frames, labels = [], []
    step = -(-sum(len(example.tags) for example in train) // _MOST_FRAMES)
    for example in train:
        array = array_of(example, read)
        tags = segments.tags_at(example, read.times(len(array)))
        learned = np.flatnonzero(tags != UNKNOWN)[::step]
        frames.append(_around(array)[learned])
        labels.append(tags[learned])
    truth = np.concatenate(labels)
    if len(np.unique(truth)) < 2:
        return majority(data, train, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight=_by_label(weights)))
    model.fit(np.concatenate(frames), truth)

    def shares_of(example: Example) -> np.ndarray:
        """Probabilities of all labels at each position."""
        array = array_of(example, read)
        nearest = segments.nearest_to(example, read.times(len(array)))
        shares = np.zeros((len(nearest), len(data.labels)))
        shares[:, model.classes_] = model.predict_proba(_around(array))[nearest]
        return shares

    width, validation = 1, data.splits["validation"]
    if data.reported != "validation":
        width = segments.best_smoothing(data.labels, data.outside, validation, [*map(shares_of, validation)])
    return [segments.smoothed(shares_of(example), width).argmax(-1).tolist() for example in test]


def _nearest_span(read: FileReader, data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """The stretch as long as the question whose means of bands are nearest to its own; nothing is learned."""
    answers = []
    for example in test:
        context, question = array_of(example, read, 0), array_of(example, read, 1)
        length = min(len(question), len(context))
        means = np.lib.stride_tricks.sliding_window_view(context, length, 0).mean(-1)
        first = int(np.linalg.norm(means - question.mean(0), axis=-1).argmin())
        edges = spans.edges(read.times(len(context)), example.seconds)
        answers.append(as_span(edges[first, 0], edges[first + length - 1, 1]))
    return answers


def _around(array: np.ndarray) -> np.ndarray:
    """[L, 3 · width]: each position of an array [L, width], with means and standard deviations of it and the `_AROUND`
    on either side."""
    means, squares = (segments.smoothed(array.astype(np.float64) ** power, 2 * _AROUND + 1) for power in (1, 2))
    return np.concatenate([array, means, np.sqrt(np.maximum(squares - means**2, 0))], axis=-1, dtype=np.float32)


def _moments(array: np.ndarray) -> np.ndarray:
    """[2 · width]: means and standard deviations over the positions of an array [L, width]."""
    return np.concatenate([array.mean(0), array.std(0)])


def similarity(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """A straight line through the cosine of the two texts' TF-IDF; of single texts, ridge regression on TF-IDF."""
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.pipeline import make_pipeline

    texts, scores = [_text(example) for example in train], [example.score or 0.0 for example in train]
    if train[0].text_pair is None:
        model = make_pipeline(_vectorizer(texts), Ridge()).fit(texts, scores)
        return model.predict([_text(example) for example in test]).tolist()
    vectorizer = _vectorizer(texts).fit(texts)
    of_train, of_test = (
        _cosines(vectorizer, [e.text for e in of], [e.text_pair or "" for e in of]) for of in (train, test)
    )
    return LinearRegression().fit(of_train[:, None], scores).predict(of_test[:, None]).tolist()


def overlap(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """The choice whose TF-IDF is nearest to that of the text; nothing is learned but the words' weights."""
    texts = [text for example in train for text in (_text(example), *example.choices)]
    vectorizer, answers = _vectorizer(texts).fit(texts), []
    for example in test:
        cosines = _cosines(vectorizer, [_text(example)] * len(example.choices), example.choices)
        answers.append(int(cosines.argmax()))
    return answers


def no_answer(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """Always that a question has no answer."""
    return [""] * len(test)


def nearby(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """Words beside those of the question, in the sentence that shares most with it; nothing is learned but which words
    are common: those that a fifth of the contexts have are never in an answer.

    After the sliding window of Richardson et al. 2013 (Rajpurkar et al. 2016, section 5, whose candidates are
    constituents): a word is worth log(1 + 1 / its number in the context), less with its distance from the answer.
    """
    contexts = list(dict.fromkeys(example.text for example in train))
    counts = Counter(word for context in contexts for word in {word for word, _ in _words_at(context)})
    common = {word for word, count in counts.items() if 5 * count >= len(contexts)}
    return [_nearby(example.text, example.text_pair or "", common) for example in test]


def _nearby(context: str, question: str, common: Collection[str]) -> str:
    asked = {word for word, _ in _words_at(question)} - set(common)
    words, spans = zip(*_words_at(context), strict=True) if _words_at(context) else ((), ())
    numbers, worth = Counter(words), np.zeros(len(words))
    sentence, runs = np.zeros(len(words), np.int64), list[list[int]]()
    for place, word in enumerate(words):
        worth[place] = np.log(1 + 1 / numbers[word]) if word in asked else 0.0
        before = context[spans[place - 1][1] : spans[place][0]] if place else ""
        sentence[place] = sentence[place - 1] + bool(_SENTENCE_END.search(before)) if place else 0
        if word not in asked and word not in common:
            goes_on = runs and runs[-1][-1] == place - 1 and not before.strip() and len(runs[-1]) < _MOST_WORDS
            runs[-1].append(place) if goes_on else runs.append([place])
    if not runs:
        return ""

    def score(run: list[int]) -> tuple[float, float]:
        shared = np.where(sentence == sentence[run[0]], worth, 0.0)
        distance = np.maximum(run[0] - np.arange(len(words)), np.arange(len(words)) - run[-1])
        return float(shared.sum()), float((shared / np.maximum(distance, 1)).sum())

    best = max(runs, key=score)
    return context[spans[best[0]][0] : spans[best[-1]][1]]


def _words_at(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The words of a text, in lower case, and where they stand."""
    return [(text[start:end].casefold(), (start, end)) for start, end in places(text)]


def copy(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """The text itself."""
    return [_text(example) for example in test]


def nearest(data: Labelled, train: Sequence[Example], test: Sequence[Example]) -> list[Any]:
    """What is to be written for the training text whose TF-IDF is nearest."""
    from sklearn.neighbors import NearestNeighbors

    texts = [_text(example) for example in train]
    vectorizer = _vectorizer(texts).fit(texts)
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectorizer.transform(texts))
    places = index.kneighbors(vectorizer.transform([_text(example) for example in test]), return_distance=False)
    return [train[place].target for place in places[:, 0]]


def _by_label(weights: np.ndarray | None) -> dict[int, float] | None:
    """Weights [labels] as scikit-learn takes them."""
    return None if weights is None else dict(enumerate(weights.tolist()))


def _vectorizer(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaced = sum(" " in text.strip() for text in texts) > len(texts) / 2
    if spaced:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)


def _cosines(vectorizer: Any, texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[N]: cosines of pairs of texts."""
    of_texts, of_others = vectorizer.transform(texts), vectorizer.transform(others)
    return np.asarray(of_texts.multiply(of_others).sum(1)).ravel()


def _text(example: Example) -> str:
    return example.text if example.text_pair is None else f"{example.text} {example.text_pair}"


def _window_features(words: Sequence[str]) -> list[dict[str, Any]]:
    padded = ["<", "<", *words, ">", ">"]
    return [
        {**{f"{k}": padded[i + k] for k in range(5)}, "ending": word[-3:], "next": f"{word} {padded[i + 3]}"}
        for i, word in enumerate(words)
    ]


METHODS: dict[Task, dict[str, Method]] = {
    "classification": {"majority": majority, "tfidf": tfidf},
    "tagging": {"majority": majority, "unigram": unigram, "window": window},
    "regression": {"mean": mean, "similarity": similarity},
    "choice": {"majority": majority, "overlap": overlap},
    "question-answering": {"no-answer": no_answer, "nearby": nearby},
    "text-to-text": {"copy": copy, "nearest": nearest},
}
