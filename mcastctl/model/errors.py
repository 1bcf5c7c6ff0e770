"""One error family: what failed, what to do about it, and the exit status it deserves."""

YES = 0
"""Exit status: the question was asked and the answer is yes."""
NO = 1
"""Exit status: the question was asked and the answer is no."""
COULD_NOT_ASK = 2
"""Exit status: usage, permission, no such interface, port in use, damaged input."""


class McastError(Exception):
    """A failure a person can act on.

    `message` names operation, object and cause in lower case without a full stop;
    `hint` names the remedy. The command line prints the two on two lines.
    """

    status = COULD_NOT_ASK

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class AddressError(McastError):
    """An endpoint, group, source or zone that cannot mean what was asked."""


class ValueRangeError(McastError):
    """A number, time, size or rate outside what the field allows."""


class InterfaceError(McastError):
    """An interface that does not exist or cannot be chosen."""


class SocketError(McastError):
    """The kernel refused a socket operation; `errno` says how (None when it gave no number).

    `port` is the UDP port that could not be had, None where it was not about one.
    """

    def __init__(
        self, message: str, *, hint: str, errno: int | None = None, port: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.port = port


class QueueFullError(SocketError, BlockingIOError):
    """A socket that would block: nothing was sent; try again when its descriptor is writable."""


class PayloadError(McastError):
    """Input data that cannot become datagrams."""


class VerdictError(McastError):
    """A verdict that was asked for but cannot be given from what was heard."""
