"""Kinds of data: the interface through which a pipeline takes text, tables, images … from sources to shards.

    sources ─► ingest ─► corpus ─► fit ─► preprocessor ─► write_shards ─► shards of rows
               units, read, decide, write    (if it fits anything)

A kind is an entry in `KINDS` and a module with `KIND`, an instance of its class. Reading `KINDS` does not import the
modules. No other code refers to a kind by name: whatever depends on the kind is a method here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Union

import numpy as np
from pydantic import Field

from data_prep.compute.workers import Workers
from data_prep.corpus.documents import SplitConfig
from data_prep.corpus.draft import Draft, Progress, Writing
from data_prep.errors import UserError, choices
from data_prep.facts import DataFacts
from data_prep.findings import Finding, Known, budget, held_out, uniform
from data_prep.settings import Settings, changed_default
from data_prep.shards.rows import Ragged, Rows, Specials, network_input
from data_prep.sources.config import Accepts, SourceConfig
from data_prep.stats.blocks import Statistics
from data_prep.views import Example, Selection, View, Viewer

KINDS = {
    "text": "data_prep.text.kind",
    "table": "data_prep.tables.kind",
    "images": "data_prep.images.kind",
    "sound": "data_prep.sound.kind",
}

Written = Mapping[str, Sequence[tuple[Any, dict[str, Any]]]]
"""(unit, summary from `Kind.write`) for each file of each split."""
Problem = tuple[str, str]
"""(path of a key, why it conflicts with other settings)"""


class DataConfig(Settings):
    """Sources, kind and splits of the examples. Each kind adds its own fields."""

    kind: str
    """Kind of data in the sources."""
    sources: list[SourceConfig] = Field(min_length=1)
    """Packages, files or folders."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """Shares of the examples that are held out."""
    max_lost_files: Annotated[int, Field(ge=0)] | None = changed_default(None, 0)
    """Maximum number of files that are lost, wholly or from some row on, because they are damaged, cut short, empty,
    without the column that is asked for, or of rows none of which can be used; the rows before are kept. null: each
    counts as a bad row."""

    AFTER_INGEST: ClassVar[tuple[str, ...]] = ()
    """Fields that do not affect the corpus, only the steps after it."""


class Sections(Protocol):
    """The part of a recipe that kinds read."""

    @property
    def name(self) -> str: ...
    @property
    def data(self) -> Any: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def compose(self) -> Any: ...
    @property
    def corruption(self) -> Any: ...
    @property
    def order(self) -> Any: ...
    @property
    def train(self) -> Any: ...
    @property
    def seed(self) -> int: ...


class Table(Protocol):
    """Rows by index."""

    @property
    def rows(self) -> int: ...

    def read(self, index: np.ndarray) -> Rows: ...


@dataclass(frozen=True)
class FileFacts:
    """What is known of an example that is a file before a network reads it. digest: of what it holds. seconds: its
    duration."""

    digest: str
    seconds: float


class FileReader(Protocol):
    """What makes arrays of files."""

    def __call__(self, source: Path | bytes) -> np.ndarray:
        """[L, *item] of a file or of its contents. UnfitError for one that is no example."""
        ...

    def times(self, length: int) -> np.ndarray:
        """[L]: seconds from the file's beginning to the middle of each item."""
        ...


