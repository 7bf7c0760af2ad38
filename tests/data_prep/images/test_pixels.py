from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from data_prep.corpus.arrays import ArrayCorpus
from data_prep.errors import UserError
from data_prep.images import idx_numpy
from data_prep.images.pixels import (
    COLOUR,
    DEPTH,
    INKS,
    PROFILE,
    TRANSPARENCY,
    BadImageError,
    DecodedImage,
    ImagesConfig,
    decoded,
    fitted_array,
    patches,
)
from tests.data_prep.arrays_input import ingested, reasons, rejected


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def idx(pixels: np.ndarray) -> bytes:
    return struct.pack(">4B", 0, 0, 8, pixels.ndim) + struct.pack(f">{pixels.ndim}I", *pixels.shape) + pixels.tobytes()


def npy(array: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def pixels_of(folder: Path) -> np.ndarray:
    return np.concatenate([batch.input for batch in ArrayCorpus(folder).batches()])  # type: ignore[misc]


def test_folders_of_pictures(tmp_path: Path) -> None:
    pictures = {}
    for number, (name, kind) in enumerate([("a.png", "PNG"), ("b.webp", "WEBP"), ("c.PNG", "PNG")]):
        for label in ("cat", "dog"):
            path = tmp_path / "photos" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = picture(number + 10 * (label == "dog"), 8, 8, 3)
            path.write_bytes(encoded(pixels, kind, **({"lossless": True} if kind == "WEBP" else {})))
            pictures[f"photos/{label}/{name}:1"] = (label, pixels)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    summary = ingested(tmp_path / "photos", out=tmp_path / "out", config=ImagesConfig(channels=3))
    corpus = ArrayCorpus(tmp_path / "out")
    assert summary["shape"] == [3, 8, 8] and corpus.shape == (3, 8, 8) and corpus.classes == ["cat", "dog"]
    (batch,) = corpus.batches()
    assert batch.input.dtype == np.uint8 and len(corpus) == 6
    for name, stored, label in zip(corpus.names(range(6)), batch.input, batch.label, strict=True):
        expected, pixels = pictures[name]
        assert corpus.classes[label] == expected
        np.testing.assert_array_equal(stored.transpose(1, 2, 0), pixels)
    np.testing.assert_array_equal(corpus.read([5, 0]).input, batch.input[[5, 0]])
    ingested(tmp_path / "photos", out=tmp_path / "none", config=ImagesConfig(labels="none"))
    assert next(ArrayCorpus(tmp_path / "none").batches()).label.tolist() == [-1] * 6


def test_exact_copies_go(tmp_path: Path) -> None:
    for number, seed in enumerate([1, 2, 1]):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(seed, 4, 4), compress_level=number))
    summary = ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert summary["duplicates"] == 1 and rejected(tmp_path / "out")[0]["reason"].endswith("0.png:1")


def test_pictures_are_cut_to_the_middle_and_made_smaller() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200  # the square in the middle
    square = decoded(encoded(wide), ImagesConfig(size=10)).pixels
    assert square.shape == (1, 10, 10) and (square == 200).all()
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = decoded(encoded(stripes), ImagesConfig(size=8)).pixels
    assert np.abs(small.astype(int) - 127).max() <= 10  # antialiased: the mean, not the one or the other


