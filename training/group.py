"""Forms the process group of workers that may be on several hosts.

    each worker    sees the job's folder?  ─►  sets the network interface  ─►  listens
    each worker    reaches every other?    ─►  the process group, by Ray

What cannot work is found here and named: otherwise gloo would wait half an hour for a host that it cannot reach.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ray.exceptions import RayActorError, RayTaskError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from data_prep.cluster import Shared, first_line, host_name
from training.failures import LostError, NotFormedError, UnreachableError
from training.interfaces import GLOO, NCCL, addresses_of_gloo, check, interfaces, variables

REACH_SECONDS = 10.0  # for one worker to answer another


class Door(NamedTuple):
    """Where a worker listens, and what to call its host."""

    address: str
    port: int
    host: str


@dataclass
class GroupConfig(TorchConfig):
    """Ray's settings for a process group, and what we need to form one.

    shared: the file that all workers must see. formed: a file that exists while there is a group. given: variables of
    gloo and NCCL that the user has set where the run was started.
    """

    shared: Shared | None = None
    formed: Path | None = None
    given: dict[str, str] = field(default_factory=dict)

    @property
    def backend_cls(self) -> Any:
        return _Group


class _Group(_TorchBackend):
    """Ray calls these hooks in the process that controls the workers."""

    def on_start(self, worker_group: Any, backend_config: GroupConfig) -> None:
        try:
            self._form(worker_group, backend_config)
        except Exception as error:
            worker_group.abort()  # Ray forgets a group that fails here, and would keep its place on the hosts
            if isinstance(error, RayActorError):  # Ray would start the next group by itself, without end
                raise LostError(f"a training worker ended while its group formed ({first_line(error)}).") from error
            raise

    def _form(self, worker_group: Any, backend_config: GroupConfig) -> None:
        doors = [
            door
            for opened in worker_group.execute(_open, backend_config.shared, backend_config.given)
            for door in opened
        ]
        problems = [problem for problem in worker_group.execute(_reach, doors) if problem]
        worker_group.execute(_close)
        if problems:
            raise UnreachableError(
                f"{'; '.join(problems[:3])}: the hosts of a cluster must reach each other on all ports, at the "
                f"addresses that Ray was given (ray start --node-ip-address) and on the interface that {GLOO} names."
            )
        try:
            super().on_start(worker_group, backend_config)
        except RayTaskError as error:
            raise NotFormedError(
                f"the training workers form no process group ({first_line(error.cause)}); they use the interface of "
                f"Ray's address of each host unless {GLOO} or {NCCL} names another."
            ) from error
        if backend_config.formed is not None:
            backend_config.formed.touch()

    def on_shutdown(self, worker_group: Any, backend_config: GroupConfig) -> None:
        if backend_config.formed is not None:
            backend_config.formed.unlink(missing_ok=True)
        super().on_shutdown(worker_group, backend_config)


_doors: list[socket.socket] = []  # of this worker, until the others have knocked


def _open(shared: Shared | None, given: Mapping[str, str]) -> list[Door]:
    """Prepare this worker for its group, and listen at the addresses of its host by which the group will talk."""
    import ray

    if shared is not None:
        shared.check()
    for name, value in given.items():
        os.environ.setdefault(name, value)
    address = ray.util.get_node_ip_address()
    there = interfaces()
    check(os.environ, there)
    os.environ.update(variables(address, there, os.environ))
    return [_listen(address) for address in dict.fromkeys([address, *addresses_of_gloo(os.environ, there)])]


def _listen(address: str) -> Door:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        door = socket.create_server((address, 0), family=family, backlog=1024)
    except OSError:  # translated addresses belong to no interface
        door = socket.create_server(("", 0), family=family, backlog=1024)
    _doors.append(door)
    return Door(address, door.getsockname()[1], host_name())


def _reach(doors: Sequence[Door]) -> str | None:
    """Knock at the doors of all workers, one for each address of a host; says which did not answer."""
    silent = []
    for door in {(door.host, door.address): door for door in doors}.values():
        try:
            socket.create_connection((door.address, door.port), timeout=REACH_SECONDS).close()
        except OSError as error:
            at = "" if door.host.startswith(door.address) else f" at {door.address}"
            silent.append(f"{door.host}{at} ({error})")
    return f"host {host_name()} cannot reach {' and '.join(silent)}" if silent else None


def _close() -> None:
    while _doors:
        _doors.pop().close()
