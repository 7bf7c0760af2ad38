"""Shows what recipes can set: `sesame settings`."""

from __future__ import annotations

from rich.table import Column, Table
from rich.text import Text

from flows.exit_codes import usage
from flows.show.console import new_console
from pipeline.recipe import reference


def show(path: str) -> None:
    """Print what is below a path of a recipe as a table."""
    with usage():
        lines = reference.lines(path)
    table = Table("setting", "allowed", "default", "", box=None, header_style="bold", pad_edge=False)
    names = Table.grid("", Column(overflow="fold"), padding=(0, 2, 0, 0))  # that the setting can have
    for line in lines:
        if line.allowed:
            table.add_row(Text(line.name, "bold cyan"), line.allowed, line.default, line.about)
        else:
            names.add_row(Text(line.name, "bold cyan"), line.about)
    console = new_console()
    console.print(table)
    console.print(names)
