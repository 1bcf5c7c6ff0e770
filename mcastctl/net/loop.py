"""Waiting: one poll over sockets, standard input and children, woken by signals.

Handlers only note the signal; the run ends in the ordinary way, prints its summary, and the
process then dies of the same signal (`cli.app`).
"""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

    from mcastctl.model.aside import Aside
else:
    import _signal as signal  # see `cli`

_STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


QUIT = 0
"""What `stopped_by` is when a key asked to stop: no signal has this number."""
_SOON_NS = 20_000_000
_LONGEST_MS = 60_000
"""Longest single wait; poll(2) takes an int, and callers wait again until their time is up."""


class Loop:
    """A poll set with deadlines on the monotonic clock; use as a context manager.

    `stopped_by` is the number of the signal that asked to stop (QUIT for a key), None so far.
    `aside` has its turns while this waits, and is left whatever ends the run. `before_wait` is
    called whenever the run has caught up: the moment to write out what was gathered; True asks
    for another call soon. For
    `spin_ns` after something was ready it looks again and again before it blocks, because waking
    up takes longer than most answers. Without `handle_signals` they end the process as they
    always do.
    """

    def __init__(
        self,
        before_wait: Callable[[], bool] | None = None,
        *,
        handle_signals: bool = True,
        aside: "Aside | None" = None,
    ) -> None:
        self.stopped_by: int | None = None
        self.spin_ns = 0
        self._spin_until_ns = 0
        self._before_wait = before_wait or (lambda: False)
        self._signals = _STOPPING if handle_signals else ()
        self._aside = aside
        self._aside_reads: int | None = None
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Loop":
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poll.register(self._wake_read, select.POLLIN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in self._signals:
            # nohup ignores SIGHUP on purpose; a shell's background jobs ignore SIGINT only for
            # want of job control, and tcpdump stops on it all the same.
            if number == getattr(signal, "SIGHUP", None) and (
                signal.getsignal(number) == signal.SIG_IGN
            ):
                continue
            self._previous[number] = signal.signal(number, self._note)
        if self._aside is not None:
            self._aside.enter(self._quit)
            self._aside_reads = self._aside.descriptor
            if self._aside_reads is not None:
                self.watch(self._aside_reads)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._aside is not None:
            self._aside.leave()
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is None:
            self.stopped_by = number
        # The second time it ends at once.
        signal.signal(number, signal.SIG_DFL if self._aside is None else self._end_at_once)

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:
        if self._aside is not None:
            self._aside.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _quit(self) -> None:
        if self.stopped_by is None:
            self.stopped_by = QUIT

    def wake_on(self, number: int) -> None:
        """Let a signal end the wait without asking to stop."""
        self._previous[number] = signal.signal(number, lambda *_: None)

    def watch(self, descriptor: int, *, writable: bool = False) -> None:
        """Report `descriptor` when it can be read (or written)."""
        self._poll.register(descriptor, select.POLLOUT if writable else select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Stop reporting `descriptor`."""
        self._poll.unregister(descriptor)

    def wait(self, until_ns: float | None = None) -> list[int]:
        """Wait until something is ready, a signal came, or the monotonic time is reached.

        Returns the ready descriptors; empty on a signal or at the deadline.
        """
        if self._aside is not None and self.stopped_by is None:
            until_ns = self._aside_turn(self._aside, until_ns)
        if self.stopped_by is not None:
            return []
        ready = self._poll.poll(0)
        if not ready:
            if self._before_wait():
                soon_ns = time.monotonic_ns() + _SOON_NS
                until_ns = soon_ns if until_ns is None else min(until_ns, soon_ns)
            ready = self._spin() or self._poll_until(until_ns)
        descriptors = []
        for descriptor, _events in ready:
            if descriptor == self._wake_read:
                self._drain()
            elif descriptor == self._aside_reads:
                self._aside_input()
            else:
                descriptors.append(descriptor)
        if descriptors and self.spin_ns:
            self._spin_until_ns = time.monotonic_ns() + self.spin_ns
        return descriptors

    def _aside_turn(self, aside: "Aside", until_ns: float | None) -> float:
        """Give what runs beside its turn if it is due; return how long to wait at the most."""
        if time.monotonic_ns() >= aside.next_ns():
            aside.turn()
        next_ns = aside.next_ns()
        return next_ns if until_ns is None else min(until_ns, next_ns)

    def _aside_input(self) -> None:
        if self._aside is not None and self._aside_reads is not None:
            self._aside.turn()
            if self._aside.descriptor is None:
                self.unwatch(self._aside_reads)
                self._aside_reads = None

    def _spin(self) -> list[tuple[int, int]]:
        while time.monotonic_ns() < self._spin_until_ns:
            ready = self._poll.poll(0)
            if ready:
                return ready
        return []

    def _poll_until(self, until_ns: float | None) -> list[tuple[int, int]]:
        """poll(2) counts whole milliseconds; the rest is slept off with nothing to report."""
        if until_ns is None:
            return self._poll.poll()
        remaining_ns = until_ns - time.monotonic_ns()
        if remaining_ns >= 1_000_000:
            return self._poll.poll(min(int(remaining_ns // 1_000_000), _LONGEST_MS))
        if remaining_ns > 0:
            time.sleep(remaining_ns / 1e9)
        return self._poll.poll(0) if until_ns else []  # 0: only a look, and that was taken

    def _drain(self) -> None:
        with suppress(BlockingIOError):  # the wake-up byte was read before
            os.read(self._wake_read, 4096)
