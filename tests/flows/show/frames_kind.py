"""A kind of data of a few lines: runs of frames, which nothing in `flows` knows."""

from __future__ import annotations

from pathlib import Path

from data_prep.kinds import Kind
from data_prep.views import Frames, Viewer


class FramesKind(Kind):
    def viewer(self, preprocessor: Path | None) -> Viewer:
        return lambda values: Frames(values, 100)


KIND = FramesKind()
