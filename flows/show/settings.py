"""Shows what recipes can set: `sesame settings`."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from flows.exit_codes import usage
from flows.show.console import new_console
from pipeline.recipe import reference


def show(path: str) -> None:
    """Print what is below a path of a recipe as a table."""
    with usage():
        lines = reference.lines(path)
    table = Table("setting", "allowed", "default", "", box=None, header_style="bold", pad_edge=False)
    for line in lines:
        table.add_row(Text(line.name, "bold cyan"), line.allowed, line.default, line.about)
    new_console().print(table)
