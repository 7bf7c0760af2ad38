"""Where a process and all that came from it listens, and whom it talks to."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

LISTEN, UNCONNECTED = "0A", "07"  # states in /proc/net: of TCP, and of UDP that waits for anybody
LOOK_SECONDS = 0.5


class Socket(NamedTuple):
    """protocol: tcp, tcp6, udp or udp6. process: its command, shortened."""

    protocol: str
    address: str
    port: int
    process: str

    @property
    def is_local(self) -> bool:
        address = ipaddress.ip_address(self.address)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Seen(NamedTuple):
    """listening: where. peers: the other ends of connections, and of those that are being made."""

    listening: set[Socket]
    peers: set[Socket]


def look(root: int, seen: Seen) -> None:
    """Add to `seen` the internet sockets of a process and of its descendants, as they are now."""
    owners = _owners(root)
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        table = Path(f"/proc/{root}/net", protocol)  # of its network namespace
        for line in table.read_text().splitlines()[1:] if owners and table.exists() else []:
            _, here, there, state, *_, inode = line.split()[:10]
            if inode not in owners:
                continue
            if state == (LISTEN if protocol.startswith("tcp") else UNCONNECTED):
                seen.listening.add(Socket(protocol, *_parsed(here), owners[inode]))
            elif not there.endswith(":0000"):
                seen.peers.add(Socket(protocol, *_parsed(there), owners[inode]))


def _owners(root: int) -> dict[str, str]:
    """Processes by the inodes of their sockets."""
    owners: dict[str, str] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(root)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                command = " ".join(process.cmdline())[:60]
                for entry in Path(f"/proc/{process.pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        target = str(entry.readlink())
                        if target.startswith("socket:["):
                            owners.setdefault(target[8:-1], command)
    return owners


def _parsed(text: str) -> tuple[str, int]:
    """Address and port as the kernel writes them: words of four bytes in the machine's order, and hexadecimal."""
    address, port = text.split(":")
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words)), int(port, 16)


@contextlib.contextmanager
def watched(root: int) -> Iterator[Seen]:
    """Look again and again while the block runs."""
    seen, over = Seen(set(), set()), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            look(root, seen)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