def test_exif_turns_a_picture() -> None:
    image = Image.fromarray(picture(0, 6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter to the right
    out = io.BytesIO()
    image.save(out, "PNG", exif=exif)
    turned = decoded(out.getvalue(), ImagesConfig()).pixels
    np.testing.assert_array_equal(turned[0], np.rot90(picture(0, 6, 4), -1))


def test_modes() -> None:
    half = np.zeros((4, 4, 4), np.uint8)
    half[:, :2] = (200, 200, 200, 255)  # the rest is transparent black
    pixels = decoded(encoded(half), ImagesConfig()).pixels
    assert pixels[0, 0].tolist() == [200, 200, 255, 255]
    deep = (np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369).astype(np.uint16)
    assert decoded(encoded(deep), ImagesConfig()).pixels[0].tolist() == (deep >> 8).tolist()
    grey = decoded(encoded(picture(1, 4, 4)), ImagesConfig(channels=3)).pixels
    assert (grey[0] == grey[1]).all() and grey.shape == (3, 4, 4)
    out = io.BytesIO()
    Image.fromarray(picture(1, 4, 4)).convert("P").save(out, "PNG", transparency=0)
    assert decoded(out.getvalue(), ImagesConfig(channels=3)).pixels.shape == (3, 4, 4)
    out = io.BytesIO()
    Image.fromarray(picture(1, 16, 16, 4), "CMYK").save(out, "JPEG")
    assert decoded(out.getvalue(), ImagesConfig(channels=3)).pixels.shape == (3, 16, 16)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(depth: int, colour_type: int, values: list[int], *chunks: bytes) -> bytes:
    """A PNG of one line of samples, with chunks before its pixels."""
    bits = "".join(format(value, f"0{depth}b") for value in values)
    bits += "0" * (-len(bits) % 8)
    line = b"\0" + bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    header = struct.pack(">IIBBBBB", len(values) // (3 if colour_type == 2 else 1), 1, depth, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(line))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


@given(data=st.data(), depth=st.sampled_from([1, 2, 4, 8, 16]))
def test_the_transparent_value_of_a_grey_image_is_white(data: st.DataObject, depth: int) -> None:
    limit = 2**depth - 1
    values = data.draw(st.lists(st.integers(0, limit), min_size=1, max_size=9))
    transparent = data.draw(st.sampled_from(values) | st.integers(0, limit))
    image = decoded(png(depth, 0, values, chunk(b"tRNS", struct.pack(">H", transparent))), ImagesConfig())
    expected = [255 if value == transparent else value * 255 // limit for value in values]
    if depth == 16:
        expected = [255 if value == transparent else value >> 8 for value in values]
    assert image.pixels[0, 0].tolist() == expected
    assert (TRANSPARENCY in image.lost) == (transparent in values) and (DEPTH in image.lost) == (depth == 16)


def test_a_transparent_colour() -> None:
    transparent = chunk(b"tRNS", struct.pack(">3H", 9, 8, 7))
    image = decoded(png(8, 2, [9, 8, 7, 9, 8, 6], transparent), ImagesConfig(channels=3))
    assert image.pixels[:, 0].T.tolist() == [[255, 255, 255], [9, 8, 6]] and image.lost == (TRANSPARENCY,)
    with pytest.raises(BadImageError, match=r"(?<![\d.,])16-bit colours is transparent"):
        decoded(png(16, 2, [9, 8, 7], transparent), ImagesConfig(channels=3))


LONG = b"x" * (1 << 21)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"tEXt", b"Comment\0" + LONG),
        (b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
        (b"iTXt", b"Comment\0\1\0en\0Comment\0" + zlib.compress(LONG)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LONG)),
        (b"iCCP", b"printer\0\0" + zlib.compress(LONG)),
        (b"zTXt", b"no end"),
        (b"prVt", LONG),
        (b"eXIf", b"no EXIF"),
    ],
)
def test_metadata_of_any_size_and_kind_are_no_part_of_an_image(name: bytes, data: bytes) -> None:
    image = decoded(png(8, 0, [1, 2, 3], chunk(name, data)), ImagesConfig())
    assert image.pixels.tolist() == [[[1, 2, 3]]]
    assert image.lost == ((PROFILE,) if name == b"iCCP" else ())


@pytest.mark.parametrize("packed", [False, True])
def test_texts_that_turn_an_image(packed: bool) -> None:
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    text = b"XML:com.adobe.xmp\0" + (b"\1\0\0\0" + zlib.compress(xmp) if packed else b"\0\0\0\0" + xmp)
    turned = decoded(png(8, 0, [1, 2, 3], chunk(b"tEXt", b"a\0b"), chunk(b"iTXt", text)), ImagesConfig())
    assert turned.pixels.tolist() == [[[1], [2], [3]]]


def test_what_an_image_loses_is_named(tmp_path: Path) -> None:
    half = np.full((4, 4, 4), 200, np.uint8)
    opaque, half[0, 0, 3] = half.copy(), 0
    opaque[..., 3] = 255
    frames = [Image.fromarray(picture(seed, 4, 4, 3)) for seed in range(3)]
    animated = io.BytesIO()
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    inks = io.BytesIO()
    Image.fromarray(picture(1, 16, 16, 4), "CMYK").save(inks, "JPEG")
    files = {
        "alpha": (encoded(half), (TRANSPARENCY,)),
        "opaque": (encoded(opaque), ()),
        "animated": (animated.getvalue(), ("further frames: 2",)),
        "inks": (inks.getvalue(), (INKS,)),
        "wide": (encoded(picture(2, 4, 4, 3), icc_profile=b"Display P3"), (PROFILE,)),
        "usual": (encoded(picture(3, 4, 4, 3), icc_profile=b"... sRGB IEC61966-2.1"), ()),
    }
    for name, (raw, lost) in files.items():
        assert decoded(raw, ImagesConfig(channels=3)).lost == lost
        assert (COLOUR in decoded(raw, ImagesConfig()).lost) == (name not in ("alpha", "opaque"))
        (tmp_path / f"{name}.png").write_bytes(raw)
    warnings: list[str] = []
    summary = ingested(
        tmp_path,
        out=tmp_path / "out",
        config=ImagesConfig(channels=3, patch=2),
        progress=lambda *_, warning="": warnings.append(warning),
    )
    counted = {TRANSPARENCY: 1, PROFILE: 1, "further frames": 1, INKS: 1}
    assert summary["lost"] == counted and list(filter(None, warnings)) == [
        f"Not in the pixels: {PROFILE} of 1 image, further frames of 1 image, {INKS} of 1 image, "
        f"{TRANSPARENCY} of 1 image."
    ]


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"GIF89a no", "not a PNG, JPEG, WebP, TIFF, BMP or GIF image"),
        (encoded(picture(0, 4, 4), "PPM"), "not a PNG, JPEG, WebP, TIFF, BMP or GIF image"),
        (encoded(picture(0, 64, 64))[:-500], "damaged image"),
        (encoded(picture(0, 64, 64), "JPEG")[:-500], "damaged image"),
        (encoded(picture(0, 64, 64), "WEBP")[:-500], "damaged image"),
        (bomb(8193, 8192), "more than 67,108,864 pixels (8193 × 8192)"),
        (bomb(60_000, 60_000), "more than 67,108,864 pixels"),
        (bomb(0, 5), ""),
        (bomb(5, 5), "damaged image"),
    ],
)
def test_bad_pictures_are_refused_alone(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 8, 8)))
    (tmp_path / "b.png").write_bytes(raw)
    (tmp_path / "c.png").write_bytes(encoded(picture(1, 8, 8)))
    summary = ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert summary["kept"] == 2
    ((position, message),) = reasons(tmp_path / "out")
    assert position == 1 and reason in message
    with pytest.raises(UserError, match=r"(?<![\d.,])1 of 3 rows cannot be used, .*b\.png row 1"):
        ingested(tmp_path, out=tmp_path / "again", config=ImagesConfig(), max_rejects=0)


