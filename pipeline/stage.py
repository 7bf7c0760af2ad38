"""A stage: a plain function from a config and finished artifacts to files in a folder.

    run(config, inputs, out_dir, context) -> summary

Its key is a hash of the stage's name, its version, its config and its inputs' *output digests*: a retrained parent
never leaves a stale child, and a parent remade bit for bit keeps its children valid. The version is a number in the
stage's code, raised by hand when its meaning changes; editing code does not change keys.

The context is everything else a stage may use: a folder that survives failed attempts, the folder of downloads, the
places of the user's files, a progress callback, the placement. It never enters the key, so it must never change the
result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Artifact
from pipeline.fingerprint import digest
from pipeline.slug import SLUG

if TYPE_CHECKING:
    from training.config import PlacementConfig

_NOWHERE = Path(os.devnull)  # nothing can be written below it: using it before the store has set it fails


def _quiet(message: str, done: float | None = None, warning: str = "") -> None:
    """Ignores progress."""


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its config and its inputs; none of it may change the result.

    The store fills in what is left out, and always sets `work`, `key` and `attempt`.
    """

    downloads: Path = _NOWHERE
    """Downloaded files, checked by digest and shared by all stages."""
    progress: Callable[..., None] = _quiet
    """`progress(message, done=None, warning="")`: one line for a person; `done` in 0..1 where it is known; a warning
    stays on the screen."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Where and how fast: workers, device, ZeRO stage …"""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Where the user's files lie that the config names by the digests of their contents."""
    work: Path = _NOWHERE
    """Outlives a failed attempt at the same key: checkpoints, metric logs. Deleted with the artifact."""
    key: str = ""
    attempt: str = ""

    @property
    def one_worker(self) -> PlacementConfig:
        """The placement of a job that computes in this process: the device and threads of the run's, no ZeRO."""
        from training.config import PlacementConfig

        return PlacementConfig.model_validate({**self.placement, "workers": 1, "zero": None})

    @property
    def has_downloads(self) -> bool:
        return self.downloads != _NOWHERE

    @property
    def has_work(self) -> bool:
        return self.work != _NOWHERE


@dataclass(frozen=True)
class Stage:
    """A named, numbered function. `run` writes files into `out_dir` and returns a summary made of JSON values.

    If the summary has a list under "licences", the store passes it on to all descendants of the artifact.
    """

    name: str
    version: int
    run: Callable[[dict[str, Any], dict[str, Artifact], Path, Context], dict[str, Any]]

    def __post_init__(self) -> None:
        if not re.fullmatch(SLUG, self.name):
            raise ValueError(f"stage name {self.name!r}: lower-case words joined by hyphens are allowed")

    def key(self, config: Mapping[str, Any], inputs: Mapping[str, Artifact]) -> str:
        """`NAME-` and 16 hex digits. Raises TypeError naming what in `config` has no canonical form."""
        parents = {name: artifact.output_digest for name, artifact in inputs.items()}
        identity = {
            "stage": self.name,
            "version": self.version,
            "config": dict(config),
            "inputs": parents,
        }
        return f"{self.name}-{digest(identity)[:16]}"
