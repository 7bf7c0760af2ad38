"""The kind `sound`: recordings become normalised log-mel frames; each speaker is in only one split.

recordings ─► corpus: waveforms at one rate ─► fit: mean and deviation per band ─► shards: `input` Ragged [N, bands]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from data_prep.array_kind import ArrayKind, counted
from data_prep.corpus.arrays import ArrayBatch, ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.corpus.schema import classes_of
from data_prep.errors import UserError
from data_prep.facts import DataFacts
from data_prep.kinds import DataConfig, FileFacts, Inputs, Progress, Sections, Use
from data_prep.sealed import digest
from data_prep.settings import identity
from data_prep.shards.rows import Ragged, pieces
from data_prep.shards.writer import ShardWriter
from data_prep.sound import files
from data_prep.sound.files import SoundConfig
from data_prep.sound.frames import FramesConfig, Scale, frames
from data_prep.sources.config import Accepts
from data_prep.stats import columns
from data_prep.stats.blocks import Statistics, Table
from data_prep.views import Example, Frames, Viewer, Wave

ROWS_AT_ONCE = 64
BYTES_PER_SHARD = 1 << 28
FULL_SCALE = np.float32(32768)  # of 16-bit samples
FIT_VERSION = 2  # raised when `fit` writes something else for the same recordings


class SoundData(DataConfig):
    """Sources, conversion and splits of recordings."""

    kind: Literal["sound"]
    """Kind of data in the sources."""
    sound: SoundConfig = Field(default_factory=SoundConfig)
    """How recordings are read."""
    frames: FramesConfig = Field(default_factory=FramesConfig)
    """How waveforms become frames."""
    max_rejects: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] = 0.01
    """Maximum number (an integer) or share (a fraction) of bad recordings."""

    AFTER_INGEST: ClassVar = ("frames",)


class SoundKind(ArrayKind):
    """See the module's docstring."""

    Data = SoundData
    unit = "recordings"
    uniform = "silent"
    fits = "scale"
    reader = files
    casts = False
    grouped = True
    file_noun = "recording"
    file_suffixes = files.SUFFIXES
    reader_files = (Scale.FILE,)

    def meaning(self, data: SoundData) -> SoundConfig:
        return data.sound

    def accepts(self, data: SoundData) -> Accepts:
        return files.accepts()

    def agree(self, data: SoundData, units: Any, read: Any) -> dict[str, Any]:
        return {"rate": data.sound.rate}

    def about(self, agreed: dict[str, Any], labels: set[str]) -> dict[str, Any]:
        return {"kind": "sound", "shape": None, **agreed, "classes": classes_of(labels, None)}

    def fit_settings(self, recipe: Sections) -> dict[str, Any]:
        return {"rate": recipe.data.sound.rate, "frames": identity(recipe.data.frames), "version": FIT_VERSION}

    def fit(self, settings: dict[str, Any], corpus: Path, out_dir: Path, progress: Progress) -> dict[str, Any]:
        progress("measuring the bands", None)
        config, rate = FramesConfig.model_validate(settings["frames"]), settings["rate"]
        training_frames = (values for _, _, values in framed(ArrayCorpus(corpus, "train"), rate, config))
        scale = Scale.fit(training_frames, rate, config)
        scale.save(out_dir)
        return {"bands": config.bands, "frames_per_second": scale.rate}

    def shards_settings(self, recipe: Sections) -> dict[str, Any]:
        return self.fit_settings(recipe)

    def write_shards(self, settings: dict[str, Any], made_of: Inputs, out_dir: Path, use: Use) -> dict[str, Any]:
        """Rows with `input` Ragged float32 [N, bands], `label` (−1: none) and `row`, the recording's number."""
        config, scale = FramesConfig.model_validate(settings["frames"]), Scale.load(made_of.preprocessor)
        summary: dict[str, Any] = {"kind": "sound", "parts": {}}
        for split in SPLITS:
            corpus = ArrayCorpus(made_of.corpus, split)
            if not len(corpus):
                continue
            num_bytes = 4 * config.bands * config.length  # of the longest row
            writer = ShardWriter(out_dir / split, max(1, BYTES_PER_SHARD // num_bytes), ROWS_AT_ONCE)
            num_rows = num_frames = 0
            for row, label, values in framed(corpus, settings["rate"], config):
                runs = pieces(scale.apply(values), config.length)
                count = len(runs)
                writer.write(
                    {
                        "input": Ragged.from_rows(runs, np.float32, (config.bands,)),
                        "label": np.full(count, label),
                        "row": np.full(count, row),
                    }
                )
                num_rows, num_frames = num_rows + count, num_frames + len(values)
                use.progress(f"{split}: {num_rows:,} rows", (row + 1) / len(corpus))
            writer.close({"split": split})
            summary[split] = {
                "rows": num_rows,
                "shape": [config.bands],
                "frames": num_frames,
                "seconds": num_frames / scale.rate,
            }
            summary["parts"][split] = {split: summary[split]}
        if "train" not in summary:
            raise UserError("data: no recording is left to train on; add sources or lower the shares held out.")
        return summary

    def stats(self, settings: dict[str, Any], made_of: Inputs, shards: Path, parts: dict[str, Any]) -> dict[str, Any]:
        """Numbers of recordings by split and class, and their total duration."""
        stats = columns.of_splits(made_of.corpus)
        for folders in parts.values():
            for split, folder_summary in folders.items():
                stats["splits"][split] |= {"frames": folder_summary["frames"], "seconds": folder_summary["seconds"]}
        return stats

    def corpus_stats(self, corpus: Path) -> dict[str, Any]:
        return columns.of_splits(corpus)

    def statistics(self, counts: Mapping[str, Any], ingested: Mapping[str, Any]) -> Statistics:
        """Adds the total duration of each split."""
        base_statistics, blocks = super().statistics(counts, ingested), []
        rows = [
            [name, split["frames"], split["seconds"]] for name, split in counts["splits"].items() if "frames" in split
        ]
        if rows:
            blocks.append(Table("durations", "Frames and seconds of each split", ["split", "frames", "seconds"], rows))
        return Statistics(base_statistics.numbers, [*base_statistics.blocks, *blocks])

    def describe(self, corpus: Mapping[str, Any], shards: Mapping[str, Any]) -> str:
        minutes, bands = shards["seconds"] / 60, shards["shape"][0]
        return (
            f"{counted(self.unit, corpus)}; {minutes:,.1f} minutes to train on in {shards['rows']:,} runs of frames of "
            f"{bands} bands."
        )

    def viewer(self, preprocessor: Path | None) -> Viewer:
        rate = Scale.load(preprocessor).rate if preprocessor else 1.0
        return lambda values: Frames(values, rate)

    def show_corpus(self, corpus: Path, split: str, index: range) -> tuple[list[Example], int]:
        recordings = ArrayCorpus(corpus, split)
        numbers = np.arange(index.start, min(index.stop, len(recordings)))
        if not len(numbers):
            return [], len(recordings)
        waveforms, names = _runs(recordings.read(numbers)), recordings.names(numbers)
        examples = [
            Example(name, {"": Wave(waveforms.row(place) / FULL_SCALE, recordings.rate or 1)})
            for place, name in enumerate(names)
        ]
        return examples, len(recordings)

    def expected(self, recipe: Sections) -> DataFacts:
        config, rate = recipe.data.frames, recipe.data.sound.rate
        _, hop = config.samples(rate)
        return DataFacts("sound", ("input", "label", "row"), (config.bands,), config.length, rate / hop)

    def file_facts(self, source: Path | bytes) -> FileFacts:
        """Digest of the samples, at the recording's own rate, and its duration."""
        waveform, rate = files.recording(source)
        return FileFacts(digest(waveform), len(waveform) / rate)

    def file_reader(self, folder: Path) -> FrameReader:
        return FrameReader(Scale.load(folder))

    def example_file(self) -> bytes:
        """A quarter of a second of the note A."""
        return files.tone(0.25, 440.0, 8000)

    def run_facts(self, preprocessor: Path) -> dict[str, Any]:
        scale = Scale.load(preprocessor)
        return {"rate": scale.rate, "length": scale.length}


@dataclass(frozen=True)
class FrameReader:
    """Makes float32 [T, bands] of a recording, resampled where its rate is another."""

    scale: Scale

    def __call__(self, source: Path | bytes) -> np.ndarray:
        scale = self.scale
        waveform, _ = files.recording(source, scale.sample_rate)
        return scale.apply(frames(waveform / FULL_SCALE, scale.sample_rate, scale.config))

    def times(self, length: int) -> np.ndarray:
        window, hop = self.scale.config.samples(self.scale.sample_rate)
        return (np.arange(length) * hop + window / 2) / self.scale.sample_rate


def framed(corpus: ArrayCorpus, rate: int, config: FramesConfig) -> Iterator[tuple[int, int, np.ndarray]]:
    """(index of the recording, index of its class, float32 [T, bands]) of all recordings of a split."""
    for batch in corpus.batches(ROWS_AT_ONCE):
        waveforms = _runs(batch)
        for place, (row, label) in enumerate(zip(batch.row.tolist(), batch.label.tolist(), strict=True)):
            yield row, label, frames(waveforms.row(place) / FULL_SCALE, rate, config)


def _runs(batch: ArrayBatch) -> Ragged:
    if not isinstance(batch.input, Ragged):
        raise TypeError("the corpus holds no recordings")
    return batch.input


KIND = SoundKind()
