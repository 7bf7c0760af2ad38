"""Why a stage would run: differences from the artifacts made before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from pipeline.stage import Stage

_SHOWN = 3
_MISSING = object()


def differences_from(
    stage: Stage, config: Mapping[str, Any], inputs: Mapping[str, Artifact | None], stored: Artifact
) -> list[str]:
    """Differences from `stored`, an artifact of the same stage: version, inputs, then config keys."""
    old = stored.manifest
    differences = []
    if old["version"] != stage.version:
        differences.append(f"version {old['version']} → {stage.version}")
    for name in sorted(inputs.keys() | old["inputs"].keys()):
        artifact = inputs.get(name)
        if name not in inputs:
            differences.append(f"input {name} dropped")
        elif name not in old["inputs"]:
            differences.append(f"input {name} added")
        elif artifact is None:
            differences.append(f"input {name} is not made yet")
        elif artifact.output_digest != old["inputs"][name]["digest"]:
            differences.append(f"input {name} changed")
    before, after = flatten(old["config"]), flatten(config)
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path, _MISSING), after.get(path, _MISSING)
        if repr(was) != repr(now):  # 1, 1.0 and True differ, as they do in a key
            differences.append(f"{path} {_shown(was)} → {_shown(now)}")
    return differences


def explain(
    stage: Stage,
    config: Mapping[str, Any],
    inputs: Mapping[str, Artifact | None],
    artifacts: Iterable[Artifact],
) -> str:
    """Differences from the most similar artifact of this stage, the latest among equals; "never made" without one.

    Artifacts of recipes of other names, or of other kinds of data, are not similar.
    """

    def comparable(artifact: Artifact) -> bool:
        same = (artifact.config.get(name) == config.get(name) for name in ("name", "kind"))
        return artifact.stage == stage.name and all(same)

    candidates = sorted(
        filter(comparable, artifacts),
        key=lambda artifact: artifact.manifest["attempt"],
        reverse=True,
    )
    if not candidates:
        return "never made"
    differences = min((differences_from(stage, config, inputs, artifact) for artifact in candidates), key=len)
    num_more = len(differences) - _SHOWN
    return "; ".join(differences[:_SHOWN]) + (f"; and {num_more} more" if num_more > 0 else "")


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "(none)"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "…"
