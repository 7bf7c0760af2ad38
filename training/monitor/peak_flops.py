"""Peak FLOP/s of the hardware: the denominator of model FLOP utilisation (Chowdhery et al. 2022, appendix B)."""

from __future__ import annotations

import functools
import statistics
import time

import torch

# Dense peak by the makers' data sheets, FLOP/s.
GPU_PEAKS = {
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "H100": {"bf16": 989e12, "fp32": 67e12},
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
    "L4": {"bf16": 121e12, "fp32": 30.3e12},
    "V100": {"bf16": 125e12, "fp32": 15.7e12},
    "T4": {"bf16": 65e12, "fp32": 8.1e12},
}


def peak_flops(device: torch.device, precision: str) -> float:
    """Peak FLOP/s of one worker: from the data sheet of a GPU, measured on CPU threads; 0 if not known."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return next((peak[precision] for gpu, peak in GPU_PEAKS.items() if gpu in name), 0.0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return measured_matmul(dtype, torch.get_num_threads())


@functools.cache
def measured_matmul(dtype: torch.dtype, threads: int, size: int = 1024, seconds: float = 0.15) -> float:
    """Median FLOP/s of square matrix products on this process's `threads` CPU threads, measured once."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    torch.matmul(left, right)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        began = time.perf_counter()
        torch.matmul(left, right)
        times.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(times)
