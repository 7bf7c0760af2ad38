"""Gloo and NCCL use the interface of Ray's address, unless the user says otherwise."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import UserError
from training.cluster.interfaces import (
    GLOO,
    NCCL,
    NCCL_FAMILY,
    addresses_of_gloo,
    check,
    interface_of,
    interfaces,
    variables,
)

HOST = {
    "lo": ["127.0.0.1", "::1", "00:00:00:00:00:00"],
    "eth0": ["192.168.1.7", "fe80::1%eth0", "02:fc:00:00:00:01"],
    "eth1": ["10.0.0.2", "10.0.0.3", "fd00::2", "fe80::1%eth1"],
    "eth10": ["10.0.0.20"],
}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "lo"),
        ("192.168.1.7", "eth0"),
        ("10.0.0.3", "eth1"),
        ("10.0.0.20", "eth10"),
        ("fd00::2", "eth1"),
        ("[fd00::2]", "eth1"),
        ("fd00:0:0::0002", "eth1"),
        ("::ffff:10.0.0.20", "eth10"),
        ("fe80::1%eth1", "eth1"),
        ("fe80::1%eth0", "eth0"),
        ("203.0.113.9", None),  # behind a translated address
        ("head", None),
        ("02:fc:00:00:00:01", None),
    ],
)
def test_the_interface_is_the_one_that_carries_the_address(address: str, name: str | None) -> None:
    assert interface_of(address, HOST) == name


@given(st.lists(st.ip_addresses(), min_size=1, max_size=12, unique_by=lambda a: getattr(a, "ipv4_mapped", None) or a))
def test_every_address_finds_its_own_interface(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    host = {f"net{number}": [f"{address}%net{number}" if address.version == 6 else str(address)]
            for number, address in enumerate(addresses)}  # fmt: skip
    for number, address in enumerate(addresses):
        long = address.exploded if isinstance(address, ipaddress.IPv6Address) else str(address)
        assert interface_of(str(address), host) == interface_of(long, host) == f"net{number}"


def test_variables_name_the_interface_exactly() -> None:
    assert variables("10.0.0.2", HOST, {}) == {GLOO: "eth1", NCCL: "=eth1", NCCL_FAMILY: "AF_INET"}
    assert variables("fd00::2", HOST, {}) == {GLOO: "eth1", NCCL: "=eth1", NCCL_FAMILY: "AF_INET6"}
    assert variables("203.0.113.9", HOST, {}) == {}


def test_what_the_user_has_set_stays() -> None:
    assert variables("10.0.0.2", HOST, {GLOO: "eth0"}) == {NCCL: "=eth1", NCCL_FAMILY: "AF_INET"}
    assert variables("10.0.0.2", HOST, {NCCL: "ib0"}) == {GLOO: "eth1"}
    assert variables("10.0.0.2", HOST, {GLOO: "eth0", NCCL: "ib0"}) == {}


def test_this_machine_has_loopback() -> None:
    assert interface_of("127.0.0.1", interfaces()) in ("lo", "lo0")


@pytest.mark.parametrize(
    ("variable", "named", "missing"),
    [
        (GLOO, "eth1", None),
        (GLOO, "eth0,eth1", None),
        (GLOO, "ib7", "ib7"),
        (GLOO, "eth0,ib7", "ib7"),
        (GLOO, "eth", "eth"),
        (NCCL, "eth", None),  # all that begin so
        (NCCL, "ib,eth1", None),
        (NCCL, "^docker", None),
        (NCCL, "=eth1", None),
        (NCCL, "=eth", "=eth"),
        (NCCL, "ib", "ib"),
    ],
)
def test_an_interface_that_the_host_lacks_is_named(variable: str, named: str, missing: str | None) -> None:
    if missing is None:
        check({variable: named}, HOST)
    else:
        with pytest.raises(UserError, match=f"{variable} names '{missing}', which is no interface of the host .*eth10"):
            check({variable: named}, HOST)


def test_gloo_talks_by_the_first_address_of_each_interface_named() -> None:
    assert addresses_of_gloo({GLOO: "eth1,lo"}, HOST) == ["10.0.0.2", "127.0.0.1"]
    assert addresses_of_gloo({}, HOST) == []
    assert addresses_of_gloo({GLOO: "eth9"}, {"eth9": ["02:fc:00:00:00:01"]}) == []
