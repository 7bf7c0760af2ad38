"""The threat model names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_what_holds_a_promise_is_there() -> None:
    text = (TESTS.parent / "infra" / "README.md").read_text().partition("## Threat model")[2]
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert len(named) > 15 and not [name for name in named if not (TESTS / name).is_file()]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert all(".py`" in line or line.startswith("| you,") for line in rows)
