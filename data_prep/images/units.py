"""Images as units of a corpus: a run of image files, or a file with many images, decoded once."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from data_prep.corpus.unit import RAW, REJECTS, Cast, Rejects, Tally, Unit, batches_of, write_cast
from data_prep.errors import UserError
from data_prep.images import idx_numpy
from data_prep.images.pixels import (
    MAX_BYTES,
    SUFFIXES,
    BadImageError,
    DecodedImage,
    ImagesConfig,
    decoded,
    fitted_array,
    patches,
)
from data_prep.sealed import digest
from data_prep.sources import compressed, packages
from data_prep.sources.archives import ARCHIVES, SourceFile, checked, damage, listed, opened, watched
from data_prep.sources.config import Accepts, SourceConfig
from data_prep.sources.records import Reject, first_line, lost, seekable

_VERSION = 2  # of what `read` returns; incremented when that changes
_UNIT_BYTES, _UNIT_FILES = 16 << 20, 512
_BATCH_BYTES, _BATCH_ROWS = 4 << 20, 1024
_IDX_IMAGES, _IDX_LABELS = re.compile(r"idx3-ubyte(\.gz)?$"), re.compile(r"idx1-ubyte(\.gz)?$")
_SCHEMA = pa.schema(
    [
        ("pixels", pa.large_binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("label", pa.string()),
        ("file", pa.int32()),
        ("position", pa.int64()),
    ]
)


def accepts(config: ImagesConfig) -> Accepts:
    """Which files are read."""
    allowed = f"{', '.join(SUFFIXES)}, .npy, .npz, idx3-ubyte or idx1-ubyte (these also .gz), {ARCHIVES}"
    return Accepts("images", _readable, allowed)


def _readable(name: str) -> bool:
    many = name.lower().endswith((".npy", ".npz")) or bool(_idx(name))
    return many or _is_image(name) or compressed.is_archive(name)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _idx(name: str) -> re.Match[str] | None:
    return _IDX_IMAGES.search(name) or _IDX_LABELS.search(name)


def group(files: Sequence[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """The files of each unit: runs of image files, and each file with many images, along with its labels.

    A run ends after an image with a probability that grows with its file size, drawn from a hash of its name, so that
    adding an image changes only the run that it falls into.
    """
    labels = {_stem(file.name): file for file in files if _IDX_LABELS.search(file.name)}
    run: list[SourceFile] = []
    size = 0
    for file in files:
        if _IDX_LABELS.search(file.name):
            continue
        if not _is_image(file.name):
            yield (file._replace(beside=labels.get(_stem(file.name))),)
            continue
        run.append(file)
        size += file.size
        chance = int.from_bytes(hashlib.blake2b(file.name.encode(), digest_size=8).digest()) / 2**64
        ends = chance < max(2 / _UNIT_FILES, 2 * file.size / _UNIT_BYTES)
        if ends or len(run) >= 2 * _UNIT_FILES or size >= 2 * _UNIT_BYTES:
            yield tuple(run)
            run, size = [], 0
    if run:
        yield tuple(run)


def _stem(path: str) -> str:
    """The part that the names of an IDX file of images and of its labels have in common."""
    folder, _, name = path.rpartition("/")
    name = re.sub("images|labels", "", name)
    return f"{folder}/{re.sub(r'idx[13]-ubyte(?:[.]gz)?$', '', name)}"


def asks(config: ImagesConfig, package: str | None) -> list[Any]:
    """The values that the result of `read` depends on, besides the file."""
    return ["images", _VERSION, config.model_dump(mode="json")]


def read(unit: Unit, config: ImagesConfig, folder: Path) -> dict[str, Any]:
    """Decode the images of a unit; the summary counts them by size [H, W], and what they lost."""
    tally, sizes, lost = Tally(), Counter[tuple[int, ...]](), Counter[str]()
    number = {file.name: place for place, file in enumerate(unit.files)}
    waiting: list[DecodedImage] = []
    with Rejects(folder / REJECTS, tally) as rejects, pa.ipc.new_file(str(folder / RAW), _SCHEMA) as out:
        for image in _images_of(unit.files, unit.package, config):
            tally.rows += 1
            if isinstance(image, Reject):
                rejects.write(image)
                continue
            sizes[image.pixels.shape[1:]] += 1
            if image.position == 1:  # patches of an image are numbered
                lost.update(what.partition(":")[0] for what in image.lost)
            waiting.append(image if config.labels == "folder" else image._replace(label=None))
            if len(waiting) >= _BATCH_ROWS or len(waiting) * image.pixels.size >= _BATCH_BYTES:
                out.write_batch(_as_batch(waiting, number))
                waiting = []
        if waiting:
            out.write_batch(_as_batch(waiting, number))
    return {**tally.to_json(), "sizes": [[*size, count] for size, count in sizes.items()], "lost": lost}


def agree(config: ImagesConfig, units: Sequence[Unit], read: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The shape [C, H, W] of all images: the size that most have (of equally many, the first)."""
    sizes, lost = Counter[tuple[int, int]](), Counter[str]()
    for summary in read:
        for height, width, count in summary["sizes"]:
            sizes[height, width] += count
        lost.update(summary["lost"])
    (size, count), *_ = sizes.most_common(1) or [((0, 0), 0)]
    agreed = {"shape": [config.channels, *size], "count": count, "of": sizes.total()}
    return {**agreed, "lost": dict(sorted(lost.items()))}


def cast(unit: Unit, agreed: dict[str, Any], read_folder: Path, folder: Path) -> dict[str, Any]:
    """Keep the images of the agreed shape and reject the others; returns a summary."""
    return write_cast(folder, [file.name for file in unit.files], _cast(unit, agreed, read_folder))


