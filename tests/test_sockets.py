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
        for opened in (server, datagrams):
            opened.bind((address, 0))
        server.listen()
        look(os.getpid(), seen)
        ports = {server.getsockname()[1]: "tcp", datagrams.getsockname()[1]: "udp"}
    by_port = {bound.port: bound for bound in seen.listening if bound.port in ports}
    assert {port: bound.protocol[:3] for port, bound in by_port.items()} == ports
    assert {bound.is_local for bound in by_port.values()} == {is_local}
    assert {bound.address for bound in by_port.values()} == {address}


def test_the_other_end_of_a_connection_is_found() -> None:
    seen = Seen(set(), set())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        look(os.getpid(), seen)
        assert server.getsockname()[1] in {peer.port for peer in seen.peers}
