"""Writes infra/locks: the version and the digests of every package that is installed. The only step that asks a server.

    pip install uv
    python infra/lock.py              after a change of pyproject.toml: what is new is added, other versions stay
    python infra/lock.py --upgrade    the newest versions that pyproject.toml allows

One resolution for Linux on x86_64 and all Pythons that pyproject.toml allows, split by who needs a package:

    build      what builds this package and those that come as source
    cpu        PyTorch for CPUs, from its own index
    cuda       PyTorch from PyPI, and the CUDA libraries that it needs; in place of cpu
    runtime    all else that pyproject.toml asks for
    dev, adapters, onnx, bench, fuzz (extras of pyproject.toml), servers (infra/requirements-servers.txt): what each
               needs beside that
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "infra" / "locks"
SERVERS = ROOT / "infra" / "requirements-servers.txt"
EXTRAS = ("dev", "adapters", "onnx", "bench", "fuzz")
PYTHONS = (11, 12, 13)  # the minor versions of requires-python
MACHINES = ("x86_64",)  # constriction has wheels for no other, and no source
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_CUDA = re.compile(r"nvidia-|cuda-|(triton|torch)$")


class Locked(NamedTuple):
    """A package of a lock: its version, where it is wanted, and the digests of the files that may be it."""

    name: str
    version: str
    marker: str  # empty: everywhere
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        wanted = f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")
        return " \\\n    ".join([wanted, *(f"--hash=sha256:{digest}" for digest in self.hashes)])


def read(path: Path) -> list[Locked]:
    """The packages of a lock."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    packages = []
    for line in text.splitlines():
        wanted, *hashes = line.split(" --hash=sha256:")
        name, version = wanted.partition(";")[0].strip().split("==")
        hashes = tuple(digest.strip() for digest in hashes)
        packages.append(Locked(name, version, wanted.partition(";")[2].strip(), hashes))
    return packages


def fits(wheel: str) -> bool:
    """Whether a wheel, by its file name, can be installed where Sesame runs."""
    return any(_runs(tag) for tag in parse_wheel_filename(unquote(wheel))[3])


def _runs(tag: Tag) -> bool:
    if tag.platform != "any" and not re.match(rf"(many)?linux.*_({'|'.join(MACHINES)})$", tag.platform):
        return False
    if not tag.interpreter.startswith("cp"):
        return tag.interpreter.startswith("py3") and tag.abi == "none"
    minor = int(tag.interpreter[3:] or 0)
    if tag.abi in ("abi3", "none"):  # works with later Pythons, too
        return minor <= max(PYTHONS)
    return minor in PYTHONS and tag.abi == tag.interpreter


def wanted_where(marker: str) -> str | None:
    """The marker where it decides something between the machines of a lock, or empty; None for a package of none."""
    if not marker:
        return ""
    environments = [
        {
            "python_version": f"3.{minor}",
            "python_full_version": f"3.{minor}.{patch}",
            "platform_machine": machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        for minor in PYTHONS
        for patch in (0, 99)
        for machine in MACHINES
    ]
    wanted = [Marker(marker).evaluate(environment) for environment in environments]
    return None if not any(wanted) else "" if all(wanted) else marker


def packages(pylock: Mapping[str, Any]) -> list[Locked]:
    """Those of a lock in PEP 751's format that are for the machines here, with the digests of the files that fit."""
    locked = []
    for package in pylock["packages"]:
        marker = wanted_where(package.get("marker", ""))
        if marker is None:
            continue
        files = [wheel for wheel in package.get("wheels", ()) if fits(wheel["url"].rpartition("/")[2])]
        files += [package["sdist"]] if "sdist" in package else []
        hashes = sorted(file["hashes"]["sha256"] for file in files)
        locked.append(Locked(canonicalize_name(package["name"]), package["version"], marker, tuple(hashes)))
    return locked


def split(runtime: Iterable[Locked], builders: Iterable[str]) -> dict[str, list[Locked]]:
    """What runs, by the file that names it."""
    files: dict[str, list[Locked]] = {"build": [], "cuda": [], "runtime": []}
    for package in runtime:
        if package.name in builders:
            files["build"].append(package)
        else:
            files["cuda" if _CUDA.match(package.name) else "runtime"].append(package)
    return files


def main(arguments: list[str]) -> int:
    """See the module."""
    if arguments not in ([], ["--upgrade"]):
        print(__doc__, file=sys.stderr)
        return 2
    before = {path.stem: read(path) for path in sorted(LOCKS.glob("*.txt"))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        kept = [package for name, file in before.items() if name != "cpu" for package in file if not package.marker]
        pins.write_text("".join(f"{package.name}=={package.version}\n" for package in kept))
        _compile(pins, "--all-extras", "--no-annotate", str(SERVERS), *arguments)  # versions in it are preferred
        runtime = _locked(pins)
        files = split(runtime, [Requirement(text).name for text in project["build-system"]["requires"]])
        groups = {extra: _locked(pins, "--extra", extra) for extra in EXTRAS}
        groups["servers"] = _locked(pins, str(SERVERS))
    names = {package.name for package in runtime}
    files |= {group: [package for package in needed if package.name not in names] for group, needed in groups.items()}
    [torch] = [package for package in files["cuda"] if package.name == "torch"]
    files["cpu"] = [_for_cpus(f"{torch.version}+cpu", before.get("cpu", []))]
    for name, locked in files.items():
        head = "# Made by infra/lock.py, which says what is in it.\n"
        (LOCKS / f"{name}.txt").write_text(head + "".join(f"{package}\n" for package in sorted(locked)))
        print(f"{name}\t{len(locked)} packages\t{sum(len(package.hashes) for package in locked)} digests")
    return 0


def _compile(out: Path, *options: str) -> None:
    low = f"3.{min(PYTHONS)}"
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", low, "--no-header", *options]
    subprocess.run([*command, "pyproject.toml", "--output-file", out], cwd=ROOT, check=True)


def _locked(pins: Path, *options: str) -> list[Locked]:
    out = pins.with_name("pylock.toml")
    out.unlink(missing_ok=True)
    _compile(out, "--constraints", str(pins), "--generate-hashes", "--format", "pylock.toml", *options)
    return packages(tomllib.loads(out.read_text()))


def _for_cpus(version: str, before: list[Locked]) -> Locked:
    """PyTorch's wheels for CPUs, which another index has; as they were, where it is not reached."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--no-deps", "--generate-hashes"]
    command += ["--python-version", f"3.{min(PYTHONS)}", "--default-index", CPU_INDEX, "--format", "pylock.toml", "-"]
    done = subprocess.run(command, input=f"torch=={version}", text=True, capture_output=True)
    if done.returncode == 0:
        [torch] = packages(tomllib.loads(done.stdout))
        return torch
    for torch in before:
        if torch.version == version:
            print(f"{CPU_INDEX} was not reached: the digests of torch's wheels for CPUs stay", file=sys.stderr)
            return torch
    raise SystemExit(f"{CPU_INDEX} must be reached for the digests of torch {version}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
