"""Hosts of one's own: network namespaces with an address each, on one switch, that share this machine's disk.

    with Hosts(folder, 3) as hosts:
        hosts.start_ray()                 a head on the first host, a node of one CPU on every one
        hosts.run(["sesame", "run", …])   on the first host
        hosts.cut_off(2); hosts.join(2); hosts.slow(1, "20mbit"); hosts.kill(1)

A host has a network of its own, loopback included, and no other. All have one host name, which resolves to loopback, as
on many real hosts. The switch is in a namespace, too, so the machine's own network stays as it is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from training.launch import RAY_ENVIRONMENT

PORT, DASHBOARD_PORT = 6379, 8265
ROOT = Path(__file__).parents[2]
_LETTERS = itertools.cycle("abcdefgh")  # hosts of several tests may exist at a time


def why_not() -> str | None:
    """Why this machine makes no hosts of its own, or None if it does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"sesame-{os.getpid()}-try"
    steps = [["ip", "netns", "add", name], ["ip", "-n", name, "link", "add", "dev", "a0", "type", "veth", "peer", "b0"]]
    try:
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"network namespaces are refused: {' '.join(step)}: {done.stderr.strip()}"
    except FileNotFoundError:
        return "network namespaces need the command ip (package iproute2)"
    finally:
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None


