"""What is passed on while a stage works, and which candidates a job proposes."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data_prep.errors import UserError
from pipeline import dag, execute
from pipeline.execute import following_metrics
from pipeline.gate import ENCODER, Candidate
from pipeline.recipe.load import load
from pipeline.scoring.champion import DETECTOR
from pipeline.stage import Context
from training.monitor.names import LEARNING_RATE, LOSS


def test_records_reach_the_tracker_and_only_new_ones_the_progress_line(tmp_path: Path) -> None:
    """Those of an earlier attempt are logged again, and are no progress of this one."""
    recorded: list[dict[str, Any]] = []
    said: list[tuple[str, float, str | None]] = []

    def progress(line: str, share: float, warning: str | None = None) -> None:
        said.append((line, share, warning))

    log = tmp_path / "metrics.jsonl"
    child: Any = SimpleNamespace(record=recorded.append)
    record = {LOSS: 2.0, "workers/tokens_per_second": 50.0}
    now = time.time()
    lines = [
        {"step": 5, "time": now - 60, **record, "warnings": ["an old one"]},
        {"step": 10, "time": now + 60, **record, "warnings": ["odd", "odder"]},
        {"step": 15, "time": now + 60, LEARNING_RATE: 0.1},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with following_metrics(log, child, progress, 40) as logged:
        pass
    assert [metrics["step"] for metrics in recorded] == [5, 10, 15] and recorded[0][LOSS] == 2.0
    assert all("warnings" not in metrics for metrics in recorded)
    assert [(share, warning) for _, share, warning in said] == [(0.25, "odd"), (0.25, "odder"), (0.25, None)]
    assert all(line.startswith("step 10 of 40, loss 2.000, 50 tokens/s") for line, _, _ in said)
    assert {LOSS, LEARNING_RATE} <= logged and "warnings" not in logged


def test_what_cannot_serve_a_job_is_told_before_the_network_is_trained(tmp_path: Path) -> None:
    recipe = load("gpt", "tiny", ["downstream=[{name: said, task: predictions}]"])
    nodes = {node.name: node for node in dag.nodes(recipe, tmp_path)}
    shards: Any = SimpleNamespace(summary={"validation": {"rows": 7}})
    execution: Any = SimpleNamespace(dag=nodes.values(), artifacts={"shards": shards}, recipe=recipe)
    execution._check_jobs = partial(execute.Execution._check_jobs, execution)
    with pytest.raises(UserError, match=r"^downstream\.said: 7 held-out rows are too few, and 8 are needed; raise"):
        execute.Execution._tracked(execution, nodes["pretrain"], {}, print, [])({}, {}, tmp_path, Context())
    shards.summary["validation"]["rows"] = 8
    execution._check_jobs()


def test_candidates_are_of_their_kind_and_lie_where_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def candidate(kind: str, role: str, path: str) -> Candidate:
        return Candidate(kind=kind, role=role, path=path, measure="m", evaluation={}, score=1.0, spread=None)

    proposed = [
        candidate(ENCODER, "pretrained", "model"),
        candidate(DETECTOR, "", "detector"),
        candidate(ENCODER, "no such input", "model"),
    ]
    monkeypatch.setattr(execute, "read", lambda folder: SimpleNamespace(candidates=proposed))
    pretrained, own = (SimpleNamespace(path=tmp_path / name, key=name) for name in ("pretrain", "job"))
    inputs: Any = {"pretrained": pretrained}
    made: Any = own
    assert list(execute._candidates(tmp_path, made, inputs, ENCODER)) == [(proposed[0], pretrained)]
    assert list(execute._candidates(tmp_path, made, inputs, DETECTOR)) == [(proposed[1], own)]
