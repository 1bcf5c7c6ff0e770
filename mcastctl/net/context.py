"""The owner of several publications or receptions, which come, go and are handed out."""

import socket
from collections.abc import Iterator
from typing import Generic, Protocol, Self, TypeVar

from mcastctl.model.errors import SocketError
from mcastctl.net.sockopts import Socket


class Owned(Protocol):
    """A publication or a reception."""

    @property
    def closed(self) -> bool:
        """Whether it was closed or gave its socket away."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def detach(self) -> socket.socket:
        """Give the socket away."""

    def close(self) -> None:
        """Close the socket."""


M = TypeVar("M", bound=Owned)


class Closing:
    """What is closed when its `with` block ends, or by `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what it holds."""


class Context(Closing, Generic[M]):
    """Owns members until they are removed, detached or it is closed; iterate for them."""

    def __init__(self) -> None:
        self._members: list[M] = []
        self._closed = False

    def __iter__(self) -> Iterator[M]:
        return iter(tuple(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def _must_be_open(self) -> None:
        if self._closed:
            name = type(self).__name__
            raise SocketError(f"the {name.lower()} is closed", hint=f"make a new {name}")

    def _make_way(self, sock: Socket | None) -> None:
        """Let go of members that ended by themselves. Raises SocketError for a socket in use."""
        self._must_be_open()
        for member in self:
            if member.closed:
                self.remove(member)
            elif sock is not None and sock.fileno() == member.fileno():
                raise SocketError(
                    f"the socket handed in already serves {member}",
                    hint="detach that first, or hand in another",
                )

    def _forget(self, member: M) -> None:
        if member not in self._members:
            raise SocketError(
                f"{member} is not here (any more)", hint="each is removed once, by its owner"
            )
        self._members.remove(member)

    def _keep_count(self, member: M) -> None:
        """Keep what a member counted that is closed now."""

    def remove(self, member: M) -> None:
        """Close one of them. Raises SocketError for a stranger."""
        self._forget(member)
        member.close()
        self._keep_count(member)

    def detach(self, member: M) -> socket.socket:
        """Give the socket of one of them away, as it is. Raises SocketError for a stranger."""
        self._forget(member)
        try:
            return member.detach()
        finally:
            self._keep_count(member)

    def close(self) -> None:
        """Close all of them; nothing can be added any more."""
        for member in self:
            self.remove(member)
        self._closed = True
