"""A Ray cluster: joining it, and what its hosts must share. Each way to fail is one sentence.

Data preparation and training use the same cluster in the same way, so both come here.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.errors import UserError

CONNECT_SECONDS = 10.0  # for an address that does not answer
SEEN_SECONDS = 15.0  # until a file written on one host is seen on all; a network's file system may lag


def join(address: str) -> None:
    """Join the cluster at `address`: HOST:PORT, `auto` (the one on this machine) or ray://HOST:PORT.

    Raises UserError where nothing answers, where something else does, and for a wrong token or version.
    """
    import ray
    from ray.exceptions import AuthenticationError

    what = f"placement.ray_address: {address!r}"
    if address.startswith(("http://", "https://")):
        raise UserError(
            f"{what} is a server of jobs; `sesame submit RECIPE --address {address}` sends a run there, and "
            "placement.ray_address names the cluster's own port (HOST:6379)."
        )
    try:
        _greet(address)
        with quietly():
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (AuthenticationError, PermissionError) as error:
        raise UserError(
            f"{what} refuses this process's token ({first_line(error)}); give it the cluster's own by "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, the path of a file with it."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"placement.ray_address: no Ray cluster answers at {address!r} ({first_line(error)}); start one or set it "
            "to null to use this machine."
        ) from error
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        versions = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise UserError(f"{what}: {versions}; install the same versions on all hosts of the cluster.") from None


def _greet(address: str) -> None:
    """Raises OSError at once for an address where nothing or something else listens; Ray itself tries for minutes.

    PermissionError: a cluster that wants another token.
    """
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.services import canonicalize_bootstrap_address
    from ray.core.generated import gcs_service_pb2_grpc as services

    messages: Any = importlib.import_module("ray.core.generated.gcs_service_pb2")  # names that appear when imported
    is_client = address.startswith("ray://")  # spoken to by a server of its own
    host_and_port = address.removeprefix("ray://") if is_client else canonicalize_bootstrap_address(address)
    if host_and_port is None:
        raise ConnectionError("no cluster was started on this machine")
    host, _, port = host_and_port.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    if is_client:
        return
    channel: Any = init_grpc_channel(host_and_port, [("grpc.enable_http_proxy", 0)])
    try:
        nodes = services.NodeInfoGcsServiceStub(channel)
        nodes.GetClusterId(messages.GetClusterIdRequest(), timeout=CONNECT_SECONDS)
    except grpc.RpcError as error:
        refusal: Any = error
        if refusal.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise PermissionError(refusal.details()) from None
        raise ConnectionError("what listens there is not the port that `ray start --head` prints") from None
    finally:
        channel.close()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Around `ray.init`: signals stay ours, and what Ray says of tokens is not shown.

    The first signal to end this process waits until Ray can be ended, too; a second one does not.
    """
    from ray._private import ray_constants, utils

    # It would report that tokens are in use, which is intended.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    # Ray's own handlers abort the process three seconds after SIGTERM, whatever it is writing by then.
    theirs = utils.set_sigterm_handler, ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER
    utils.set_sigterm_handler, ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = (lambda handler: None), True
    try:
        with _late_signals():
            yield
    finally:
        utils.set_sigterm_handler, ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = theirs


@contextlib.contextmanager
def _late_signals() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM is heard at the end. In other threads than the main one it does nothing."""
    late: list[int] = []

    def wait(number: int, frame: Any) -> None:
        if late:
            before[signal.Signals(number)](number, frame)
        late.append(number)

    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}  # ignored ones stay so
    for number in before:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if late:
            signal.raise_signal(late[0])


def host_name() -> str:
    """What to call this host in a message: its address in the cluster, and its name."""
    import ray

    return f"{ray.util.get_node_ip_address()} ({socket.gethostname()})"


class Shared(NamedTuple):
    """A file that the process that starts work writes and its workers look for: all hosts must see the same folder."""

    file: Path
    text: str

    @staticmethod
    def mark(folder: Path) -> Shared:
        """Write the file into `folder`, in place of an earlier one."""
        folder = Path(folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        shared = Shared(folder / "seen-by-all-hosts", uuid.uuid4().hex)
        temporary = shared.file.with_name(f".{shared.file.name}-{os.getpid()}")
        temporary.write_text(shared.text)
        temporary.replace(shared.file)
        return shared

    def check(self, seconds: float = SEEN_SECONDS) -> None:
        """Raises UserError on a host that does not see the file within `seconds`."""
        until = time.monotonic() + seconds
        while not self._seen():
            if time.monotonic() > until:
                raise UserError(
                    f"host {host_name()} does not see {self.file.parent} as the others do; SESAME_HOME must be one "
                    "folder that all hosts of the cluster share, at the same path."
                )
            time.sleep(0.2)

    def _seen(self) -> bool:
        with contextlib.suppress(OSError):
            return self.file.read_text() == self.text
        return False


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
