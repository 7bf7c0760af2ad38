"""Tries the changes of `table`; with words, those whose names have one of them. Fails below 95 % noticed."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.runner import PASSED, ROOT, SECONDS, copied, noticed, run_tests
from tests.mutations.table import CHANGES

LEAST = 0.95  # share of the changes that tests must notice


def main(words: list[str]) -> int:
    changes = [change for change in CHANGES if not words or any(word in change.name for word in words)]
    if problems := [problem for change in changes if (problem := change.problem(ROOT))]:
        print("\n".join(problems))
        return 2
    if not changes:
        print(f"no change has one of {', '.join(words)} in its name")
        return 2
    with tempfile.TemporaryDirectory(prefix="sesame-mutations-") as folder:
        tree = copied(ROOT, Path(folder))
        tests = sorted({test for change in changes for test in change.tests})
        code, output = run_tests(tests, tree, SECONDS * len(changes))
        if code != PASSED:
            print(f"{output}\nthe tests fail without any change, too")
            return 2
        missed = []
        for number, change in enumerate(changes, 1):
            began = time.monotonic()
            if not (is_noticed := noticed(change, tree)):
                missed.append(change)
            word = "noticed" if is_noticed else "UNNOTICED"
            print(
                f"{number:3} of {len(changes)}  {word:9}  {time.monotonic() - began:4.0f} s  {change.name}", flush=True
            )
    share = 1 - len(missed) / len(changes)
    print(f"{share:.1%} of {len(changes)} changes noticed, {LEAST:.0%} needed")
    for change in missed:
        print(f"not noticed: {change.name} ({change.file}), by {', '.join(change.tests)}")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
