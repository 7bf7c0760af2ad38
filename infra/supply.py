"""What is installed with Sesame: licences, and known vulnerabilities. Asks no server.

    python infra/supply.py licences                  name, version and licence of each, from its own metadata
    python infra/supply.py vulnerabilities all.zip   those that an advisory is about; exit code 1 where there are any
    python infra/supply.py vulnerabilities all.zip infra/locks/*.txt    the same of what locks name, installed or not

Advisories are in the format of OSV (https://ossf.github.io/osv-schema): a folder of JSON files, or an archive of them,
such as the one for PyPI at https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip, fetched where there is a
network and carried here.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PACKAGE = "sesame-ssl"
UNKNOWN = "unknown"
_SHORT = 60  # characters of a licence; longer ones are its text


class Found(NamedTuple):
    """A package that an advisory is about."""

    name: str
    version: str
    advisory: str
    summary: str


def installed(package: str = PACKAGE) -> dict[str, Distribution]:
    """The package and all that it needs, without extras of its own, by canonical name."""
    distributions: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(package, frozenset())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            distributions[canonicalize_name(name)] = held = distribution(name)
        except PackageNotFoundError:  # of another platform or Python
            continue
        for text in held.requires or ():
            needed = Requirement(text)
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
                continue
            entry = (needed.name, frozenset(needed.extras))
            if entry not in seen:
                seen.add(entry)
                waiting.append(entry)
    return dict(sorted(distributions.items()))


def locked(paths: Iterable[Path]) -> dict[str, str]:
    """The versions of the packages of locks, by canonical name. ValueError for a file that names none."""
    versions: dict[str, str] = {}
    for path in paths:
        pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
        if not pins:
            raise ValueError(f"names no package: {path}")
        versions |= {canonicalize_name(name): version for name, version in pins}
    return dict(sorted(versions.items()))


def licence(held: Distribution) -> str:
    """The licence that a package's metadata name: an expression, or classifiers, or a short field."""
    metadata: Any = held.metadata
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in metadata.get_all("Classifier") or ()
        if text.startswith("License ::") and not text.endswith("OSI Approved")
    ]
    field = (metadata.get("License") or "").strip()
    short = field if field and len(field) <= _SHORT and "\n" not in field else ""
    return metadata.get("License-Expression") or " and ".join(classifiers) or short or UNKNOWN


def advisories(path: Path) -> Iterator[dict[str, Any]]:
    """The advisories of a folder or archive. ValueError for one that is none."""
    if path.is_dir():
        texts = ((file.name, file.read_bytes()) for file in sorted(path.rglob("*.json")))
        yield from (_advisory(name, text) for name, text in texts)
        return
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield _advisory(name, archive.read(name))


def _advisory(name: str, text: bytes) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict) or "id" not in value:
        raise ValueError(f"{name} is no advisory of OSV's format")
    return value


def vulnerabilities(versions: Mapping[str, str], advisories: Iterator[dict[str, Any]]) -> list[Found]:
    """Which of some packages, version by canonical name, advisories are about."""
    about = []
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for part in advisory.get("affected", ()):
            package = part.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in versions and _affects(part, versions[name]):
                about.append(Found(name, versions[name], advisory["id"], advisory.get("summary", "")))
    return sorted(set(about))


def _affects(part: Mapping[str, Any], text: str) -> bool:
    """Whether a version is listed, or lies in a range. Local parts (+cpu) do not count."""
    version = _version(text)
    if version is None:
        return text in part.get("versions", ())
    listed = {_version(other) for other in part.get("versions", ())}
    return version in listed or any(
        _within(of.get("events", ()), version) for of in part.get("ranges", ()) if of.get("type") == "ECOSYSTEM"
    )


def _within(events: Any, version: Version) -> bool:
    inside = False
    for event in sorted(events, key=lambda event: _version(next(iter(event.values()))) or Version("0")):
        ((kind, value),) = event.items()
        limit = _version(value) or Version("0")
        if kind == "introduced" and version >= limit:
            inside = True
        elif (kind == "fixed" and version >= limit) or (kind == "last_affected" and version > limit):
            inside = False
    return inside


def _version(text: str) -> Version | None:
    try:
        return Version(re.sub(r"\+.*", "", text))
    except InvalidVersion:
        return None


def main(arguments: list[str]) -> int:
    """See the module."""
    match arguments:
        case ["licences"]:
            for name, held in installed().items():
                print(f"{name}\t{held.version}\t{licence(held)}")
            return 0
        case ["vulnerabilities", path, *locks]:
            versions = locked(map(Path, locks)) or {name: held.version for name, held in installed().items()}
            affected = vulnerabilities(versions, advisories(Path(path)))
            for vulnerability in affected:
                print("\t".join(vulnerability))
            about = len({vulnerability.name for vulnerability in affected})
            print(f"{len(affected)} advisories apply, to {about} of {len(versions)} packages", file=sys.stderr)
            return 1 if affected else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
