"""A run speaks to nobody beyond this machine: every address that its processes connect or send to is looked at."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.end_to_end.test_quickstart import SESAME, environment
from tests.pipeline import tiny

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"]
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def why_not() -> str | None:
    """Why processes cannot be watched here; None if they can."""
    if shutil.which("strace") is None:
        return "needs strace"
    done = subprocess.run([*STRACE, "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"strace is refused: {done.stderr.strip()}" if done.returncode else None


REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


def beyond(trace: str) -> list[str]:
    """The calls that name an address of another machine."""
    foreign = []
    for line in trace.splitlines():
        for pair in ADDRESS.findall(line):
            address = ipaddress.ip_address(pair[0] or pair[1])
            address = getattr(address, "ipv4_mapped", None) or address
            if not (address.is_loopback or address.is_unspecified):
                foreign.append(line)
    return foreign


def test_what_is_sent_elsewhere_is_seen(tmp_path: Path) -> None:
    code = (
        "import socket\n"
        "for family, address in ((socket.AF_INET, '192.0.2.9'), (socket.AF_INET6, '2001:db8::9')):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        one = socket.socket(family, kind | socket.SOCK_NONBLOCK)\n"
        "        one.connect_ex((address, 9))\n"
        "one = socket.socket(socket.AF_INET, socket.SOCK_STREAM); one.connect_ex(('127.0.0.1', 9))\n"
    )
    trace = tmp_path / "trace"
    subprocess.run([*STRACE, str(trace), sys.executable, "-c", code], check=True)
    assert len(beyond(trace.read_text())) == 4


def test_a_run_speaks_to_nobody_beyond_this_machine(tmp_path: Path) -> None:
    recipe, trace = tiny.recipe(tmp_path, workers=2, zero=2), tmp_path / "trace"
    done = subprocess.run(
        [*STRACE, str(trace), *SESAME, "run", str(recipe)],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    seen = trace.read_text()
    assert seen.count("connect(") > 20
    assert beyond(seen) == []
