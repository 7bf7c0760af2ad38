"""Rows come, are scored, drift; a network learns from them anew, and takes over only by doing better."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows import pretrain
from flows import score as scores
from pipeline import gate
from pipeline.gate import Champion
from pipeline.recipe.load import load
from pipeline.scoring import ledger
from tests.flows.runner import Runner, client_of
from tests.pipeline import tiny_arrays

pytestmark = pytest.mark.slow  # three trainings
NAME = "tiny-arrays"
JOB = (
    "{name: anomaly, task: anomaly, seeds: 1, baselines: [pca], marked: [4], false_alarms: 0.001, "
    "detectors: [{name: plain, networks: [{architecture: mlp, config: {hidden: [16], bottleneck: 3}}]}]}"
)
PLANE = np.random.default_rng(5).normal(size=(2, 5))


def rows(path: Path, count: int, seed: int, moved: float = 0.0, odd: int = 0) -> Path:
    """Five numbers on a plane, which is `moved`, and `odd` ones that lie off it."""
    random = np.random.default_rng(seed)
    on = moved + random.normal(size=(count, 2)) @ PLANE + 0.05 * random.normal(size=(count, 5))
    on[:odd] += 2 * random.normal(size=(odd, 5))
    lines = [",".join(f"{value:.4f}" for value in row) for row in on]
    lines = [f"{line},{'odd' if number < odd else 'usual'}\n" for number, line in enumerate(lines)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("x0,x1,x2,x3,x4,kind\n" + "".join(lines))
    return path


@pytest.fixture
def scored(tmp_path: Path, runner: Runner, server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Scores what is new in the inbox, with a hook that writes down what it is told; gives the account, and those."""
    monkeypatch.setenv("SESAME_HOME", str(runner.home.path))
    monkeypatch.setattr(scores, "MLFLOW_SECONDS", 0.1)
    heard = tmp_path / "heard.json"
    hook = tmp_path / "hook.py"
    hook.write_text(f"import sys; open({str(heard)!r}, 'a').write(sys.stdin.read() + chr(10))")

    def score(*settings: str, retrain: str | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        heard.unlink(missing_ok=True)
        files, ledger = [str(tmp_path / "inbox")], str(tmp_path / "ledger")
        with client_of(server):
            outcome = scores.score(
                NAME, files, ledger, f"{sys.executable} {hook}", least_rows=50, retrain=retrain, settings=list(settings)
            )
        return outcome, [json.loads(line) for line in heard.read_text().splitlines()] if heard.exists() else []

    return score


def rows_of_ledger(folder: Path) -> Counter[tuple[str, int]]:
    tables = [pa.ipc.open_file(str(path)).read_all() for path in folder.glob(ledger.PATTERN)]
    return Counter((row["source"], row["position"]) for row in pa.concat_tables(tables).to_pylist())


def test_from_drift_to_a_new_champion(tmp_path: Path, runner: Runner, server: str, scored: Callable[..., Any]) -> None:
    first = rows(tmp_path / "learn" / "first.csv", 1200, 1, odd=60)
    recipe = str(
        tiny_arrays.recipe(
            tmp_path,
            data=f"{{kind: table, sources: [{{path: {first}}}], table: {{target: kind, normal: [usual]}}, "
            "train_on: normal, split: {validation: 0.2, test: 0.2}}",
            train="{global_batch: 64, steps: 150, lr: 1e-2, log_every: 50, precision: fp32}",
            placement="{threads: 1}",
            downstream=f"[{JOB}]",
        )
    )
    with client_of(server):
        pretrain.run(runner.home, load(recipe, None, []), (recipe, None, []))
    champion = lambda: gate.champion(runner.home.detectors, NAME)  # noqa: E731
    old = champion()
    assert isinstance(old, Champion) and "there was none" in old.why

    rows(tmp_path / "inbox" / "usual.csv", 150, 2)
    outcome, heard = scored(retrain=recipe)
    assert (outcome["rows"], outcome["alarms"], outcome["drifted"], outcome["news"]) == (150, 0, False, [])
    assert heard == [] and "retrained" not in outcome and champion() == old

    rows(tmp_path / "inbox" / "moved.csv", 100, 3, moved=2.0)
    both = f"data.sources=[{{path: {first}}}, {{path: {tmp_path / 'inbox'}}}]"
    outcome, heard = scored(both, "train.steps=1", retrain=recipe)  # which learns nothing in one step
    first, second = heard
    assert (first["rows"], first["drifted"], first["detector"]) == (100, True, old.name)
    assert first["alarms"] == outcome["alarms"] > 60 and "retrained" not in first
    assert first["drift"]["x0"]["psi"] > 0.25 and any("drifted: PSI" in line for line in first["news"])
    assert outcome["retrained"].startswith("retrained, the champion stays") and second["news"] == [outcome["retrained"]]
    held = champion()
    assert held is not None and (held.folder, len(held.judged)) == (old.folder, 2)

    rows(tmp_path / "inbox" / "again.csv", 300, 4, moved=2.0)
    outcome, heard = scored(both, retrain=recipe)
    assert [(report["rows"], report["detector"]) for report in heard] == [(300, old.name)] * 2
    assert outcome["retrained"].startswith("retrained, the new champion: AUROC") and heard[1]["news"] == [
        outcome["retrained"]
    ]
    new = champion()
    assert new is not None and new.name != old.name
    learned = [artifact.summary["rows"] for artifact in runner.home.store().list() if artifact.stage == "ingest"]
    assert sorted(learned) == [1200, 1200 + 150 + 100, 1200 + 150 + 100 + 300]

    rows(tmp_path / "inbox" / "later.csv", 120, 5, moved=2.0)
    outcome, _ = scored()
    assert (outcome["rows"], outcome["detector"]) == (120, new.name)
    assert outcome["alarms"] < 12, "what alarmed the old one is usual for the new one"
    ledger_rows = rows_of_ledger(tmp_path / "ledger")
    assert len(ledger_rows) == 150 + 100 + 300 + 120 and set(ledger_rows.values()) == {1}

    pretrain.run(runner.home, load(recipe, None, []), (recipe, None, []))
    held = champion()
    assert held is not None and held.name == new.name, "the old one, which the store has, does not come back"
