"""Files with many images: IDX (MNIST's format) and NumPy's .npy and .npz, read image by image in bounded memory.

    IDX     magic 0 0 8 n, n sizes as big-endian uint32, then bytes (http://yann.lecun.com/exdb/mnist/): images
            [N, H, W] in a file with "idx3" in its name, labels [N] in the one with "idx1" next to it; also .gz
    .npy    [N, H, W], [N, H, W, 1 | 3] or [N, 1 | 3, H, W]: integers from 0 to 255, floats from 0 to 1, booleans
    .npz    such an array named images, x, X or data (or the only one), labels [N] named labels, y, Y or target

Nothing is unpickled: arrays of objects are refused.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_prep.images.pixels import MAX_PIXELS, BadImageError, DecodedImage, ImagesConfig, fitted_array
from data_prep.opening.files import UnfitError, npy_header
from data_prep.sources.records import Reject, lost

_IMAGES, _LABELS = ("images", "x", "X", "data"), ("labels", "y", "Y", "target")
_IMAGES_MAGIC, _LABELS_MAGIC = b"\0\0\x08\x03", b"\0\0\x08\x01"
_MAX_LABELS = 1 << 28


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def idx(name: str, stream: BinaryIO, labels: BinaryIO | None, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    """The images of an IDX file. A problem of the complete file gives one reject."""
    try:
        if stream.read(4) != _IMAGES_MAGIC:
            raise BadImageError("not an IDX file of images: it does not begin with 0 0 8 3")
        shape = struct.unpack(">3I", _exactly(stream, 12))
        classes = None if labels is None else _idx_labels(labels, shape[0])
    except BadImageError as problem:
        yield lost(name, 1, str(problem))
        return
    yield from _images(name, stream, _Header(shape, np.dtype(np.uint8)), classes, config)


def _idx_labels(stream: BinaryIO, count: int) -> list[str]:
    if stream.read(4) != _LABELS_MAGIC:
        raise BadImageError("the file of its labels is not IDX: it does not begin with 0 0 8 1")
    (num_labels,) = struct.unpack(">I", _exactly(stream, 4))
    if num_labels != count:
        raise BadImageError(f"there are {num_labels} labels for {count} images")
    if count > _MAX_LABELS:
        raise BadImageError(f"it claims {count} labels")
    return list(map(str, _exactly(stream, count)))


def npy(name: str, stream: BinaryIO, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    """The images of an .npy file, which has no labels."""
    try:
        header = _npy_header(stream)
    except BadImageError as problem:
        yield lost(name, 1, str(problem))
        return
    yield from _images(name, stream, header, None, config)


def npz(name: str, stream: BinaryIO, config: ImagesConfig) -> Iterator[DecodedImage | Reject]:
    """The images of an .npz archive, with its labels."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            array_name = next((key for key in _IMAGES if key in members), None)
            if array_name is None and len(members) == 1:
                array_name = next(iter(members))
            if array_name is None:
                member_names = ", ".join(map(repr, sorted(members)[:10])) or "none"
                raise BadImageError(f"no array is called images, x or data; found {member_names}")
            classes = next((_npz_labels(archive, members[key]) for key in _LABELS if key in members), None)
            with archive.open(members[array_name]) as member:
                header = _npy_header(member)  # type: ignore[arg-type]
                if classes is not None and len(classes) != header.shape[0]:
                    raise BadImageError(f"there are {len(classes)} labels for {header.shape[0]} images")
                yield from _images(name, member, header, classes, config)  # type: ignore[arg-type]
    except (BadImageError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError) as problem:
        yield lost(name, 1, str(problem) or "damaged archive")
    except (RuntimeError, ValueError, EOFError) as problem:  # includes encryption and unsupported compression
        yield lost(name, 1, f"damaged archive: {problem}")


def _npz_labels(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> list[str]:
    with archive.open(member) as stream:
        header = _npy_header(stream, {1})  # type: ignore[arg-type]
        if header.shape[0] * header.dtype.itemsize > _MAX_LABELS:
            raise BadImageError(f"it claims {header.shape[0]} labels")
        raw = _exactly(stream, header.shape[0] * header.dtype.itemsize)  # type: ignore[arg-type]
    return [str(label) for label in np.frombuffer(raw, header.dtype).tolist()]


def _npy_header(stream: BinaryIO, axes: frozenset[int] | set[int] = frozenset({3, 4})) -> _Header:
    """Shape and type; leaves the stream at the first value."""
    try:
        shape, by_column, dtype = npy_header(stream)
    except UnfitError as error:
        raise BadImageError(str(error)) from None
    if dtype.hasobject:
        raise BadImageError("an array of Python objects, which is never read; save it as numbers")
    if by_column and len(shape) > 1:
        raise BadImageError("stored by column (Fortran order); save np.ascontiguousarray of it")
    if len(shape) not in axes or (len(shape) > 1 and dtype.kind not in "buif"):
        expected = "images [N, H, W], [N, H, W, C] or [N, C, H, W]" if 3 in axes else "labels [N]"
        raise BadImageError(f"expected {expected}, found {dtype} {list(shape)}")
    if len(shape) == 4 and shape[3] not in (1, 3) and shape[1] not in (1, 3):
        raise BadImageError(f"neither the last nor the second axis of {list(shape)} has 1 or 3 channels")
    return _Header(shape, dtype)


def _images(
    name: str, stream: BinaryIO, header: _Header, classes: list[str] | None, config: ImagesConfig
) -> Iterator[DecodedImage | Reject]:
    count, *shape = header.shape
    pixels, size = int(np.prod(shape, dtype=object)), 0
    if not count or not pixels:
        yield lost(name, 1, "the array is empty")
        return
    if pixels > MAX_PIXELS:
        yield lost(name, 1, f"has more than {MAX_PIXELS:,} pixels ({' × '.join(map(str, shape))})")
        return
    size = pixels * header.dtype.itemsize
    for number in range(count):
        try:
            values = np.frombuffer(_exactly(stream, size), header.dtype).reshape(shape)
        except BadImageError as problem:
            yield lost(name, number + 1, f"{problem}: {count} images were announced")
            return
        try:
            if values.ndim == 3 and values.shape[2] not in (1, 3):
                values = values.transpose(1, 2, 0)
            fitted_pixels = fitted_array(_bytes(values), config)
        except BadImageError as problem:
            yield Reject(name, number + 1, str(problem))
        else:
            yield DecodedImage(fitted_pixels, None if classes is None else classes[number], name, number + 1)
    if stream.read(1):
        yield lost(name, count, f"something follows the {count} images that were announced")


def _bytes(values: np.ndarray) -> np.ndarray:
    """Pixels of any type converted to uint8."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 255
    low, high = values.min(), values.max()
    limit = 1 if values.dtype.kind == "f" else 255
    if not (low >= 0 and high <= limit):  # also true if a value is NaN
        raise BadImageError(f"pixels of {values.dtype} go from 0 to {limit} (found {low} to {high})")
    return np.rint(values * 255).astype(np.uint8) if limit == 1 else values.astype(np.uint8)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    raw = stream.read(size)
    if len(raw) < size:
        raise BadImageError("the file ends too soon")
    return raw
