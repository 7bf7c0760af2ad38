from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = "".join(file.read_text() for file in (INFRA / "locks").iterdir() if file.stem != "cpu")
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCKS, re.MULTILINE))
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
KUBERAY = {document["kind"]: document for document in yaml.safe_load_all((INFRA / "kuberay.yaml").read_text())}
DOCKERFILE = (INFRA / "Dockerfile").read_text()
README = (ROOT / "README.md").read_text()
QUIET = {"DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED", "HF_HUB_OFFLINE"}
QUIET |= {"RAY_USAGE_STATS_ENABLED", "RAY_USAGE_STATS_REPORT_URL"}


def texts(value: Any) -> Iterator[str]:
    """Every string inside."""
    if isinstance(value, dict):
        yield from texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


# -- compose ----------------------------------------------------------------------------------------------------------


def test_published_ports_are_on_loopback() -> None:
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert published == {f"${{SESAME_BIND:-127.0.0.1}}:{port}:{port}" for port in (4200, 5000, 8265)}
    assert not any("network_mode" in service for service in SERVICES.values())


def test_every_service_says_whether_it_is_well_and_waits_for_those_that_it_needs() -> None:
    assert set(SERVICES) == {"postgres", "prefect", "prefect-worker", "mlflow", "ray-head", "ray-worker"}
    for service in SERVICES.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in SERVICES and condition == {"condition": "service_healthy"}


def test_addresses_name_services_and_their_ports() -> None:
    ports = {"postgres": "5432", "prefect": "4200", "mlflow": "5000", "ray-head": "8265"}
    addresses = set()
    for service in SERVICES.values():
        for text in texts(service["environment"]):
            addresses |= set(re.findall(r"(?://|@)([a-z-]+):(\d+)", text))
    assert addresses == set(ports.items())


def test_volumes_are_declared_and_shared_where_stages_run() -> None:
    used = {name: [v.split(":") for v in service.get("volumes", [])] for name, service in SERVICES.items()}
    named = {source for mounts in used.values() for source, *_ in mounts if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    for name in ("prefect-worker", "ray-head", "ray-worker"):
        assert ["home", "/sesame"] in used[name] and SERVICES[name]["environment"]["SESAME_HOME"] == "/sesame"
    for mounts in used.values():
        for source, *_ in mounts:
            assert not source.startswith(".") or (INFRA / source).is_file()


def test_secrets_are_asked_for_and_never_have_a_default() -> None:
    text = (INFRA / "compose.yaml").read_text()
    example = dict(
        line.split("=", 1) for line in (INFRA / "env.example").read_text().splitlines() if re.match("[A-Z]", line)
    )
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert asked == set(example)
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == {name for name, value in example.items() if value == ""}
    assert required == {"POSTGRES_PASSWORD", "SESAME_PASSWORD", "RAY_AUTH_TOKEN"}
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text):
        assert example[name] == default
    assert ".env" in (INFRA / ".gitignore").read_text().split()


def test_prefect_and_mlflow_run_behind_the_guard_and_their_clients_have_the_password() -> None:
    for name in ("prefect", "mlflow"):
        assert f"python -m flows.machine.serve {name} " in SERVICES[name]["command"]
        assert SERVICES[name]["environment"]["SESAME_PASSWORD"].startswith("${SESAME_PASSWORD:?")
        assert f"{name}:" in SERVICES[name]["environment"]["SESAME_ALLOWED_HOSTS"]
    for service in SERVICES.values():
        environment = service["environment"]
        if "MLFLOW_TRACKING_URI" in environment:
            assert "SESAME_PASSWORD" in environment["MLFLOW_TRACKING_PASSWORD"]
        if "PREFECT_API_URL" in environment:
            assert environment["PREFECT_API_AUTH_STRING"] == "sesame:${SESAME_PASSWORD}"
    for text in ((INFRA / "serve.sh").read_text(), (INFRA / "compose.yaml").read_text()):
        assert not re.search(r"prefect server start|mlflow server", text)


def test_the_pool_is_made_from_the_template_that_takes_nothing_from_outside() -> None:
    assert "--base-job-template /opt/sesame/infra/pool.json --overwrite" in SERVICES["prefect-worker"]["command"]
    assert "WORKDIR /opt/sesame" in DOCKERFILE and "--base-job-template infra/pool.json" in README


