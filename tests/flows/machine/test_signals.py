"""What a signal does to a run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from ray._private import ray_constants, utils

from data_prep.compute.cluster import quietly
from flows.machine.signals import terminated, terminations_as_interrupts
from training.monitor import stopping


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of Python, whatever the tests were started by; as before afterwards."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    terminated.clear()
    yield
    terminated.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_where_nothing_trains(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(stopping, "ask", lambda signal_number: (asked.append(signal_number), False)[1])
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), terminations_as_interrupts():
        signal.raise_signal(number)
    assert asked == [number] and terminated.is_set() == (number == signal.SIGTERM)
    assert signal.getsignal(number) is before


def test_training_is_asked_to_stop_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    interrupted = False
    monkeypatch.setattr(stopping, "ask", lambda number: (asked.append(number), True)[1])
    try:
        with terminations_as_interrupts():
            signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:  # would end the tests
        interrupted = True
    assert asked == [signal.SIGTERM] and terminated.is_set() and not interrupted


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with terminations_as_interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)


def test_other_threads_leave_signals_alone() -> None:
    seen: list[object] = []

    def inside() -> None:
        with terminations_as_interrupts():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_ray_can_be_ended(number: int) -> None:
    """Half of Ray's processes would go on, and Ray's own handler ends this one before anything is recorded."""
    reached = False
    with pytest.raises(KeyboardInterrupt), terminations_as_interrupts(), quietly():
        ours = signal.getsignal(signal.SIGTERM)
        utils.set_sigterm_handler(lambda *_: sys.exit(1))
        assert signal.getsignal(signal.SIGTERM) is ours and ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER
        signal.raise_signal(number)
        reached = True
    assert reached and terminated.is_set() == (number == signal.SIGTERM)


def test_a_second_signal_does_not_wait_for_ray() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), terminations_as_interrupts(), quietly():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        reached = True
    assert not reached
