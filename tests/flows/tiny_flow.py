"""The flow `pretrain` over two stages that do next to nothing: what the flow does around them shows in a second.

    python -m tests.flows.tiny_flow run RECIPE ...        the command line, with those stages

The second one writes records as training does. Half-way, where GATE names a folder, it makes a file `arrived` there and
waits for a file `go`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline import dag
from pipeline.artifact import Artifact
from pipeline.dag import Node
from pipeline.recipe.recipe import Recipe
from pipeline.stage import Context, Stage
from training.job import METRICS

GATE = "SESAME_TEST_GATE"
STEPS = 20
Work = Callable[[Context], None]


def _ingest(work: Work) -> Callable[..., dict[str, Any]]:
    def ingest(config: dict[str, Any], inputs: dict[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        work(context)
        (out / "rows").write_text("row\n" * 36)
        splits = {"train": 30, "validation": 3, "test": 3}
        counts = {name: {"documents": n, "sentences": 9 * n, "characters": 300 * n} for name, n in splits.items()}
        return {"rows": 36, "splits": counts}

    return ingest


def _train(work: Work) -> Callable[..., dict[str, Any]]:
    def train(config: dict[str, Any], inputs: dict[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        log = context.work / METRICS
        log.unlink(missing_ok=True)
        for step in range(1, STEPS + 1):
            if step == STEPS // 2:
                work(context)
            with log.open("a") as file:
                file.write(json.dumps({"step": step, "time": time.time(), "train/loss": 1 / step}) + "\n")
            (out / "weights").write_text("w" * 1000 * step)
        (out / METRICS).write_bytes(log.read_bytes())
        return {"step": STEPS, "samples": 8 * STEPS, "seed": config["seed"]}

    return train


def wait_at_the_gate(context: Context) -> None:
    gate = os.environ.get(GATE)
    if gate is None or context.key.startswith("ingest"):
        return
    (Path(gate) / "arrived").touch()
    until = time.monotonic() + 120
    while not (Path(gate) / "go").exists() and time.monotonic() < until:
        time.sleep(0.02)


def nodes(work: Work = wait_at_the_gate) -> Callable[[Recipe, Path], list[Node]]:
    """What stands in for `dag.nodes`; the first stage does `work` before, the second one half-way."""

    def dag_of(recipe: Recipe, downloads: Path) -> list[Node]:
        return [
            Node("ingest", Stage("ingest", 1, _ingest(work)), {}),
            Node("pretrain", Stage("pretrain", 1, _train(work)), {"seed": recipe.seed}, {"corpus": "ingest"}),
        ]

    return dag_of


class Proxy:
    """In front of a server on this machine, which seems to be gone while it is `down`, and slow with a `delay` (s).

    With a `status`, such as 503, everybody is answered by it alone.
    """

    def __init__(self, port: int) -> None:
        self.server_port, self.port, self.delay, self.status = port, 0, 0.0, 0
        self.open: set[socket.socket] = set()
        self.bring_up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bring_up(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", self.port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.socket,), daemon=True).start()

    def take_down(self) -> None:
        """Connections are refused from now on, and those that are open end."""
        for connection in (self.socket, *self.open):
            _end(connection)
        self.socket.close()

    def refuse(self, status: int) -> None:
        """Everybody meets this HTTP status from now on."""
        self.status = status
        for connection in list(self.open):
            _end(connection)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:  # taken down
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.status:
            client.recv(1 << 16)
            client.sendall(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            _end(client)
            return
        server = socket.create_connection(("127.0.0.1", self.server_port))
        self.open |= {client, server}
        back = threading.Thread(target=self._pass, args=(server, client, False), daemon=True)
        back.start()
        self._pass(client, server, True)
        back.join()
        self.open -= {client, server}

    def _pass(self, source: socket.socket, target: socket.socket, slowly: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if slowly:
                    time.sleep(self.delay)
                target.sendall(data)
        except OSError:  # reset by either side, which both are told
            pass
        _end(source)
        _end(target)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended already
        return


if __name__ == "__main__":
    from flows import cli

    with mock.patch.object(dag, "nodes", nodes()):
        cli.main()
