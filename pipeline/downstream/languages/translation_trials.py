"""Runs a job `token-translation`: every model, direction, layer and α."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from tokenizers import Tokenizer

from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.rows import Ragged, Rows, ragged
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.roles import ends_of
from pipeline.downstream.finished import once
from pipeline.downstream.frozen_models import FrozenModels, Reader
from pipeline.downstream.languages import parallel
from pipeline.downstream.languages.token_translation import Config, split
from pipeline.downstream.metrics.text import unigram_precision
from pipeline.stage import Context
from training.inference.layers import means
from training.inference.shifted import ShiftedMaskedLM

SHIFTED, RANDOM, UNSHIFTED, COPIED = "difference", "random direction", "no shift", "the text itself"
_READ = "read.json"


class Measures(NamedTuple):
    """Shares of 1 (see `token_translation`); bleu1 in percent, also against the translation of the next text."""

    converted: float
    bleu1: float
    unchanged: float
    bleu1_of_others: float


@dataclass(frozen=True)
class Cell:
    """What is read with a shift. how: one of the above; layer and alpha are 0 where nothing is shifted."""

    source: str
    target: str
    how: str
    layer: int
    alpha: float
    measures: Measures


@dataclass(frozen=True)
class Example:
    """A text, what is read instead of it, and what would be right."""

    source: str
    target: str
    layer: int
    alpha: float
    text: str
    read: str
    right: str


@dataclass(frozen=True)
class DirectionCells:
    """All that was read in one direction. cut: how many of the texts are; of how many."""

    cells: Sequence[Cell]
    examples: Sequence[Example]
    cut: int
    count: int


@dataclass(frozen=True)
class ModelCells:
    """All that was read by a model. num_layers: of the network, without the embeddings."""

    model: str
    num_layers: int
    directions: Sequence[DirectionCells]

    @property
    def cells(self) -> list[Cell]:
        return [cell for of in self.directions for cell in of.cells]

    @property
    def examples(self) -> list[Example]:
        return [example for of in self.directions for example in of.examples]

    @property
    def cut(self) -> tuple[int, int]:
        """How many of the texts are cut, of how many."""
        return sum(of.cut for of in self.directions), sum(of.count for of in self.directions)


def measured(
    given: Ragged, read: Ragged, right: Sequence[Sequence[Sequence[int]]], source: set[int], target: set[int]
) -> Measures:
    """given, read: the tokens of texts, and those that are read in their places. right: of each text, the tokens of its
    translations. source, target: the tokens of either language."""
    of_target, of_both = (np.isin(read.values, list(tokens)) for tokens in (target - source, target & source))
    counted = len(read.values) - int(of_both.sum())
    texts = [read.row(row).tolist() for row in range(len(read))]
    bleu1, of_others = unigram_precision(texts, right), unigram_precision(texts, [*right[1:], *right[:1]])
    unchanged = float((given.values == read.values).mean()) if len(read.values) else 0.0
    return Measures(float(of_target.sum()) / counted if counted else 0.0, bleu1, unchanged, of_others)


class Trials:
    """A job with its texts. asked, others: rows that are asked about, and those that give means."""

    def __init__(self, job: Config, models: FrozenModels, cleaning: Cleaning, context: Context) -> None:
        self.job, self.models, self.context = job, models, context
        self.asked, self.others = split(job, parallel.load(job.sentences, cleaning), models.seed)
        self.directions = [ends for first, second in self.asked.ends() for ends in ((first, second), (second, first))]

    def run(self) -> list[ModelCells]:
        """What each model reads."""
        return [self._of_model(name) for name in self.models.names]

    def _of_model(self, name: str) -> ModelCells:
        folder = self.models.folders[name]
        network = ShiftedMaskedLM.open(folder, self.models.device)
        reader = self.models.reader(name, network.encoder.longest, self.job.length)
        layers = self.job.layers or list(range(len(network.layers) + 1))
        if max(layers) > len(network.layers) or min(layers) < 0:
            raise UserError(f"{folder}: has layers 0 to {len(network.layers)}; correct layers.")
        of = {language: _language(network, reader, self.others.texts(language)) for language in self.asked.languages}

        def read(source: str, target: str) -> DirectionCells:
            asked = _Asked.of(reader, [(text, row[target]) for row in self.asked.rows for text in row[source]])
            direction = _Direction(network, asked, source, target, of[source], of[target])
            cells = list(direction.cells(layers, self.job.alphas, self.models.seed))
            layer = max((cell for cell in cells if cell.how == SHIFTED), key=lambda cell: cell.measures.bleu1).layer
            examples = list(direction.examples(layer, self.job.alphas, self.job.shown, reader.tokenizer))
            return DirectionCells(cells, examples, asked.cut, len(asked.texts))

        directions = []
        for number, ends in enumerate(self.directions):
            self.context.progress(f"{name}: {' read as '.join(ends)}", number / len(self.directions))
            identity = {"model": name, "languages": list(ends)}
            directions.append(once(self.context, identity, lambda ends=ends: read(*ends), _save, _open))
        return ModelCells(name, len(network.layers), directions)


class _Language(NamedTuple):
    """Mean vectors [D] by layer, and the tokens of a language."""

    means: list[np.ndarray]
    tokens: set[int]


def _language(network: ShiftedMaskedLM, reader: Reader, texts: Sequence[str]) -> _Language:
    """Each text counts once, as the mean of its tokens but the one that begins it."""
    rows, _ = reader.rows(texts)
    ids, encoder = ragged(rows, "input"), cast(Any, network.encoder)
    counted = Ragged(ids.values != ends_of(reader.specials)[0], ids.offsets)
    by_layer = [vectors.mean(0) for vectors in means(encoder, rows, counted)]
    return _Language(by_layer, set(ids.values[reader.is_piece(ids).values].tolist()))


@dataclass(frozen=True)
class _Asked:
    """Texts with their translations. is_piece: bool, of the tokens of `rows`. right: ids of each one's translations."""

    texts: list[str]
    translations: list[tuple[str, ...]]
    rows: Rows
    is_piece: Ragged
    right: list[list[list[int]]]
    cut: int

    @staticmethod
    def of(reader: Reader, pairs: Sequence[tuple[str, tuple[str, ...]]]) -> _Asked:
        """Those that have translations."""
        texts, translations = map(list, zip(*((text, right) for text, right in pairs if right), strict=True))
        rows, is_cut = reader.rows(texts)
        ids = ragged(reader.rows([text for right in translations for text in right])[0], "input")
        pieces = iter(_kept(ids, reader.is_piece(ids)))
        right = [[next(pieces).tolist() for _ in of_text] for of_text in translations]
        return _Asked(texts, translations, rows, reader.is_piece(ragged(rows, "input")), right, int(is_cut.sum()))

    def pieces(self, ids: Ragged) -> Ragged:
        """What of `ids` stands in the places of pieces."""
        kept = _kept(ids, self.is_piece)
        return Ragged.from_rows(kept, np.int64, ())


