"""Recordings as units of a corpus: runs of files, decoded once into one channel of 16-bit samples at one rate.

WAV files of integers are read by the standard library, which detects truncation; others by `soundfile`.
"""

from __future__ import annotations

import hashlib
import io
import re
import wave
from collections.abc import Iterator, Sequence
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from data_prep.corpus.unit import Cast, Unit, write_cast
from data_prep.opening.files import UnfitError
from data_prep.opening.files import read as read_bytes
from data_prep.rng import key
from data_prep.sealed import digest
from data_prep.settings import Settings
from data_prep.sources import compressed
from data_prep.sources.archives import ARCHIVES, SourceFile, opened, watched
from data_prep.sources.config import Accepts
from data_prep.sources.records import Reject, first_line

SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus")
_MIN_RATE, _MAX_RATIO = 100, 200_000  # Hz; of two rates, in lowest terms: a filter has 20 times as many values
_WIDTHS = (1, 2, 3, 4, 8)  # bytes of an integer
_UNIT_BYTES = 16 << 20
_FOLDER, _NONE = "folder", "none"


class Limits(NamedTuple):
    """Of one recording. samples: of all channels, as stored and at the rate asked for; 8 bytes each while they are
    read."""

    bytes: int
    samples: int


STORED = Limits(1 << 29, 1 << 29)
SENT = Limits(1 << 25, 1 << 24)  # by whoever asks a network that is served


class SoundConfig(Settings):
    """Sample rate of recordings, and how speakers and labels follow from file names."""

    rate: int = Field(default=16_000, ge=1000)
    """Samples per second; other rates are resampled."""
    speaker: str = _FOLDER
    """The speaker: `folder`, or a regular expression whose first group (or match) in the file's name is the speaker.
    All files of a speaker are in the same split."""
    label: str = _NONE
    """The class of a recording: `none`, `folder`, or a regular expression as for `speaker`."""

    @field_validator("speaker", "label")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from None
        return value


class BadSoundError(Exception):
    """A recording cannot be used; the message is the reason of the reject."""


def accepts() -> Accepts:
    """Which files are read."""
    return Accepts("sound", _readable, f"{', '.join(SUFFIXES)}, {ARCHIVES}")