class Kind:
    """Base class of kinds of data. `Data` is the kind's section of a recipe.

    The `settings` that methods take are plain values made by the kind itself (`fit_settings`, `shards_settings`). They
    are part of the cache keys of results, so they hold everything that affects the result and nothing else.
    """

    Data: ClassVar[type[DataConfig]]
    sections: ClassVar[Mapping[str, bool]] = {}
    """Further sections of a recipe that belong to this kind, and whether each is required."""
    unit: ClassVar[str] = "rows"
    """Plural noun for examples in counts."""
    place: ClassVar[str] = "row"
    """Noun for the position of an example in its file."""
    casts: ClassVar[bool] = False
    """Whether the rows of units must be converted to a common schema (columns, sizes) before splits are decided."""
    mixes: ClassVar[bool] = False
    """Whether sources may be parts of a mixture (`sources.corpus`, `order.weights`)."""
    fits: ClassVar[str | None] = None
    """What is fitted on training rows before shards are written, if anything: tokenizer, transform …"""

    many_passes: ClassVar[int] = 1000
    """From this number on, passes over the training rows are called many."""
    uniform: ClassVar[str | None] = None
    """The name of rows whose values are all equal, if that is a sign of something wrong: silence …"""
    more_examples: ClassVar[str] = "add data"
    """How to get more examples to hold out."""
    version: ClassVar[int] = 1
    """Raised when the same sources and settings give another corpus than before."""
    file_noun: ClassVar[str | None] = None
    """Noun for what a file holds if it is one example, to which labelled rows may give its path: recording …"""
    file_suffixes: ClassVar[tuple[str, ...]] = ()
    """How the names of such files end."""
    reader_files: ClassVar[tuple[str, ...]] = ()
    """Files of a preprocessor that `file_reader` needs: exported networks hold them, too."""
    how_to_offer: ClassVar[Mapping[str, str]] = {}
    """What to set for rows to have a column that not all have."""

    def problems(self, recipe: Sections) -> Iterator[Problem]:
        """Conflicts between the recipe's sections that this kind checks."""
        yield from ()

    def characters(self, data: Any, downloads: Path) -> Mapping[str, int]:
        """How often each character occurs in a sample of text sources, as far as they are on this machine."""
        return {}

    def findings(self, known: Known) -> Iterator[Finding]:
        """Oddities of an experiment's data and settings, as far as its stages are finished."""
        yield from held_out(known, self.unit, self.more_examples)
        yield from budget(known, self.many_passes)
        yield from uniform(known, self.uniform)

    def lacks_normal(self, data: Any) -> str:
        """What to set where labels are read and none is known to be the normal one; else empty."""
        return ""

    def accepts(self, data: Any) -> Accepts:
        """Which files and packages its sources may be."""
        raise NotImplementedError

    def units(self, data: Any, downloads: Path, left_out: Counter[str]) -> Sequence[Any]:
        """The pieces of sources to read, each a `data_prep.corpus.draft.Unit`.

        left_out: counts the files of sources that are not read, by suffix.
        """
        raise NotImplementedError

    def read(self, unit: Any, data: Any, downloads: Path, folder: Path) -> dict[str, Any]:
        """Read a unit into `folder`, on any worker; returns a summary with `rows`, `reasons`, `first` (rejects)."""
        raise NotImplementedError

    def agree(self, data: Any, units: Sequence[Any], read: Sequence[dict[str, Any]]) -> Any:
        """The common schema of all units, derived from the summaries of reading."""
        return None

    def cast(self, unit: Any, agreed: Any, read_folder: Path, folder: Path) -> dict[str, Any]:
        """Convert the rows read from a unit to the common schema; returns a summary like that of `read`."""
        raise NotImplementedError

    def decide(self, draft: Draft) -> Any:
        """Find copies and assign splits; returns a `data_prep.corpus.draft.Decision`."""
        raise NotImplementedError

    def write(self, job: Writing) -> dict[str, dict[str, Any]]:
        """Write a unit's rows, on any worker; returns `file`, `digest` and counts for each split that gets rows."""
        raise NotImplementedError

    def write_rejects(self, draft: Draft, decided: Any) -> None:
        """Write all rejected rows with their reasons."""
        raise NotImplementedError

    def index(self, draft: Draft, files: Written) -> dict[str, Any]:
        """The corpus index: the files of each split and the common schema of their rows."""
        raise NotImplementedError

    def summary(self, draft: Draft, decided: Any, files: Written) -> dict[str, Any]:
        """Additions to the corpus summary: counts by split, and facts specific to this kind."""
        raise NotImplementedError

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        """The settings that `fit` depends on."""
        return {}

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        """Learn the preprocessor (a tokenizer, a transform, a scale) from the training rows of a corpus."""
        raise NotImplementedError

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        """The settings that `write_shards` depends on."""
        return {}

    def files(self, recipe: Sections) -> dict[str, Path]:
        """The user's files that `write_shards` reads, by the digests that stand for them in its settings."""
        return {}

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        """Write a folder of shards per split from a corpus and a preprocessor; returns a summary with row counts.

        Under "parts" the summary lists, for each of train, longer and validation, the folders of that part with their
        `rows`. Raises UserError if there is no training row.
        """
        raise NotImplementedError

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Statistics of shards and their corpus as plain JSON; the value of `corpus` is not part of any digest."""
        raise NotImplementedError

    def corpus_stats(self, corpus: Path) -> dict[str, Any]:
        """Statistics of a corpus as plain JSON."""
        raise NotImplementedError

    def statistics(self, counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
        """Tables and figures of the results of `stats`. ingested: the summary of the corpus."""
        raise NotImplementedError

    def file_facts(self, source: Path | bytes) -> FileFacts:
        """What is known of the example that a file is (`file_noun`), or that its contents are. UnfitError, with the
        reason, where it is none."""
        raise NotImplementedError

    def file_reader(self, folder: Path) -> FileReader:
        """What makes an array [L, *item] of such a file, or of the contents of one that somebody sent, as those were
        made that a network in a folder learned from.

        UserError where the folder does not say how; calls raise UnfitError for files that are none.
        """
        raise NotImplementedError

    def example_file(self) -> bytes:
        """The contents of a small such file, which shows what is to be sent to a network that is served."""
        raise NotImplementedError

    def run_facts(self, preprocessor: Path) -> dict[str, Any]:
        """For kinds whose examples are sequences: `rate` (items per second) and `length` (maximum items)."""
        return {}

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        """One sentence that describes a corpus and its training shards, from their summaries."""
        raise NotImplementedError

    def viewer(self, preprocessor: Path | None) -> Viewer:
        """The function that displays the values of one example. preprocessor: folder that `fit` wrote, if any."""
        raise NotImplementedError

    def title(self, rows: Rows, row: int, corpus: Path | None) -> str:
        """A title for an example besides its number: its class or name. corpus: folder, if available."""
        return ""

    def show(self, selection: Selection, preprocessor: Path | None, corpus: Path | None) -> list[Example]:
        """Views of rows of shards: x, x′ and x″, and the stored row if training augments it."""
        view = self.viewer(preprocessor)
        rows, unchanged = selection.rows, selection.unchanged
        examples = []
        for row, number in enumerate(selection.numbers.tolist()):
            views: dict[str, View] = {}
            if unchanged is not None:
                views["stored"] = view(_values(unchanged["input"], row))
            if selection.corruption is None:
                views["x"] = view(_values(rows["input"], row))
            else:
                views |= {piece.name: view(piece.values) for piece in selection.corruption.pieces(rows, row)}
            title = " · ".join(filter(None, (f"row {number:,}", self.title(rows, row, corpus))))
            examples.append(Example(title, views))
        return examples

    def show_corpus(self, corpus: Path, split: str, index: range) -> tuple[list[Example], int]:
        """(views of the corpus examples in `index`, truncated at the end of the split; number of examples in all)."""
        raise NotImplementedError

    def expected(self, recipe: Sections) -> DataFacts | None:
        """Facts about rows that follow from the recipe; None if the shape of a row is not known yet."""
        return None

    def columns(self, recipe: Sections) -> tuple[str, ...]:
        """Columns that rows have before they are corrupted."""
        return ("input", "label", "row")

    def of_sources(
        self, corpus: Path, preprocessor: Path, shards: Mapping[str, Any]
    ) -> tuple[list[str], list[list[str]]]:
        """For a mixture, columns and a line for each source that begins with its name; empty otherwise.

        shards: their summary.
        """
        return [], []

    def specials(self, preprocessor: Path) -> Specials | None:
        """Special ids of the tokenizer, if there is one."""
        return None


class Inputs:
    """Inputs of `Kind.write_shards`: folders of corpus and preprocessor, with the corpus summary."""

    def __init__(self, corpus: Path, summary: dict[str, Any], preprocessor: Path | None) -> None:
        self.corpus, self.summary, self._preprocessor = corpus, summary, preprocessor

    @property
    def preprocessor(self) -> Path:
        if self._preprocessor is None:
            raise ValueError("this kind of data fits no preprocessor")
        return self._preprocessor


class Use:
    """Resources for writing that do not affect the result. `files`: see `Kind.files`."""

    def __init__(
        self,
        work: Path,
        downloads: Path,
        progress: Progress,
        workers: Workers,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        self.work, self.downloads, self.progress, self.workers = work, downloads, progress, workers
        self.files = files or {}


def _values(column: Ragged | np.ndarray, row: int) -> np.ndarray:
    return column.row(row) if isinstance(column, Ragged) else np.asarray(column[row])


def kinds_of_files() -> list[str]:
    """Names of the kinds whose examples may be files, which labelled rows name by their paths."""
    return [name for name in KINDS if kind_of(name).file_noun is not None]


def kind_read_by(folder: Path) -> str | None:
    """The kind whose files the network in a folder reads, by what the folder holds; None: it does not say how files
    are read, as those of text and tables do not."""
    for name in kinds_of_files():
        needed = kind_of(name).reader_files
        if needed and all((folder / file).is_file() for file in needed):
            return name
    return None


def file_reader_of(folder: Path) -> FileReader | None:
    """`Kind.file_reader` for the network in a folder; None: it does not say how files are read."""
    kind = kind_read_by(folder)
    return None if kind is None else kind_of(kind).file_reader(folder)


@lru_cache
def kind_of(name: str) -> Kind:
    """The kind of that name. Raises UserError if there is none."""
    if name not in KINDS:
        raise UserError(f"data.kind: no kind of data is called {name!r}; {choices(name, KINDS)}")
    return import_module(KINDS[name]).KIND


def sections() -> set[str]:
    """Sections of a recipe that belong to particular kinds of data."""
    return {section for name in KINDS for section in kind_of(name).sections}


def config_union() -> Any:
    """The type of a recipe's section `data`: a union with one branch per kind, discriminated by `kind`."""
    branches = tuple(kind_of(name).Data for name in KINDS)
    return Annotated[Union[branches], Field(discriminator="kind")]  # noqa: UP007


def facts_of(name: str, table: Table, preprocessor: Path | None) -> DataFacts:
    """Facts about shards, derived from their first row."""
    kind, first = kind_of(name), table.read(np.zeros(1, np.int64))
    column = network_input(first)
    shape = column.values.shape[1:] if isinstance(column, Ragged) else np.asarray(column).shape[1:]
    return DataFacts(
        kind=name,
        columns=tuple(first),
        shape=tuple(shape),
        specials=kind.specials(preprocessor) if preprocessor else None,
        preprocessor=preprocessor,
        **(kind.run_facts(preprocessor) if preprocessor else {}),
    )
