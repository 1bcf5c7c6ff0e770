"""What has a turn beside a run: a view that is drawn, a progress bar, keys that are read."""

from collections.abc import Callable
from typing import Protocol


class Aside(Protocol):
    """Entered with the loop of a run and left with it, however that ends.

    `descriptor` is what it reads, None for nothing (any more).
    """

    descriptor: int | None

    def enter(self, stop: Callable[[], None]) -> None:
        """Begin; `stop` asks the run to end."""

    def next_ns(self) -> float:
        """Return the monotonic time of the next turn; 0 for at once."""

    def turn(self) -> None:
        """Read and draw what is due, in milliseconds: the network waits meanwhile."""

    def clear(self) -> None:
        """Make room: something else is about to be written to the terminal."""

    def leave(self) -> None:
        """Give the terminal back as it was; once more does no harm."""
