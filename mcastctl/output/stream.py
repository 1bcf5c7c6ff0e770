"""Standard output and error as byte streams that say what went wrong, once."""

import errno
import os
import time
from contextlib import suppress

from mcastctl.model.errors import McastError


class OutputError(McastError):
    """Standard output cannot be written (full disk, closed descriptor)."""


class Output:
    """A block-buffered descriptor: gather lines, flush whenever the run is about to wait.

    BrokenPipeError passes through (the reader left); other failures become OutputError. After
    either one, what still comes is dropped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts: list[bytes] = []
        self._size = 0
        self._failed = False

    def write(self, data: bytes) -> None:
        """Take `data`; it is written at 64 KiB or on `flush`."""
        self._parts.append(data)
        self._size += len(data)
        if self._size >= 65536:
            self.flush()

    def flush(self) -> bool:
        """Write everything taken so far; tell whether some of it still waits (never here)."""
        if not self._parts:
            return False
        data = memoryview(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        if not self._failed:
            self._write_all(data)
        return False

    def settle(self) -> None:
        """Write the rest, before somebody else writes to the same place."""
        self.flush()

    def finish(self) -> None:
        """Write the rest and be done."""
        self.settle()

    def _write_all(self, data: memoryview) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    _wait_writable(self._descriptor)
        except BrokenPipeError:
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise OutputError(
                f"cannot write to standard output: {(error.strerror or '').lower()}",
                hint=_CLOSED if error.errno == errno.EBADF else _FULL,
            ) from error


_CLOSED = "it is closed; where nobody wants the output, use -qq or >/dev/null"
_FULL = "what came before is complete; free the disk or choose another output"


_MOST_WAITING = 65536
_PATIENCE_S = 1.0


class Terminal(Output):
    """A terminal, opened anew so that writing never waits: what it has no room for is left out.

    Whole writes are left out, the lines counted and told in their place; the network is not kept
    waiting, and nothing is lost that is counted elsewhere.
    """

    def __init__(self, name: str) -> None:
        super().__init__(os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
        self._waiting = b""
        self._left_out = 0
        self._until_s = 0.0

    def write(self, data: bytes) -> None:
        """Take `data`, or only its lines' number when too much waits already."""
        if len(self._waiting) >= _MOST_WAITING:
            self._left_out += data.count(b"\n")
            return
        self._tell()
        super().write(data)

    def _tell(self) -> None:
        if self._left_out:
            told = f"[{self._left_out} lines left out: the terminal is slower]\n"
            self._left_out = 0
            super().write(told.encode())

    def flush(self) -> bool:
        """Write what the terminal takes now; tell whether more waits for it."""
        super().flush()
        self._write_all(memoryview(b""))
        return bool(self._waiting)

    def settle(self) -> None:
        """Give the terminal a second for the rest, in all as long as it takes nothing."""
        import select  # only who ends while it is full

        self._tell()
        self._until_s = self._until_s or time.monotonic() + _PATIENCE_S
        waiter = select.poll()
        waiter.register(self._descriptor, select.POLLOUT)
        while self.flush() and (left := self._until_s - time.monotonic()) > 0:
            waiter.poll(left * 1000)
        if not self._waiting:
            self._until_s = 0.0

    def finish(self) -> None:
        """Give the terminal a second for the rest."""
        self.settle()
        os.close(self._descriptor)
        self._failed = True

    def _write_all(self, data: memoryview) -> None:
        self._waiting += data
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]
        except BlockingIOError:
            return  # the terminal is full
        except OSError:
            self._waiting, self._failed = b"", True  # it is gone, and who looked at it too


def standard_output() -> Output:
    """Return standard output: a terminal is not waited for, anything else gets every byte."""
    if os.isatty(1):
        with suppress(OSError):  # not ours to open (su, a container): then as anything else
            return Terminal(os.ttyname(1))
    return Output(1)


def say(text: str) -> None:
    """Print text to standard output, or say why not."""
    out = Output(1)
    out.write(text.encode(errors="backslashreplace") + b"\n")
    out.flush()


def _wait_writable(descriptor: int) -> None:
    import select  # only when someone made our output non-blocking

    waiter = select.poll()
    waiter.register(descriptor, select.POLLOUT)
    waiter.poll()


def notice(line: str) -> None:
    """Print one line for people to standard error; lost when that is closed."""
    data = (line + "\n").encode(errors="backslashreplace")
    with suppress(OSError):  # nobody is there to be told
        os.write(2, data)


def foreground(descriptor: int) -> bool:
    """Tell whether this process may use the terminal; True where there is no job control."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True
