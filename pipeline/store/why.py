"""Why a stage would run: what differs between what is asked for and what was made before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.artifact import Artifact
from pipeline.flatten import flatten
from pipeline.stage import Stage

_SHOWN = 3
_MISSING = object()


def reasons(
    stage: Stage, config: Mapping[str, Any], inputs: Mapping[str, Artifact | None], made: Artifact
) -> list[str]:
    """How the asked differs from `made`, an artifact of the same stage: version, inputs, then config keys."""
    old = made.manifest
    found = []
    if old["version"] != stage.version:
        found.append(f"version {old['version']} → {stage.version}")
    for name in sorted(inputs.keys() | old["inputs"].keys()):
        artifact = inputs.get(name)
        if name not in inputs:
            found.append(f"input {name} dropped")
        elif name not in old["inputs"]:
            found.append(f"input {name} added")
        elif artifact is None:
            found.append(f"input {name} is not made yet")
        elif artifact.output_digest != old["inputs"][name]["digest"]:
            found.append(f"input {name} changed")
    before, after = flatten(old["config"]), flatten(config)
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path, _MISSING), after.get(path, _MISSING)
        if repr(was) != repr(now):  # 1, 1.0 and True differ, as they do in a key
            found.append(f"{path} {_shown(was)} → {_shown(now)}")
    return found


def explain(
    stage: Stage,
    config: Mapping[str, Any],
    inputs: Mapping[str, Artifact | None],
    made: Iterable[Artifact],
) -> str:
    """The fewest differences to an artifact of this stage, the latest among equals; "never made" without one."""
    candidates = sorted(
        (artifact for artifact in made if artifact.stage == stage.name),
        key=lambda artifact: artifact.manifest["attempt"],
        reverse=True,
    )
    if not candidates:
        return "never made"
    found = min((reasons(stage, config, inputs, artifact) for artifact in candidates), key=len)
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "(none)"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "…"