def test_ray_wants_a_token_wherever_it_runs() -> None:
    for name in ("prefect-worker", "ray-head", "ray-worker"):
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" in environment
    spec = KUBERAY["RayCluster"]["spec"]
    for template in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [container] = template["template"]["spec"]["containers"]
        environment = {entry["name"]: entry for entry in container["env"]}
        assert environment["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in environment["RAY_AUTH_TOKEN"]["valueFrom"]


def test_the_gpu_file_changes_a_service_that_is_there() -> None:
    assert set(yaml.safe_load((INFRA / "compose.gpu.yaml").read_text())["services"]) <= set(SERVICES)


def test_no_telemetry() -> None:
    for name, service in SERVICES.items():
        assert name == "postgres" or set(service["environment"]) >= QUIET
    assert all(f"{name}=" in DOCKERFILE for name in QUIET)


# -- versions and files -----------------------------------------------------------------------------------------------


def test_one_image_of_our_version_plays_every_role() -> None:
    ours = f"sesame-ssl:{PROJECT['version']}"
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images.pop("postgres").startswith("postgres:")
    assert set(images.values()) == {ours}
    spec = KUBERAY["RayCluster"]["spec"]
    for template in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [container] = template["template"]["spec"]["containers"]
        assert container["image"].endswith(f"/{ours}-cuda")
    assert f"-t {ours} " in DOCKERFILE
    for file in filter(Path.is_file, INFRA.iterdir()):
        assert not re.search(r"prefecthq/|rayproject/|ghcr\.io/mlflow", file.read_text()), file


def test_versions_are_those_of_the_locks() -> None:
    assert KUBERAY["RayCluster"]["spec"]["rayVersion"] == PINS["ray"]
    python = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)\.\d+-slim", DOCKERFILE, re.MULTILINE)
    assert python == [re.findall(r">=(\d+\.\d+)", PROJECT["requires-python"])[0]]


def test_images_of_others_are_named_by_version_and_digest() -> None:
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE) == ["${PYTHON_IMAGE}"]
    for image in (base, SERVICES["postgres"]["image"]):
        assert re.fullmatch(r"[a-z]+:\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}", image)


