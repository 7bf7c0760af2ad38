"""A corpus: cleaned documents, each a list of sentences, split by document.

Layout of the folder that `data_prep.ingest` writes:

    corpus.json                   written last: the files of each split and their numbers of documents
    train/00000.arrow …           documents: name, sentences, the paragraph number of each, source, meta (JSON);
                                  one file per unit of reading
    validation/… test/…
    rejects.arrow                 refused rows: source, position, reason, excerpt
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_prep.errors import UserError
from data_prep.sealed import digest, mapped, unsealed

INDEX = "corpus.json"
CHECKED_BYTES = 1 << 30
_BATCH = 1024
SPLITS = ("train", "validation", "test")
UNREAD = "held_out_only"  # in settings: parts of a mixture whose training documents are not used
DOCUMENT_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("sentences", pa.list_(pa.string())),
        ("paragraphs", pa.list_(pa.int32())),
        ("source", pa.string()),
        ("meta", pa.string()),
    ]
)
REJECT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
    ]
)
_Fraction = Annotated[float, Field(ge=0, lt=1)]


class SplitConfig(BaseModel):
    """Shares of the documents that are held out from training, for splits that no source declares."""

    model_config = ConfigDict(extra="forbid")

    validation: _Fraction = 0.05
    """Share for decisions during training, such as early stopping."""
    test: _Fraction = 0.05
    """Share for reported results."""

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError("'validation' and 'test' together must be less than 1")
        return self


def shares(count: int, split: SplitConfig) -> tuple[int, int]:
    """Numbers of documents, out of `count`, that are held out for validation and for test."""

    def share(fraction: float) -> int:
        return 0 if fraction == 0 or count < 3 else max(1, round(fraction * count))

    validation, test = share(split.validation), share(split.test)
    while validation + test >= count > 0 and validation + test > 0:
        validation, test = (validation - 1, test) if validation >= test else (validation, test - 1)
    return validation, test


def split_key(seed: int, name: str) -> bytes:
    """A 16-byte rank of a document; the documents with the smallest ranks are held out."""
    return hashlib.blake2b(json.dumps([seed, "split", name]).encode(), digest_size=16).digest()


def assign_splits(names: Sequence[str], split: SplitConfig, seed: int) -> dict[str, str]:
    """The split of each of these distinct names, assigned the way `data_prep.ingest` does for a corpus."""
    validation, test = shares(len(names), split)
    ranked = sorted(names, key=lambda name: (split_key(seed, name), name))
    splits = ["validation"] * validation + ["test"] * test + ["train"] * (len(names) - validation - test)
    return dict(zip(ranked, splits, strict=True))


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """One document of a corpus."""

    name: str
    sentences: list[str]
    paragraphs: list[int]
    """Paragraph number of each sentence, in ascending order."""
    source: str
    meta: dict[str, Any]


class Documents:
    """Documents in a memory-mapped table; nothing is read before it is accessed."""

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def names(self) -> list[str]:
        return self.table["name"].to_pylist()

    @property
    def meta(self) -> list[dict[str, Any]]:
        return [json.loads(meta) for meta in self.table["meta"].to_pylist()]

    def __getitem__(self, index: int) -> CorpusDocument:
        row = {name: self.table[name][index].as_py() for name in DOCUMENT_SCHEMA.names}
        return _corpus_document(*row.values())

    @property
    def documents(self) -> Iterator[CorpusDocument]:
        """The documents, in order."""
        for batch in self.table.to_batches():
            for row in zip(*(batch[name] for name in DOCUMENT_SCHEMA.names), strict=True):
                yield _corpus_document(*(value.as_py() for value in row))

    def batches(self) -> Iterator[tuple[np.ndarray, pa.StringArray, np.ndarray]]:
        """Documents by the thousand: their sentence counts, the sentences, the paragraph number of each sentence."""
        for batch in self.table.to_batches(_BATCH):
            sentences = batch["sentences"]
            yield np.diff(sentences.offsets.to_numpy()), sentences.flatten(), batch["paragraphs"].flatten().to_numpy()

    def sentences(self) -> Iterator[str]:
        """Every sentence of every document, in order."""
        for _, sentences, _ in self.batches():
            yield from sentences.to_pylist()


class Corpus(Documents):
    """One split of a corpus folder; for a mixture, all of it or only the part named `part`.

    `runs`: the part of a mixture that each file is of, and its number of documents. `files` has the digest of each
    file. For a corpus of up to CHECKED_BYTES they are checked here, for a larger one when it is read from end to
    end.
    """

    def __init__(self, folder: Path | str, split: str = "train", part: str | None = None) -> None:
        if split not in SPLITS:
            raise UserError(f"a corpus has no split {split!r}; it has {', '.join(SPLITS)}")
        self.folder, self.split = Path(folder), split
        path = self.folder / INDEX
        try:
            files = unsealed(path.read_bytes())["splits"][split]
            self.parts = sorted({file["corpus"] for file in files})
            self.files = {
                self.folder / file["file"]: file["digest"] for file in files if part in (None, file["corpus"])
            }
            check = sum(file.stat().st_size for file in self.files) <= CHECKED_BYTES
            tables = [CorpusFile(file, wanted if check else None).table for file, wanted in self.files.items()]
            self.runs = [
                (file["corpus"], table.num_rows)
                for file, table in zip((f for f in files if part in (None, f["corpus"])), tables, strict=True)
            ]
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise UserError(f"{path} is not a corpus ({error}); ingest it again") from error
        self.table = pa.concat_tables(tables) if tables else DOCUMENT_SCHEMA.empty_table()


def trained_parts(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """The parts of a corpus that are trained on; one, "", where it is no mixture."""
    return [part for part in Corpus(folder).parts if part not in settings.get(UNREAD, ())]


class CorpusFile(Documents):
    """One file of a corpus. UserError if its digest is not `wanted`."""

    def __init__(self, path: Path, wanted: str | None = None) -> None:
        if wanted is not None and digest(mapped(path)) != wanted:
            raise UserError(f"{path} is not what was written; delete the artifact it belongs to and run again")
        self.table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _corpus_document(name: str, sentences: list[str], paragraphs: list[int], source: str, meta: str) -> CorpusDocument:
    return CorpusDocument(name, sentences, paragraphs, source, json.loads(meta))
