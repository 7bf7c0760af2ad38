"""Base class of the kinds whose examples are arrays: rows of a table, images, recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from data_prep.corpus import unit_cache
from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.decide import ArrayDecision, decide
from data_prep.corpus.documents import SPLITS
from data_prep.corpus.draft import Draft, Writing
from data_prep.corpus.summary import lost_files_in_words
from data_prep.corpus.unit import REJECTS, VERSION, Unit
from data_prep.corpus.write import write, write_rejects
from data_prep.errors import UserError
from data_prep.kinds import Inputs, Kind, Use, Written
from data_prep.shards.rows import Rows
from data_prep.shards.writer import ShardWriter
from data_prep.sources import named_splits
from data_prep.sources.archives import listed
from data_prep.sources.config import SourceConfig
from data_prep.sources.config import left_out as files_left_out
from data_prep.stats import columns
from data_prep.stats.blocks import Statistics
from data_prep.views import Example, View

BYTES_PER_SHARD = 1 << 28
_COUNTED_CLASSES = 100
_OF_TEXT, _WRITTEN = ("text_field", "id_field", "corpus"), ("encoding", "delimiter")


class ArrayKind(Kind):
    """Shards hold `input` [R, …], `label` (−1: none) and `row`, the index of the row in its split of the corpus."""

    reader: ClassVar[ModuleType]
    """The module that groups, reads and casts files: it has `group`, `asks`, `read`, `agree` and `cast`."""
    of_source: ClassVar[tuple[str, ...]] = ()
    """Settings of sources that are for some kinds only, of which this is one."""
    casts = True
    grouped: ClassVar[bool] = False
    """Whether rows have groups that must not be divided between splits."""

    def meaning(self, data: Any) -> Any:
        """The subsection of `data` that describes the contents of files."""
        raise NotImplementedError

    def about(self, agreed: dict[str, Any], labels: set[str]) -> dict[str, Any]:
        """Facts about all rows, for the corpus index."""
        raise NotImplementedError

    def units(self, data: Any, downloads: Path, left_out: Counter[str]) -> list[Unit]:
        left_out.update(files_left_out(data.sources, self.accepts(data)))
        units: list[Unit] = []
        of_sources = [listed(source, self.accepts(data), downloads, True, left_out) for source in data.sources]
        named_splits.check(list(zip(data.sources, of_sources, strict=True)))
        for number, (source, of_source) in enumerate(zip(data.sources, of_sources, strict=True)):
            self._check_settings(source)
            reader_key = self.reader.asks(self.meaning(data), source.package)
            for split, of_split in named_splits.by_split(source, of_source):
                for files in self.reader.group(of_split):
                    pairs = ([part for part in (file, file.beside) if part] for file in files)
                    contents = [
                        [(part.name, part.member, part.groups, part.digest, *part.written) for part in parts]
                        for parts in pairs
                    ]
                    key = unit_cache.key_of("arrays", VERSION, source.package, reader_key, contents)
                    units.append(Unit(number, files, key, source.package, split))
        return named_splits.held_out_first(units)

    def _check_settings(self, source: SourceConfig) -> None:
        """UserError for settings of a source that mean nothing to the kind."""
        usual = SourceConfig.model_fields
        for name, whose in (*((name, "text") for name in _OF_TEXT), *((name, "text and tables") for name in _WRITTEN)):
            if name not in self.of_source and getattr(source, name) != usual[name].default:
                raise UserError(
                    f"the source {source.package or source.path} sets {name}, which is for {whose}; leave it out"
                )

    def read(self, unit: Unit, data: Any, downloads: Path, folder: Path) -> dict[str, Any]:
        return self.reader.read(unit, self.meaning(data), folder)

    def agree(self, data: Any, units: Sequence[Unit], read: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The common schema; rows to train on come before those that are held out."""
        pairs = sorted(zip(units, read, strict=True), key=lambda pair: pair[0].split is not None)
        return self.reader.agree(self.meaning(data), [unit for unit, _ in pairs], [summary for _, summary in pairs])

    def cast(self, unit: Unit, agreed: dict[str, Any], read_folder: Path, folder: Path) -> dict[str, Any]:
        return self.reader.cast(unit, agreed, read_folder, folder)

    def decide(self, draft: Draft) -> ArrayDecision:
        return decide(draft.folders, draft.declared, draft.data.split, draft.seed, draft.scratch, self.grouped)

    def write(self, job: Writing) -> dict[str, dict[str, Any]]:
        return write(job)

    def write_rejects(self, draft: Draft, decided: ArrayDecision) -> None:
        write_rejects(draft.read_folders, draft.folders, decided, draft.out_dir / REJECTS)

    def index(self, draft: Draft, files: Written) -> dict[str, Any]:
        listed = {split: [file for _, file in of_split] for split, of_split in files.items()}
        return {**self._about(draft), "splits": listed}

    def summary(self, draft: Draft, decided: ArrayDecision, files: Written) -> dict[str, Any]:
        counts = {split: _counts([file for _, file in of_split]) for split, of_split in files.items()}
        return {**self._about(draft), "splits": counts}

    def _about(self, draft: Draft) -> dict[str, Any]:
        labels = {label for summary in (draft.cast or draft.read) for label in summary["labels"]}
        return self.about(draft.agreed, labels)

    def normal_classes(self, settings: dict[str, Any], corpus: dict[str, Any]) -> list[int] | None:
        """Indices of the classes to train on; None: all. UserError if the labels do not tell which are normal."""
        raise NotImplementedError

    def inputs(self, batch: ArrayBatch, preprocessor: Any) -> np.ndarray:
        """Network inputs of a batch: [R, …]."""
        raise NotImplementedError

    def loaded(self, made_of: Inputs) -> Any:
        """The loaded preprocessor, to be passed to `inputs`."""
        return None

    def shape(self, corpus: ArrayCorpus, preprocessor: Any) -> tuple[tuple[int, ...], int]:
        """(shape, size in bytes) of one network input."""
        raise NotImplementedError

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        summary: dict[str, Any] = {"kind": made_of.summary["kind"], "parts": {}}
        normal, preprocessor = self.normal_classes(settings, made_of.summary), self.loaded(made_of)
        for split in SPLITS:
            rows = ArrayCorpus(made_of.corpus, split)
            if not len(rows):
                continue
            chosen = chosen_batches(rows, normal if split == "train" else None)
            shape, num_bytes = self.shape(rows, preprocessor)
            writer = ShardWriter(out_dir / split, max(1, BYTES_PER_SHARD // (num_bytes + 16)))
            num_written = 0
            for batch in chosen:
                values = self.inputs(batch, preprocessor)
                writer.write({"input": values, "label": batch.label, "row": batch.row})
                num_written += len(values)
                use.progress(f"{split}: {num_written:,} rows", num_written / len(rows))
            writer.close({"split": split})
            if num_written:
                summary[split] = {"rows": num_written, "shape": list(shape)}
                summary["parts"][split] = {split: summary[split]}
        if "train" not in summary:
            raise UserError("data: no row is left to train on; add sources or lower the shares held out.")
        return summary

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        return f"{counted(self.unit, corpus)}; {shards['rows']:,} training rows of shape {tuple(shards['shape'])}."

    def title(self, rows: Rows, row: int, corpus: Path | None) -> str:
        """The class of the example."""
        label = int(np.asarray(rows["label"])[row])
        if label < 0:
            return "no class"
        return ArrayCorpus(corpus, "train").classes[label] if corpus else f"class {label}"

    def raw_view(self, batch: ArrayBatch, row: int) -> View:
        """An example of a corpus in the units of its source."""
        raise NotImplementedError

    def show_corpus(self, corpus: Path, split: str, index: range) -> tuple[list[Example], int]:
        rows = ArrayCorpus(corpus, split)
        numbers = np.arange(index.start, min(index.stop, len(rows)))
        if not len(numbers):
            return [], len(rows)
        batch, names, labels = rows.read(numbers), rows.names(numbers), rows.labels(numbers)
        titles = [" · ".join(filter(None, (name, label))) for name, label in zip(names, labels, strict=True)]
        return [Example(title, {"": self.raw_view(batch, row)}) for row, title in enumerate(titles)], len(rows)

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Row counts by split and class, and statistics of columns or pixels."""
        return self.corpus_stats(made_of.corpus)

    def corpus_stats(self, corpus: Path) -> dict[str, Any]:
        return columns.of_corpus(corpus)

    def statistics(self, counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
        return columns.statistics(counts)


def counted(unit: str, corpus: Mapping[str, Any]) -> str:
    """A phrase with the numbers of kept and rejected rows, which `unit` names, and of duplicates among the rejected."""
    counts = (
        f"{corpus['kept']:,} {unit} kept, {corpus['rejected']:,} rejected, {corpus['duplicates']:,} of them duplicates"
    )
    return "; ".join(filter(None, (counts, lost_files_in_words(corpus))))


def _counts(files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Row counts of a split, in all and by label."""
    labels = sum((Counter(file["labels"]) for file in files), Counter[str]())
    return {"rows": sum(file["rows"] for file in files), "labels": dict(labels.most_common(_COUNTED_CLASSES))}


def chosen_batches(corpus: ArrayCorpus, normal: Sequence[int] | None) -> Iterator[ArrayBatch]:
    """All rows, or only those of the classes `normal`."""
    for batch in corpus.batches():
        if normal is None:
            yield batch
            continue
        keep = np.flatnonzero(np.isin(batch.label, normal))
        kept_input = batch.input.take(pa.array(keep)) if isinstance(batch.input, pa.RecordBatch) else batch.input[keep]
        yield ArrayBatch(kept_input, batch.label[keep], batch.row[keep])
