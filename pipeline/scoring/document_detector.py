"""A detector of unusual documents, as a folder that `sesame score` opens: a masked LM, how text is read, a threshold.

detector.json      cleaning and cutting of documents, the threshold, scores and lengths of normal ones
model/             the network and its tokenizer, as `transformers` opens them
training_rows.npy  which documents it has learned from (`pipeline.scoring.training_rows`)

A document's score is the mean surprisal of its tokens (`training.inference.pseudo_likelihood`). It varies less for long
documents than for short ones, so the threshold holds for documents of similar length; drift of `tokens` shows whether
new ones are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_prep.corpus.documents import Corpus
from data_prep.opening.files import clause
from data_prep.sealed import sealed, write_whole
from data_prep.sources.archives import SourceFile, watched
from data_prep.sources.config import SourceConfig, snapshot, stamp_of
from data_prep.sources.files import open_file
from data_prep.sources.records import Fields, Reject
from data_prep.text.clean import CleanConfig
from data_prep.text.documents import TEXT
from data_prep.text.formats.formats import read_opened
from data_prep.text.ingest.units import Cleaner
from data_prep.text.passages import Passage, changed, of_split, shuffling
from data_prep.text.rules.rules import Rules
from data_prep.tokens.corpus import TokenCorpus, tokenise
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import load
from pipeline.fingerprint import digest
from pipeline.scoring import training_rows
from pipeline.scoring.detector import (
    FILE,
    FORMAT,
    REASONS,
    Batch,
    Description,
    Evaluation,
    Header,
    Reason,
    Scores,
    auroc,
    digests_of,
    read_description,
    unusable,
)
from pipeline.scoring.drift import SCORE, Baseline
from training.distributed import choose_device
from training.inference.pseudo_likelihood import PseudoLikelihood, Surprisals

MODEL = "model"  # folder in the detector's
TOKENS = "tokens"  # the name under which lengths are kept with scores
TOGETHER, CHARACTERS = 256, 1 << 19  # documents, and characters of them, that are scored together
READING = {"normalisation", "keep_lines", "language", "min_characters"}  # of a corpus's cleaning
NO_TEXT = "no token is left of it"
COMPARED = 500  # most documents that detectors are compared on


class Texts:
    """Reads documents as training documents were read: cleaned, cut into sentences, made token ids.

    Rules of the cleaning do not apply: they select training documents.
    """

    def __init__(self, clean: CleanConfig, tokenizer: Path) -> None:
        self.clean = CleanConfig.model_validate(clean.model_dump(include=READING))
        self.cleaner = Cleaner(self.clean, Rules(self.clean))
        self.encoder = Encoder(load(tokenizer))

    def tokens(self, documents: Sequence[Sequence[str]]) -> TokenCorpus:
        """The token ids of documents, each a list of sentences."""
        return tokenise(_Sentences(documents), self.encoder)


@dataclass(frozen=True)
class _Sentences:
    """Documents in the form that `tokenise` takes."""

    documents: Sequence[Sequence[str]]

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, None]]:
        for start in range(0, len(self.documents), TOGETHER):
            batch = self.documents[start : start + TOGETHER]
            counts = np.array([len(document) for document in batch], np.int64)
            yield counts, pa.array([sentence for document in batch for sentence in document], pa.string()), None


@dataclass(frozen=True)
class DocumentDetector:
    """A masked LM, a threshold of the mean surprisal, and a baseline of normal documents."""

    KIND: ClassVar[str] = "documents"

    network: PseudoLikelihood
    model: Path
    """The network's folder."""
    texts: Texts
    threshold: float
    baseline: Baseline
    text_field: str
    passage: int | None
    """Words of the passages that normal documents were cut into; None: not cut."""

    @property
    def reads(self) -> str:
        """The same for all documents."""
        return digest("documents")[:8]

    # -- files and documents ------------------------------------------------------------------------------------------

    def readable(self, name: str) -> bool:
        """Whether a file of that name may hold documents."""
        return TEXT.readable(name)

    def files(self, path: str, downloads: Path) -> list[SourceFile]:
        """The files of a path that may hold documents; an archive counts as one."""
        files = snapshot([SourceConfig(path=path)], TEXT)
        return [SourceFile(file.uri, file.name, file.size, stamp_of(file.size, file.stamp)) for file in files]

    def header(self) -> Header:
        """One line of names."""
        return Header()

    # -- scores and reasons -------------------------------------------------------------------------------------------

    def score(self, inputs: TokenCorpus) -> Scores:
        """Scores of documents that have tokens, each of which depends only on its document."""
        surprisals = self.network.surprisals(inputs)
        score = surprisals.mean()
        flag = score > self.threshold
        reasons: list[list[Reason]] = [[] for _ in score]
        for number in np.flatnonzero(flag).tolist():
            reasons[number] = [Reason(*word) for word in self.reasons(inputs, surprisals, number, REASONS)]
        return Scores(score, flag, reasons)

    def reasons(
        self, documents: TokenCorpus, surprisals: Surprisals, number: int, num_words: int
    ) -> list[tuple[str, float]]:
        """The words of a document with the largest surprisal beyond the network's expectation at their positions.

        With each its share of all such surprisal; repeated words are merged.
        """
        by_word: dict[bytes, float] = {}
        words, excess = _words(documents, surprisals, number)
        for ids, value in zip(words, excess, strict=True):
            by_word[ids.tobytes()] = by_word.get(ids.tobytes(), 0.0) + float(value)
        total = sum(value for value in by_word.values() if value > 0)
        ranked = sorted((item for item in by_word.items() if item[1] > 0), key=lambda item: -item[1])[:num_words]
        return [(self._text(np.frombuffer(ids, documents.tokens.dtype)), value / total) for ids, value in ranked]

    def words(self, documents: TokenCorpus, surprisals: Surprisals, number: int) -> list[tuple[str, float]]:
        """The words of a document in order, and the surprisal of each beyond expectation, in nats."""
        words, excess = _words(documents, surprisals, number)
        return [(self._text(ids), float(value)) for ids, value in zip(words, excess, strict=True)]

    def _text(self, ids: np.ndarray) -> str:
        return self.texts.encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False).strip()

    def drift_columns(self, inputs: TokenCorpus, scores: Scores) -> dict[str, np.ndarray]:
        """The score and the length in tokens."""
        return {SCORE: scores.score, TOKENS: np.diff(inputs.document_starts)}

    # -- comparison ---------------------------------------------------------------------------------------------------

    def test_rows(self, corpus: Path, learned: np.ndarray) -> tuple[list[Passage], int]:
        """Passages of the test split, of documents whose digests are not among `learned`; how many were left out."""
        test = Corpus(corpus, "test")
        is_learned = np.isin(training_rows.of_documents(test), learned)
        learned_names = {name for name, name_is_learned in zip(test.names, is_learned, strict=True) if name_is_learned}
        passages = of_split(corpus, "test", self.passage, COMPARED, seed=0)
        new = [passage for passage in passages if passage.document not in learned_names]
        return new, len(passages) - len(new)

    def evaluate(self, rows: list[Passage], normal: Sequence[str]) -> Evaluation:
        """AUROC of shuffled passages against the original ones."""
        kinds = (rows, changed(rows, shuffling(0, 0)))
        tokens = (self.texts.tokens([passage.sentences for passage in passages]) for passages in kinds)
        usual, odd = (self.network.surprisals(documents).mean() for documents in tokens)
        truth = np.repeat([False, True], [len(usual), len(odd)])
        return Evaluation("AUROC beside shuffled words", auroc(np.concatenate([usual, odd]), truth))

    # -- as a folder, and reading -------------------------------------------------------------------------------------

    def read(self, file: SourceFile) -> Iterator[Batch | Reject]:
        """The documents of a file in batches, and rejects that cannot be scored."""
        fields, waiting, characters = Fields(self.text_field), _Waiting([], [], []), 0
        rows = read_opened(partial(open_file, file.uri), file.size, file.name, fields)
        for row in watched(file, rows):
            cleaned = row if isinstance(row, Reject) else self.texts.cleaner(row)
            if isinstance(cleaned, Reject):
                yield cleaned
                continue
            waiting.sources.append(cleaned.document.source)
            waiting.positions.append(cleaned.document.position)
            waiting.sentences.append(cleaned.sentences)
            characters += len(cleaned.text)
            if len(waiting.sources) == TOGETHER or characters >= CHARACTERS:
                yield from self._together(waiting)
                waiting, characters = _Waiting([], [], []), 0
        if waiting.sources:
            yield from self._together(waiting)

    def _together(self, waiting: _Waiting) -> Iterator[Batch | Reject]:
        tokens = self.texts.tokens(waiting.sentences)
        empty = np.diff(tokens.document_starts) == 0
        for number in np.flatnonzero(empty).tolist():
            yield Reject(waiting.sources[number], waiting.positions[number], NO_TEXT)
        with_tokens = np.flatnonzero(~empty)
        if len(with_tokens):
            offsets = tokens.document_offsets[np.append(with_tokens, len(tokens))]  # empty documents take no tokens
            sources = [waiting.sources[number] for number in with_tokens]
            documents = TokenCorpus(tokens.tokens, tokens.word_start, tokens.sentence_offsets, offsets)
            yield Batch(sources, np.array(waiting.positions)[with_tokens], documents)

    def save(self, folder: Path) -> None:
        """Write the folder, with a copy of the network; `detector.json` comes last, and makes it complete."""
        shutil.copytree(self.model, folder / MODEL, ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
        about: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.KIND,
            "threshold": self.threshold,
            "length": self.network.windows.length,
            "rounds": self.network.rounds,
            "passage": self.passage,
            "text_field": self.text_field,
            "clean": self.texts.clean.model_dump(mode="json", include=READING),
            "baseline": self.baseline.to_json(),
            "files": digests_of(folder),
        }
        write_whole(folder / FILE, sealed(about))

    @staticmethod
    def open(folder: Path) -> DocumentDetector:
        """Open a folder. UserError if it holds no detector of documents."""
        about = read_description(folder, _Description)
        device = choose_device("auto")
        try:
            detector = DocumentDetector(
                PseudoLikelihood.open(folder / MODEL, about.length, about.rounds, device),
                folder / MODEL,
                Texts(CleanConfig.model_validate(about.clean), folder / MODEL),
                about.threshold,
                Baseline(about.baseline.edges, about.baseline.counts),
                about.text_field,
                about.passage,
            )
        except ValueError as error:
            raise unusable(folder, clause(error)) from error
        if unknown := sorted(set(about.baseline.edges) - {SCORE, TOKENS}):
            raise unusable(folder, f"its histograms are of {unknown[0]!r}, which documents have not")
        return detector


def _words(documents: TokenCorpus, surprisals: Surprisals, number: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The token ids of each word of a document, and its surprisal beyond expectation."""
    start, stop = documents.document_starts[number : number + 2]
    excess = surprisals.surprisal.values[start:stop] - surprisals.entropy.values[start:stop]
    begins = np.flatnonzero(documents.word_start[start:stop])
    return np.split(documents.tokens[start:stop], begins[1:]), np.add.reduceat(excess, begins)


class _Description(Description):
    """What `detector.json` of a folder says."""

    length: int = Field(ge=3)
    rounds: int = Field(ge=1, le=1 << 16)
    passage: int | None = Field(default=None, ge=1)
    text_field: str
    clean: dict[str, Any]


@dataclass
class _Waiting:
    """Documents waiting to be scored together."""

    sources: list[str]
    positions: list[int]
    sentences: list[list[str]]