def _readable(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or compressed.is_archive(name)


def group(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """The files of each unit: runs of recordings. A hash of each file's name decides whether a run ends there."""
    run: list[SourceFile] = []
    size = 0
    for file in files:
        run.append(file)
        size += file.size
        chance = int.from_bytes(hashlib.blake2b(file.name.encode(), digest_size=8).digest()) / 2**64
        if chance < 2 * file.size / _UNIT_BYTES or size >= 2 * _UNIT_BYTES:
            yield tuple(run)
            run, size = [], 0
    if run:
        yield tuple(run)


def asks(config: SoundConfig, package: str | None) -> list[Any]:
    """The values that the result of `read` depends on, besides the file."""
    return ["sound", config.model_dump(mode="json")]


def read(unit: Unit, config: SoundConfig, folder: Path) -> dict[str, Any]:
    """Decode the recordings of a unit into rows; returns a summary."""
    written = write_cast(folder, [file.name for file in unit.files], _rows(unit, config))
    num_refused = sum(written["reasons"].values())
    return {**written, "kept": written["rows"], "rows": written["rows"] + num_refused}


def _rows(unit: Unit, config: SoundConfig) -> Iterator[Cast | Reject]:
    for number, file in enumerate(unit.files):
        for waveform in watched(file, _waveform(file, config.rate)):
            if isinstance(waveform, Reject):
                yield waveform
                continue
            content = np.frombuffer(bytes.fromhex(digest(waveform)), ">u8").reshape(1, 2).astype(np.uint64)
            speaker = told_by(file.name, config.speaker)
            label = None if config.label == _NONE else told_by(file.name, config.label)
            if speaker is None or (label is None and config.label != _NONE):
                what = "speaker" if speaker is None else "label"
                yield Reject(file.name, 1, f"its name does not tell the {what}; set data.sound.{what}")
                continue
            yield Cast(
                pa.LargeListArray.from_arrays(pa.array([0, len(waveform)]), pa.array(waveform)),
                content,
                pa.array([label], pa.string()),
                np.array([number], np.int32),
                np.ones(1, np.int64),
                np.array([[key(0, "speaker", speaker), key(1, "speaker", speaker)]], np.uint64),
            )


def told_by(name: str, rule: str) -> str | None:
    """Speaker or label from a file's name: its folder, or a group of a regular expression."""
    if rule == _FOLDER:
        return name.rpartition("/")[0] or None
    match = re.search(rule, name)
    return None if match is None else match.group(1 if match.re.groups else 0)


def _waveform(file: SourceFile, rate: int) -> Iterator[np.ndarray | Reject]:
    with opened(file) as stream:
        raw = stream.read(STORED.bytes + 1)
    try:
        yield decoded(raw, rate)
    except BadSoundError as problem:
        yield Reject(file.name, 1, first_line(problem))


def recording(source: Path | bytes, rate: int | None = None) -> tuple[np.ndarray, int]:
    """int16 [S] of a file, or of the contents of one that somebody sent, and its rate; see `decoded`. UnfitError, with
    the reason, where it is no recording."""
    is_sent = isinstance(source, bytes)
    raw, name = (source, "what was sent") if is_sent else (read_bytes(source, STORED.bytes), source.name)
    try:
        return _decoded(raw, rate, SENT if is_sent else STORED)
    except BadSoundError as problem:
        raise UnfitError(f"{name} is no recording that can be used ({first_line(problem)})") from None


def decoded(raw: bytes, rate: int | None, most: Limits = STORED) -> np.ndarray:
    """int16 [S]: the mean of the channels at `rate` samples per second; None: at its own. Raises BadSoundError."""
    return _decoded(raw, rate, most)[0]


def _decoded(raw: bytes, rate: int | None, most: Limits) -> tuple[np.ndarray, int]:
    if not raw:
        raise BadSoundError("empty file")
    if len(raw) > most.bytes:
        raise BadSoundError(f"longer than {most.bytes:,} bytes")
    values, own_rate = _wav(raw, most) or _others(raw, most)
    if not len(values):
        raise BadSoundError("no sample in it")
    mono = values.mean(1)
    if rate is not None and own_rate != rate:
        common = gcd(own_rate, rate)
        if own_rate < _MIN_RATE or max(own_rate, rate) // common > _MAX_RATIO:
            raise BadSoundError(f"its rate of {own_rate:,} Hz cannot be brought to {rate:,}")
        _check_length(len(mono) * rate // own_rate, most)
        from scipy.signal import resample_poly  # imported here because it takes half a second

        mono = resample_poly(mono, rate // common, own_rate // common)
    return np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16), rate or own_rate


def tone(seconds: float, frequency: float, rate: int) -> bytes:
    """A WAV file of a sine."""
    values = 16384 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    with io.BytesIO() as out:
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(np.rint(values).astype("<i2").tobytes())
        return out.getvalue()


def _check_length(samples: int, most: Limits) -> None:
    if samples > most.samples:
        raise BadSoundError(f"longer than {most.samples:,} samples")


def _wav(raw: bytes, most: Limits) -> tuple[np.ndarray, int] | None:
    """float64 [S, channels] and the rate of a WAV file of integers; None for other files."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        return None
    try:
        with wave.open(io.BytesIO(raw)) as file:
            width, channels, rate, count = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
                file.getnframes(),
            )
            data = file.readframes(count)
    except EOFError:
        raise BadSoundError("truncated") from None
    except wave.Error as error:
        if "unknown format" in str(error):
            return None
        raise BadSoundError(f"damaged WAV file: {error}") from None
    if len(data) < count * width * channels:
        raise BadSoundError("truncated")
    if width not in _WIDTHS:
        raise BadSoundError(f"has samples of {8 * width} bits")
    _check_length(len(data) // width, most)
    if width == 1:  # 8-bit samples are unsigned, all others signed
        values = np.frombuffer(data, np.uint8).astype(np.float64) / 128 - 1
    elif width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0] / 2.0**31
    else:
        values = np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)
    return values.reshape(-1, channels), rate


def _others(raw: bytes, most: Limits) -> tuple[np.ndarray, int]:
    if raw[:4] not in (b"fLaC", b"OggS") and (raw[:4] != b"RIFF" or raw[8:12] != b"WAVE"):
        raise BadSoundError("not a WAV, FLAC or OGG file")
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            _check_length(file.frames * file.channels, most)  # which a few bytes can claim
            return file.read(dtype="float64", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise BadSoundError(f"damaged: {error.error_string}") from None
