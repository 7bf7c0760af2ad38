"""The network interface by which workers on several hosts talk: the one that carries Ray's address of the host.

By default, gloo takes the address that the host's name resolves to, which often is 127.0.0.1 and reaches no other
host; NCCL takes the first interface that looks fit.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence

from data_prep.errors import UserError

GLOO, NCCL, NCCL_FAMILY = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_SOCKET_FAMILY"
CHOSEN_BY_USERS = (GLOO, NCCL, NCCL_FAMILY)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def interface_of(address: str, interfaces: Mapping[str, Sequence[str]]) -> str | None:
    """The interface that carries `address`; None if none does, as for a host behind a translated address.

    interfaces: addresses by the interface's name, each as the system writes it (`10.0.0.1`, `fe80::1%eth0`).
    """
    scope = address.strip("[]").partition("%")[2]
    if scope in interfaces:  # the same link-local address may be on several
        return scope
    wanted = _parsed(address)
    for name, addresses in interfaces.items():
        if wanted is not None and wanted in map(_parsed, addresses):
            return name
    return None


def variables(address: str, interfaces: Mapping[str, Sequence[str]], given: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that make gloo and NCCL use the interface of `address`.

    given: variables that are set already; none of them is changed.
    """
    name = interface_of(address, interfaces)
    if name is None:
        return {}
    chosen = {GLOO: name, NCCL: f"={name}"}  # to NCCL, `eth1` would mean all that begin so
    if NCCL not in given:
        chosen[NCCL_FAMILY] = "AF_INET6" if isinstance(_parsed(address), ipaddress.IPv6Address) else "AF_INET"
    return {variable: value for variable, value in chosen.items() if variable not in given}


def check(given: Mapping[str, str], interfaces: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError if gloo or NCCL is given an interface that this host does not have."""
    for name in _names(given.get(GLOO)):
        if name not in interfaces:
            raise _missing(GLOO, name, interfaces)
    wanted = given.get(NCCL, "")
    if not wanted.startswith("^"):  # all but these
        matches = str.__eq__ if wanted.startswith("=") else str.startswith
        names = _names(wanted.removeprefix("="))
        if names and not any(matches(there, name) for there in interfaces for name in names):
            raise _missing(NCCL, wanted, interfaces)


def addresses_of_gloo(given: Mapping[str, str], interfaces: Mapping[str, Sequence[str]]) -> list[str]:
    """The addresses by which gloo talks: of each interface that is named to it, the first one."""
    usable = ([address for address in interfaces[name] if _parsed(address)] for name in _names(given.get(GLOO)))
    return [addresses[0] for addresses in usable if addresses]


def _names(list_of_names: str | None) -> list[str]:
    return [name for name in (list_of_names or "").split(",") if name]


def _missing(variable: str, name: str, interfaces: Mapping[str, Sequence[str]]) -> UserError:
    return UserError(
        f"{variable} names {name!r}, which is no interface of the host {socket.gethostname()} "
        f"({', '.join(interfaces)}); unset it to use the interface of Ray's address of each host."
    )


def interfaces() -> dict[str, list[str]]:
    """Addresses of this host by interface."""
    import psutil

    return {name: [entry.address for entry in entries] for name, entries in psutil.net_if_addrs().items()}


def _parsed(address: str) -> _Address | None:
    """The address itself: without brackets and scope, IPv4 written as IPv6 made IPv4 again; None for a MAC."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
