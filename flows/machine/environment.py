"""What every process of ours begins with: files closed to others, no telemetry, no hubs, quiet logs, our own home."""

from __future__ import annotations

import os
from pathlib import Path

from data_prep import private
from data_prep.legible import log_legibly
from flows.machine import access

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",  # a cluster reports even that it reports nothing
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "true",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # else a short outage of its server fills the log
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # takes seconds, and our flows use no blocks
}


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def bypass_proxies() -> None:
    """Servers of this machine are asked directly, whatever proxy the environment names for others."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def begin() -> None:
    """Close files to others, and set the variables that the user has not set. Before anything heavy is imported.

    Raises UserError for an invalid SESAME_UMASK.
    """
    private.close_files()
    log_legibly()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def prepare(prefect_home: Path) -> None:
    """Begin, and set what runs need."""
    begin()
    if not any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd")):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed logs that it guessed
    os.environ.setdefault("PREFECT_HOME", str(prefect_home))
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # its server does not make it
    access.lend(prefect_home.parent / "servers")
