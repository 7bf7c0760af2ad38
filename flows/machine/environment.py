"""The environment that the libraries below us read when they are imported: no telemetry, quiet logs, our own home."""

from __future__ import annotations

import os
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # else a server that is gone for a moment is told of at length
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # seconds, for what flows here do not use
}


def prepare(prefect_home: Path) -> None:
    """Set what the user has not set. Call before anything heavy is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd")):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else whoever imports DeepSpeed makes it say that it guessed
    os.environ.setdefault("PREFECT_HOME", str(prefect_home))
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # its server does not make it
