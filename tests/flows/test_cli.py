"""The command line without a run: quick, and clear about mistakes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from data_prep.errors import UserError
from data_prep.sources.packages import PACKAGES
from flows import cli, commands, exit_codes
from flows.cli import app
from flows.machine import doctor, signals
from flows.machine.doctor import CheckResult
from pipeline.downstream import JOBS
from pipeline.store.store import Store
from tests.pipeline import tiny
from tests.pipeline.store.stores import WRITE
from tests.said import said
from training.objectives import OBJECTIVES

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
        "settings",
        "plan",
        "run",
        "submit",
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


def test_settings_lists_keys_choices_and_names() -> None:
    def listed(*path: str) -> str:
        return CliRunner().invoke(app, ["settings", *path], env={"COLUMNS": "200"}).stdout

    assert "corruption" in listed() and f"name one of {len(OBJECTIVES)}" in listed()
    assert all(name in listed("downstream") for name in JOBS)
    assert "a whole number ≥ 1" in listed("train") and "learning rate" in listed("train")
    packages = " ".join(listed("data.sources.package").split())
    assert all(f"{name} {each.description}; {each.homepage}" in packages for name, each in PACKAGES.items())
    assert "neighbours" in listed("downstream.codes")
    wrong = CliRunner().invoke(app, ["settings", "trian"])
    assert wrong.exit_code != 0 and "did you mean train?" in str(wrong.exception)


def test_no_runs_yet() -> None:
    assert "no runs yet" in CliRunner().invoke(app, ["runs"]).stdout
    assert CliRunner().invoke(app, ["gc", "--dry-run"]).stdout == "would free 0 bytes in 0 places\n"


def test_what_gc_frees_is_added_up(home: Path) -> None:
    """An attempt that nobody finished, old enough, and work that nobody resumed."""
    key = "pretrain-0123456789abcdef"
    for name, size in ((f"{key}/20200101T000000000000-00000000", 10_240), (f".work/{key}", 7)):
        folder = home / "store" / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(size))
        for path in (folder / "file", folder):
            os.utime(path, (0, 0))
    planned, done, after = (
        CliRunner().invoke(app, ["gc", *options]).stdout.splitlines() for options in (["--dry-run"], [], [])
    )
    assert planned[-1] == "would free 10,247 bytes in 2 places" and done[-1] == "freed 10,247 bytes in 2 places"
    assert planned[:-1] == done[:-1] and "never committed, 10,240 bytes" in " ".join("".join(planned).split())
    assert after == ["freed 0 bytes in 0 places"] and not (home / "store" / key).exists()
    assert not any((home / "store" / ".work").glob(f"{key}*"))


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (None, 0), (False, 1)])
def test_the_doctor_says_by_its_exit_code_whether_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, ok: bool | None, code: int
) -> None:
    results = [CheckResult("python", "3.11", True), CheckResult("disk free", "1 GB", ok, "Free some.", "home")]
    monkeypatch.setattr(doctor, "examine", lambda home: results)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == code and (said("1 problem to mend", done.stdout)) is (ok is False)


@pytest.mark.parametrize(("was_terminated", "code"), [(False, 130), (True, 143)])
def test_a_run_that_was_ended_says_by_its_exit_code_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, was_terminated: bool, code: int
) -> None:
    """As shells expect of Ctrl-C and of SIGTERM."""

    def begin(folder: Path) -> None:
        if was_terminated:
            signals.terminated.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.prefect_server, "begin", begin)
    signals.terminated.clear()
    try:
        done = CliRunner().invoke(app, ["run", str(tiny.recipe(tmp_path))])
    finally:
        signals.terminated.clear()
    assert done.exit_code == code and "sesame resume last" in done.stderr


def test_verify_says_by_its_exit_code_whether_all_is_as_committed(home: Path) -> None:
    artifact, _ = Store(home / "store").produce(WRITE, {"text": "a"})
    assert CliRunner().invoke(app, ["verify", artifact.key]).exit_code == 0
    (artifact.path / "read").write_text("b")
    done = CliRunner().invoke(app, ["verify", artifact.key])
    assert done.exit_code == 1 and "its digest is not the manifest's" in done.stderr and artifact.key in done.stderr


def usage() -> UserError:
    error = UserError("give either this or that.")
    error.exit_code = 2  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (UserError("the disk of the user."), 1, "sesame: the disk of the user.\n"),
        (usage(), 2, "sesame: give either this or that.\n"),
        (RuntimeError("wrapped"), 1, "sesame: what the user did.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/full"), 1, "sesame: /full"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: Exception, code: int, message: str
) -> None:
    if isinstance(raised, RuntimeError):
        raised.__cause__ = UserError("what the user did.")

    def fails(standalone_mode: bool) -> None:
        raise raised

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(standalone_mode: bool) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(KeyError, match="a bug"):
        cli.main()


def test_exit_codes_are_those_that_are_documented() -> None:
    names = ("DONE", "FAILED", "USAGE", "INTERRUPTED", "TERMINATED")
    assert [getattr(exit_codes, name) for name in names] == [0, 1, 2, 130, 143]
