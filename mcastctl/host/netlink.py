"""rtnetlink(7) and sock_diag(7): a question goes out, its answers come back as messages.

Messages are bytes from their header on; pyroute2's classes decode those it knows (`decode`),
`attributes` takes the others apart. Nothing here needs privilege. Linux only.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mcastctl.model import refusal
from mcastctl.model.errors import SocketError
from mcastctl.model.netlink import HEADER as _HEADER
from mcastctl.model.netlink import Message, attribute, attributes, messages, number

__all__ = [
    "ROUTE",
    "SOCK_DIAG",
    "Message",
    "Netlink",
    "address",
    "attribute",
    "attributes",
    "decode",
    "messages",
    "naming",
    "number",
]

ROUTE, SOCK_DIAG = 0, 4
"""Netlink protocols, <linux/netlink.h>."""
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LARGEST = 1 << 20
_PATIENCE_S = 5.0
"""The kernel answers at once; what does not is no kernel (a sandbox)."""
_ATTEMPTS = 5


class Netlink:
    """A netlink socket in the network namespace of its making; use as a context manager.

    Raises OSError where the system has no netlink or refuses a question.
    """

    def __init__(self, protocol: int = ROUTE, *, groups: tuple[int, ...] = ()) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        try:
            self._socket.settimeout(_PATIENCE_S)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, readable when a notification waits."""
        return self._socket.fileno()

    def get(self, kind: int, body: bytes) -> Message:
        """Return the one answer to a question; raise OSError with the kernel's errno."""
        self._send(kind, body, 0)
        while True:
            for answer in messages(self._socket.recv(_LARGEST)):
                if self._is_ours(answer):
                    _raise_error(answer)
                    return answer

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """Return all answers; ask again when the kernel's tables changed meanwhile.

        After five changed readings the last one is returned: better than none.
        """
        found: list[Message] = []
        for _ in range(_ATTEMPTS):
            found, whole = self._dump_once(kind, body)
            if whole:
                break
        return found

    def notifications(self) -> list[Message]:
        """Return what was told without being asked, as far as it has come."""
        found: list[Message] = []
        self._socket.setblocking(False)
        try:
            while True:
                try:
                    found += messages(self._socket.recv(_LARGEST))
                except BlockingIOError:
                    return found
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # some were lost: the rest still counts
                        raise
        finally:
            self._socket.settimeout(_PATIENCE_S)

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[Message], bool]:
        self._send(kind, body, _NLM_F_DUMP)
        found: list[Message] = []
        whole = True
        while True:
            for answer in messages(self._socket.recv(_LARGEST)):
                if not self._is_ours(answer):
                    continue
                whole = whole and not _HEADER.unpack_from(answer[1])[2] & _NLM_F_DUMP_INTR
                if answer[0] == _NLMSG_DONE:
                    return found, whole
                _raise_error(answer)
                found.append(answer)

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, kind, _NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)

    def _is_ours(self, answer: Message) -> bool:
        return bool(_HEADER.unpack_from(answer[1])[3] == self._sequence)


_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP = 270, 1


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn an OSError of the body into an error that names what could not be done."""
    try:
        yield
    except OSError as error:
        raise SocketError(
            f"cannot {what}: {refusal.cause(error.errno, error.strerror)}",
            hint="this sandbox forbids netlink sockets, or this kernel has none",
            errno=error.errno,
        ) from error


def _raise_error(answer: Message) -> None:
    kind, data = answer
    if kind == _NLMSG_ERROR and len(data) >= _HEADER.size + 4:
        number = -int.from_bytes(data[_HEADER.size : _HEADER.size + 4], sys.byteorder, signed=True)
        if number:
            raise OSError(number, os.strerror(number))


def decode(kind: Any, message: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header fields and attributes of a message by pyroute2's class for it."""
    found = kind(message)
    found.decode()
    return found, dict(found["attrs"])


def address(raw: bytes) -> str:
    """Return an IPv4 or IPv6 address of 4 or 16 bytes."""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
