"""Why a group of workers failed, and whether another group may fare better."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.compute.cluster import first_line
from data_prep.errors import UserError, refusal_of_the_disk

LOSSES = re.compile(r"connection (closed|reset)|broken pipe", re.IGNORECASE)  # as workers see the loss of another


class NotFormedError(Exception):
    """The workers form no group; the message is for the user."""


class UnreachableError(NotFormedError):
    """Workers cannot reach each other, which a host that was just lost may explain."""


class LostError(NotFormedError):
    """A worker was lost before there was a group."""


@dataclass(frozen=True)
class Attempt:
    """A group of workers that failed, and the step of the newest checkpoint by then."""

    failures: Sequence[BaseException]
    step: int

    @property
    def fault_of_the_user(self) -> BaseException | None:
        """The failure that only the user can mend: a mistake in settings or data, or a disk that refuses."""
        return next((f for f in self.failures if isinstance(f, UserError) or refusal_of_the_disk(f)), None)

    @property
    def is_unreachable(self) -> bool:
        return any(isinstance(failure, UnreachableError) for failure in self.failures)

    @property
    def sentence(self) -> UserError | None:
        """What to tell the user if this attempt is the last one, where that is not a traceback."""
        return next((UserError(str(f)) for f in self.failures if isinstance(f, NotFormedError)), None)

    def repeats(self, before: Attempt | None) -> bool:
        """Whether the attempt before failed in the same way, and this one got no further."""
        return before is not None and self._signature == before._signature is not None and self.step <= before.step

    @property
    def _signature(self) -> frozenset[str] | None:
        """What two attempts have in common that failed for the same reason; None where a worker or a host was lost.

        Numbers are left out: addresses, ports, ranks and process ids differ from attempt to attempt.
        """
        if not self.failures or any(map(_is_loss, self.failures)):
            return None
        return frozenset(f"{type(f).__name__}: {re.sub('[0-9]+', '', first_line(f))}" for f in self.failures)


def failures_in(error: BaseException) -> list[BaseException]:
    """The exceptions inside what Ray raises, unwrapped: the workers' by rank, or that of forming their group.

    Any other exception is a failure itself.
    """
    by_rank = getattr(error, "worker_failures", None) or {}
    failures = [by_rank[rank] for rank in sorted(by_rank)] or [getattr(error, "controller_failure", None) or error]
    return [_unwrapped(failure) for failure in failures]


def _unwrapped(failure: BaseException) -> BaseException:
    cause = getattr(failure, "cause", None)  # of Ray's error for a function that raised one
    return cause if isinstance(cause, BaseException) else failure


def _is_loss(failure: BaseException) -> bool:
    """Whether it says that a worker or a host is gone, by Ray's account or by that of workers that talked to it."""
    from ray.exceptions import RayError, RayTaskError
    from ray.train.v2._internal.exceptions import RayTrainError  # of workers that no longer answer

    if isinstance(failure, RayError | RayTrainError | LostError) and not isinstance(failure, RayTaskError):
        return True
    return LOSSES.search(str(failure)) is not None
