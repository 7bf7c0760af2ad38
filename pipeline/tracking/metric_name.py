"""Names of metrics and params as MLflow takes them."""

from __future__ import annotations

import re

LONGEST_NAME = 250  # characters
_NOT_IN_NAMES = re.compile(r"[^/\w.\- :]")


def metric_name(name: str) -> str:
    """`name` as MLflow allows metrics and params to be named."""
    parts = _NOT_IN_NAMES.sub("_", name).split("/")
    allowed = "/".join(part for part in parts if part not in ("", ".", ".."))
    return allowed[:LONGEST_NAME].rstrip("/") or "_"
