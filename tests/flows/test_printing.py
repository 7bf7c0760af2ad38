"""What is printed passes one function, whoever prints it: `data_prep.legible.safe`."""

from __future__ import annotations

import ast
import io
import logging
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

from data_prep.legible import log_legibly
from flows.show.console import SafeConsole, StageProgress
from pipeline.stage import Context
from tests.folders import shared
from tests.pipeline import tiny

ROOT = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[2J\u202e http://me:secret@h/?sig=abc"
SHOWN = "␛]0;owned␇␛[2J� http://me:***@h/?sig=***"
ALLOWED = {  # (file, what is printed): an object of JSON, which is ASCII, or what is safe already
    ("flows/cli.py", "safe"), ("flows/show/console.py", "safe"), ("flows/show/console.py", "_encodable"),
    ("data_prep/legible.py", "safe"), ("training/cost/step_benchmark.py", "safe"),
    ("flows/artifacts.py", "json.dumps"), ("flows/commands.py", "json.dumps"), ("flows/compare.py", "json.dumps"),
    ("flows/compress.py", "json.dumps"), ("flows/inference/generate.py", "json.dumps"),
    ("flows/inference/embed.py", "json.dumps"), ("flows/inference/predict.py", "json.dumps"),
    ("flows/inference/export.py", "json.dumps"),
    ("flows/show/differences.py", "json.dumps"),
    ("flows/machine/ui.py", "links"),  # the one place where a password is meant to be seen
}  # fmt: skip


def prints() -> Iterator[tuple[str, str]]:
    """Every call of `print`, every console that is not ours, and what is written to a standard stream."""
    for package in ("data_prep", "training", "pipeline", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout.write", "sys.stderr.write"):
                    yield name, ast.unparse(node)
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                    continue
                if node.func.id == "print":
                    first = node.args[0] if node.args else None
                    called = ast.unparse(first.func) if isinstance(first, ast.Call) else "links"
                    if isinstance(first, ast.Call) and any(k.arg == "ensure_ascii" for k in first.keywords):
                        called = "JSON that is not ASCII"
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


# -- exceptions -------------------------------------------------------------------------------------------------------

PASSWORD = "hunter2-of-this-test"


def refuse(context: Context) -> None:
    """As libraries do: the password is in the message, and in the message and an attribute of the cause."""
    address = f"postgresql://me:{PASSWORD}@db/x?sig={PASSWORD}"
    try:
        raise FileNotFoundError(2, f"no answer from {address}", address)
    except OSError as error:
        raise ConnectionError(f"\x1b[2J{address}") from error


def test_nobody_keeps_the_secrets_in_what_a_stage_raises(
    runner, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, monkeypatch, capfd
) -> None:
    """In Prefect's states, logs and database, in what waits for MLflow, in the home, in what is printed."""
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    try:
        log_legibly()
        with pytest.raises(ConnectionError) as caught, caplog.at_level(logging.INFO):
            runner.run(refuse)
        sys.excepthook(type(caught.value), caught.value, caught.value.__traceback__)
    finally:
        logging.setLogRecordFactory(before)
    states = [run["state"] for kind in ("flow_runs", "task_runs") for run in runner.in_prefect(kind)]
    assert {state["type"] for state in states} == {"FAILED"}
    assert all("ConnectionError" in state["message"] and "me:***@db" in state["message"] for state in states)
    printed = "".join(capfd.readouterr())
    assert "ConnectionError: ␛[2Jpostgresql://me:***@db/x?sig=***" in printed and "FileNotFoundError" in printed
    assert PASSWORD not in printed + caplog.text + str(states)
    folders = [runner.home.path, shared(tmp_path_factory) / "prefect"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files) and any(path.suffix == ".json" for path in files)
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_flows_and_tasks_are_made_in_one_place() -> None:
    for package in ("data_prep", "training", "pipeline", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            if path == ROOT / "flows" / "boundary.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
                from_prefect = isinstance(node, ast.ImportFrom) and node.module == "prefect"
                assert not (from_prefect and {"flow", "task"} & {*imported}), path
                assert "prefect" not in imported, path
