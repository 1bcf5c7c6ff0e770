"""A live capture through scapy's sockets, where there are no packet rings (macOS, the BSDs).

Slower by two orders of magnitude, without counts of what the kernel dropped, and scapy has
to be loaded before privilege is given away, for it opens the devices.
"""

import time
from collections.abc import Iterator
from typing import Any

from mcastctl.capture.live import Waiter, Wanted, all_interfaces
from mcastctl.model.errors import SocketError
from mcastctl.model.frame import ETHERNET, Frame
from mcastctl.model.limits import Limits
from mcastctl.model.ring import Gathered

EXPRESSION = (
    "dst net 224.0.0.0/4 or dst net ff00::/8 or igmp or pim or "
    "(ip6 and (ip6 proto 103 or (ip6[6] = 0 and ip6[40] = 58 and "
    "(ip6[48] = 143 or (ip6[48] >= 130 and ip6[48] <= 132)))))"
)
"""The default filter in the words of pcap-filter(7)."""
_MOST = 64
"""Frames taken from one socket before the others get their turn."""


class Sockets:
    """One live capture: the interface of `live.Live`."""

    def __init__(self, wanted: Wanted) -> None:
        """Open a socket for each interface. Raises SocketError in scapy's words."""
        from mcastctl.decode import deep

        deep.keep_no_cache()
        import scapy.arch
        import scapy.layers.l2  # noqa: F401 - gives the link types their numbers
        from scapy.config import conf
        from scapy.error import Scapy_Exception

        self._numbers: Any = conf.l2types.layer2num
        if wanted.direction:
            raise SocketError(
                "--direction: this system does not tell what comes in from what goes out",
                hint="filter by address: 'src host ADDR'",
            )
        self._open: dict[int, tuple[Any, str, int]] = {}
        for name, index in wanted.interfaces or all_interfaces():
            try:
                sock = conf.L2listen(
                    iface=name, filter=wanted.expression or EXPRESSION, promisc=wanted.promisc
                )
            except (OSError, Scapy_Exception) as error:
                self.close()
                raise SocketError(
                    f"cannot capture on {name}: {str(error).lower()}",
                    hint="capturing needs root, and libpcap for filters",
                ) from error
            self._open[sock.fileno()] = (sock, name, index)

    def slices(self, loop: Waiter, limits: Limits) -> Iterator[Gathered]:
        """Yield what came, a few frames at a time; the caller notes what it took."""
        for descriptor in self._open:
            loop.watch(descriptor)
        heard = False
        while loop.stopped_by is None:
            if limits.reached(time.monotonic_ns(), quiet=not heard):
                return
            ready = [one for one in loop.wait(limits.next_ns()) if one in self._open]
            heard = bool(ready)
            for descriptor in ready:
                frames = list(self._frames(*self._open[descriptor]))
                if frames and not limits.reached(time.monotonic_ns(), quiet=False):
                    yield Gathered(frames)
        limits.reason = "signal"

    def _frames(self, sock: Any, name: str, index: int) -> Iterator[Frame]:
        for _ in range(_MOST):
            layer, data, when = sock.recv_raw()
            if data is None:
                return
            ns = time.time_ns() if when is None else int(when * 1_000_000_000)
            linktype = int(self._numbers.get(layer, ETHERNET))
            yield Frame(ns, linktype, bytes(data), len(data), name, index)
            if not sock.nonblocking_socket:
                return

    def drops(self) -> int:
        """Return 0: scapy's sockets do not tell."""
        return 0

    def close(self) -> None:
        """End the capture."""
        for sock, _, _ in self._open.values():
            sock.close()
