"""Kinds of data: what a pipeline must know of text, tables, images … to carry any of them from sources to shards.

    sources ─► ingest ─► corpus ─► fit ─► preprocessor ─► write_shards ─► shards of rows
               units, read, decide, write    (if it fits anything)

A kind is a line in `KINDS` and a module with `KIND`, an instance of its class. The table is read without importing the
modules. Nothing else in the project names a kind: what they differ in is asked of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Union

import numpy as np
from pydantic import Field

from data_prep.corpus.documents import SplitConfig
from data_prep.corpus.draft import Draft, Progress, Writing
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.settings import Settings
from data_prep.shards.rows import Ragged, Rows, Specials, network_input
from data_prep.sources.config import Accepts, SourceConfig
from data_prep.stats.blocks import Statistics
from data_prep.views import Example, Selection, View, Viewer
from data_prep.workers import Workers

KINDS = {
    "text": "data_prep.text.kind",
    "table": "data_prep.tables.kind",
    "images": "data_prep.images.kind",
    "sound": "data_prep.sound.kind",
}

Written = Mapping[str, Sequence[tuple[Any, dict[str, Any]]]]
"""(unit, what `Kind.write` said) for each file of each split."""
Problem = tuple[str, str]
"""(path of a key, what is wrong with it beside the others)"""


class DataConfig(Settings):
    """Where examples come from, what they are, and which are held out. Each kind adds its own fields."""

    kind: str
    """What the sources hold."""
    sources: list[SourceConfig] = Field(min_length=1)
    """Packages, files or folders."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """Shares held out."""

    AFTER_INGEST: ClassVar[tuple[str, ...]] = ()
    """Fields that do not change the corpus, only what is made of it."""


class Sections(Protocol):
    """A recipe, as far as kinds read it."""

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
    def train(self) -> Any: ...
    @property
    def seed(self) -> int: ...


class Table(Protocol):
    """Rows by number."""

    @property
    def rows(self) -> int: ...

    def read(self, index: np.ndarray) -> Rows: ...


class Kind:
    """What a kind of data answers. `Data` is its section of a recipe.

    Settings that a method takes are plain values made by the kind itself (`fit_settings`, `shards_settings`): they are
    part of the keys of what is made, so they hold what changes the result and nothing else.
    """

    Data: ClassVar[type[DataConfig]]
    sections: ClassVar[Mapping[str, bool]] = {}
    """Further sections of a recipe that are of this kind, and whether they must be there."""
    unit: ClassVar[str] = "rows"
    """What examples are called where they are counted."""
    place: ClassVar[str] = "row"
    """What the number of an example in its file counts."""
    casts: ClassVar[bool] = False
    """Whether what was read of units must be made alike (columns, sizes) before it is decided about."""
    mixes: ClassVar[bool] = False
    """Whether sources may be parts of a mixture (`sources.corpus`, `order.weights`)."""
    fits: ClassVar[str | None] = None
    """What is learned from training rows before shards are written, if anything: tokenizer, transform …"""

    def problems(self, recipe: Sections) -> Iterator[Problem]:
        """What the sections of this kind must agree on."""
        yield from ()

    def tells_normal(self, data: Any) -> bool:
        """Whether labels will tell which examples are normal and which are anomalies."""
        return False

    def accepts(self, data: Any) -> Accepts:
        """Which files and packages its sources may be."""
        raise NotImplementedError

    def units(self, data: Any, downloads: Path) -> Sequence[Any]:
        """What is read in one go: pieces of sources, each a `data_prep.corpus.draft.Unit`."""
        raise NotImplementedError

    def read(self, unit: Any, data: Any, downloads: Path, folder: Path) -> dict[str, Any]:
        """Read a unit into a folder, on any worker; a summary with `rows`, `reasons`, `first` (rejects)."""
        raise NotImplementedError

    def agree(self, data: Any, units: Sequence[Any], read: Sequence[dict[str, Any]]) -> Any:
        """What the rows of all units have in common, from the summaries of reading."""
        return None

    def cast(self, unit: Any, agreed: Any, read_folder: Path, folder: Path) -> dict[str, Any]:
        """Make of what was read of a unit rows like those of all units; a summary like that of reading."""
        raise NotImplementedError

    def decide(self, draft: Draft) -> Any:
        """Which rows are copies, and which are held out: a `data_prep.corpus.draft.Decided`."""
        raise NotImplementedError

    def write(self, job: Writing) -> dict[str, dict[str, Any]]:
        """Write a unit's rows, on any worker: for each split that gets some, a `file` with its `digest` and counts."""
        raise NotImplementedError

    def write_rejects(self, draft: Draft, decided: Any) -> None:
        """Write all rows that are not kept, with their reasons."""
        raise NotImplementedError

    def index(self, draft: Draft, files: Written) -> dict[str, Any]:
        """What a corpus says of itself: the files of each split, and what their rows have in common."""
        raise NotImplementedError

    def summary(self, draft: Draft, decided: Any, files: Written) -> dict[str, Any]:
        """What is added to the corpus summary: counts by split, and what only this kind has."""
        raise NotImplementedError

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        """What `fit` depends on."""
        return {}

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        """Learn the preprocessor (a tokenizer, a transform, a scale) from the training rows of a corpus."""
        raise NotImplementedError

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        """What `write_shards` depends on."""
        return {}

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        """Corpus and preprocessor → a folder of shards per split; a summary with the rows of each.

        The summary has under "parts" for each of train, longer and validation the folders of that part of training,
        with `rows`. Raises UserError if no training row comes out.
        """
        raise NotImplementedError

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """What shards and their corpus look like, counted: plain JSON; what is under `corpus` enters no digest."""
        raise NotImplementedError

    def corpus_stats(self, corpus: Path) -> dict[str, Any]:
        """What a corpus looks like, counted: plain JSON."""
        raise NotImplementedError

    def statistics(self, counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
        """What there is to say of what `stats` counted. ingested: the summary of the corpus."""
        raise NotImplementedError

    def run_facts(self, preprocessor: Path) -> dict[str, Any]:
        """Of kinds whose examples are runs of items: `rate` (items per second) and `length` (most items of a run)."""
        return {}

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        """One sentence on the summaries of a corpus and of its training shards."""
        raise NotImplementedError

    def viewer(self, preprocessor: Path | None) -> Viewer:
        """How the values of one example are looked at. preprocessor: folder of what `fit` made, where there is any."""
        raise NotImplementedError

    def title(self, rows: Rows, row: int, corpus: Path | None) -> str:
        """What an example is called, beside its number: its class, its name. corpus: folder, where it is there."""
        return ""

    def show(self, selection: Selection, preprocessor: Path | None, corpus: Path | None) -> list[Example]:
        """Rows of shards as a person looks at them: as stored where training changes them, x, x′ and x″."""
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
        """Examples of a corpus as a person looks at them (cut where the split ends), and how many there are in all."""
        raise NotImplementedError

    def expected(self, recipe: Sections) -> DataFacts | None:
        """Facts of its rows as the recipe alone tells them; None where nobody knows yet what a row is."""
        return None

    def specials(self, preprocessor: Path) -> Specials | None:
        """Special ids of the tokenizer, where there is one."""
        return None


class Inputs:
    """What shards are made of: folders, and what was said of them when they were made."""

    def __init__(self, corpus: Path, summary: dict[str, Any], preprocessor: Path | None) -> None:
        self.corpus, self.summary, self._preprocessor = corpus, summary, preprocessor

    @property
    def preprocessor(self) -> Path:
        if self._preprocessor is None:
            raise ValueError("this kind of data fits no preprocessor")
        return self._preprocessor


class Use:
    """What writing may use without any effect on the result."""

    def __init__(self, work: Path, downloads: Path, progress: Progress, workers: Workers) -> None:
        self.work, self.downloads, self.progress, self.workers = work, downloads, progress, workers


def _values(column: Ragged | np.ndarray, row: int) -> np.ndarray:
    return column.row(row) if isinstance(column, Ragged) else np.asarray(column[row])


@lru_cache
def kind_of(name: str) -> Kind:
    """The kind of that name. Raises UserError if there is none."""
    if name not in KINDS:
        raise UserError(f"data.kind: no kind of data is called {name!r}; there are {', '.join(KINDS)}.")
    return import_module(KINDS[name]).KIND


def sections() -> set[str]:
    """Sections of a recipe that are of some kinds of data alone."""
    return {section for name in KINDS for section in kind_of(name).sections}


def config_union() -> Any:
    """The type of a recipe's section `data`: one branch per kind, told apart by `kind`."""
    branches = tuple(kind_of(name).Data for name in KINDS)
    return Annotated[Union[branches], Field(discriminator="kind")]  # noqa: UP007


def facts_of(name: str, table: Table, preprocessor: Path | None) -> DataFacts:
    """Facts of shards, as their first row tells them."""
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