def _cast(unit: Unit, agreed: dict[str, Any], read_folder: Path) -> Iterator[Cast | Reject]:
    channels, height, width = agreed["shape"]
    others = f"{height} × {width}, as {agreed['count']:,} of {agreed['of']:,} are"
    for batch in batches_of(read_folder / RAW):
        fits = (batch["height"].to_numpy() == height) & (batch["width"].to_numpy() == width)
        for row in np.flatnonzero(~fits).tolist():
            place = batch.slice(row, 1).select(["height", "width", "file", "position"]).to_pylist()[0]
            reason = f"is {place['height']} × {place['width']} pixels and not {others}; set data.images.size"
            yield Reject(unit.files[place["file"]].name, place["position"], reason)
        batch = batch.filter(pa.array(fits))
        if not batch.num_rows:
            continue
        images = [value.as_buffer() for value in batch["pixels"]]
        keys = b"".join(bytes.fromhex(digest(image)) for image in images)
        pixels = np.frombuffer(b"".join(images), np.uint8)
        yield Cast(
            pa.FixedSizeListArray.from_arrays(pa.array(pixels), channels * height * width),
            np.frombuffer(keys, ">u8").reshape(-1, 2).astype(np.uint64),
            batch["label"],
            batch["file"].to_numpy(),
            batch["position"].to_numpy(),
        )


def _as_batch(images: list[DecodedImage], number: dict[str, int]) -> pa.RecordBatch:
    columns = [
        [image.pixels.tobytes() for image in images],
        [image.pixels.shape[1] for image in images],
        [image.pixels.shape[2] for image in images],
        [image.label for image in images],
        [number[image.source] for image in images],
        [image.position for image in images],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=_SCHEMA)


# -- reading ----------------------------------------------------------------------------------------------------------


def all_images(source: SourceConfig, config: ImagesConfig, downloads: Path) -> Iterator[DecodedImage | Reject]:
    """All images of a source, of any size, one in memory at a time."""
    for files in group(listed(source, accepts(config), downloads)):
        yield from _images_of(files, source.package, config)


def _images_of(
    files: Sequence[SourceFile], package: str | None, config: ImagesConfig
) -> Iterator[DecodedImage | Reject]:
    for file in files:
        yield from images(file, config) if package is None else _cut(_of_package(package, file, config), config.patch)


def _cut(images_read: Iterable[DecodedImage | Reject], side: int | None) -> Iterator[DecodedImage | Reject]:
    """The images of a file, or their patches, which are numbered in order."""
    position = 0
    for image in images_read:
        if side is None or isinstance(image, Reject):
            yield image
            continue
        try:
            for patch in patches(image, side):
                position += 1
                yield patch._replace(position=position)
        except BadImageError as problem:
            yield Reject(image.source, image.position, first_line(problem))


def images(file: SourceFile, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    """The images of a file, or their patches. UserError if it changes while it is read."""
    return _cut(
        watched(file, _image(file, config) if _is_image(file.name) else _array_images(file, config)), config.patch
    )


def _of_package(name: str, file: SourceFile, config: ImagesConfig) -> Iterator[DecodedImage]:
    read = packages.lookup(name).images
    if read is None:
        raise UserError(f"the package {name!r} holds no images; name another")
    for position, (pixels, label) in enumerate(read(Path(file.uri)), 1):
        yield DecodedImage(fitted_array(pixels, config), label, file.name, position)


def _image(file: SourceFile, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    with opened(file) as stream:
        raw = stream.read(MAX_BYTES + 1)
    folders = file.name.rpartition("/")[0]
    if len(raw) > MAX_BYTES:
        yield Reject(file.name, 1, f"longer than {MAX_BYTES:,} bytes")
    elif not raw:
        yield Reject(file.name, 1, "empty file")
    else:
        try:
            image = decoded(raw, config)
            yield DecodedImage(image.pixels, folders.rpartition("/")[2] or None, file.name, 1, image.lost)
        except BadImageError as problem:
            yield Reject(file.name, 1, first_line(problem))


def _array_images(file: SourceFile, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    """The images of an IDX or NumPy file."""
    sound = checked(file)
    if file.beside is not None and (problem := checked(file.beside).problem):
        yield lost(file.name, 1, f"the file of its labels is damaged: {problem}")
        return
    is_archive = file.name.lower().endswith(".npz")
    if not sound.problem or (sound.usable and not is_archive):
        for image in _array_images_of(file, sound, config):
            if not (sound.problem and isinstance(image, Reject) and image.lost):  # reported below
                yield image
    yield from damage(file, sound)


def _array_images_of(
    file: SourceFile, sound: compressed.Soundness, config: ImagesConfig
) -> Iterator[DecodedImage | Reject]:
    with ExitStack() as stack:
        stream = compressed.usable(_stream(file, stack), sound, by_line=False)
        if file.name.lower().endswith(".npz"):
            yield from idx_numpy.npz(file.name, stack.enter_context(seekable(stream)), config)
        elif _IDX_IMAGES.search(file.name):
            labels = None if file.beside is None else _stream(file.beside, stack)
            yield from idx_numpy.idx(file.name, stream, labels, config)
        else:
            yield from idx_numpy.npy(file.name, stream, config)


def _stream(file: SourceFile, stack: ExitStack) -> BinaryIO:
    raw = stack.enter_context(opened(file))
    return stack.enter_context(closing(compressed.opened(raw, compressed.split(file.name)[1])))
