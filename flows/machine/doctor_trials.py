"""Small self-tests of the examination: a shard, a database, a matrix product.

torch runs in a separate process, which may crash or hang without ending the examination.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import UserError
from training.hardware import has_gpu

TORCH_SECONDS = 60.0
TORCH_TEST = """
import json, torch
a = torch.arange(4096, dtype=torch.float32).reshape(64, 64) % 7
devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
same = all(bool(((a.to(d) @ a.to(d)).cpu().double() == a.double() @ a.double()).all()) for d in devices)
print(json.dumps({"devices": devices, "same": same, "threads": torch.get_num_threads()}))
"""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. ok: True fine, False a problem, None neither, in which case `advice` is a warning."""

    name: str
    value: str
    ok: bool | None
    advice: str = ""
    group: str = ""


def trials(home: Path) -> list[CheckResult]:
    """Run the self-tests, in the home where it is writable."""
    base = existing(home.expanduser().absolute())
    where = base if base.is_dir() and os.access(base, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=where, prefix=".sesame-doctor-") as folder:
        return [
            _trial("shard", lambda: try_shard(Path(folder) / "shards"), "Reinstall pyarrow and xxhash."),
            _trial("SQLite", lambda: try_sqlite(Path(folder) / "trial.db"), "Put SESAME_HOME on a local disk."),
            _trial("torch", try_torch, "Reinstall torch: its files do not fit this machine."),
        ]


def _trial(name: str, trial: Callable[[], str], advice: str) -> CheckResult:
    try:
        return CheckResult(name, trial(), True)
    except Exception as error:  # any error is a finding
        text = (str(error).strip() or repr(error)).splitlines()[-1]
        return CheckResult(name, text, False, advice)


def try_shard(folder: Path) -> str:
    """Write a tiny shard, read it back, and check that a flipped byte is detected."""
    import numpy as np

    from data_prep.shards.reader import ShardDamaged, Shards
    from data_prep.shards.rows import Ragged, ragged
    from data_prep.shards.writer import ShardWriter

    rows = [np.arange(length, dtype=np.uint16) for length in (3, 1, 4, 1, 5)]
    writer = ShardWriter(folder, rows_per_shard=8)
    writer.write({"input": Ragged.from_rows(rows)})
    index = writer.close()
    back = ragged(Shards(folder).read(np.array([4, 0])), "input")
    if back.row(0).tolist() != [0, 1, 2, 3, 4] or back.row(1).tolist() != [0, 1, 2]:
        raise RuntimeError(f"rows came back changed: {back}")
    file = folder / index["shards"][0]["file"]
    data = bytearray(file.read_bytes())
    data[data.index(rows[-1].tobytes())] ^= 1  # in a value, where Arrow itself detects nothing
    file.unlink()  # the mapped one stays as it is
    file.write_bytes(data)
    try:
        Shards(folder).read(np.array([0]))
    except ShardDamaged:
        return "written, read; a flipped byte was found"
    raise UserError("a flipped byte was not found")


def try_sqlite(file: Path) -> str:
    """Write to a database and read it through a second connection, as several processes do."""
    with closing(sqlite3.connect(file)) as writer, closing(sqlite3.connect(file)) as reader:
        with writer:
            writer.execute("create table trial (value integer)")
            writer.execute("insert into trial values (42)")
        if reader.execute("select value from trial").fetchall() != [(42,)]:
            raise RuntimeError("a row came back changed")
    return f"{sqlite3.sqlite_version}, written and read"


def try_torch() -> str:
    """Multiply matrices in a separate process, also on the GPU if torch sees one."""
    command = [sys.executable, "-P", "-c", TORCH_TEST]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"no answer within {TORCH_SECONDS:.0f} seconds") from None
    if done.returncode != 0:
        raise UserError(done.stderr.strip() or f"the process ended with status {done.returncode}")
    result = json.loads(done.stdout)
    if not result["same"]:
        raise UserError("a product of matrices is wrong")
    if gpu_names() and "cuda" not in result["devices"] and has_gpu():
        raise UserError("there is a GPU, but torch does not see it")
    return f"matrices multiplied on {' and '.join(result['devices'])}, {result['threads']} threads"


def existing(path: Path) -> Path:
    """The folder itself, or its nearest existing parent."""
    return next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))


def gpu_names() -> list[str]:
    """Name and memory of each GPU, as the NVIDIA driver reports them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError):  # no such tool, or no driver: ask the kernel
        files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        lines = [line for file in files for line in file.read_text().splitlines() if line.startswith("Model:")]
        return [line.partition(":")[2].strip() for line in lines]
