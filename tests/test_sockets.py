"""What tests of ports look at: sockets of this process are found, with IPv4 and IPv6."""

from __future__ import annotations

import os
import socket

import pytest

from tests.sockets import Seen, look


@pytest.mark.parametrize(
    ("family", "address", "is_local"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "::", False),
        (socket.AF_INET6, "::ffff:127.0.0.1", True),
    ],
)
def test_a_listening_socket_is_found(family: socket.AddressFamily, address: str, is_local: bool) -> None:
    seen = Seen(set(), set())
    with socket.socket(family, socket.SOCK_STREAM) as server, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        for one in (server, datagrams):
            one.bind((address, 0))
        server.listen()
        look(os.getpid(), seen)
        ports = {server.getsockname()[1]: "tcp", datagrams.getsockname()[1]: "udp"}
    by_port = {one.port: one for one in seen.listening if one.port in ports}
    assert {port: one.protocol[:3] for port, one in by_port.items()} == ports
    assert {one.is_local for one in by_port.values()} == {is_local}
    assert {one.address for one in by_port.values()} == {address}


def test_the_other_end_of_a_connection_is_found() -> None:
    seen = Seen(set(), set())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        look(os.getpid(), seen)
        assert server.getsockname()[1] in {peer.port for peer in seen.peers}
