"""Runs a job `token-translation`: every model, direction, layer and α."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.errors import UserError
from data_prep.rng import key
from data_prep.shards.rows import Ragged, Rows, ragged
from data_prep.tokens import pretrained
from data_prep.tokens.cleaning import Cleaning
from data_prep.tokens.roles import ends_of, specials_of
from pipeline.downstream.finished import once
from pipeline.downstream.frozen_models import LONGEST, FrozenModels
from pipeline.downstream.languages import parallel
from pipeline.downstream.languages.token_translation import Config, split
from pipeline.downstream.metrics.text import unigram_precision
from pipeline.stage import Context
from training.inference.embedding import rows_of_texts
from training.inference.layers import means
from training.inference.shifted import ShiftedMaskedLM

SHIFTED, RANDOM, UNSHIFTED, COPIED = "difference", "random direction", "no shift", "the text itself"
_READ = "read.json"


class Measures(NamedTuple):
    """Shares of 1 (see `token_translation`); bleu1 in percent."""

    converted: float
    bleu1: float
    unchanged: float


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
class ModelCells:
    """All that was read by a model. num_layers: of the network; cut: how many of the texts are, of how many."""

    model: str
    num_layers: int
    cells: Sequence[Cell]
    examples: Sequence[Example]
    cut: tuple[int, int]


def measured(
    given: Ragged, read: Ragged, right: Sequence[Sequence[Sequence[int]]], source: set[int], target: set[int]
) -> Measures:
    """given, read: the tokens of texts, and those that are read in their places. right: of each text, the tokens of its
    translations. source, target: the tokens of either language."""
    of_target, of_both = (np.isin(read.values, list(tokens)) for tokens in (target - source, target & source))
    counted = len(read.values) - int(of_both.sum())
    bleu1 = unigram_precision([read.row(row).tolist() for row in range(len(read))], right)
    unchanged = float((given.values == read.values).mean()) if len(read.values) else 0.0
    return Measures(float(of_target.sum()) / counted if counted else 0.0, bleu1, unchanged)


class Trials:
    """A job with its texts. asked, others: rows that are asked about, and those that give means."""

    def __init__(self, job: Config, models: FrozenModels, cleaning: Cleaning, context: Context) -> None:
        self.job, self.models, self.context = job, models, context
        self.asked, self.others = split(job, parallel.load(job.sentences, cleaning), models.seed)
        self.directions = [ends for first, second in self.asked.ends() for ends in ((first, second), (second, first))]

    def run(self) -> list[ModelCells]:
        """What each model reads."""
        return [
            once(self.context, {"model": name}, lambda name=name: self._of_model(name), _save, _open)
            for name in self.models.names
        ]

    def _of_model(self, name: str) -> ModelCells:
        folder = self.models.folders[name]
        network = ShiftedMaskedLM.open(folder, self.models.device)
        most = network.encoder.longest or LONGEST
        if self.job.length is not None and self.job.length > most:
            raise UserError(f"{folder}: length {self.job.length} exceeds its {most} positions; lower it.")
        texts = _Texts(folder, self.job.length or min(most, LONGEST))
        of = {language: self._language(network, texts, language) for language in self.asked.languages}
        layers = self.job.layers or list(range(len(network.layers) + 1))
        if max(layers) > len(network.layers) or min(layers) < 0:
            raise UserError(f"{folder}: has layers 0 to {len(network.layers)}, found {max(layers)}; correct layers.")
        cells: list[Cell] = []
        examples: list[Example] = []
        for number, (source, target) in enumerate(self.directions):
            self.context.progress(f"{name}: {source} read as {target}", number / len(self.directions))
            direction = _Direction(network, texts, source, target, of[source], of[target], self._rows(source, target))
            cells += direction.cells(layers, self.job.alphas, self.models.seed)
            examples += direction.examples(cells, self.job.alphas, self.job.shown)
        return ModelCells(name, len(network.layers), cells, examples, texts.cut)

    def _language(self, network: ShiftedMaskedLM, texts: _Texts, language: str) -> _Language:
        rows = texts.rows(self.others.texts(language))
        ids = ragged(rows, "input")
        counted = Ragged(ids.values != texts.begin, ids.offsets)
        encoder: Any = network.encoder
        by_layer = [vectors.mean(0) for vectors in means(encoder, rows, counted)]
        return _Language(by_layer, set(texts.pieces(ids).values.tolist()))

    def _rows(self, source: str, target: str) -> list[tuple[str, tuple[str, ...]]]:
        """Texts, and their translations."""
        rows = self.asked.rows
        return [(text, row[target]) for row in rows for text in row[source] if row[target]]


class _Language(NamedTuple):
    """Mean vectors [D] by layer, and the tokens of a language."""

    means: list[np.ndarray]
    tokens: set[int]


class _Texts:
    """Texts as a network reads them. cut: how many were, of how many. begin: the token before a text, −1: none."""

    def __init__(self, folder: Path, length: int) -> None:
        self.tokenizer, settings = pretrained.read(folder)
        special, self.length = specials_of(self.tokenizer, settings), length
        begin = ends_of(special)[0]
        self.begin = -1 if begin is None else begin
        self._around = [number for number in special.all if number != special.get("unk")]
        self.cut = (0, 0)

    def rows(self, texts: Sequence[str]) -> Rows:
        rows, is_cut = rows_of_texts(self.tokenizer, texts, self.length)
        self.cut = (self.cut[0] + int(is_cut.sum()), self.cut[1] + len(texts))
        return rows

    def is_piece(self, ids: Ragged) -> np.ndarray:
        """Which tokens are not special ones around a text."""
        return ~np.isin(ids.values, self._around)

    def pieces(self, ids: Ragged, of: Ragged | None = None) -> Ragged:
        """The tokens of `ids` in the places of the pieces of `of`, which is itself."""
        is_piece = self.is_piece(ids if of is None else of)
        lengths = np.bincount(ids.row_index()[is_piece], minlength=len(ids))
        return Ragged.from_lengths(ids.values[is_piece], lengths)

    def text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)


class _Direction:
    """Texts of one language that are read as tokens of another. rows: texts, and their translations."""

    def __init__(
        self, network: ShiftedMaskedLM, texts: _Texts, source: str, target: str, own: _Language, other: _Language,
        rows: Sequence[tuple[str, tuple[str, ...]]],
    ) -> None:  # fmt: skip
        self.network, self.texts, self.source, self.target, self.own, self.other = (
            network, texts, source, target, own, other,
        )  # fmt: skip
        self.sentences, self.translations = [text for text, _ in rows], [right for _, right in rows]
        self.given = texts.rows(self.sentences)
        flat = [text for right in self.translations for text in right]
        ids = texts.pieces(ragged(texts.rows(flat), "input"))
        ends = np.cumsum([len(right) for right in self.translations])
        self.right = [
            [ids.row(number).tolist() for number in range(end - len(right), end)]
            for end, right in zip(ends.tolist(), self.translations, strict=True)
        ]

    def cells(self, layers: Sequence[int], alphas: Sequence[float], seed: int) -> Iterator[Cell]:
        given = self.texts.pieces(ragged(self.given, "input"))
        yield self._cell(COPIED, 0, 0.0, given)
        yield self._cell(UNSHIFTED, 0, 0.0, self._read(0, None))
        for layer in layers:
            difference = self._difference(layer)
            random = np.random.default_rng(key(seed, f"direction {self.source} {self.target} {layer}"))
            other = random.normal(size=difference.shape)
            other *= np.linalg.norm(difference) / np.linalg.norm(other)
            for alpha in alphas:
                yield self._cell(SHIFTED, layer, alpha, self._read(layer, alpha * difference))
                yield self._cell(RANDOM, layer, alpha, self._read(layer, alpha * other))

    def _difference(self, layer: int) -> np.ndarray:
        return self.other.means[layer] - self.own.means[layer]

    def _read(self, layer: int, shift: np.ndarray | None) -> Ragged:
        """What is read in the places of pieces."""
        return self.texts.pieces(self.network.read(self.given, layer, shift), ragged(self.given, "input"))

    def _cell(self, how: str, layer: int, alpha: float, read: Ragged) -> Cell:
        given = self.texts.pieces(ragged(self.given, "input"))
        scores = measured(given, read, self.right, self.own.tokens, self.other.tokens)
        return Cell(self.source, self.target, how, layer, alpha, scores)

    def examples(self, cells: Sequence[Cell], alphas: Sequence[float], count: int) -> Iterator[Example]:
        """The first texts, read with each α in the layer of the highest BLEU-1."""
        own = [c for c in cells if (c.source, c.target, c.how) == (self.source, self.target, SHIFTED)]
        layer = max(own, key=lambda cell: cell.measures.bleu1).layer
        by_alpha = {alpha: self._read(layer, alpha * self._difference(layer)) for alpha in alphas} if count else {}
        for row in range(min(count, len(self.sentences))):
            for alpha, read in by_alpha.items():
                yield Example(
                    self.source, self.target, layer, alpha, self.sentences[row],
                    self.texts.text(read.row(row).tolist()), " / ".join(self.translations[row]),
                )  # fmt: skip


def _save(cells: ModelCells, folder: Path) -> None:
    (folder / _READ).write_text(json.dumps(asdict(cells)))


def _open(folder: Path) -> ModelCells:
    values: Mapping = json.loads((folder / _READ).read_text())
    cells = [Cell(**{**cell, "measures": Measures(*cell["measures"])}) for cell in values["cells"]]
    examples = [Example(**example) for example in values["examples"]]
    return ModelCells(values["model"], values["num_layers"], cells, examples, (values["cut"][0], values["cut"][1]))
