"""`sesame compress` and `sesame decompress`: images to files of a trained codec, and back to PNG.

A file becomes a file; a folder becomes a folder with the same names below it. Files that cannot be read are reported
and skipped. A file is written completely or not at all. Pixels are coded: of transparency, further frames, colour
profiles and the like, each file's line says what is not kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.text import Text

from data_prep.errors import UserError
from data_prep.images.pixels import SUFFIXES, BadImageError, ImagesConfig, decoded
from flows.checkpoint import model_folder
from flows.exit_codes import FAILED
from flows.show.console import new_console, say
from training.inference.codec import SUFFIX, Codec

PNG = ".png"


class CodedImage(NamedTuple):
    """One converted image; `bytes` is the size of its compressed file, `lost` what of the image is not in it."""

    source: str
    out: str
    height: int
    width: int
    bytes: int
    lost: tuple[str, ...] = ()

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return 8 * self.bytes / (self.height * self.width)


def compress(model: str, source: str, out: str, as_json: bool) -> None:
    """Compress images (PNG, JPEG, WebP, TIFF, BMP, GIF). Whatever of an image cannot be kept is reported."""
    codec = Codec.open(model_folder(model))
    config = ImagesConfig(channels=1 if codec.channels == 1 else 3)

    def convert(path: Path, out_path: Path) -> CodedImage:
        try:
            image = decoded(path.read_bytes(), config)
        except BadImageError as problem:
            raise UserError(f"{problem}; mend it or leave it out.") from None
        raw = codec.encode(image.pixels)
        _write(out_path, raw)
        _, height, width = image.pixels.shape
        return CodedImage(str(path), str(out_path), height, width, len(raw), image.lost)

    _all(Path(source).expanduser(), Path(out).expanduser(), SUFFIXES, SUFFIX, convert, as_json)


def decompress(model: str, source: str, out: str, as_json: bool) -> None:
    """Decompress to PNG."""
    codec = Codec.open(model_folder(model))

    def convert(path: Path, target: Path) -> CodedImage:
        raw = path.read_bytes()
        image = codec.decode(raw)
        file = io.BytesIO()
        channels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        if target.exists() and target.parent.resolve() == path.parent.resolve():
            raise UserError(f"{target} is there, perhaps the image it was made of; name another folder.")
        Image.fromarray(channels).save(file, "PNG")
        _write(target, file.getvalue())
        return CodedImage(str(path), str(target), image.shape[1], image.shape[2], len(raw))

    _all(Path(source).expanduser(), Path(out).expanduser(), (SUFFIX,), PNG, convert, as_json)


def _all(
    source: Path,
    out: Path,
    suffixes: tuple[str, ...],
    out_suffix: str,
    convert: Callable[[Path, Path], CodedImage],
    as_json: bool,
) -> None:
    """Convert one file after another and report on each; exits with FAILED if one could not be converted."""
    done, failed = [], 0
    console = new_console(stderr=True)
    jobs = list(_jobs(source, out, suffixes, out_suffix))
    with console.status("loading") as status:
        for number, (path, target) in enumerate(jobs, 1):
            status.update(Text(f"{number} of {len(jobs)}: {path.name}"))
            try:
                done.append(convert(path, target))
            except (UserError, OSError) as problem:  # OSError: it cannot be read or written
                failed += 1
                say(f"{path}: {problem}")
    if as_json:
        file_values: list[dict[str, Any]] = [{**coded._asdict(), "bpp": coded.bpp} for coded in done]
        print(json.dumps({"files": file_values, "failed": failed}))
    else:
        out_console = new_console()
        for coded in done:
            rate = f"{coded.bytes:,} bytes, {coded.bpp:.3f} bits per pixel"
            out_console.print(f"{coded.source} → {coded.out}  {rate}{_without(coded.lost)}", soft_wrap=True)
    if failed:
        sys.exit(FAILED)


def _without(lost: tuple[str, ...]) -> str:
    return f"; without {', '.join(lost)}" if lost else ""


def _jobs(source: Path, out: Path, suffixes: tuple[str, ...], out_suffix: str) -> Iterator[tuple[Path, Path]]:
    """(file to read, file to write) for each file. Raises UserError where that is ambiguous."""
    if source.is_file():
        yield source, out / f"{source.stem}{out_suffix}" if out.is_dir() else _named(out, out_suffix)
        return
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder.")
    if out.is_file():
        raise UserError(f"{out}: is a file, and {source} is a folder; name a folder for what is made of it.")
    sources: dict[Path, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file()):
        target = (out / path.relative_to(source)).with_suffix(out_suffix)
        if target in sources:
            raise UserError(f"{sources[target]} and {path} would both become {target}; rename one.")
        sources[target] = path
    if not sources:
        raise UserError(f"{source}: holds no file that ends in {', '.join(suffixes)}.")
    yield from ((path, target) for target, path in sources.items())


def _named(out: Path, out_suffix: str) -> Path:
    if out.suffix.lower() != out_suffix:
        raise UserError(f"{out}: what is made ends in {out_suffix}; name such a file, or a folder that is there.")
    return out


def _write(path: Path, raw: bytes) -> None:
    """Write a file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(raw)
        draft.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