def test_sizes_differ(tmp_path: Path) -> None:
    for number, side in enumerate([9, 8, 8, 6]):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(number, side, 7)))
    assert ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())["shape"] == [1, 8, 7]
    assert reasons(tmp_path / "out") == [
        (1, f"is {side} × 7 pixels and not 8 × 7, as 2 of 4 are; set data.images.size") for side in (9, 6)
    ]
    assert ingested(tmp_path, out=tmp_path / "fit", config=ImagesConfig(size=5))["shape"] == [1, 5, 5]


@settings(max_examples=200, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_a_flipped_byte_is_a_picture_or_a_reason(place: float, value: int, kind: str) -> None:
    raw = bytearray(encoded(picture(3, 12, 12), kind))
    raw[int(place * (len(raw) - 1))] = value
    try:
        assert decoded(bytes(raw), ImagesConfig(size=8)).pixels.shape == (1, 8, 8)
    except BadImageError as problem:
        assert str(problem)


# -- files of many ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_with_its_labels(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    end = ".gz" if pack is gzip.compress else ""
    for split, count in (("train", 5), ("t10k", 3)):
        (tmp_path / f"{split}-images-idx3-ubyte{end}").write_bytes(pack(idx(picture(count, count, 6, 7))))
        labels = np.arange(count, dtype=np.uint8)
        (tmp_path / f"{split}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    summary = ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig(), max_rejects=0, source_split="names")
    assert summary["shape"] == [1, 6, 7] and summary["classes"] == list("01234")
    for split, count in (("train", 5), ("test", 3)):
        rows = ArrayCorpus(tmp_path / "out", split)
        np.testing.assert_array_equal(rows.read(range(count)).input[:, 0], picture(count, count, 6, 7))  # type: ignore[index]
        assert rows.labels(range(len(rows))) == list("01234"[:count])


@pytest.mark.parametrize(
    ("raw", "labels", "reason"),
    [
        (b"", None, "does not begin with 0 0 8 3"),
        (b"\0\0\x08\x01" + bytes(20), None, "does not begin with 0 0 8 3"),
        (idx(picture(0, 2, 4, 4))[:10], None, "ends too soon"),
        (idx(picture(0, 2, 4, 4))[:-1], None, "ends too soon: 2 images were announced"),
        (idx(picture(0, 2, 4, 4)) + b"x", None, "something follows the 2 images"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 5, 60_000, 60_000), None, "more than 67,108,864 pixels"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 0, 4, 4), None, "the array is empty"),
        (idx(picture(0, 2, 4, 4)), idx(np.zeros(3, np.uint8)), "3 labels for 2 images"),
        (idx(picture(0, 2, 4, 4)), b"\0\0\x08\x01" + struct.pack(">I", 2) + b"x", "ends too soon"),
        (idx(picture(0, 2, 4, 4)), b"nonsense", "labels is not IDX"),
    ],
)
def test_bad_idx(tmp_path: Path, raw: bytes, labels: bytes | None, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(9, 4, 4)))
    (tmp_path / "x-images-idx3-ubyte").write_bytes(raw)
    if labels is not None:
        (tmp_path / "x-labels-idx1-ubyte").write_bytes(labels)
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert reason in rejected(tmp_path / "out")[0]["reason"]


