"""The command line without a run: quick, and clear about mistakes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app

HEAVY = ("torch", "ray", "deepspeed", "mlflow", "prefect", "transformers", "pyarrow", "pydantic")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom flows.cli import app\n"
        "try:\n app(['--help'])\nexcept SystemExit: pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for command in (
        "recipes",
        "show",
        "plan",
        "run",
        "resume",
        "runs",
        "report",
        "inspect",
        "stats",
        "verify",
        "gc",
        "ui",
        "doctor",
    ):
        assert command in done.stdout


@pytest.mark.parametrize(
    "module", ["pipeline.recipe.recipe", "pipeline.store.store", "pipeline.tracking.tracking", "pipeline.dag"]
)
def test_deciding_what_to_do_needs_no_framework(module: str) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY[:6]!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_recipes_and_show() -> None:
    listed = CliRunner().invoke(app, ["recipes"])
    assert listed.exit_code == 0 and "quickstart" in listed.stdout and "bert" in listed.stdout
    shown = CliRunner().invoke(app, ["show", "bert", "--scale", "large", "--set", "train.steps=70000"])
    recipe = yaml.safe_load(shown.stdout)
    assert recipe["train"]["steps"] == 70_000
    assert recipe["placement"]["zero"] == 3 and recipe["placement"]["workers"] > 1
    assert recipe["network"]["config"]["num_hidden_layers"] == 24


def test_no_runs_yet() -> None:
    assert "no runs yet" in CliRunner().invoke(app, ["runs"]).stdout
    assert "0 bytes" in CliRunner().invoke(app, ["gc", "--dry-run"]).stdout
