from __future__ import annotations

import http.server
import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.machine import doctor, doctor_trials
from flows.machine.doctor import CheckResult, examine, show
from tests.said import said

GB = 10**9


def named(results: list[CheckResult], name: str) -> CheckResult:
    return next(result for result in results if result.name == name)


def text_of(results: list[CheckResult], encoding: str = "utf-8") -> str:
    buffer = io.BytesIO()
    with io.TextIOWrapper(buffer, encoding) as file:
        show(results, Console(file=file, width=120))
        file.flush()
        return buffer.getvalue().decode(encoding)


def test_this_machine_is_examined_and_nothing_stays_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    results = examine(home)
    for name in ("shard", "SQLite", "torch", "home", "python", "fastapi", "sqlalchemy"):
        assert named(results, name).ok is True, named(results, name)
    assert list(tmp_path.iterdir()) == []
    assert {result.group for result in results} == {"software", "machine", "home", "servers", "self-test"}
    for result in results:
        assert result.ok is not False or result.advice.endswith(".")
    assert "self-test" not in {result.group for result in examine(home, self_test=False)}


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'prefect', 'deepspeed', 'transformers', 'fastapi', 'sqlalchemy'}"
    code = (
        f"import sys; from flows.machine.doctor import software; software(); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- software ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "bad", "why"),
    [
        ("fastapi", "0.151.0", "break Prefect's deployments"),
        ("SQLAlchemy", "2.1.0", "schedules from starting"),
        ("torch", "2.99.0+cpu", "not tried together"),
    ],
)
def test_a_version_out_of_range_is_a_problem_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, library: str, bad: str, why: str
) -> None:
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: bad if name.lower() == library.lower() else real(name))
    result = named(doctor.software(), library.lower())
    assert (result.value, result.ok) == (bad, False)
    assert why in result.advice and f"pip install '{library.lower()}" in result.advice


def test_a_missing_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    result = named(doctor.software(), "prefect")
    assert (result.value, result.ok) == ("missing", False) and "pip install 'prefect" in result.advice


def test_ranges_come_from_the_checkout_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGE", "no-such-package-as-this")
    results = doctor.software()
    assert named(results, "fastapi").ok and named(results, "python").ok
    assert "pytest" not in {result.name for result in results}


def test_tools_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    results = doctor.software()
    assert named(results, "npm").ok is None and named(results, "npm").advice
    assert named(results, "pip").ok is False


# -- machine ----------------------------------------------------------------------------------------------------------


def test_limits_of_a_container_count(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"/sys/fs/cgroup/cpu.max": "50000 100000", "/sys/fs/cgroup/memory.max": str(3 * GB)}
    monkeypatch.setattr(doctor, "_first_line", limits.__getitem__)
    results = doctor.machine()
    assert named(results, "cores").value == "1"
    assert named(results, "memory").value == "3.0 GB" and named(results, "memory").advice
    monkeypatch.setattr(doctor, "_first_line", lambda path: "max 100000" if "cpu" in path else "max")
    results = doctor.machine()
    assert int(named(results, "cores").value) >= 1 and named(results, "memory").value != "3.0 GB"


@pytest.mark.parametrize(
    ("build", "visible", "ok", "advice"),
    [("2.13.0", True, True, ""), ("2.13.0+cpu", True, False, "CUDA build"), ("2.13.0", False, None, "hides them")],
)
def test_a_gpu(monkeypatch: pytest.MonkeyPatch, build: str, visible: bool, ok: bool | None, advice: str) -> None:
    monkeypatch.setattr(doctor, "gpu_names", lambda: ["NVIDIA H100, 81559 MiB"])
    monkeypatch.setattr(doctor, "has_gpu", lambda: visible)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: build)
    result = named(doctor.machine(), "GPU")
    assert (result.value, result.ok) == ("NVIDIA H100, 81559 MiB", ok)
    assert advice in result.advice and bool(advice) == bool(result.advice)


def test_the_driver_is_asked_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    process = SimpleNamespace(stdout="NVIDIA H100 80GB HBM3, 81559 MiB\nNVIDIA L4, 23034 MiB\n")
    monkeypatch.setattr(doctor_trials.subprocess, "run", lambda *command, **options: process)
    assert doctor_trials.gpu_names() == ["NVIDIA H100 80GB HBM3, 81559 MiB", "NVIDIA L4, 23034 MiB"]