def test_damaged_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(9, 4, 4)))
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(picture(0, 2, 4, 4)))[:-3])
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert "damaged gzip file" in rejected(tmp_path / "out")[0]["reason"]


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (picture(0, 5, 6, 6), 1),
        (picture(0, 5, 6, 6, 1), 1),
        (picture(0, 5, 6, 6, 3), 3),
        (picture(0, 5, 3, 6, 6), 3),
        (picture(0, 5, 1, 6, 6), 1),
        (picture(0, 5, 6, 6).astype(np.int64), 1),
        (picture(0, 5, 6, 6) / 255, 1),
        ((picture(0, 5, 6, 6) / 255).astype(">f4"), 1),
        (picture(0, 5, 6, 6) > 99, 1),
    ],
)
def test_arrays(tmp_path: Path, array: np.ndarray, channels: Any) -> None:
    (tmp_path / "a.npy").write_bytes(npy(array))
    ingested(tmp_path / "a.npy", out=tmp_path / "out", config=ImagesConfig(channels=channels), max_rejects=0)
    stored = pixels_of(tmp_path / "out")
    expected = array if array.ndim == 4 else array[:, None]
    if expected.shape[-1] in (1, 3) and array.ndim == 4:
        expected = expected.transpose(0, 3, 1, 2)
    scale = {"f": 255, "b": 255}.get(array.dtype.kind, 1)
    np.testing.assert_array_equal(stored, np.rint(expected * scale).astype(np.uint8))


def test_archives_of_arrays_with_labels(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=picture(1, 4, 5, 5), y=np.array(["up", "down", "up", "left"]), other=np.zeros(3))
        ingested(tmp_path / "a.npz", out=tmp_path / save.__name__, config=ImagesConfig(), max_rejects=0)
        corpus = ArrayCorpus(tmp_path / save.__name__)
        assert corpus.labels(range(4)) == ["up", "down", "up", "left"]
        np.testing.assert_array_equal(pixels_of(tmp_path / save.__name__)[:, 0], picture(1, 4, 5, 5))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a NumPy array"),
        (b"\x93NUMPY\x01\x00\xff\xff", "not a NumPy array"),
        (npy(np.zeros((3, 4, 4))).replace(b"4)", b"4x"), "not a NumPy array"),
        (npy(np.zeros((3, 4, 4))).replace(b"(3", b"(-3"), "not a NumPy array (it claims the shape [-"),
        (npy(np.array([{}, []], object), allow_pickle=True), "Python objects, which is never read"),
        (npy(np.zeros((3, 4))), "expected images [N, H, W]"),
        (npy(np.zeros((3, 4, 4), "U3")), "expected images"),
        (npy(np.zeros((3, 4, 4), np.complex64)), "expected images"),
        (npy(np.zeros((2, 5, 4, 4))), "1 or 3 channels"),
        (npy(np.zeros((0, 4, 4))), "the array is empty"),
        (npy(np.asfortranarray(picture(0, 3, 4, 5))), "Fortran order"),
        (npy(picture(0, 3, 4, 4))[:-5], "ends too soon: 3 images were announced"),
    ],
)
def test_bad_arrays(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(9, 4, 4)))
    (tmp_path / "x.npy").write_bytes(raw)
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert reason in rejected(tmp_path / "out")[0]["reason"]


