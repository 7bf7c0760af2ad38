"""What is printed passes one function, whoever prints it: `data_prep.legible.safe`."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from flows.show.console import SafeConsole, StageProgress
from tests.pipeline import tiny

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[2J\u202e http://me:secret@h/?sig=abc"
SHOWN = "␛]0;owned␇␛[2J� http://me:***@h/?sig=***"
ALLOWED = {  # (file, what is printed): an object of JSON, which is ASCII, or what is safe already
    ("flows/cli.py", "safe"), ("flows/show/console.py", "safe"), ("data_prep/legible.py", "safe"),
    ("flows/commands.py", "json.dumps"), ("flows/compress.py", "json.dumps"),
    ("flows/machine/ui.py", "links"),  # the one place where a password is meant to be seen
}  # fmt: skip


def prints() -> Iterator[tuple[str, str]]:
    """Every call of `print`, and every console that is not ours, in the packages."""
    for package in ("data_prep", "training", "pipeline", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                if node.func.id == "print":
                    first = node.args[0] if node.args else None
                    called = ast.unparse(first.func) if isinstance(first, ast.Call) else "links"
                    if not called.endswith(".model_dump_json"):
                        yield name, called
                if node.func.id == "Console":
                    yield name, "Console"


def test_nothing_prints_by_itself() -> None:
    assert set(prints()) <= ALLOWED


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_shows_what_a_terminal_would_obey(terminal: bool, encoding: str) -> None:
    buffer = io.BytesIO()
    with io.TextIOWrapper(buffer, encoding) as file:
        console = SafeConsole(file=file, width=200, force_terminal=terminal, markup=False, color_system="truecolor")
        table = Table(EVIL)
        table.add_row(Text(EVIL, "bold red"))
        table.add_row(EVIL)
        for shown in (EVIL, Text(f"a {EVIL}", "green"), table, Markdown(f"# {EVIL}\n\n| a |\n|---|\n| {EVIL} |")):
            console.print(shown)
        with StageProgress(console, [EVIL]) as progress:
            progress.start(EVIL, EVIL)
            progress.callback(EVIL)(EVIL, 0.5, warning=EVIL)
            progress.end(EVIL, "failed", EVIL)
        file.flush()
        printed = buffer.getvalue().decode(encoding)
    assert "secret" not in printed and "abc" not in printed
    assert not set(printed) & set("\x07\u202e") and "\x1b]" not in printed and "\x1b[2J" not in printed
    if encoding == "utf-8":
        assert printed.count(SHOWN) >= 5


def test_colours_stay_where_they_are() -> None:
    text = Text("a\x1b").append("b", "bold")
    plain, ours = io.StringIO(), io.StringIO()
    Console(file=plain, force_terminal=True, color_system="truecolor").print(Text("a␛").append("b", "bold"))
    SafeConsole(file=ours, force_terminal=True, color_system="truecolor").print(text)
    assert ours.getvalue() == plain.getvalue()


def test_the_command_line_shows_no_escape_and_no_password(tmp_path: Path) -> None:
    """A recipe's key and path, on a terminal's streams."""
    recipe = tiny.recipe(tmp_path)
    recipe.write_text(recipe.read_text() + '"evil\\e]0;owned\\a": http://me:secret@h\n')
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "show", str(recipe)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "evil␛]0;owned␇" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout and "secret" not in done.stderr + done.stdout
