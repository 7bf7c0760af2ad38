"""Settings that recipes once had: the messages for them instead of `unknown key`."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from pipeline.recipe import unions


class Removed(NamedTuple):
    """What became of a setting."""

    now: str | None
    """Its name now, in the place of the old one; dotted: its path from the top; None: nothing takes its place."""
    about: str
    """Why it is not needed, or how it differs."""


REMOVED = {
    "augment.bend": Removed("elastic", ""),
    "augment.shift": Removed("translate", ""),
    "augment.size": Removed("scale", ""),
    "augment.turn": Removed("rotate", ""),
    "compose.breaks": Removed(None, "rows hold the text of documents as it is, its line breaks included"),
    "downstream.classification.lr": Removed("lrs", "a list of rates to try"),
    "downstream.tagging.lr": Removed("lrs", "a list of rates to try"),
    "downstream.compression.pictures": Removed("images", ""),
    "train.checkpoint_every": Removed("placement.checkpoint_every", ""),
    "train.keep_checkpoints": Removed("placement.keep_checkpoints", ""),
}
"""By path, as `unions.declared` gives it. A setting that is renamed or taken away gets its line here."""


def removed(path: str, model: type[BaseModel], data: Any) -> str | None:
    """The message for the key at `path` of `data`, unknown to `model`; None if it never was a setting."""
    line = REMOVED.get(unions.declared(model, data, path))
    if line is None:
        return None
    if line.now is None:
        return f"no longer needed ({line.about}); leave it out"
    above = path.rpartition(".")[0]
    now = line.now if "." in line.now else f"{above}.{line.now}"
    return f"is called {now} now" + (f", {line.about}" if line.about else "")
