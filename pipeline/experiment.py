"""What recipes of every kind of data can tell of themselves."""

from __future__ import annotations

from typing import Any

from pipeline.recipe import parse
from training.config import Settings


class Experiment(Settings):
    """Base of recipes; the sections are theirs."""

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain values."""
        return self.model_dump(mode="json")

    def science(self) -> dict[str, Any]:
        """What may change the result: all but names and placement."""
        return self.model_dump(mode="json", exclude={"name", "title", "reproduces", "scale", "placement"})

    def to_yaml(self) -> str:
        """The resolved recipe as a file that `load` reads back to an equal one."""
        return parse.dump(self.resolved())
