"""Standard output and error as byte streams that say what went wrong, once."""

import os
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

    def flush(self) -> None:
        """Write everything taken so far."""
        if not self._parts:
            return
        data = memoryview(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        if not self._failed:
            self._write_all(data)

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
                hint="what came before is complete; free the disk or choose another output",
            ) from error


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
