"""Files in the place of others: pointers to the file that the name promises, and error pages of a server."""

from __future__ import annotations

from data_prep.sources import compressed
from data_prep.sources.compressed import Opener
from data_prep.sources.members import DAMAGED

_SMALL = 1024  # bytes; pointers are smaller
_BINARY = (".parquet", ".arrow", ".feather", ".npy", ".npz", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_BINARY += (".gif", ".wav", ".flac", ".ogg", ".opus")
_OF_LINES = (".csv", ".tsv", ".tab", ".jsonl", ".jsonlines", ".ndjson", ".json", ".arff")
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": "a git-LFS pointer, not the file: run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the file: run `git annex get`",
}
_PAGES = (b"<!doctype html", b"<html")
_FEATHER_1 = b"FEA1"


def stand_in(opener: Opener, name: str, size: int) -> str:
    """What a file of `size` bytes is if it is not what its name says, and what to do; otherwise "".

    Only small files, and those that are no text, are opened for that.
    """
    base, kind = compressed.split(name.lower())
    is_binary = kind is not None or compressed.is_archive(name) or base.endswith(_BINARY)
    if size >= _SMALL and not is_binary:
        return ""
    try:
        with opener() as stream:
            head = stream.read(_SMALL)
    except DAMAGED:  # of the archive that it is in: reported when that is read
        return ""
    for mark, what in _POINTERS.items():
        if head.startswith(mark) and size < _SMALL:
            return what
    if (is_binary or base.endswith(_OF_LINES)) and head.lstrip().lower().startswith(_PAGES):
        return "a web page, not the file: download it again"
    if head.startswith(_FEATHER_1) and base.endswith((".arrow", ".feather")):
        return "a file of Feather's first version, which is no longer read: write it as Parquet"
    return ""