class Hosts:
    """`count` hosts, numbered from 0; the first is the head. Inside `with` they exist; afterwards nothing is left."""

    def __init__(self, folder: Path, count: int, ipv6: bool = False) -> None:
        self.folder = folder
        self.ipv6 = ipv6
        prefix = f"s{os.getpid()}{next(_LETTERS)}"
        self.switch = f"{prefix}-switch"
        self.names = [f"{prefix}-{number}" for number in range(count)]
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.token = folder / "token"
        self.rays = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # the paths of Ray's sockets must be short

    def address(self, number: int) -> str:
        """The address of a host on the switch."""
        return f"fd77::{number + 1}" if self.ipv6 else f"10.77.0.{number + 1}"

    @property
    def ray_address(self) -> str:
        head = self.address(0)
        return f"[{head}]:{PORT}" if self.ipv6 else f"{head}:{PORT}"

    @property
    def job_server(self) -> str:
        head = self.address(0)
        return f"http://[{head}]:{DASHBOARD_PORT}" if self.ipv6 else f"http://{head}:{DASHBOARD_PORT}"

    def __enter__(self) -> Hosts:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token.write_text("5e5a" * 16)
        self.token.chmod(0o600)
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "switch", "up")
        for number, name in enumerate(self.names):
            _ip("netns", "add", name)
            _ip(
                "link",
                "add",
                "net0",
                "netns",
                name,
                "type",
                "veth",
                "peer",
                "name",
                f"port{number}",
                "netns",
                self.switch,
            )
            _ip("-n", self.switch, "link", "set", f"port{number}", "master", "switch", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            # Another network, which reaches nobody: hosts often have several.
            _ip("-n", name, "link", "add", "dev", "lan0", "type", "veth", "peer", "name", "lan1")
            _ip("-n", name, "address", "add", "192.168.9.1/24", "dev", "lan0")
            for device in ("lan0", "lan1"):
                _ip("-n", name, "link", "set", device, "up")
            if self.ipv6:
                _ip("-n", name, "address", "add", f"{self.address(number)}/64", "dev", "net0", "nodad")
            else:
                _ip("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "net0")
            _ip("-n", name, "link", "set", "net0", "up")
        return self

    def __exit__(self, *error: object) -> None:
        for number in range(len(self.names)):
            self.kill(number)
        for name in [*self.names, self.switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self.rays, ignore_errors=True)

    # -- what happens to a host --------------------------------------------------------------------------------------

    def cut_off(self, number: int) -> None:
        """No packet reaches or leaves the host any more; what runs on it is not told."""
        _ip("-n", self.switch, "link", "set", f"port{number}", "down")

    def join(self, number: int) -> None:
        """Undo `cut_off`."""
        _ip("-n", self.switch, "link", "set", f"port{number}", "up")

    def slow(self, number: int, rate: str = "20mbit", delay: str = "20ms") -> str:
        """Slow the host's network in both directions; returns by what, as kernels differ in what they can do."""
        netem = ["netem", "delay", delay, "rate", rate]
        tbf = ["tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]
        for rule in (netem, tbf):
            ends = ((self.names[number], "net0"), (self.switch, f"port{number}"))
            done = [
                subprocess.run(
                    ["tc", "-n", where, "qdisc", "replace", "dev", device, "root", *rule],
                    capture_output=True,
                    check=False,
                )
                for where, device in ends
            ]
            if not any(step.returncode for step in done):
                return " ".join(rule)
        raise OSError("this kernel slows no network: neither netem nor tbf")

    def fast(self, number: int) -> None:
        """Undo `slow`."""
        for where, device in ((self.names[number], "net0"), (self.switch, f"port{number}")):
            subprocess.run(["tc", "-n", where, "qdisc", "del", "dev", device, "root"], capture_output=True, check=False)

    def part(self, number: int, other: int) -> None:
        """These two no longer reach each other; both reach the rest."""
        _ip("-n", self.names[number], "route", "add", "unreachable", self.address(other))

    def reunite(self, number: int, other: int) -> None:
        """Undo `part`."""
        _ip("-n", self.names[number], "route", "del", "unreachable", self.address(other))

    def kill(self, number: int) -> None:
        """kill -9 everything that runs on the host, as a power cut would."""
        while pids := self.pids(number):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            for process in self.processes.values():
                process.poll()  # so that none stays as a zombie
        self.processes.pop(number, None)

    def pids(self, number: int) -> list[int]:
        done = subprocess.run(["ip", "netns", "pids", self.names[number]], capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

    # -- what runs on it ---------------------------------------------------------------------------------------------

    def environment(self, number: int) -> dict[str, str]:
        """Variables of what runs on a host."""
        temporary = self.rays / str(number)
        (temporary / "ray").mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PREFECT_", "GLOO"))
        }
        return {
            **inherited,
            **RAY_ENVIRONMENT,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(temporary),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "SESAME_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
        }

    def start(
        self, number: int, command: Sequence[str], out: IO[str] | int | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # A test that is run in the background would hand on that Ctrl-C is ignored.
            ["ip", "netns", "exec", self.names[number], "env", "--default-signal=INT", *command],
            env=self.environment(number) | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )

    def run(self, command: Sequence[str], number: int = 0, timeout: float = 300, **environment: str) -> tuple[int, str]:
        """Exit code and output of a command on a host."""
        with self.start(number, command, subprocess.PIPE, **environment) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                raise AssertionError(f"{' '.join(command)} took longer than {timeout:g} s:\n{output}") from None
        return process.returncode, output

    def start_ray(self, cpus: int = 1) -> None:
        """Ray on all hosts; the first is the head."""
        for number in range(len(self.names)):
            self.start_node(number, cpus)

    def restart(self, number: int) -> None:
        """The host is back, with nothing on it but a new Ray node."""
        self.kill(number)
        self.join(number)
        self.fast(number)
        self.start_node(number)

    def start_node(self, number: int, cpus: int = 1, hidden: Path | None = None) -> None:
        """A Ray node of `cpus` CPUs on a host; on the first one, the head. hidden: a folder that it sees empty."""
        mine = self.address(number)
        command = ["ray", "start", "--block", f"--node-ip-address={mine}", f"--num-cpus={cpus}"]
        command += ["--disable-usage-stats", "--object-store-memory=100000000"]
        if number == 0:
            command += ["--head", f"--port={PORT}", f"--dashboard-host={mine}", f"--dashboard-port={DASHBOARD_PORT}"]
        else:
            command += [f"--address={self.ray_address}"]
        if hidden is not None:
            mount = f'mount -t tmpfs tmpfs "{hidden}" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        log = self.folder / f"ray-{number}.log"
        for _ in range(3):  # a busy machine may be too slow for Ray
            with log.open("w") as out:
                process = self.processes[number] = self.start(number, command, out)
            while "Ray runtime started" not in log.read_text() and process.poll() is None:
                time.sleep(0.2)
            if process.poll() is None:
                return
            self.kill(number)
        raise AssertionError(self.logs())

    def wait_for_nodes(self, count: int, timeout: float = 120) -> None:
        """Wait until `count` nodes are alive."""
        code = (
            "import sys, time, logging, ray\n"
            "address, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])\n"
            "until = time.monotonic() + seconds\n"
            "while True:\n"
            "    try:\n"
            "        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)\n"
            "        break\n"
            "    except (ConnectionError, RuntimeError, OSError):\n"
            "        assert time.monotonic() < until, 'no head'\n"
            "        time.sleep(0.5)\n"
            "while sum(node['Alive'] for node in ray.nodes()) != count:\n"
            "    assert time.monotonic() < until, ray.nodes()\n"
            "    time.sleep(0.2)\n"
        )
        status, output = self.run(
            [sys.executable, "-c", code, self.ray_address, str(count), str(timeout)], timeout=timeout + 60
        )
        assert status == 0, output + self.logs()

    def logs(self) -> str:
        """The last lines of what Ray printed on each host."""
        return "".join(
            f"\n--- {path.name}\n" + "".join(path.read_text().splitlines(keepends=True)[-15:])
            for path in sorted(self.folder.glob("ray-*.log"))
        )


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
