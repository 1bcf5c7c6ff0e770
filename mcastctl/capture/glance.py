"""A look at the wire without a ring: multicast and its control plane, frame by frame.

For a few seconds of diagnosis; the kernel filters (`program.multicast`), so that other traffic
costs nothing. Nothing about any interface is changed. Linux only, needs CAP_NET_RAW.
"""

import _socket as socket
from collections.abc import Iterator
from typing import NamedTuple

from mcastctl.capture import packet, program

_KINDS = {0: "host", 1: "broadcast", 2: "multicast", 3: "other", 4: "out"}
"""Packet types of packet(7)."""
_BUFFER = 4 << 20
_SNAPLEN = 512


class Glimpse(NamedTuple):
    """One frame: `cast` is what the kernel took it for ('other': not addressed to this host)."""

    iface: str
    cast: str
    hatype: int
    data: bytes


class Glance:
    """An open look at all interfaces; a context manager. Raises SocketError without the right."""

    def __init__(self) -> None:
        self._sock = packet.open_socket(every=True)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._sock.setblocking(False)
        packet.attach(self._sock, program.multicast(None, _SNAPLEN))

    def __enter__(self) -> "Glance":
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def fileno(self) -> int:
        """Return the descriptor, readable when a frame waits."""
        return self._sock.fileno()

    def frames(self, most: int) -> Iterator[Glimpse]:
        """Yield what came so far, at most this many."""
        for _ in range(most):
            try:
                data, sender = self._sock.recvfrom(_SNAPLEN)
            except BlockingIOError:
                return
            name, _protocol, kind, hatype, *_ = sender
            yield Glimpse(name, _KINDS.get(kind, "host"), hatype, data)

    def dropped(self) -> int:
        """Return how many frames found no room since the last call."""
        return packet.statistics(self._sock).dropped