# -- home -------------------------------------------------------------------------------------------------------------


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("")
    result = named(doctor.storage(file), "home")
    assert result.ok is False and "is a file" in result.advice
    assert named(doctor.storage(file / "below"), "home").ok is False
    assert named(doctor_trials.trials(file), "shard").ok is True  # elsewhere


@pytest.mark.parametrize(("free", "ok"), [(GB // 2, False), (5 * GB, None), (50 * GB, True)])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, ok: bool | None) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    result = named(doctor.storage(tmp_path / "not" / "yet"), "disk free")
    assert result.ok is ok and bool(result.advice) == (ok is not True)
    assert not (tmp_path / "not").exists()


# -- servers ----------------------------------------------------------------------------------------------------------


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # quiet
        pass


@pytest.fixture
def server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def test_a_port_is_free_ours_or_taken(server: int) -> None:
    assert doctor.port("MLflow", server, "/health").value == "MLflow answers"
    assert doctor.port("Prefect", server, "/api/health").value == "taken"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and says nothing
        number = silent.getsockname()[1]
        result = doctor.port("MLflow", number, "/health")
        assert (result.value, result.ok) == ("taken", None) and result.advice
    assert doctor.port("MLflow", number, "/health").value == "free"


def test_servers_named_in_the_environment_must_answer(server: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    results = doctor.variables(
        {
            "MLFLOW_TRACKING_URI": f"http://me:secret@127.0.0.1:{server}",
            "PREFECT_API_URL": f"http://127.0.0.1:{closed}/api",
            "RAY_ADDRESS": "auto",
            "SESAME_STORE": "s3://bucket/folder",
        }
    )
    tracking = named(results, "MLFLOW_TRACKING_URI")
    assert tracking.ok and tracking.value == f"http://me:***@127.0.0.1:{server}"
    assert named(results, "PREFECT_API_URL").ok is False
    assert f"127.0.0.1:{closed}" in named(results, "PREFECT_API_URL").advice
    assert named(results, "RAY_ADDRESS").ok is True and named(results, "SESAME_STORE").ok is True
    assert named(results, "SESAME_HOME").ok is None and "not set" in named(results, "SESAME_HOME").value


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("http://head:8265", ("head", 8265)),
        ("https://mlflow.example.com", ("mlflow.example.com", 443)),
        ("ray://head", ("head", 10001)),
        ("10.0.0.1:6379", ("10.0.0.1", 6379)),
        ("auto", None),
        ("local", None),
        ("/home/me:1", None),
        ("sqlite:///runs.db", None),
        ("databricks", None),
        ("http://head:notaport", None),
    ],
)
def test_addresses(value: str, address: tuple[str, int] | None) -> None:
    assert doctor._address(value) == address


# -- self-test --------------------------------------------------------------------------------------------------------


def test_a_reader_that_checks_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor_trials.try_shard(tmp_path / "good") == "written, read; a flipped byte was found"
    monkeypatch.setattr("data_prep.shards.reader.Shards._check", lambda *arguments: None)
    result = named(doctor_trials.trials(tmp_path), "shard")
    assert (result.value, result.ok) == ("a flipped byte was not found", False)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", "status -11"),
        ("raise OSError('libcudart.so.13: cannot open')", "libcudart"),
        ('print(\'{"devices": ["cpu"], "same": false, "threads": 1}\')', "wrong"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_a_torch_that_crashes_hangs_or_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, message: str
) -> None:
    monkeypatch.setattr(doctor_trials, "TORCH_TEST", program)
    monkeypatch.setattr(doctor_trials, "TORCH_SECONDS", 1.0 if "sleep" in program else 60.0)
    result = named(doctor_trials.trials(tmp_path), "torch")
    assert result.ok is False and message in result.value and result.advice


# -- for people -------------------------------------------------------------------------------------------------------


def test_problems_are_shown_with_advice_and_counted() -> None:
    results = [
        CheckResult("python", "3.11", True, group="software"),
        CheckResult("fastapi", "0.155", False, "Install an older one.", group="software"),
        CheckResult("npm", "missing", None, "Install Node.js.", group="software"),
        CheckResult("GPU", "none", None, group="machine"),
    ]
    text = text_of(results)
    assert text.index("software") < text.index("✓ python") < text.index("✗ fastapi") < text.index("! npm")
    assert "Install an older one." in text and said("1 problem to mend", text)
    assert "no problems, 1 to keep in mind" in text_of([results[0], results[2]])
    assert "NO fastapi" in text_of(results, "ascii")
