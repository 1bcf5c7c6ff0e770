"""Several that have turns beside a run, as one."""

import time
from collections.abc import Callable

from mcastctl.model.aside import Aside


class Beside:
    """Gives each its turn when it is due; the first is the only one that may read."""

    def __init__(self, first: Aside, *others: Aside) -> None:
        self._first = first
        self._all = (first, *others)

    @property
    def descriptor(self) -> int | None:
        """What the first reads."""
        return self._first.descriptor

    @descriptor.setter
    def descriptor(self, descriptor: int | None) -> None:
        self._first.descriptor = descriptor

    def enter(self, stop: Callable[[], None]) -> None:
        """Begin."""
        for one in self._all:
            one.enter(stop)

    def next_ns(self) -> float:
        """Return when the first of them is due."""
        return min(one.next_ns() for one in self._all)

    def turn(self) -> None:
        """Give a turn to whoever is due, and to who reads: there may be something to read."""
        now_ns = time.monotonic_ns()
        for one in self._all:
            if one.descriptor is not None or now_ns >= one.next_ns():
                one.turn()

    def clear(self) -> None:
        """Make room."""
        for one in self._all:
            one.clear()

    def leave(self) -> None:
        """End, the last first."""
        for one in reversed(self._all):
            one.leave()
