"""Counters as a program reads them: a snapshot now, and what moved between two of them.

Counters only ever rise, also when what they counted was removed; how many there are now is a
matter of `len()`. Time is the monotonic clock's, taken with each snapshot.
"""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from mcastctl.model.errors import ValueRangeError


class SendCounters(NamedTuple):
    """What publications did: one, or all that a publisher ever had.

    attempted = sent + refused datagrams; `bytes` are payload; `full` is how often the socket
    buffer had no room (nothing was attempted).
    """

    opened: int = 0
    closed: int = 0
    attempted: int = 0
    sent: int = 0
    bytes: int = 0
    refused: int = 0
    full: int = 0


class ReceiveCounters(NamedTuple):
    """What receptions did: one, or all that a subscriber ever had.

    `datagrams` are those taken, `bytes` their payload, `skipped` ones were for others, and
    `kernel_drops` found the receive buffer full.
    """

    opened: int = 0
    closed: int = 0
    joins: int = 0
    leaves: int = 0
    datagrams: int = 0
    bytes: int = 0
    skipped: int = 0
    kernel_drops: int = 0


C = TypeVar("C", bound=NamedTuple)


class Snapshot(NamedTuple, Generic[C]):
    """Counters at one moment; `at_ns` is on the monotonic clock."""

    at_ns: int
    counters: C


class Delta(NamedTuple, Generic[C]):
    """What was counted between two snapshots `elapsed_ns` apart."""

    elapsed_ns: int
    counters: C

    def per_s(self, counted: int) -> float:
        """Return one of the counters as a rate: delta.per_s(delta.counters.sent)."""
        return counted * 1e9 / self.elapsed_ns if self.elapsed_ns else 0.0


def total(parts: Iterable[C], zero: C) -> C:
    """Return the sum of counters, `zero` where there are none."""
    return zero._make(map(sum, zip(zero, *parts, strict=True)))


def delta(before: Snapshot[C], now: Snapshot[C]) -> Delta[C]:
    """Return what moved. Raises ValueRangeError when `now` is the earlier one."""
    if now.at_ns < before.at_ns:
        raise ValueRangeError(
            "the second snapshot is older than the first", hint="pass the earlier one first"
        )
    was = before.counters._asdict()
    moved = {name: value - was[name] for name, value in now.counters._asdict().items()}
    return Delta(now.at_ns - before.at_ns, now.counters._replace(**moved))


class Sampler(Generic[C]):
    """Deltas of snapshots as they come, each against the one before."""

    def __init__(self) -> None:
        self._before: Snapshot[C] | None = None

    def sample(self, now: Snapshot[C]) -> Delta[C] | None:
        """Return what moved since the last call, None at the first: there is nothing before it."""
        before, self._before = self._before, now
        return None if before is None else delta(before, now)
