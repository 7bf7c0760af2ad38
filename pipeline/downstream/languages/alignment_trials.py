"""Runs a job `alignment`: vectors of all texts by every layer of every model, and what they find."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.shards.rows import ragged
from data_prep.tokens.cleaning import Cleaning
from pipeline.downstream.finished import once
from pipeline.downstream.frozen_models import FrozenModels, Opened
from pipeline.downstream.languages import parallel
from pipeline.downstream.languages.alignment import WORDS, Config
from pipeline.downstream.languages.parallel import Pair, Parallel
from pipeline.downstream.languages.retrieval import Retrieval, centred, chance, cosines, retrieval
from pipeline.stage import Context
from training.inference.layers import means

_SCORES = "scores.json"
CHANCE = "chance"  # candidates in random order
NO_LAYER = -1  # of methods without a network


@dataclass(frozen=True)
class Score:
    """What a layer of a model finds of a pair of languages: from the first language's texts, and from the second's."""

    unit: str
    languages: tuple[str, str]
    layer: int
    is_centred: bool
    onward: Retrieval
    back: Retrieval

    @property
    def mrr(self) -> float:
        """Mean of both directions."""
        return (self.onward.mrr + self.back.mrr) / 2

    @property
    def top1(self) -> float:
        """Mean of both directions."""
        return (self.onward.top1 + self.back.top1) / 2


@dataclass(frozen=True)
class ModelScores:
    """What a model finds. cut: how many texts are longer than what it read, by unit; of how many."""

    model: str
    kind: str
    scores: Sequence[Score]
    cut: Mapping[str, tuple[int, int]]


class Trials:
    """A job with its texts. texts: by unit, the rows that are used."""

    def __init__(self, job: Config, models: FrozenModels, cleaning: Cleaning, context: Context) -> None:
        self.job, self.models, self.context = job, models, context
        self.texts: dict[str, Parallel] = {
            unit: parallel.load(of, cleaning).some(job.rows, models.seed)[0] for unit, of in job.units.items()
        }
        self.pairs: dict[str, list[Pair]] = {unit: of.pairs() for unit, of in self.texts.items()}

    def run(self) -> list[ModelScores]:
        """What each model finds, each baseline, and candidates in random order."""
        of_models = [
            once(self.context, {"model": name}, lambda name=name: self._of_model(name), _save, _open)
            for name in self.models.names
        ]
        baselines = [ModelScores(name, "baseline", list(self._of_baseline()), {}) for name in self.job.baselines]
        return [*of_models, *baselines, ModelScores(CHANCE, CHANCE, list(self._of_chance()), {})]

    def _of_model(self, name: str) -> ModelScores:
        self.context.progress(f"vectors of {name}", self.models.names.index(name) / len(self.models.names))
        opened = self.models.open(name, self.job.length)
        scores, cut = [], {}
        for unit, texts in self.texts.items():
            vectors = {language: _vectors(opened, unit, texts.texts(language)) for language in texts.languages}
            scores += [score for pair in self.pairs[unit] for score in _scores(unit, pair, vectors)]
            cut[unit] = (sum(of.cut for of in vectors.values()), sum(len(of.places) for of in vectors.values()))
        return ModelScores(name, "network", scores, cut)

    def _of_baseline(self) -> Iterator[Score]:
        """TF-IDF of a text's character n-grams up to 3, inside of words; weights are those of both languages' texts."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        for unit, pair in self._asked():
            vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True)
            vectorizer.fit([*pair.texts[0], *pair.texts[1]])
            weights: list[Any] = [vectorizer.transform(texts) for texts in pair.texts]
            similarities = np.asarray((weights[0] @ weights[1].T).todense())
            yield _score(unit, pair, NO_LAYER, False, similarities)

    def _of_chance(self) -> Iterator[Score]:
        for unit, pair in self._asked():
            right = _is_right(pair)
            yield Score(unit, pair[:2], NO_LAYER, False, chance(right), chance(right.T))

    def _asked(self) -> Iterator[tuple[str, Pair]]:
        return ((unit, pair) for unit, pairs in self.pairs.items() for pair in pairs)


class _Vectors(NamedTuple):
    """Of the texts of a language: where each one's vector is, [N, D] of each layer, how many are cut."""

    places: dict[str, int]
    layers: list[np.ndarray]
    cut: int

    def of(self, texts: Sequence[str]) -> list[np.ndarray]:
        """By layer, the vectors of some texts."""
        index = np.array([self.places[text] for text in texts])
        return [layer[index] for layer in self.layers]


def _vectors(opened: Opened, unit: str, texts: Sequence[str]) -> _Vectors:
    """Sentences are means of all tokens, words those of their pieces."""
    rows, is_cut = opened.reader.rows(texts)
    layers = means(opened.encoder, rows, opened.reader.is_piece(ragged(rows, "input")) if unit == WORDS else None)
    return _Vectors({text: place for place, text in enumerate(texts)}, layers, int(is_cut.sum()))


def _scores(unit: str, pair: Pair, vectors: Mapping[str, _Vectors]) -> Iterator[Score]:
    """Of every layer, with and without the languages' means."""
    sides = (vectors[language].of(texts) for language, texts in zip(pair[:2], pair.texts, strict=True))
    for layer, (first, second) in enumerate(zip(*sides, strict=True)):
        yield _score(unit, pair, layer, False, cosines(first, second))
        yield _score(unit, pair, layer, True, cosines(centred(first), centred(second)))


def _score(unit: str, pair: Pair, layer: int, is_centred: bool, similarities: np.ndarray) -> Score:
    right = _is_right(pair)
    onward, back = retrieval(similarities, right), retrieval(similarities.T, right.T)
    return Score(unit, pair[:2], layer, is_centred, onward, back)


def _is_right(pair: Pair) -> np.ndarray:
    """bool [texts of the first language, texts of the second]: which say the same."""
    right = np.zeros((len(pair.texts[0]), len(pair.texts[1])), bool)
    right[tuple(pair.links.T)] = True
    return right


def _save(scores: ModelScores, folder: Path) -> None:
    (folder / _SCORES).write_text(json.dumps(asdict(scores)))


def _open(folder: Path) -> ModelScores:
    values = json.loads((folder / _SCORES).read_text())
    scores = [
        Score(score["unit"], tuple(score["languages"]), score["layer"], score["is_centred"],
              Retrieval(*score["onward"]), Retrieval(*score["back"]))
        for score in values.pop("scores")
    ]  # fmt: skip
    cut = {unit: (numbers[0], numbers[1]) for unit, numbers in values.pop("cut").items()}
    return ModelScores(**values, scores=scores, cut=cut)
