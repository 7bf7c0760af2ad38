"""A cluster that cannot be joined, and hosts that share no folder, are named at once."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray

from data_prep.compute import cluster
from data_prep.errors import UserError


@pytest.fixture
def refuse() -> Iterator[Any]:
    """Starts a server that refuses every call of Ray's protocol with a code; returns its address."""
    servers = []

    def start(code: grpc.StatusCode) -> str:
        class Refuse(grpc.GenericRpcHandler):
            def service(self, call: Any) -> Any:
                return grpc.unary_unary_rpc_method_handler(lambda request, context: context.abort(code, "wrong token"))

        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Refuse()])
        port = server.add_insecure_port("0.0.0.0:0")  # Ray asks for this machine by its own address
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture
def website() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(autouse=True)
def never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(**settings: Any) -> None:
        raise AssertionError("Ray itself would try for minutes")

    monkeypatch.setattr(ray, "init", join)


def test_a_wrong_token_is_named(refuse: Any) -> None:
    with pytest.raises(UserError, match=r"refuses this process's token \(wrong token\).*RAY_AUTH_TOKEN_PATH"):
        cluster.join(refuse(grpc.StatusCode.UNAUTHENTICATED))


def test_another_server_is_named(refuse: Any, website: str) -> None:
    for address in (refuse(grpc.StatusCode.UNIMPLEMENTED), website):
        began = time.monotonic()
        with pytest.raises(UserError, match=f"no Ray cluster answers at '{address}' .*not the port that `ray start"):
            cluster.join(address)
        assert time.monotonic() - began < cluster.CONNECT_SECONDS + 5


def test_a_server_of_jobs_is_for_submit() -> None:
    with pytest.raises(UserError, match="sesame submit RECIPE --address http://head:8265"):
        cluster.join("http://head:8265")


@pytest.mark.parametrize(
    "address", ["head", "127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "no.such.host.invalid:6379"]
)
def test_nothing_there(address: str) -> None:
    with pytest.raises(UserError, match=r"placement\.ray_address: no Ray cluster answers at"):
        cluster.join(address)


def test_another_version_of_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def join(**settings: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.11")

    monkeypatch.setattr(ray, "init", join)
    monkeypatch.setattr(cluster, "_greet", lambda address: None)
    with pytest.raises(UserError, match=r"Version mismatch: .* Ray: 2\.9\.0 Python: 3\.11; install the same versions"):
        cluster.join("head:6379")


def test_hosts_see_a_shared_folder(tmp_path: Path) -> None:
    first, second = cluster.Shared.mark(tmp_path / "work"), cluster.Shared.mark(tmp_path / "work")
    second.check()
    assert [path.name for path in (tmp_path / "work").iterdir()] == [second.file.name]
    with pytest.raises(UserError, match="does not see"):
        first.check(0)  # another folder may have the same path elsewhere


def test_a_host_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    shared = cluster.Shared.mark(tmp_path)
    shared.file.unlink()
    expected = (
        f"host .*{socket.gethostname()}.* does not see {tmp_path} as the others do; SESAME_HOME must be one folder"
    )
    with pytest.raises(UserError, match=expected):
        shared.check(0.1)


def test_a_file_that_is_seen_late_is_seen(tmp_path: Path) -> None:
    shared = cluster.Shared.mark(tmp_path)
    shared.file.unlink()
    threading.Timer(0.3, shared.file.write_text, [shared.text]).start()
    shared.check(10)
