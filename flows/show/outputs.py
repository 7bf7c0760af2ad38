"""Output files: checked before anything is computed for them, and written as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import UserError


def check_output(out: Path, inputs: Iterable[str] = ()) -> Path:
    """Create the folder of the file `out`, and return `out`.

    Raises UserError if `out` is a folder, cannot be written, or is one of the `inputs`.
    """
    if not out.name or out.is_dir():
        raise UserError(f"--out {out}: is a folder; name a file.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: its folder cannot be made ({error.strerror}); name another place.") from None
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out}: nothing may be written there; name another place.")
    if out.exists() and any(path.exists() and path.samefile(out) for path in map(Path, inputs)):
        raise UserError(f"--out {out}: is one of the files that are read, and would be lost; name another one.")
    return out


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of `out` at the end of the block, unless that fails."""
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