def _kept(ids: Ragged, is_kept: Ragged) -> list[np.ndarray]:
    return [ids.row(row)[is_kept.row(row)] for row in range(len(ids))]


@dataclass(frozen=True)
class _Direction:
    """Texts of one language that are read as tokens of another."""

    network: ShiftedMaskedLM
    asked: _Asked
    source: str
    target: str
    own: _Language
    other: _Language

    def cells(self, layers: Sequence[int], alphas: Sequence[float], seed: int) -> Iterator[Cell]:
        """What is read without a shift, and with that of each layer and α."""
        yield self._cell(COPIED, 0, 0.0, self._given)
        yield self._cell(UNSHIFTED, 0, 0.0, self._read(0, None))
        for layer in layers:
            difference = self._difference(layer)
            generator = np.random.default_rng(key(seed, f"direction {self.source} {self.target} {layer}"))
            random = generator.normal(size=difference.shape)
            random *= np.linalg.norm(difference) / np.linalg.norm(random)
            for alpha in alphas:
                yield self._cell(SHIFTED, layer, alpha, self._read(layer, alpha * difference))
                yield self._cell(RANDOM, layer, alpha, self._read(layer, alpha * random))

    @property
    def _given(self) -> Ragged:
        return self.asked.pieces(ragged(self.asked.rows, "input"))

    def _difference(self, layer: int) -> np.ndarray:
        return self.other.means[layer] - self.own.means[layer]

    def _read(self, layer: int, shift: np.ndarray | None) -> Ragged:
        """What is read in the places of pieces."""
        return self.asked.pieces(self.network.read(self.asked.rows, layer, shift))

    def _cell(self, how: str, layer: int, alpha: float, read: Ragged) -> Cell:
        scores = measured(self._given, read, self.asked.right, self.own.tokens, self.other.tokens)
        return Cell(self.source, self.target, how, layer, alpha, scores)

    def examples(self, layer: int, alphas: Sequence[float], count: int, tokenizer: Tokenizer) -> Iterator[Example]:
        """The first texts, read with each α of a layer."""
        by_alpha = {alpha: self._read(layer, alpha * self._difference(layer)) for alpha in alphas} if count else {}
        for row, text in enumerate(self.asked.texts[:count]):
            for alpha, read in by_alpha.items():
                written = tokenizer.decode(read.row(row).tolist(), skip_special_tokens=False)
                right = " / ".join(self.asked.translations[row])
                yield Example(self.source, self.target, layer, alpha, text, written, right)


def _save(cells: DirectionCells, folder: Path) -> None:
    (folder / _READ).write_text(json.dumps(asdict(cells)))


def _open(folder: Path) -> DirectionCells:
    values = json.loads((folder / _READ).read_text())
    cells = [Cell(**{**cell, "measures": Measures(*cell["measures"])}) for cell in values["cells"]]
    examples = [Example(**example) for example in values["examples"]]
    return DirectionCells(cells, examples, values["cut"], values["count"])