def test_the_image_installs_by_the_locks_and_another_build_of_torch_by_its_version() -> None:
    pattern = re.search(r"sed -n '(s/.*/p)' (infra/locks/cuda\.txt)", DOCKERFILE)
    assert pattern
    done = subprocess.run(["sed", "-n", pattern[1], ROOT / pattern[2]], capture_output=True, text=True, check=True)
    assert done.stdout == f"torch=={PINS['torch']}\n"
    named = set(re.findall(r"infra/locks/(\w+)\.txt", DOCKERFILE))
    assert named == {"build", "cpu", "cuda", "runtime", "servers"}
    unlocked = [line for line in re.findall(r"pip install (.*)", DOCKERFILE) if "--require-hashes" not in line]
    assert len(unlocked) == 3 and sum("+$TORCH" in line or "^torch==" in line for line in unlocked) == 2
    assert "--no-deps --no-build-isolation ." in unlocked[2]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    allowed = {line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert set(copied) == allowed
    promised = {PROJECT["readme"], *PROJECT["license-files"]}  # by pyproject.toml
    assert all((ROOT / name).exists() or name in promised for name in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {package.removesuffix("*") for package in packages["find"]["include"]} <= set(copied)


def test_containers_have_no_more_power_than_they_need() -> None:
    assert re.search(r"^USER sesame$", DOCKERFILE, re.MULTILINE)
    for name, service in SERVICES.items():
        assert "no-new-privileges:true" in service["security_opt"]
        assert name == "postgres" or service["cap_drop"] == ["ALL"]
    spec = KUBERAY["RayCluster"]["spec"]
    for template in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = template["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False


def test_nodes_on_kubernetes_share_one_claim_that_many_may_write_to() -> None:
    claim = KUBERAY["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = KUBERAY["RayCluster"]["spec"]
    labels = KUBERAY["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    for template in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = template["template"]["spec"]
        claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert claims == [claim["metadata"]["name"]]
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {"home": "/sesame", "shm": "/dev/shm"}
        assert labels.items() <= template["template"]["metadata"]["labels"].items()
    gpus = [g["template"]["spec"]["containers"][0]["resources"]["limits"] for g in spec["workerGroupSpecs"]]
    assert all(limits["nvidia.com/gpu"] == 1 for limits in gpus)


def test_the_readme_names_every_file_for_people() -> None:
    readme = (INFRA / "README.md").read_text()
    for name in ("serve.sh", "compose.yaml", "compose.gpu.yaml", "env.example", "Dockerfile", "kuberay.yaml"):
        assert f"`{name}`" in readme and (INFRA / name).is_file()


# -- serve.sh, with servers that only answer --------------------------------------------------------------------------

FAKE = """#!{python}
import http.server, os, subprocess, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "python":
    if arguments[:2] != ["-m", "flows.machine.serve"]:
        os.execv({python!r}, [{python!r}, *arguments])
    name, arguments = arguments[2], arguments[3:]
    open(os.path.join(os.environ["SESAME_HOME"], "servers", "password"), "w").write("pass/word")
if os.environ.get("FAIL") == name:
    sys.exit("no database")
option = "--dashboard-port" if name == "ray" else "--port"
if name == "ray":  # a job, in a session of its own
    assert os.environ["RAY_AUTH_MODE"] == "token" and len(open(os.environ["RAY_AUTH_TOKEN_PATH"]).read()) == 64
    job = subprocess.Popen(["sleep", "300"], start_new_session=True)
    open(os.environ["JOB"], "w").write(str(job.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
host = arguments[arguments.index("--dashboard-host" if name == "ray" else "--host") + 1]
print(name, *arguments, flush=True)
http.server.HTTPServer((host, int(arguments[arguments.index(option) + 1])), Handler).serve_forever()
"""


class Serve:
    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.job = folder / "job"
        bin_ = folder / "bin"
        bin_.mkdir()
        for name in ("prefect", "mlflow", "ray", "python"):
            (bin_ / name).write_text(FAKE.format(python=sys.executable))
            (bin_ / name).chmod(0o755)
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            sockets = [first, second, third]
            for unused in sockets:
                unused.bind(("127.0.0.1", 0))
            self.ports = [unused.getsockname()[1] for unused in sockets]
        self.environment = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "SESAME_HOME": str(self.home),
            "JOB": str(self.job),
            "SESAME_PREFECT_PORT": str(self.ports[0]),
            "SESAME_MLFLOW_PORT": str(self.ports[1]),
            "SESAME_RAY_DASHBOARD_PORT": str(self.ports[2]),
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(INFRA / "serve.sh"), *arguments]
        env = self.environment | environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    def pid(self, name: str) -> int:
        return int((self.home / "servers" / f"{name}.pid").read_text().split()[0])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    if shutil.which("ps") is None:
        pytest.skip("serve.sh needs ps")
    running = Serve(tmp_path)
    yield running
    running("stop")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_serve_is_a_script_that_never_stops_what_it_did_not_start() -> None:
    script = INFRA / "serve.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    commands = re.sub(r"(?m)^\s*#.*$", "", script.read_text())
    assert not re.search(r"ray stop|pkill|killall|fuser", commands)


def test_servers_start_answer_and_stop(serve: Serve) -> None:
    started = serve("start")
    assert started.returncode == 0, started.stderr
    for name, port in zip(("prefect", "mlflow", "ray"), serve.ports, strict=True):
        link = f"http://127.0.0.1:{port}" + ("/?password=pass%2Fword" if name != "ray" else "")
        assert f"serve: {name} answers at {link}\n" in started.stdout
        assert listens(port)
    assert serve("status").returncode == 0
    pids = [serve.pid(name) for name in ("prefect", "mlflow", "ray")]
    job = int(serve.job.read_text())
    assert all(map(is_alive, [*pids, job]))
    again = serve("start")
    assert again.returncode == 0 and again.stdout.count("runs already") == 3
    assert pids == [serve.pid(name) for name in ("prefect", "mlflow", "ray")]
    for path in (serve.home / "servers").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ray_files = Path((serve.home / "servers" / "ray.folder").read_text().strip())
    assert stat.S_IMODE(serve.home.stat().st_mode) == stat.S_IMODE(ray_files.stat().st_mode) == 0o700
    exported = subprocess.run(
        ["bash", "-c", serve("env").stdout + "printf '%s\\n' $PREFECT_API_URL $MLFLOW_TRACKING_URI $RAY_ADDRESS "
         "$PREFECT_API_AUTH_STRING $MLFLOW_TRACKING_USERNAME $MLFLOW_TRACKING_PASSWORD"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert exported == [
        *(f"http://127.0.0.1:{port}{path}" for port, path in zip(serve.ports, ["/api", "", ""], strict=True)),
        "sesame:pass/word", "sesame", "pass/word",
    ]  # fmt: skip
    assert serve("stop", "mlflow").stdout == "serve: mlflow stopped\n"
    assert serve("status").returncode == 1 and is_alive(pids[0]) and not is_alive(pids[1])
    assert serve("stop").returncode == 0
    assert not any(map(is_alive, [*pids, job])) and not ray_files.exists()


def test_a_stale_process_id_is_never_sent_a_signal(serve: Serve) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (serve.home / "servers").mkdir(parents=True)
        (serve.home / "servers" / "prefect.pid").write_text(f"{stranger.pid} 12345\n")
        assert "prefect does not run" in serve("status").stdout
        assert "prefect does not run" in serve("stop", "prefect").stdout
        time.sleep(0.1)
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_named_and_left_alone(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", serve.ports[1])):
        done = serve("start")
        assert done.returncode == 1 and not listens(serve.ports[0])
        assert f"port {serve.ports[1]} is taken, so mlflow cannot start" in done.stderr


def test_when_one_server_fails_the_others_stop_and_its_log_is_shown(serve: Serve) -> None:
    done = serve("start", FAIL="mlflow")
    assert done.returncode == 1
    assert "no database" in done.stderr and "mlflow did not start: its log is" in done.stderr
    assert not any(map(listens, serve.ports))


def test_another_address_is_a_choice_that_is_warned_about(serve: Serve) -> None:
    assert serve("start", "prefect", SESAME_BIND="0.0.0.0").stdout.startswith(
        "serve: listening on 0.0.0.0: passwords and tokens are sent unencrypted"
    )
    log = (serve.home / "servers" / "prefect.log").read_text()
    assert "--host 0.0.0.0" in log
    serve("stop")
    assert "listening on" not in serve("start", "prefect").stdout
    assert "--host 127.0.0.1" in (serve.home / "servers" / "prefect.log").read_text()


def test_usage(serve: Serve) -> None:
    assert serve().returncode == 2 and "serve.sh start" in serve().stderr
    assert "no server is called postgres" in serve("start", "postgres").stderr
