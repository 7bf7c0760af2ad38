"""The README's commands work as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """Every command of the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


QUICK = [c for c in commands() if re.search(r"sesame (recipes|show|plan|doctor|runs)\b", c)]
WITH_RUNS = [c for c in commands() if c.startswith(".venv/bin/sesame") and c not in QUICK]


def execute(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/sesame"
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=home,
        env={**os.environ, "SESAME_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )


def test_the_readme_has_the_two_commands() -> None:
    assert {"make quickstart", "make test", "make ui"} <= set(commands())
    makefile = (ROOT / "Makefile").read_text()
    for command in commands():
        if command.startswith("make "):
            assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.M), command


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize("command", QUICK)
def test_a_quick_command_works(command: str, home: Path) -> None:
    done = execute(command, home)
    assert "Traceback" not in done.stderr
    # A machine may have a port taken or a disk nearly full: `doctor` may say so, and must say it well.
    assert done.returncode == 0 or ("doctor" in command and "to mend" in done.stdout), done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_the_commands_that_run_work_in_order(home: Path) -> None:
    assert len(WITH_RUNS) >= 3
    for command in WITH_RUNS:
        done = execute(command, home)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
