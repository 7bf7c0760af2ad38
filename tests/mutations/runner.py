"""Makes changes in a copy of the tree, one at a time, and sees whether their tests fail."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("data_prep", "training", "pipeline", "flows", "tests", "pyproject.toml")
SECONDS = 300.0  # for the tests of one change
FAILED, PASSED = 1, 0  # pytest's exit codes


@dataclass(frozen=True)
class Change:
    """One change to behaviour."""

    name: str
    """Says what is wrong once it is made."""
    file: str
    """Path from the root of the repository."""
    text: str
    """What is replaced; it is in the file exactly once."""
    replacement: str
    tests: tuple[str, ...]
    """Tests of which one must fail, as pytest names them, without parameters."""

    def problem(self, root: Path) -> str:
        """Why it cannot be tried on the tree at `root`; empty if it can."""
        path = root / self.file
        if not path.is_file():
            return f"{self.name}: {self.file} does not exist"
        source = path.read_text()
        if (count := source.count(self.text)) != 1:
            return f"{self.name}: {self.file} has the text {count} times, expected once: {self.text!r}"
        try:
            changed = ast.dump(ast.parse(source.replace(self.text, self.replacement)))
        except SyntaxError as error:
            return f"{self.name}: {self.file} is no Python after the change: {error}"
        if changed == ast.dump(ast.parse(source)):
            return f"{self.name}: the change of {self.file} changes nothing"
        for test in self.tests:
            file, *names = test.split("::")
            if not (root / file).is_file():
                return f"{self.name}: {file} does not exist"
            for name in names:
                if f"def {name}(" not in (root / file).read_text():
                    return f"{self.name}: {file} has no {name}"
        return "" if self.tests else f"{self.name}: no test is named"


def copied(root: Path, folder: Path) -> Path:
    """A copy of what tests need of the tree at `root`, without compiled files."""
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / name).is_file():
            shutil.copy2(root / name, folder / name)
    return folder


def noticed(change: Change, tree: Path, seconds: float = SECONDS) -> bool:
    """Whether the tests of a change fail once it is made in `tree`, which is left as it was.

    Raises RuntimeError where the tests cannot be run. Tests that do not end within `seconds` notice nothing.
    """
    path = tree / change.file
    source = path.read_text()
    path.write_text(source.replace(change.text, change.replacement))
    try:
        _forget_compiled(path)
        code, output = run_tests(change.tests, tree, seconds)
    finally:
        path.write_text(source)
        _forget_compiled(path)
    if code not in (FAILED, PASSED, None):
        raise RuntimeError(f"{change.name}: pytest ended with {code}\n{output}")
    return code == FAILED


def run_tests(tests: Sequence[str], tree: Path, seconds: float) -> tuple[int | None, str]:
    """pytest's exit code (None: it did not end in time) and the end of its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the tree is compiled once
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output = process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, ""
    return process.returncode, output[-4000:]


def _forget_compiled(path: Path) -> None:
    """Two versions of a file may have the same size and time, by which Python knows its compiled ones."""
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
