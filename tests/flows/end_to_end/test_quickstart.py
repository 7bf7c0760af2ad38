"""One true run of everything: Prefect, two Ray Train workers with ZeRO-2, MLflow; then what it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows import cli
from tests import sockets
from tests.pipeline import tiny

SESAME = [sys.executable, "-m", "flows.cli"]
STAGES = ["ingest", "tokenizer", "shards", "pretrain", "verbs", "report"]


def environment(home: Path) -> dict[str, str]:
    """That of a person who has set nothing."""
    inherited = {**os.environ, "SESAME_HOME": str(home / "home"), "COLUMNS": "160"}
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "SESAME_STORE", "SESAME_UMASK"):
        inherited.pop(name, None)
    return inherited


def sesame(home: Path, *arguments: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would, in an empty folder."""
    done = subprocess.run(
        [*SESAME, *arguments], cwd=home, env=environment(home) | variables, capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end-to-end")


@pytest.fixture(scope="module")
def recipe(home: Path) -> Path:
    return tiny.recipe(home, workers=2, zero=2)


class Watched(NamedTuple):
    """A run's record, the sockets of its processes, and what is left where Ray had its files."""

    record: dict[str, Any]
    seen: sockets.Seen
    left: list[str]


@pytest.fixture(scope="module")
def watched(home: Path, recipe: Path) -> Watched:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as temporary,  # paths of Ray's sockets must be short
        sockets.watched(os.getpid()) as seen,
    ):
        done = sesame(home, "run", str(recipe), "--json", RAY_TMPDIR=temporary)
        left = os.listdir(temporary)  # noqa: PTH208
    return Watched(json.loads(done.stdout.strip().splitlines()[-1]), seen, left)


@pytest.fixture(scope="module")
def first(watched: Watched) -> dict[str, Any]:
    return watched.record


def test_every_stage_is_made_and_said(first: dict[str, Any]) -> None:
    assert first["status"] == "done"
    assert list(first["stages"]) == STAGES
    assert not any(stage["reused"] for stage in first["stages"].values())
    for stage in first["stages"].values():
        assert Path(stage["path"]).is_dir()
    assert first["metrics"]["pretrain.step"] == 8
    assert 0 <= first["metrics"]["verbs.F1/pretrained_24"] <= 1


def test_every_port_was_on_loopback(watched: Watched) -> None:
    ray = [socket for socket in watched.seen.listening if "gcs_server" in socket.process or "ray::" in socket.process]
    assert len(ray) >= 5  # of its own, of agents, of workers
    assert [socket for socket in watched.seen.listening if not socket.is_local] == []


def test_nobody_beyond_this_machine_was_spoken_to(watched: Watched) -> None:
    assert watched.seen.peers
    assert [peer for peer in watched.seen.peers if not peer.is_local] == []


