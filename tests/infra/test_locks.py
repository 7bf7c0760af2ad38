"""The locks are in step with pyproject.toml and with what is installed, and pip refuses a file of another digest."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "infra" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    return script("lock")


@pytest.fixture(scope="module")
def locks(lock: ModuleType) -> dict[str, list[Any]]:
    return {path.stem: lock.read(path) for path in sorted(lock.LOCKS.iterdir())}


def test_every_package_has_digests_and_the_files_hold_nothing_else(lock: ModuleType, locks: dict[str, Any]) -> None:
    assert set(locks) == {"build", "cpu", "cuda", "runtime", "servers", *lock.EXTRAS}
    for name, packages in locks.items():
        assert packages == sorted(packages) and packages
        text = "".join(f"{package}\n" for package in packages)
        assert (lock.LOCKS / f"{name}.txt").read_text() == f"# Made by infra/lock.py, which says what is in it.\n{text}"
        for package in packages:
            assert package.hashes and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in package.hashes), package
            assert re.fullmatch(r"[\w.]+", package.version) or name == "cpu", package


@pytest.mark.parametrize("group", ["runtime", "dev", "adapters", "onnx", "bench", "fuzz", "build", "servers"])
def test_what_pyproject_asks_for_is_locked_within_its_ranges(
    group: str, lock: ModuleType, locks: dict[str, Any]
) -> None:
    project = PROJECT["project"]
    servers = [line.partition("#")[0] for line in lock.SERVERS.read_text().splitlines() if line[:1] not in ("", "#")]
    asked = {
        "runtime": project["dependencies"],
        "build": PROJECT["build-system"]["requires"],
        "servers": servers,
        **project["optional-dependencies"],
    }[group]
    versions = {p.name: p.version for name in {"build", "cuda", "runtime", group} for p in locks[name]}
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_one_version_of_a_package_in_all_locks(locks: dict[str, Any]) -> None:
    versions: dict[str, set[str]] = {}
    for package in (package for packages in locks.values() for package in packages):
        versions.setdefault(package.name, set()).add(package.version.removesuffix("+cpu"))
    assert not {name: locked for name, locked in versions.items() if len(locked) > 1}


def test_what_is_installed_is_what_the_locks_say_and_lacks_nothing(locks: dict[str, Any]) -> None:
    versions = {p.name: p.version for name in ("build", "cuda", "runtime") for p in locks[name]}
    for name, held in script("supply").installed().items():
        if name != canonicalize_name(PROJECT["project"]["name"]):
            assert held.version.partition("+")[0] == versions.get(name), name


def test_pythons_are_those_of_pyproject(lock: ModuleType) -> None:
    low, high = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert tuple(range(int(low), int(high))) == lock.PYTHONS


@pytest.mark.parametrize(
    ("wheel", "expected"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-py2-none-any.whl", False),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp313-cp313-linux_x86_64.whl", True),
        ("torch-2.13.0%2Bcpu-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp310-cp310-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp314-cp314-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp39-abi3-manylinux_2_17_x86_64.whl", True),
        ("a-1-cp314-abi3-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("a-1-cp311-cp311-win_amd64.whl", False),
        ("a-1-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl", False),
    ],
)
def test_wheels_of_other_machines_are_left_out(wheel: str, expected: bool, lock: ModuleType) -> None:
    assert lock.fits(wheel) == expected


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("", ""),
        ("sys_platform == 'linux'", ""),
        ("sys_platform == 'win32'", None),
        ("python_version >= '3.14'", None),
        ("python_version >= '3.13'", "python_version >= '3.13'"),
        ("python_full_version < '3.11.3'", "python_full_version < '3.11.3'"),
    ],
)
def test_markers_that_decide_nothing_go_and_so_do_packages_of_other_machines(
    marker: str, expected: str | None, lock: ModuleType
) -> None:
    assert lock.wanted_where(marker) == expected


def test_a_resolution_becomes_files(lock: ModuleType) -> None:
    def package(name: str, *files: str, **more: Any) -> dict[str, Any]:
        wheels = [{"url": f"https://host/x/{file}", "hashes": {"sha256": file[-20:]}} for file in files]
        return {"name": name, "version": "1", "wheels": wheels, **more}

    here, there = "a-1-cp311-cp311-linux_x86_64.whl", "a-1-cp311-cp311-win_amd64.whl"
    packages_found = lock.packages(
        {
            "packages": [
                package("A.b", here, there),
                package("only-source", sdist={"hashes": {"sha256": "source"}}),
                package("elsewhere", here, marker="sys_platform == 'darwin'"),
                *(package(name, here) for name in ("nvidia-x", "triton", "torch", "setuptools", "tritonal")),
            ]
        }
    )
    assert [(p.name, p.hashes) for p in packages_found[:2]] == [("a-b", (here[-20:],)), ("only-source", ("source",))]
    files = {name: [p.name for p in packages] for name, packages in lock.split(packages_found, ["setuptools"]).items()}
    assert files == {
        "build": ["setuptools"],
        "cuda": ["nvidia-x", "triton", "torch"],
        "runtime": ["a-b", "only-source", "tritonal"],
    }


def test_make_installs_by_digest_alone() -> None:
    options = re.search(r"^LOCKED := \$\(BIN\)/python -m pip install (.*)$", MAKEFILE, re.MULTILINE)
    assert options and {"--require-hashes", "--no-deps", "--no-build-isolation"} <= set(options[1].split())
    others = [line for line in re.findall(r"pip install (.*)", MAKEFILE) if "--require-hashes" not in line]
    assert others == ["--quiet --no-deps --no-build-isolation --editable ."]  # this package itself
    assert set(re.findall(r"infra/locks/(\w+)\.txt", MAKEFILE)) == {
        "build",
        "cuda",
        "runtime",
        "dev",
        "adapters",
        "onnx",
        "bench",
    }
    assert "-r infra/locks/$(TORCH).txt || $(LOCKED) -r infra/locks/cuda.txt" in MAKEFILE


def test_pip_refuses_a_file_of_another_digest(tmp_path: Path, lock: ModuleType) -> None:
    options = re.search(r"pip install (--quiet --require-hashes .*)$", MAKEFILE, re.MULTILINE)
    assert options
    wheel = tmp_path / "sesame_tried-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\nName: sesame-tried\nVersion: 1\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            archive.writestr(f"sesame_tried-1.dist-info/{name}", text)
    right = hashlib.sha256(wheel.read_bytes()).hexdigest()
    file = tmp_path / "lock.txt"
    command = [sys.executable, "-m", "pip", "install", *options[1].split(), "--no-index", "--find-links", tmp_path]
    for digest, expected in ((right, 0), (right[::-1], 1)):
        file.write_text(f"{lock.Locked('sesame-tried', '1', '', (digest,))}\n")
        target = ["--target", tmp_path / digest, "-r", file]
        done = subprocess.run([*command, *target], capture_output=True, text=True)
        assert done.returncode == expected, done.stderr
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not list((tmp_path / right[::-1]).glob("*"))
