"""`sesame compress` and `sesame decompress`: pictures to files of a trained codec, and back to PNG.

A file makes a file; a folder makes a folder, of the same names below it. What cannot be read is told of and left out,
and the others are done all the same. A file is there whole or not at all.
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
from rich.console import Console

from data_prep.errors import UserError
from data_prep.images.pixels import SUFFIXES, BadImageError, ImagesConfig, decoded
from flows.exit_codes import FAILED
from flows.sample import folder_of
from training.inference.codec import SUFFIX, Codec

PNG = ".png"


class Done(NamedTuple):
    """One picture that went through, `bytes` those of its compressed file."""

    source: str
    out: str
    height: int
    width: int
    bytes: int

    @property
    def bpp(self) -> float:
        """Bits per pixel."""
        return 8 * self.bytes / (self.height * self.width)


def compress(model: str, source: str, out: str, as_json: bool) -> None:
    """Pictures (PNG, JPEG, WebP) to compressed files."""
    codec = Codec.open(folder_of(model))
    config = ImagesConfig(channels=1 if codec.channels == 1 else 3)

    def one(path: Path, target: Path) -> Done:
        try:
            picture = decoded(path.read_bytes(), config)
        except BadImageError as problem:
            raise UserError(f"{problem}; mend it or leave it out.") from None
        raw = codec.encode(picture)
        _write(target, raw)
        return Done(str(path), str(target), picture.shape[1], picture.shape[2], len(raw))

    _all(Path(source).expanduser(), Path(out).expanduser(), SUFFIXES, SUFFIX, one, as_json)


def decompress(model: str, source: str, out: str, as_json: bool) -> None:
    """Compressed files to PNG."""
    codec = Codec.open(folder_of(model))

    def one(path: Path, target: Path) -> Done:
        raw = path.read_bytes()
        picture = codec.decode(raw)
        file = io.BytesIO()
        channels = picture[0] if len(picture) == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0))
        if target.exists() and target.parent.resolve() == path.parent.resolve():
            raise UserError(f"{target} is there, perhaps the picture it was made of; name another folder.")
        Image.fromarray(channels).save(file, "PNG")
        _write(target, file.getvalue())
        return Done(str(path), str(target), picture.shape[1], picture.shape[2], len(raw))

    _all(Path(source).expanduser(), Path(out).expanduser(), (SUFFIX,), PNG, one, as_json)


def _all(
    source: Path, out: Path, wanted: tuple[str, ...], made: str, one: Callable[[Path, Path], Done], as_json: bool
) -> None:
    """Do one after another and tell of them; ends with FAILED if one could not be done."""
    done, failed = [], 0
    console = Console(stderr=True, highlight=False)
    jobs = list(_jobs(source, out, wanted, made))
    with console.status("loading") as status:
        for number, (path, target) in enumerate(jobs, 1):
            status.update(f"{number} of {len(jobs)}: {path.name}")
            try:
                done.append(one(path, target))
            except (UserError, OSError) as problem:  # what cannot be read or written, too
                failed += 1
                print(f"sesame: {path}: {problem}", file=sys.stderr)
    if as_json:
        told: list[dict[str, Any]] = [{**each._asdict(), "bpp": each.bpp} for each in done]
        print(json.dumps({"files": told, "failed": failed}))
    else:
        for each in done:
            print(f"{each.source} → {each.out}  {each.bytes:,} bytes, {each.bpp:.3f} bits per pixel")
    if failed:
        sys.exit(FAILED)


def _jobs(source: Path, out: Path, wanted: tuple[str, ...], made: str) -> Iterator[tuple[Path, Path]]:
    """What is read, and where it goes. UserError where that is not clear."""
    if source.is_file():
        yield source, out / f"{source.stem}{made}" if out.is_dir() else _named(out, made)
        return
    if not source.is_dir():
        raise UserError(f"{source}: there is no such file or folder.")
    if out.is_file():
        raise UserError(f"{out}: is a file, and {source} is a folder; name a folder for what is made of it.")
    found: dict[Path, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in wanted and path.is_file()):
        target = (out / path.relative_to(source)).with_suffix(made)
        if target in found:
            raise UserError(f"{found[target]} and {path} would both become {target}; rename one.")
        found[target] = path
    if not found:
        raise UserError(f"{source}: holds no file that ends in {', '.join(wanted)}.")
    yield from ((path, target) for target, path in found.items())


def _named(out: Path, made: str) -> Path:
    if out.suffix.lower() != made:
        raise UserError(f"{out}: what is made ends in {made}; name such a file, or a folder that is there.")
    return out


def _write(path: Path, raw: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(raw)
        draft.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