@pytest.mark.parametrize("value", [-1, 256, 1000])
def test_pixels_out_of_range_refuse_their_picture_alone(tmp_path: Path, value: int) -> None:
    array = picture(0, 3, 4, 4).astype(np.int32)
    array[1, 2, 2] = value
    (tmp_path / "a.npy").write_bytes(npy(array))
    (tmp_path / "b.npy").write_bytes(npy(np.stack([np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), 1.5)])))
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    rejects = reasons(tmp_path / "out")
    assert [position for position, _ in rejects] == [2, 2, 3]
    assert all("pixels of" in reason and "go from 0 to" in reason for _, reason in rejects)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"no zip", "not a zip"), (b"PK\x05\x06" + bytes(18), "no array is called images, x or data; found none")],
)
def test_bad_archives(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(9, 4, 4)))
    (tmp_path / "x.npz").write_bytes(raw)
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert reason in rejected(tmp_path / "out")[0]["reason"]


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1))
def test_any_bytes_of_an_archive_are_pictures_or_rejects(place: float, value: int, cut: float) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, x=picture(1, 4, 5, 5), y=np.arange(4))
    raw = bytearray(out.getvalue())
    raw[int(place * (len(raw) - 1))] = value
    damaged = bytes(raw[: max(1, int(cut * len(raw)))]) if cut < 0.5 else bytes(raw)
    assert list(idx_numpy.npz("x.npz", io.BytesIO(damaged), ImagesConfig()))


def test_a_picture_is_the_same_in_a_file_and_in_an_array() -> None:
    pixels = picture(5, 30, 20, 3)
    for config in (ImagesConfig(size=9), ImagesConfig(size=9, channels=3), ImagesConfig(channels=3)):
        np.testing.assert_array_equal(decoded(encoded(pixels), config).pixels, fitted_array(pixels, config))


@pytest.mark.parametrize("channels", [1, 3])
@given(light=st.integers(0, 60), contrast=st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_light_and_contrast_are_taken_out_of_standardised_pictures(channels: Any, light: int, contrast: float) -> None:
    config = ImagesConfig(channels=channels, standardise=True)
    shape = (12, 12, 3) if channels == 3 else (12, 12)
    pixels = np.random.default_rng(0).integers(0, 190, shape).astype(np.float64)
    bright = np.rint(light + contrast * pixels).astype(np.uint8)
    fitted, plain = fitted_array(bright, config), fitted_array(pixels.astype(np.uint8), config)
    assert fitted.dtype == np.uint8 and fitted.shape == (channels, 12, 12)
    assert fitted.mean() == pytest.approx(128, abs=1) and fitted.std() == pytest.approx(48, abs=1)
    assert np.abs(fitted.astype(int) - plain).max() <= 3, "but for rounding"


def test_an_even_picture_stays_even_when_it_is_standardised() -> None:
    config = ImagesConfig(standardise=True)
    nearly = np.full((6, 6), 200, np.uint8)
    nearly[0, 0] = 201
    for pixels in (np.full((6, 6), 7, np.uint8), nearly):
        assert np.abs(fitted_array(pixels, config).astype(int) - 128).max() <= 48
    assert np.array_equal(fitted_array(nearly, ImagesConfig()), nearly[None])


def test_large_sizes_are_refused_by_the_config() -> None:
    for size in (0, 4097):
        with pytest.raises(ValidationError):
            ImagesConfig(size=size)
    with pytest.raises(ValidationError):
        ImagesConfig(channels=2)  # type: ignore[arg-type]


def test_a_file_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.images.units.MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encoded(picture(0, 4, 4)))
    (tmp_path / "b.png").write_bytes(encoded(picture(0, 40, 40)))
    ingested(tmp_path, out=tmp_path / "out", config=ImagesConfig())
    assert reasons(tmp_path / "out") == [(1, "longer than 100 bytes")]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), side=st.integers(1, 12))
def test_patches_are_all_that_fit_and_lie_beside_each_other(height: int, width: int, side: int) -> None:
    pixels = np.arange(2 * height * width, dtype=np.uint32).reshape(2, height, width)  # every pixel once
    whole = DecodedImage(pixels, "a", "f.png", 1)
    if min(height, width) < side:
        with pytest.raises(BadImageError, match=f"smaller than data.images.patch {side}"):
            list(patches(whole, side))
        return
    pieces = list(patches(whole, side))
    assert len(pieces) == (height // side) * (width // side)
    assert {piece.pixels.shape for piece in pieces} == {(2, side, side)}
    kept = np.concatenate([piece.pixels.ravel() for piece in pieces])
    inside = pixels[:, : height // side * side, : width // side * side]
    assert np.array_equal(np.sort(kept), np.sort(inside.ravel()))
    assert np.array_equal(pieces[-1].pixels, inside[:, -side:, -side:])
