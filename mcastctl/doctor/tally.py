"""How many frames of an interface never reach a tap: what an XDP program keeps, or a driver.

The interface's own counter beside that of a packet socket that nobody reads. Linux only, needs
CAP_NET_RAW.
"""

import _socket as socket

from mcastctl.capture import packet
from mcastctl.capture.program import REJECT
from mcastctl.host import counters

_ETH_P_ALL = 3
_ONE_BYTE = [REJECT[0]._replace(k=1)]  # of every frame: only their number matters


class Tally:
    """Counts from now on; a context manager. SocketError without the right, OSError if gone."""

    def __init__(self, ifindex: int) -> None:
        self._iface = socket.if_indextoname(ifindex)
        self._sock = packet.open_socket(every=False)
        try:
            packet.ignore_outgoing(self._sock)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            packet.attach(self._sock, _ONE_BYTE)
            self._sock.bind((self._iface, _ETH_P_ALL))
        except OSError:
            self._sock.close()
            raise
        self._before = self._counted()

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def missing(self) -> int:
        """Return how many frames the interface counted that no tap saw, since the beginning."""
        counted = self._counted() - self._before
        return counted - packet.statistics(self._sock).passed

    def _counted(self) -> int:
        return counters.read().get(f"dev.{self._iface}.rx_packets", 0)
