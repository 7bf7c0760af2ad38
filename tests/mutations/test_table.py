"""The table fits the tree it is for, and a change is called noticed if a test fails for it, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.runner import ROOT, Change, copied, noticed
from tests.mutations.table import CHANGES


def test_every_change_can_be_made_and_names_its_tests() -> None:
    assert [problem for change in CHANGES if (problem := change.problem(ROOT))] == []
    assert len({change.name for change in CHANGES}) == len(CHANGES) >= 60


def change(text: str = "a + b", replacement: str = "a - b", test: str = "test_sum") -> Change:
    return Change("sums", "flows/sums.py", text, replacement, (f"tests/test_sums.py::{test}",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree, copied as the runner copies this one."""
    root = tmp_path / "root"
    for folder in ("flows", "tests", ".git"):
        (root / folder).mkdir(parents=True)
    (root / "flows" / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (root / "tests" / "test_sums.py").write_text(
        "from time import sleep\nfrom flows.sums import add\n"
        "def test_sum():\n    assert add(2, 2) == 4\n"
        "def test_nothing():\n    assert add(2, 0) == 2\n"
        "def test_slow():\n    sleep(60 * (add(2, 2) == 0))\n"
    )
    (tmp_path / "copy").mkdir()
    return copied(root, tmp_path / "copy")


def test_a_change_is_noticed_if_its_tests_fail_and_undone_afterwards(tree: Path) -> None:
    assert not (tree / ".git").exists()
    assert noticed(change(), tree)
    assert (tree / "flows" / "sums.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert not noticed(change(test="test_nothing"), tree)


def test_tests_that_cannot_be_run_or_do_not_end_notice_nothing(tree: Path) -> None:
    with pytest.raises(RuntimeError, match="sums: pytest ended with 4"):
        noticed(change(test="test_none"), tree)
    assert not noticed(change(test="test_slow"), tree, seconds=4.0)
    assert "a + b" in (tree / "flows" / "sums.py").read_text()


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (change("a * b"), "sums: flows/sums.py has the text 0 times, expected once: 'a * b'"),
        (change("a"), "sums: flows/sums.py has the text 3 times"),
        (change(replacement="a +"), "sums: flows/sums.py is no Python after the change"),
        (change(replacement="a  +  b"), "sums: the change of flows/sums.py changes nothing"),
        (change(test="test_product"), "sums: tests/test_sums.py has no test_product"),
        (Change("sums", "flows/none.py", "a", "b", ()), "sums: flows/none.py does not exist"),
        (Change("sums", "flows/sums.py", "a + b", "a", ()), "sums: no test is named"),
    ],
)
def test_what_cannot_be_tried_is_named(tree: Path, wrong: Change, problem: str) -> None:
    assert wrong.problem(tree).startswith(problem)
    assert change().problem(tree) == ""
