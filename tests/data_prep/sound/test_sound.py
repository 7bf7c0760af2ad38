"""Recordings become frames: reading, resampling, the definition of a frame, speakers on one side, shards."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from data_prep.compute.workers import HERE
from data_prep.corpus.arrays import ArrayCorpus
from data_prep.corpus.documents import SPLITS
from data_prep.errors import UserError
from data_prep.ingest import ingest
from data_prep.kinds import Inputs, Use, facts_of, kind_of
from data_prep.opening.files import UnfitError
from data_prep.shards.reader import Shards
from data_prep.shards.rows import ragged
from data_prep.sound.files import BadSoundError, decoded, told_by
from data_prep.sound.frames import FramesConfig, Scale, filterbank, frames
from tests.data_prep.arrays_input import rejected
from tests.data_prep.sound.recordings import RATE, tone, wav


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_any_width(width: int) -> None:
    samples = decoded(wav(tone(0.1), width=width), RATE) / 32768
    assert np.abs(samples - tone(0.1)).max() < (0.02 if width == 1 else 1e-3)


def test_channels_and_other_rates_become_one() -> None:
    both = np.stack([tone(0.5, rate=16000), np.zeros(8000)], 1).reshape(-1)
    samples = decoded(wav(both, rate=16000, channels=2), RATE) / 32768
    assert len(samples) == 4000 and np.abs(samples[100:-100] - tone(0.5)[100:-100] / 2).max() < 0.01


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"RIFFnonsense", "not a WAV"),
        (b"no sound at all", "not a WAV, FLAC or OGG file"),
        (wav(tone(0.1))[:-100], "truncated"),
        (wav(tone(0)), "no sample"),
    ],
)
def test_what_is_no_recording_is_told(raw: bytes, reason: str) -> None:
    with pytest.raises(BadSoundError, match=reason):
        decoded(raw, RATE)


def test_flac() -> None:
    out = io.BytesIO()
    soundfile.write(out, tone(0.2), RATE, format="FLAC")
    assert np.array_equal(decoded(out.getvalue(), RATE), np.rint(tone(0.2) * 32768).astype(np.int16))
    with pytest.raises(BadSoundError):
        decoded(out.getvalue()[:40], RATE)


def test_a_frame_is_what_its_definition_says() -> None:
    config, signal = FramesConfig(bands=6), np.random.default_rng(0).normal(size=1000)
    computed = frames(signal, RATE, config)
    assert computed.shape == (1 + (1000 - 200) // 80, 6) and computed.dtype == np.float32
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    piece = signal[80:280] * window
    bins = np.arange(129)
    spectrum = np.abs(np.exp(-2j * np.pi * np.outer(bins, np.arange(200)) / 256) @ piece) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 8)
    edges = 700 * (10 ** (mel / 2595) - 1)
    for band in range(6):
        low, middle, high = edges[band : band + 3]
        weights = np.interp(bins * 4000 / 128, [low, middle, high], [0, 1, 0])
        assert computed[1, band] == pytest.approx(np.log(weights @ spectrum), abs=1e-4)
    assert frames(signal[:50], RATE, config).shape == (1, 6)
    assert filterbank(16000, 512, 80).shape == (257, 80)


def test_who_speaks_is_told_by_folder_or_pattern() -> None:
    assert told_by("data/ann/1.wav", "folder") == "data/ann" and told_by("1.wav", "folder") is None
    assert told_by("d/7_jackson_3.wav", r"\d_(\w+)_\d+") == "jackson" and told_by("d/x.wav", r"(\d)") is None


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Any]:
    root = tmp_path_factory.mktemp("sound")
    for speaker in range(6):
        for number in range(5):
            rate = 16000 if number == 0 else RATE
            signal = tone(0.5 + 0.05 * number, 200 + 50 * speaker + 10 * number, rate)
            (root / "in").mkdir(exist_ok=True)
            (root / "in" / f"{number}_s{speaker}.wav").write_bytes(wav(signal, rate))
    (root / "in" / "1_s0_copy.wav").write_bytes((root / "in" / "1_s0.wav").read_bytes())
    (root / "in" / "9_s1.wav").write_bytes(wav(tone(1))[:-7])
    (root / "in" / "nobody.wav").write_bytes(wav(tone(1)))
    kind = kind_of("sound")
    data = kind.Data.model_validate(
        {
            "kind": "sound",
            "sources": [{"path": str(root / "in")}],
            "sound": {"rate": RATE, "speaker": r"_s(\d)", "label": r"(\d)_s"},
            "frames": {"bands": 8, "length": 40},
            "split": {"validation": 0.2, "test": 0.2},
            "max_rejects": 2,
        },
        strict=False,
    )
    summary = ingest(kind, data, 0, root / "corpus", root / "downloads")
    return root, summary, data


def test_all_of_a_speaker_is_on_one_side(recordings: tuple[Path, dict[str, Any], Any]) -> None:
    root, summary, _ = recordings
    assert (summary["rows"], summary["kept"], summary["duplicates"]) == (33, 30, 1)
    assert {reject["reason"] for reject in rejected(root / "corpus")} == {
        "duplicate of in/1_s0.wav:1",
        "truncated",
        "its name does not tell the speaker; set data.sound.speaker",
    }
    speakers = {}
    for split in SPLITS:
        corpus = ArrayCorpus(root / "corpus", split)
        names = corpus.names(np.arange(len(corpus)))
        speakers[split] = {told_by(name, r"_s(\d)") for name in names}
        assert len(names) == 5 * len(speakers[split])
    assert {split: len(of_split) for split, of_split in speakers.items()} == {"train": 4, "validation": 1, "test": 1}
    assert len(set.union(*speakers.values())) == 6
    assert summary["classes"] == ["0", "1", "2", "3", "4"]


def test_too_many_bad_recordings_fail(recordings: tuple[Path, dict[str, Any], Any], tmp_path: Path) -> None:
    root, _, data = recordings
    with pytest.raises(UserError, match=r"(?<![\d.,])2 of 33 rows cannot be used.*9_s1.wav row 1: truncated"):
        ingest(kind_of("sound"), data.model_copy(update={"max_rejects": 1}), 0, tmp_path / "c", root / "downloads")


def test_frames_of_training_rows_have_mean_0_and_deviation_1(
    recordings: tuple[Path, dict[str, Any], Any], tmp_path: Path
) -> None:
    root, summary, _ = recordings
    kind, settings = kind_of("sound"), {"rate": RATE, "frames": {"bands": 8, "length": 40}}
    (tmp_path / "scale").mkdir()
    kind.fit(settings, root / "corpus", tmp_path / "scale", lambda *_: None)
    inputs = Inputs(root / "corpus", summary, tmp_path / "scale")
    use = Use(tmp_path, tmp_path, lambda *_: None, HERE)
    written = kind.write_shards(settings, inputs, tmp_path / "shards", use)
    table = Shards(tmp_path / "shards" / "train")
    rows = table.read(np.arange(table.rows))
    values = ragged(rows, "input")
    assert values.item == (8,) and values.values.dtype == np.float32 and values.lengths.max() <= 40
    assert len(values.values) == written["train"]["frames"] and table.rows == written["train"]["rows"] == 40
    assert np.abs(values.values.mean(0)).max() < 1e-4 and np.abs(values.values.std(0) - 1).max() < 1e-3
    assert (np.bincount(np.asarray(rows["row"])) == 2).all()  # 0.5 s and more are two rows of at most 0.4 s
    facts = facts_of("sound", table, tmp_path / "scale")
    assert (facts.rate, facts.length, facts.shape) == (100, 40, (8,))
    scale = Scale.load(tmp_path / "scale")
    assert (scale.rate, scale.sample_rate, scale.config) == (100, RATE, FramesConfig(bands=8, length=40))
    stats = kind.stats(settings, inputs, tmp_path / "shards", written["parts"])
    assert stats["splits"]["train"]["rows"] == 20 and stats["splits"]["train"]["classes"]["0"] == 4


def test_a_file_is_read_as_the_rows_of_shards_were(
    recordings: tuple[Path, dict[str, Any], Any], tmp_path: Path
) -> None:
    """The folder that `fit` wrote says how; recordings of another rate are resampled."""
    root, summary, data = recordings
    recipe: Any = SimpleNamespace(data=data)
    kind, settings = kind_of("sound"), kind_of("sound").fit_settings(recipe)
    kind.fit(settings, root / "corpus", tmp_path, lambda *_: None)
    use = Use(tmp_path, tmp_path, lambda *_: None, HERE)
    kind.write_shards(settings, Inputs(root / "corpus", summary, tmp_path), tmp_path / "shards", use)
    table, corpus = Shards(tmp_path / "shards" / "train"), ArrayCorpus(root / "corpus", "train")
    (name,) = corpus.names(np.array([0]))
    rows = table.read(np.arange(table.rows))
    of_first = ragged(rows, "input").take(np.flatnonzero(np.asarray(rows["row"]) == 0))
    read = kind.file_reader(tmp_path)
    assert len(of_first) == 2 and np.array_equal(read(root / name.partition(":")[0]), of_first.values)
    chords = [sum(tone(0.5, pitch, rate) for pitch in range(100, 3500, 130)) / 30 for rate in (RATE, 2 * RATE)]
    for rate, chord in zip((RATE, 2 * RATE), chords, strict=True):
        (tmp_path / f"{rate}.wav").write_bytes(wav(np.asarray(chord), rate=rate))
    slow, fast = (read(tmp_path / f"{rate}.wav") for rate in (RATE, 2 * RATE))
    assert fast.shape == slow.shape == (48, 8) and np.abs(fast - slow)[2:-2].max() < 0.05
    with pytest.raises(UserError, match=r"scale.json: holds no scale .*; fit it again"):
        kind.file_reader(root)
    with pytest.raises(UnfitError, match=r"no.wav is not there"):
        read(root / "no.wav")


def test_frames_have_the_time_of_their_middle(tmp_path: Path) -> None:
    """A click is loudest in the frame whose middle is nearest to it."""
    config = FramesConfig(bands=8, window_ms=40)
    Scale.fit([frames(tone(0.2), RATE, config)], RATE, config).save(tmp_path)
    read = kind_of("sound").file_reader(tmp_path)
    for rate in (RATE, 2 * RATE):
        for seconds in (0.1, 0.25, 0.43):
            click = np.zeros(rate // 2)
            click[round(seconds * rate)] = 0.9
            (tmp_path / "click.wav").write_bytes(wav(click, rate))
            loudness = read(tmp_path / "click.wav").mean(1)
            times = read.times(len(loudness))
            assert len(times) == 47 and abs(times[loudness.argmax()] - seconds) <= 0.0051
    facts = kind_of("sound").file_facts(tmp_path / "click.wav")
    assert facts.seconds == 0.5


def test_the_contents_of_a_file_do_not_depend_on_its_format(tmp_path: Path) -> None:
    kind = kind_of("sound")
    (tmp_path / "a.wav").write_bytes(wav(tone(0.1)))
    soundfile.write(tmp_path / "a.flac", np.rint(tone(0.1) * 32767).astype(np.int16), RATE, format="FLAC")
    (tmp_path / "b.wav").write_bytes(wav(tone(0.1, 500)))
    (tmp_path / "cut.wav").write_bytes(wav(tone(0.1))[:-10])
    same, other, different = (kind.file_facts(tmp_path / name).digest for name in ("a.wav", "a.flac", "b.wav"))
    assert same == other != different
    with pytest.raises(UnfitError, match=r"cut.wav is no recording that can be used \(truncated\)"):
        kind.file_facts(tmp_path / "cut.wav")