def test_nothing_is_open_to_other_users_or_left_in_temporary_folders(home: Path, watched: Watched) -> None:
    modes = {}
    for path in (home / "home", *(home / "home").rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # Prefect's server is just ending
            modes[path.relative_to(home / "home").as_posix()] = path.lstat()
    assert {".", "prefect/prefect.db", "mlflow/mlflow.db"} <= set(modes)
    opened = [name for name, mode in modes.items() if mode.st_mode & 0o077 and not stat.S_ISLNK(mode.st_mode)]
    assert [name for name in opened if not name.endswith(".py")] == []  # MLflow copies our code with its mode
    assert watched.left == []


def test_two_workers_trained_and_held_half_of_the_optimizer_each(home: Path, first: dict[str, Any]) -> None:
    manifest = json.loads((Path(first["stages"]["pretrain"]["path"]).parent / "manifest.json").read_text())
    held = [rank["model"]["optimizer"] for rank in manifest["summary"]["bytes_held"]]
    parameters = manifest["summary"]["bytes_held"][0]["model"]["parameters"]
    assert len(held) == 2
    assert sum(held) == pytest.approx(2 * parameters, rel=0.1)


def test_the_export_opens_in_transformers(first: dict[str, Any]) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = Path(first["stages"]["pretrain"]["path"]) / "model"
    tokens = AutoTokenizer.from_pretrained(folder)("the river follows", return_tensors="pt")
    output = AutoModel.from_pretrained(folder)(**tokens)
    assert output.last_hidden_state.shape == (1, tokens["input_ids"].shape[1], 32)
    assert (folder / "model.safetensors").is_file()
    assert "CC0-1.0" in (folder / "README.md").read_text()


def test_a_rerun_has_nothing_to_do_and_is_quick(home: Path, recipe: Path, first: dict[str, Any]) -> None:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = json.loads(sesame(home, "run", str(recipe), "--json").stdout)
    assert all(stage["reused"] for stage in again["stages"].values())
    assert {n: s["artifact"] for n, s in again["stages"].items()} == {
        n: s["artifact"] for n, s in first["stages"].items()
    }
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    assert seconds < 12  # of the processor, whatever else it does; starting Prefect or Ray alone takes longer


def test_other_placement_is_the_same_experiment(home: Path, recipe: Path, first: dict[str, Any]) -> None:
    again = json.loads(
        sesame(home, "run", str(recipe), "--workers", "1", "--set", "placement.zero=null", "--json").stdout
    )
    assert again["stages"]["pretrain"] == {**first["stages"]["pretrain"], "reused": True, "seconds": 0.0}


def test_mlflow_has_the_run(home: Path, first: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/home/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    mlflow_runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in mlflow_runs}
    parent = by_name[first["run_id"]]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["train.steps"] == "8"
    assert parent.data.tags["recipe"] == "tiny"
    assert parent.data.tags["placement.workers"] == "2"
    assert not any(name.startswith("placement") for name in parent.data.params)
    assert set(STAGES) <= set(by_name)
    for name in STAGES:
        run = by_name[name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["artifact"] == first["stages"][name]["artifact"]
        assert run.info.status == "FINISHED"
    pretrain = by_name["pretrain"]
    losses = client.get_metric_history(pretrain.info.run_id, "train/loss")
    assert [metric.step for metric in losses] == [2, 4, 6, 8]
    assert losses[-1].value < losses[0].value
    assert pretrain.inputs is not None
    digests = {item.dataset.digest for item in pretrain.inputs.dataset_inputs}
    manifest = json.loads((Path(first["stages"]["shards"]["path"]).parent / "manifest.json").read_text())
    assert manifest["output_digest"][:36] in digests
    figures = {item.path for item in client.list_artifacts(pretrain.info.run_id, "figures")}
    assert {"figures/loss.png", "figures/throughput.png"} <= figures
    assert {a.path for a in client.list_artifacts(by_name["verbs"].info.run_id)} >= {"report.md", "report.json"}
    champion = client.get_model_version_by_alias("tiny-encoder", "champion")
    assert champion.version in (1, "1") and "random weights" in str(champion.description)
    assert "`@champion`" in str(client.get_registered_model("tiny-encoder").description)
    note = "mlflow.note.content"
    assert "| **pretrained** |" in parent.data.tags[note] and "## Pretraining" in parent.data.tags[note]
    assert experiment.tags[note].startswith("# A made-up language")
    assert "pretrain/train/loss" in parent.data.metrics and "verbs/F1/pretrained_24" in parent.data.metrics
    counted = [name for run in (parent, pretrain) for name in run.data.metrics if "bytes_held" in name]
    assert counted == [] and not any(name.startswith("ingest") for name in parent.data.metrics)
    kept = {item.path for item in client.list_artifacts(pretrain.info.run_id)}
    assert "summary.json" in kept


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """The command line in the process of the test: (exit code, standard output, standard error)."""
    monkeypatch.setenv("SESAME_HOME", str(home / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(home)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sesame", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


def test_runs_report_inspect_verify_gc(here: Here, first: dict[str, Any]) -> None:
    shards = first["stages"]["shards"]["artifact"]
    for arguments, words in [
        (("runs",), [first["run_id"]]),
        (("report", first["run_id"]), ["learning rates chosen on validation rows"]),
        (("inspect", shards, "-n", "2"), ["x′", "x″"]),
        (("verify", shards), ["all as committed"]),
        (("gc",), ["freed"]),
    ]:
        code, shown, _ = here(*arguments)
        assert code == 0 and all(word in " ".join(shown.split()) for word in words), arguments


def test_a_flipped_byte_is_named(home: Path, recipe: Path, first: dict[str, Any]) -> None:
    path = Path(first["stages"]["shards"]["path"]) / "train" / "shard-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    failed = sesame(home, "verify", first["stages"]["shards"]["artifact"], check=False)
    assert failed.returncode == 1
    assert "shard-00000.arrow" in failed.stderr and "Traceback" not in failed.stderr
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_mistakes_get_one_sentence_and_exit_code_2(here: Here, recipe: Path) -> None:
    for arguments, words in [
        (("run", "quickstrat"), "did you mean quickstart"),
        (("run", str(recipe), "--set", "train.learning_rate=1"), "did you mean train.lr"),
        (("run", str(recipe), "--scale", "huge"), "huge"),
        (("resume", "nothing-like-it"), "sesame runs"),
        (("run", str(recipe), "--set", "placement.offload_parameters=cpu"), "zero"),
    ]:
        code, _, message = here(*arguments)
        assert code == 2 and message.count("\n") == 1 and words in message, (arguments, message)
