"""A detector of unusual documents, as a folder that `sesame score` opens: a masked LM, how text is read, a threshold.

detector.json    how documents are cleaned and cut, above which score they are alarms, scores and lengths of normal ones
model/           the network and its tokenizer, as `transformers` opens them
learned.npy      which documents it has learned from (`pipeline.scoring.training_rows`)

A document's score is the mean surprise of its tokens (`training.inference.pseudo_likelihood`). That of a long document
varies less than that of a short one, so the threshold is for documents as long as those that it was drawn by: drift of
`tokens` says whether new ones are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.errors import UserError
from data_prep.shards.format import sealed, unsealed, write_whole
from data_prep.sources.archives import SourceFile, watched
from data_prep.sources.config import SourceConfig, snapshot, stamp_of
from data_prep.sources.files import open_file
from data_prep.sources.records import Fields, Reject
from data_prep.text.clean import CleanConfig
from data_prep.text.formats.formats import read_opened
from data_prep.text.rules.rules import Rules
from data_prep.text.units import Cleaner
from data_prep.tokens.corpus import TokenCorpus, tokenise
from data_prep.tokens.encoder import Encoder
from data_prep.tokens.tokenizers import load
from pipeline.scoring.drift import SCORE, Baseline
from pipeline.scoring.row_detector import FILE, FORMAT, REASONS, Scores
from training.distributed import choose_device
from training.inference.pseudo_likelihood import PseudoLikelihood, Surprises

KIND = "documents"
MODEL = "model"  # folder in the detector's
TOKENS = "tokens"  # the name under which lengths stand beside scores
TOGETHER, CHARACTERS = 256, 1 << 19  # documents, and characters of them, that are scored together
READING = {"normalisation", "language", "min_characters"}  # of a corpus's cleaning
NO_TEXT = "no token is left of it"


class Texts:
    """Reads documents as training documents were read: cleaned, cut into sentences, made token ids.

    Of the cleaning, rules do not apply: they choose what is worth learning from.
    """

    def __init__(self, clean: CleanConfig, tokenizer: Path) -> None:
        self.clean = CleanConfig.model_validate(clean.model_dump(include=READING))
        self.cleaner = Cleaner(self.clean, Rules(self.clean))
        self.encoder = Encoder(load(tokenizer))

    def tokens(self, documents: Sequence[Sequence[str]]) -> TokenCorpus:
        """The token ids of documents, each a list of sentences."""
        return tokenise(_Sentences(documents), self.encoder)


def files_of_text(path: str, downloads: Path) -> list[SourceFile]:
    """The files of a path that may hold documents; an archive is one."""
    found = snapshot([SourceConfig(path=path)], downloads)
    return [SourceFile(one.uri, one.name, one.size, stamp_of(one.size, one.stamp)) for one in found]


@dataclass(frozen=True)
class _Sentences:
    """As `tokenise` takes them."""

    documents: Sequence[Sequence[str]]

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, None]]:
        for start in range(0, len(self.documents), TOGETHER):
            some = self.documents[start : start + TOGETHER]
            counts = np.array([len(document) for document in some], np.int64)
            yield counts, pa.array([one for document in some for one in document], pa.string()), None


@dataclass(frozen=True)
class DocumentDetector:
    """A masked LM, a threshold of the mean surprise, and what normal documents look like."""

    network: PseudoLikelihood
    texts: Texts
    threshold: float
    baseline: Baseline
    text_field: str
    passage: int | None
    """Words of the passages that normal documents were cut into; None: they were not."""

    def judge(self, documents: TokenCorpus) -> Scores:
        """Scores of documents that have tokens, each a function of its document alone."""
        found = self.network.surprises(documents)
        score = found.mean()
        flag = score > self.threshold
        reasons: list[list[tuple[str, float]]] = [[] for _ in score]
        for number in np.flatnonzero(flag).tolist():
            reasons[number] = self.reasons(documents, found, number, REASONS)
        return Scores(score, flag, reasons)

    def reasons(self, documents: TokenCorpus, found: Surprises, number: int, most: int) -> list[tuple[str, float]]:
        """The words of a document that are the most surprising beyond what the network expects in their places.

        With each its share of all such surprise; a word that comes several times is one.
        """
        by_word: dict[bytes, float] = {}
        words, excess = _words(documents, found, number)
        for ids, value in zip(words, excess, strict=True):
            by_word[ids.tobytes()] = by_word.get(ids.tobytes(), 0.0) + float(value)
        total = sum(value for value in by_word.values() if value > 0)
        ranked = sorted((one for one in by_word.items() if one[1] > 0), key=lambda one: -one[1])[:most]
        return [(self._text(np.frombuffer(ids, documents.tokens.dtype)), value / total) for ids, value in ranked]

    def words(self, documents: TokenCorpus, found: Surprises, number: int) -> list[tuple[str, float]]:
        """The words of a document in order, and how much more surprising each is than expected, in nats."""
        words, excess = _words(documents, found, number)
        return [(self._text(ids), float(value)) for ids, value in zip(words, excess, strict=True)]

    def _text(self, ids: np.ndarray) -> str:
        return self.texts.encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False).strip()

    def told(self, documents: TokenCorpus, found: Scores) -> dict[str, np.ndarray]:
        """What drift is measured on."""
        return {SCORE: found.score, TOKENS: np.diff(documents.document_starts)}

    def read(self, file: SourceFile) -> Iterator[tuple[list[str], np.ndarray, TokenCorpus] | Reject]:
        """The documents of a file, some at a time, and those that cannot be scored."""
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

    def _together(self, waiting: _Waiting) -> Iterator[tuple[list[str], np.ndarray, TokenCorpus] | Reject]:
        found = self.texts.tokens(waiting.sentences)
        empty = np.diff(found.document_starts) == 0
        for number in np.flatnonzero(empty).tolist():
            yield Reject(waiting.sources[number], waiting.positions[number], NO_TEXT)
        kept = np.flatnonzero(~empty)
        if len(kept):
            offsets = found.document_offsets[np.append(kept, len(found))]  # an empty one takes no room
            sources = [waiting.sources[number] for number in kept]
            documents = TokenCorpus(found.tokens, found.word_start, found.sentence_offsets, offsets)
            yield sources, np.array(waiting.positions)[kept], documents

    def save(self, folder: Path, model: Path) -> None:
        """Write the folder, with a copy of the network in `model`; `detector.json` last, so that it is whole."""
        shutil.copytree(model, folder / MODEL, ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)
        about: dict[str, Any] = {
            "format": FORMAT,
            "kind": KIND,
            "threshold": self.threshold,
            "length": self.network.windows.length,
            "rounds": self.network.rounds,
            "passage": self.passage,
            "text_field": self.text_field,
            "clean": self.texts.clean.model_dump(mode="json", include=READING),
            "baseline": self.baseline.to_json(),
        }
        write_whole(folder / FILE, sealed(about))

    @staticmethod
    def open(folder: Path) -> DocumentDetector:
        """UserError where the folder holds no detector of documents."""
        try:
            about = unsealed((folder / FILE).read_bytes())
            if about["format"] != FORMAT or about["kind"] != KIND:
                raise ValueError(f"it has format {about['format']} of {about['kind']}, expected {FORMAT} of {KIND}")
            device = choose_device("auto")
            return DocumentDetector(
                PseudoLikelihood.open(folder / MODEL, about["length"], about["rounds"], device),
                Texts(CleanConfig.model_validate(about["clean"]), folder / MODEL),
                about["threshold"],
                Baseline.of_json(about["baseline"]),
                about["text_field"],
                about["passage"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder} holds no detector that can be used ({error}); run its recipe again.") from error


def _words(documents: TokenCorpus, found: Surprises, number: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The token ids of each word of a document, and the surprise in them beyond what was expected."""
    start, stop = documents.document_starts[number : number + 2]
    excess = found.surprise.values[start:stop] - found.entropy.values[start:stop]
    begins = np.flatnonzero(documents.word_start[start:stop])
    return np.split(documents.tokens[start:stop], begins[1:]), np.add.reduceat(excess, begins)


@dataclass
class _Waiting:
    """Documents to be scored together."""

    sources: list[str]
    positions: list[int]
    sentences: list[list[str]]
