"""Licences and known vulnerabilities of what is installed, without a network."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", ROOT / "infra" / "supply.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_is_pinned_and_most_name_their_licence(supply: ModuleType) -> None:
    packages = supply.installed()
    assert {"torch", "ray", "prefect", "mlflow", "starlette", "aiohttp"} <= set(packages)  # also what others need
    pinned = supply.locked([ROOT / "infra" / "locks" / f"{name}.txt" for name in ("build", "cuda", "runtime")])
    assert not [name for name in packages if name not in pinned and name != supply.PACKAGE]
    licences = {name: supply.licence(held) for name, held in packages.items()}
    assert licences["numpy"].startswith("BSD") and "Apache" in licences["transformers"]
    assert sum(text == supply.UNKNOWN for text in licences.values()) < 0.1 * len(licences)


def advisory(*events: dict[str, str], name: str = "Ab.C", **more: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": name}
    affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}
    return {"id": "X-1", "summary": "harm", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.9", False),
        ("1.0", True),
        ("1.5", True),
        ("1.5+cpu", True),
        ("2.0rc1", True),
        ("2.0", False),
        ("10.0", False),
    ],
)
def test_ranges(version: str, expected: bool, supply: ModuleType) -> None:
    affected = supply.vulnerabilities({"ab-c": version}, iter([advisory({"introduced": "1.0"}, {"fixed": "2.0"})]))
    assert bool(affected) == expected


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (advisory({"introduced": "0"}), 1),
        (advisory({"introduced": "0"}, {"last_affected": "1.5"}), 1),
        (advisory({"introduced": "0"}, {"last_affected": "1.4"}), 0),
        (advisory({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.5"}), 1),
        (advisory({"fixed": "1.0"}, {"introduced": "0"}), 0),
        (advisory({"introduced": "0"}, name="other"), 0),
        (advisory({"introduced": "0"}, withdrawn="2026-01-01T00:00:00Z"), 0),
        ({"id": "X", "affected": [{"package": {"ecosystem": "PyPI", "name": "ab_c"}, "versions": ["1.5"]}]}, 1),
        ({"id": "X", "affected": [{"package": {"ecosystem": "npm", "name": "ab_c"}, "versions": ["1.5"]}]}, 0),
    ],
)
def test_advisories(case: dict[str, Any], count: int, supply: ModuleType) -> None:
    assert len(supply.vulnerabilities({"ab-c": "1.5"}, iter([case]))) == count


def test_advisories_come_as_folder_or_archive(
    tmp_path: Path, supply: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text(json.dumps(advisory({"introduced": "0"}, name="numpy")))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "folder" / "a.json", "a.json")
    for path in ("folder", "all.zip"):
        assert supply.main(["vulnerabilities", str(tmp_path / path)]) == 1
        assert capsys.readouterr().out.startswith("numpy\t")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    assert supply.main(["vulnerabilities", str(tmp_path / "none.zip")]) == 0


def test_advisories_about_what_a_lock_names_installed_or_not(
    tmp_path: Path, supply: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock.txt"
    digest = " \\\n    --hash=sha256:00\n"
    lock.write_text(f"# a comment\nab-c==1.5 ; python_version < '3.13'{digest}other==2{digest}")
    (tmp_path / "a.json").write_text(json.dumps(advisory({"introduced": "0"}, {"fixed": "2"})))
    assert supply.main(["vulnerabilities", str(tmp_path), str(lock)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "ab-c\t1.5\tX-1\tharm\n" and "of 2 packages" in printed.err
    with pytest.raises(ValueError, match=r"names no package: .*a\.json"):
        supply.main(["vulnerabilities", str(tmp_path), str(tmp_path / "a.json")])
    assert {"nvidia-cublas", "torch"} <= set(supply.locked(sorted((ROOT / "infra" / "locks").iterdir())))
