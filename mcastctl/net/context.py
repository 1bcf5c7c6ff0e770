"""The owner of several publications or receptions, which come, go and are handed out."""

import socket
from collections.abc import Iterator
from typing import Generic, Protocol, Self, TypeVar

from mcastctl.model.errors import SocketError


class Owned(Protocol):
    """A publication or a reception."""

    def detach(self) -> socket.socket:
        """Give the socket away."""

    def close(self) -> None:
        """Close the socket."""


M = TypeVar("M", bound=Owned)


class Context(Generic[M]):
    """Owns members until they are removed, detached or it is closed; iterate for them.

    Use as a context manager, or call `close`.
    """

    def __init__(self) -> None:
        self._members: list[M] = []

    def __iter__(self) -> Iterator[M]:
        return iter(tuple(self._members))

    def __len__(self) -> int:
        return len(self._members)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
        sock = member.detach()
        self._keep_count(member)
        return sock

    def close(self) -> None:
        """Close all of them."""
        for member in self:
            self.remove(member)
