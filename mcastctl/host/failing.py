"""UDP sockets that end without ever having been bound: programs whose start keeps failing.

The kernel tells of every UDP socket that ends (SKNLGRP_INET_UDP_DESTROY of <linux/sock_diag.h>);
one without a port is what a refused bind(2) leaves behind. Needs no privilege. Linux only.
"""

import socket
import struct

from mcastctl.host import netlink

_DESTROYED = {4: 2, 6: 4}  # SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_UDP_DESTROY
_FAMILIES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}
_PORT_AT, _MESSAGE = 4, 72  # idiag_sport in, and size of, struct inet_diag_msg


class Failing:
    """Counts them from its making on; a context manager, `count` by IP version."""

    def __init__(self) -> None:
        self.count = {4: 0, 6: 0}
        self._connection: netlink.Netlink | None = None

    def __enter__(self) -> "Failing":
        try:
            self._connection = netlink.Netlink(netlink.SOCK_DIAG, groups=tuple(_DESTROYED.values()))
        except OSError:
            self._connection = None  # a sandbox, or a kernel before 4.2
        return self

    def __exit__(self, *error: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def poll(self) -> None:
        """Take in what was told so far."""
        if self._connection is None:
            return
        for _, message in self._connection.notifications():
            if len(message) >= 16 + _MESSAGE and message[16] in _FAMILIES:
                (port,) = struct.unpack_from("!H", message, 16 + _PORT_AT)
                self.count[_FAMILIES[message[16]]] += port == 0
