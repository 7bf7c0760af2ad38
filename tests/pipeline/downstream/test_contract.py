"""Every job keeps its contract, and the table of jobs is read without what carries them out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.downstream import JOBS, module_of

HEAVY = ("torch", "mlflow", "sklearn", "matplotlib", "transformers")
ROLES = {"pretrained", "corpus", "shards", "preprocessor"}


@pytest.mark.parametrize("module", sorted(set(JOBS.values())))
def test_its_module_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("task", JOBS)
def test_it_says_what_it_is(task: str) -> None:
    module = module_of(task)
    assert module.VERSION >= 1 and module.READS and set(module.READS) <= ROLES
    assert task in module.Config.model_json_schema()["properties"]["task"].get("enum", []) or (
        module.Config.model_json_schema()["properties"]["task"]["const"] == task
    )
    assert all(callable(getattr(module, name)) for name in ("needs", "settings", "run"))
    about = module.run.__doc__ or ""
    assert "inputs:" in about and all(f"`{role}`" in about for role in module.READS)
