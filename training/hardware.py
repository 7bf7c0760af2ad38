"""What this machine computes natively, found without importing torch."""

from __future__ import annotations

import os
from pathlib import Path


def has_gpu() -> bool:
    """Whether an NVIDIA device is visible to this process."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Path("/dev/nvidia0").exists() and hidden not in ("", "-1")


def native_bf16(device: str) -> bool:
    """Whether `device` (auto, cpu, cuda) multiplies bf16 natively; elsewhere it is emulated, and slower.

    On GPUs: Ampere and later, which is every one that these versions of torch still build for besides V100 and T4.
    """
    if device == "cuda" or (device == "auto" and has_gpu()):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(precision: str, device: str) -> str:
    """`auto` made definite: bf16 where it is native, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if native_bf16(device) else "fp32"
