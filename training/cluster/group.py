"""Forms the process group of workers that may be on several hosts.

    each worker    sees the job's folder?  ─►  sets the network interface  ─►  listens
    each worker    reaches every other?    ─►  joins the others            ─►  the process group

What cannot work is found here and named: otherwise gloo would wait half an hour for a host that it cannot reach.

Workers must tell each other where they listen. PyTorch's server for that (TCPStore) takes what anybody sets, and
would listen on all addresses: so on one host they use a file, which only its owner can read; on several, the server
listens at Ray's address of its host and nowhere else.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from ray.exceptions import RayActorError, RayTaskError
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend
from torch._C._distributed_c10d import FileStore, Store, TCPStore

from data_prep import private
from data_prep.compute.cluster import Shared, first_line, host_name
from training.cluster.failures import LostError, NotFormedError, UnreachableError
from training.cluster.interfaces import GLOO, NCCL, addresses_of_gloo, check, interfaces, variables

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
    gloo and NCCL that the user has set where the run was started. umask: of the files that workers make.
    """

    shared: Shared | None = None
    formed: Path | None = None
    given: dict[str, str] = field(default_factory=dict)
    umask: int = private.CLOSED

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
        settings = backend_config.shared, backend_config.given, backend_config.umask
        doors = [door for opened in worker_group.execute(_open, *settings) for door in opened]
        problems = [problem for problem in worker_group.execute(_reach, doors) if problem]
        worker_group.execute(_close)
        if problems:
            raise UnreachableError(
                f"{'; '.join(problems[:3])}: the hosts of a cluster must reach each other on all ports, at the "
                f"addresses that Ray was given (ray start --node-ip-address) and on the interface that {GLOO} names."
            )
        try:
            worker_group.execute(_set_torch_distributed_env_vars)
            meeting = worker_group.execute_single(0, _call_a_meeting, len({door.host for door in doors}) == 1)
            worker_group.execute(_join, meeting, backend_config.backend, backend_config.timeout_s)
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


class Meeting(NamedTuple):
    """Where the workers of a group tell each other their addresses: in a file, or at a server's address and port."""

    where: str
    port: int | None = None


_doors: list[socket.socket] = []  # of this worker, until the others have knocked
_called: list[socket.socket] = []  # of the first worker, until it serves there


def _open(shared: Shared | None, given: Mapping[str, str], umask: int) -> list[Door]:
    """Prepare this worker for its group, and listen at the addresses of its host by which the group will talk."""
    import ray

    os.umask(umask)
    if shared is not None:
        shared.check()
    for name, value in given.items():
        os.environ.setdefault(name, value)
    address = ray.util.get_node_ip_address()
    there = interfaces()
    check(os.environ, there)
    os.environ.update(variables(address, there, os.environ))
    return [_door(address) for address in dict.fromkeys([address, *addresses_of_gloo(os.environ, there)])]


def _door(address: str) -> Door:
    door = _listen(address)
    _doors.append(door)
    return Door(address, door.getsockname()[1], host_name())


def _listen(address: str) -> socket.socket:
    """A socket at `address` of this host, on a free port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, 0), family=family, backlog=1024)
    except OSError:  # translated addresses belong to no interface
        return socket.create_server(("", 0), family=family, backlog=1024)


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


def _call_a_meeting(one_host: bool) -> Meeting:
    """Called on the first worker."""
    import ray
    from ray._private.worker import global_worker

    if one_host:
        node: Any = global_worker.node
        folder = tempfile.mkdtemp(prefix="group-", dir=node.get_session_dir_path())
        return Meeting(str(Path(folder) / "addresses"))
    address = ray.util.get_node_ip_address()
    _called.append(_listen(address))
    return Meeting(address, _called[-1].getsockname()[1])


def _join(meeting: Meeting, backend: str, timeout_s: int) -> None:
    """Make this worker one of the process group."""
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    timeout = timedelta(seconds=timeout_s)
    if backend == "nccl":
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # a collective that hangs ends the worker
    if meeting.port is None:
        store: Store = FileStore(meeting.where, world)
    else:
        listening = _called.pop().detach() if rank == 0 else None  # the store closes it
        store = TCPStore(
            meeting.where, meeting.port, world, is_master=rank == 0, timeout=timeout, master_listen_fd=listening
        )
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
